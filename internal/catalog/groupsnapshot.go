package catalog

import "kvol/internal/block"

const (
	noGroupSnapshot = "GroupSnapshot %s could not be found."

	selectGroupSnapshots = `SELECT group_snapshots.id, group_snapshots.project_id, group_snapshots.user_id,
		group_snapshots.group_id, group_snapshots.type_id, group_snapshots.name, group_snapshots.description,
		group_snapshots.status, group_snapshots.created_at, group_snapshots.updated_at FROM group_snapshots`
)

var groupSnapshotList = lister{
	table: "group_snapshots", missing: noGroupSnapshot,
	columns: map[string]listColumn{
		"id":            {sql: "group_snapshots.id"},
		"project_id":    {sql: "group_snapshots.project_id"},
		"user_id":       {sql: "group_snapshots.user_id"},
		"group_id":      {sql: "group_snapshots.group_id"},
		"group_type_id": {sql: "group_snapshots.type_id"},
		"name":          {sql: "group_snapshots.name", nullable: true},
		"description":   {sql: "group_snapshots.description", nullable: true},
		"status":        {sql: "group_snapshots.status"},
		"created_at":    {sql: "group_snapshots.created_at", kind: timeColumn},
		"updated_at":    {sql: "group_snapshots.updated_at", kind: timeColumn, nullable: true},
	},
}

// InsertGroupSnapshot adds a group snapshot, made Now, of a group that exists.
func (tx *Tx) InsertGroupSnapshot(s block.GroupSnapshot) error {
	_, err := tx.exec(`INSERT INTO group_snapshots (id, project_id, user_id, group_id, type_id, name, description,
			status, created_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`,
		s.ID, s.Project, s.User, s.Group, s.Type, s.Name, s.Description, s.Status, micros(tx.Now))
	return err
}

// GroupSnapshot returns a group snapshot.
func (tx *Tx) GroupSnapshot(id block.GroupSnapshotID) (block.GroupSnapshot, error) {
	s, err := scanGroupSnapshot(tx.queryRow(selectGroupSnapshots+" WHERE id = $1", id))
	return s, notFound(err, noGroupSnapshot, id)
}

// GroupSnapshots lists group snapshots as Groups does groups.
func (tx *Tx) GroupSnapshots(q block.ListQuery, withLegacy bool) ([]block.GroupSnapshot, error) {
	var more []string
	if !withLegacy {
		more = append(more, "group_snapshots.type_id <> '"+string(block.LegacyGroupType)+"'")
	}
	query, args, err := groupSnapshotList.page(tx, q, selectGroupSnapshots, more...)
	if err != nil {
		return nil, err
	}
	return collect(tx, scanGroupSnapshot, query, args...)
}

// SnapshotsOfGroup returns the snapshots of a group snapshot, the oldest first.
func (tx *Tx) SnapshotsOfGroup(id block.GroupSnapshotID) ([]block.Snapshot, error) {
	return collect(tx, scanSnapshot, selectSnapshots+" WHERE group_snapshot_id = $1 ORDER BY created_at, id", id)
}

// MoveGroupSnapshot is MoveVolume for group snapshots. Snapshots of one that is
// gone are in none.
func (tx *Tx) MoveGroupSnapshot(id block.GroupSnapshotID, e block.Event) (block.GroupSnapshot, error) {
	s, err := tx.GroupSnapshot(id)
	if err != nil {
		return s, err
	}
	to, err := s.Status.After(e)
	if err != nil {
		return s, err
	}
	s.Status, s.UpdatedAt = to, tx.Now
	if to == "" {
		return s, tx.deleteGroupSnapshot(id)
	}
	return s, tx.ResetGroupSnapshotStatus(id, to)
}

// ResetGroupSnapshotStatus sets a group snapshot's status without asking its
// table.
func (tx *Tx) ResetGroupSnapshotStatus(id block.GroupSnapshotID, to block.GroupStatus) error {
	res, err := tx.exec("UPDATE group_snapshots SET status = $2, updated_at = $3 WHERE id = $1", id, to, micros(tx.Now))
	return changed(res, err, noGroupSnapshot, id)
}

func (tx *Tx) deleteGroupSnapshot(id block.GroupSnapshotID) error {
	if _, err := tx.exec("UPDATE snapshots SET group_snapshot_id = NULL WHERE group_snapshot_id = $1", id); err != nil {
		return err
	}
	_, err := tx.exec("DELETE FROM group_snapshots WHERE id = $1", id)
	return err
}

func scanGroupSnapshot(row scanner) (block.GroupSnapshot, error) {
	var s block.GroupSnapshot
	err := row.Scan(&s.ID, &s.Project, &s.User, &s.Group, &s.Type, &s.Name, &s.Description, &s.Status,
		asTime(&s.CreatedAt), asTime(&s.UpdatedAt))
	return s, err
}
