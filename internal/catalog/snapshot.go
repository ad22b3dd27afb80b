package catalog

import "kvol/internal/block"

const (
	noSnapshot = "Snapshot %s could not be found."

	selectSnapshots = `SELECT snapshots.id, snapshots.volume_id, snapshots.project_id, snapshots.user_id,
		snapshots.name, snapshots.description, snapshots.size, snapshots.status, snapshots.progress,
		snapshots.metadata, snapshots.group_snapshot_id, snapshots.created_at, snapshots.updated_at FROM snapshots`
)

var snapshotList = lister{
	table: "snapshots", missing: noSnapshot, metadata: "snapshots.metadata",
	columns: map[string]listColumn{
		"id":                  {sql: "snapshots.id"},
		"volume_id":           {sql: "snapshots.volume_id"},
		"project_id":          {sql: "snapshots.project_id"},
		"user_id":             {sql: "snapshots.user_id"},
		"name":                {sql: "snapshots.name", nullable: true, sorted: "snapshots.name_sorted"},
		"display_name":        {sql: "snapshots.name", nullable: true, sorted: "snapshots.name_sorted"},
		"description":         {sql: "snapshots.description", nullable: true, sorted: "snapshots.description_sorted"},
		"display_description": {sql: "snapshots.description", nullable: true, sorted: "snapshots.description_sorted"},
		"size":                {sql: "snapshots.size", kind: numberColumn},
		"volume_size":         {sql: "snapshots.size", kind: numberColumn},
		"status":              {sql: "snapshots.status"},
		"progress":            {sql: "snapshots.progress"},
		"availability_zone":   {match: snapshotZone},
		"group_snapshot_id":   {sql: "snapshots.group_snapshot_id", nullable: true},
		"created_at":          {sql: "snapshots.created_at", kind: timeColumn},
		"updated_at": {
			sql:      "snapshots.updated_at",
			kind:     timeColumn,
			nullable: true,
			sorted:   "snapshots.updated_at_sorted",
		},
	},
}

// snapshotZone: a snapshot is where its volume is.
func snapshotZone(s *statement, value string) string {
	return "EXISTS (SELECT 1 FROM volumes WHERE volumes.id = snapshots.volume_id" +
		" AND volumes.availability_zone = " + s.arg(value) + ")"
}

// InsertSnapshot adds a snapshot. CreatedAt is Now unless it is given. An id
// that exists is a Conflict.
func (tx *Tx) InsertSnapshot(s block.Snapshot) error {
	if s.CreatedAt.IsZero() {
		s.CreatedAt = tx.Now
	}
	_, err := tx.exec(`INSERT INTO snapshots (id, volume_id, project_id, user_id, name, description, size, status,
			progress, metadata, group_snapshot_id, created_at, updated_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)`,
		s.ID, s.VolumeID, s.Project, s.User, s.Name, s.Description, s.Size, s.Status, s.Progress,
		pairs(s.Metadata), s.GroupSnapshotID, micros(s.CreatedAt), micros(s.UpdatedAt))
	if tx.duplicate(err) {
		return block.Wrap(block.Conflict, err, "Snapshot %s exists already.", s.ID)
	}
	return err
}

// Snapshot returns a snapshot.
func (tx *Tx) Snapshot(id block.SnapshotID) (block.Snapshot, error) {
	s, err := scanSnapshot(tx.queryRow(selectSnapshots+" WHERE id = $1", id))
	return s, notFound(err, noSnapshot, id)
}

// Snapshots lists snapshots; its errors are those of Volumes.
func (tx *Tx) Snapshots(q block.ListQuery) ([]block.Snapshot, error) {
	query, args, err := snapshotList.page(tx, q, selectSnapshots)
	if err != nil {
		return nil, err
	}
	return collect(tx, scanSnapshot, query, args...)
}

// SnapshotsOf returns a volume's snapshots in all projects, the oldest first.
func (tx *Tx) SnapshotsOf(volume block.VolumeID) ([]block.Snapshot, error) {
	return collect(tx, scanSnapshot, selectSnapshots+" WHERE volume_id = $1 ORDER BY created_at, id", volume)
}

// UpdateSnapshot writes all columns of a snapshot but its id, its volume, its
// status and when it was created. UpdatedAt becomes Now.
func (tx *Tx) UpdateSnapshot(s block.Snapshot) error {
	res, err := tx.exec(`UPDATE snapshots SET project_id = $2, user_id = $3, name = $4, description = $5, size = $6,
			progress = $7, metadata = $8, updated_at = $9 WHERE id = $1`,
		s.ID, s.Project, s.User, s.Name, s.Description, s.Size, s.Progress, pairs(s.Metadata), micros(tx.Now))
	return changed(res, err, noSnapshot, s.ID)
}

// MoveSnapshot lets an event happen to a snapshot and returns it as it is
// then. It is the only way that its status moves, but for
// ResetSnapshotStatus. A snapshot whose status becomes "deleted" is deleted.
// An event that the status does not allow is a Conflict.
func (tx *Tx) MoveSnapshot(id block.SnapshotID, e block.Event) (block.Snapshot, error) {
	s, err := tx.Snapshot(id)
	if err != nil {
		return s, err
	}
	to, err := s.Status.After(e)
	if err != nil {
		return s, err
	}
	s.Status, s.UpdatedAt = to, tx.Now
	if to == block.SnapshotDeleted {
		return s, tx.DeleteSnapshot(id)
	}
	return s, tx.ResetSnapshotStatus(id, to)
}

// ResetSnapshotStatus sets a snapshot's status without asking its table.
func (tx *Tx) ResetSnapshotStatus(id block.SnapshotID, to block.SnapshotStatus) error {
	res, err := tx.exec("UPDATE snapshots SET status = $2, updated_at = $3 WHERE id = $1", id, to, micros(tx.Now))
	return changed(res, err, noSnapshot, id)
}

// DeleteSnapshot removes a snapshot. One that is gone already stays gone,
// without an error.
func (tx *Tx) DeleteSnapshot(id block.SnapshotID) error {
	_, err := tx.exec("DELETE FROM snapshots WHERE id = $1", id)
	return err
}

func scanSnapshot(row scanner) (block.Snapshot, error) {
	var s block.Snapshot
	err := row.Scan(&s.ID, &s.VolumeID, &s.Project, &s.User, &s.Name, &s.Description, &s.Size, &s.Status,
		&s.Progress, asJSON(&s.Metadata), &s.GroupSnapshotID, asTime(&s.CreatedAt), asTime(&s.UpdatedAt))
	return s, err
}
