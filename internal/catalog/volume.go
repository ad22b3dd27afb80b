package catalog

import (
	"database/sql"
	"errors"
	"strings"

	"kvol/internal/block"
)

const (
	noVolume = "Volume %s could not be found."

	ownColumns = `volumes.id, volumes.project_id, volumes.user_id, volumes.name, volumes.description,
		volumes.size, volumes.status, volumes.type_id, volumes.backend, volumes.availability_zone,
		volumes.bootable, volumes.multiattach, volumes.encrypted, volumes.readonly, volumes.snapshot_id,
		volumes.source_volume_id, volumes.group_id, volumes.metadata, volumes.image_metadata,
		volumes.replication_status, volumes.epoch, volumes.recovered_to, volumes.recovered_from, volumes.switching,
		volumes.created_at, volumes.updated_at, volumes.encryption_key_id, volumes.encryption,
		volumes.migration_status`
	volumeColumns = ownColumns + `, volume_types.name,
		(SELECT volume_groups.type_id FROM volume_groups WHERE volume_groups.id = volumes.group_id)`

	selectVolumes = "SELECT " + volumeColumns +
		" FROM volumes LEFT JOIN volume_types ON volume_types.id = volumes.type_id"

	// Pages ask for the names of their few types once, not with every volume; and
	// for attachments only where there are any.
	selectPage = "SELECT " + ownColumns +
		", EXISTS (SELECT 1 FROM attachments WHERE attachments.volume_id = volumes.id) FROM volumes"
)

var volumeList = lister{
	table: "volumes", missing: noVolume, metadata: "volumes.metadata", imageMetadata: "volumes.image_metadata",
	columns: map[string]listColumn{
		"id":                  {sql: "volumes.id"},
		"project_id":          {sql: "volumes.project_id"},
		"user_id":             {sql: "volumes.user_id"},
		"name":                {sql: "volumes.name", nullable: true, sorted: "volumes.name_sorted"},
		"display_name":        {sql: "volumes.name", nullable: true, sorted: "volumes.name_sorted"},
		"description":         {sql: "volumes.description", nullable: true, sorted: "volumes.description_sorted"},
		"display_description": {sql: "volumes.description", nullable: true, sorted: "volumes.description_sorted"},
		"size":                {sql: "volumes.size", kind: numberColumn},
		"status":              {sql: "volumes.status"},
		"volume_type_id":      {sql: "volumes.type_id", nullable: true, sorted: "volumes.type_id_sorted"},
		"volume_type":         {match: volumeOfType},
		"availability_zone":   {sql: "volumes.availability_zone"},
		"bootable":            {sql: "volumes.bootable", kind: boolColumn},
		"multiattach":         {sql: "volumes.multiattach", kind: boolColumn},
		"encrypted":           {sql: "volumes.encrypted", kind: boolColumn},
		"snapshot_id":         {sql: "volumes.snapshot_id", nullable: true, sorted: "volumes.snapshot_id_sorted"},
		"source_volid":        {sql: "volumes.source_volume_id", nullable: true, sorted: "volumes.source_volume_id_sorted"},
		"consistencygroup_id": {sql: "volumes.group_id", nullable: true, sorted: "volumes.group_id_sorted"},
		"replication_status":  {sql: "volumes.replication_status"},
		"attach_status":       {sql: "volumes.attach_status", match: volumeAttachStatus},
		"host":                {sql: "volumes.backend", match: volumeHost},
		"migration_status":    {sql: "volumes.migration_status", nullable: true, sorted: "volumes.migration_status_sorted"},
		"group_id":            {sql: "volumes.group_id", nullable: true, sorted: "volumes.group_id_sorted"},
		"created_at":          {sql: "volumes.created_at", kind: timeColumn},
		"updated_at": {
			sql:      "volumes.updated_at",
			kind:     timeColumn,
			nullable: true,
			sorted:   "volumes.updated_at_sorted",
		},
	},
}

// volumeOfType takes a type's id or name.
func volumeOfType(s *statement, value string) string {
	p := s.arg(value)
	return "volumes.type_id IN (SELECT id FROM volume_types WHERE id = " + p + " OR name = " + p + ")"
}

// volumeHost takes "host@backend#pool", of which only the backend tells volumes
// apart.
func volumeHost(s *statement, value string) string {
	_, backend, _ := strings.Cut(value, "@")
	backend, _, _ = strings.Cut(backend, "#")
	return "volumes.backend = " + s.arg(backend)
}

func volumeAttachStatus(s *statement, value string) string {
	const some = "EXISTS (SELECT 1 FROM attachments WHERE attachments.volume_id = volumes.id AND attachments.status = "
	if value == "detached" {
		return "NOT " + some + "'attached')"
	}
	return some + s.arg(value) + ")"
}

// InsertVolume adds a volume. CreatedAt is Now unless it is given. An id that
// exists is a Conflict. Attachments and TypeName are not looked at.
func (tx *Tx) InsertVolume(v block.Volume) error {
	if v.CreatedAt.IsZero() {
		v.CreatedAt = tx.Now
	}
	_, err := tx.exec(`INSERT INTO volumes (id, project_id, user_id, name, description, size, status, type_id,
			backend, availability_zone, bootable, multiattach, encrypted, readonly, snapshot_id,
			source_volume_id, group_id, metadata, image_metadata, replication_status, epoch, recovered_to,
			recovered_from, switching, created_at, updated_at, encryption_key_id, encryption, migration_status)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20,
			$21, $22, $23, $24, $25, $26, $27, $28, $29)`,
		v.ID, v.Project, v.User, v.Name, v.Description, v.Size, v.Status, orNull(v.TypeID), v.Backend,
		v.AvailabilityZone, v.Bootable, v.Multiattach, v.Encrypted, v.Readonly, v.SnapshotID,
		v.SourceVolumeID, v.GroupID, pairs(v.Metadata), pairs(v.ImageMetadata),
		v.ReplicationStatus, v.Epoch, jsonOrNull(v.RecoveredTo), jsonOrNull(v.RecoveredFrom),
		v.Switching, micros(v.CreatedAt), micros(v.UpdatedAt), keyOf(v.Encryption), jsonOrNull(v.Encryption),
		orNull(v.MigrationStatus))
	if tx.duplicate(err) {
		return block.Wrap(block.Conflict, err, "Volume %s exists already.", v.ID)
	}
	return err
}

// Volume returns a volume with its attachments and the name of its type.
func (tx *Tx) Volume(id block.VolumeID) (block.Volume, error) {
	v, err := scanVolume(tx.queryRow(selectVolumes+" WHERE volumes.id = $1", id))
	if err != nil {
		return v, notFound(err, noVolume, id)
	}
	v.Attachments, err = tx.Attachments(id)
	return v, err
}

// Volumes lists volumes with their attachments and the names of their types.
// A marker that isn't there, or is another project's, is NotFound; a sort
// column that isn't known is Invalid.
func (tx *Tx) Volumes(q block.ListQuery) ([]block.Volume, error) {
	query, args, err := volumeList.page(tx, q, selectPage)
	if err != nil {
		return nil, err
	}
	var attached []block.VolumeID
	all, err := collect(tx, func(row scanner) (v block.Volume, err error) {
		var f fields
		if err := row.Scan(&f); err != nil {
			return v, err
		}
		if v = f.volume(); f.flag() {
			attached = append(attached, v.ID)
		}
		return v, f.end()
	}, query, args...)
	if err != nil || len(all) == 0 {
		return nil, err
	}
	if err := tx.nameTypes(all); err != nil || len(attached) == 0 {
		return all, err
	}
	attachments, err := tx.attachmentsOf(attached)
	for i := range all {
		all[i].Attachments = attachments[all[i].ID]
	}
	return all, err
}

// nameTypes fills in what rows of volumes know only by its id: the names of
// types, and the types of groups.
func (tx *Tx) nameTypes(all []block.Volume) error {
	types, groups := map[block.TypeID]string{}, map[block.GroupID]block.GroupTypeID{}
	for i := range all {
		v := &all[i]
		if v.TypeID != "" {
			name, known := types[v.TypeID]
			if !known {
				err := tx.queryRow("SELECT name FROM volume_types WHERE id = $1", v.TypeID).Scan(&name)
				if err != nil && !errors.Is(err, sql.ErrNoRows) {
					return err
				}
				types[v.TypeID] = name
			}
			v.TypeName = name
		}
		if v.GroupID == nil {
			continue
		}
		groupType, known := groups[*v.GroupID]
		if !known {
			err := tx.queryRow("SELECT type_id FROM volume_groups WHERE id = $1", *v.GroupID).Scan(nullable(&groupType))
			if err != nil && !errors.Is(err, sql.ErrNoRows) {
				return err
			}
			groups[*v.GroupID] = groupType
		}
		v.GroupType = groupType
	}
	return nil
}

// UpdateVolume writes all columns of a volume but its id, its status and when
// it was created. UpdatedAt becomes Now.
func (tx *Tx) UpdateVolume(v block.Volume) error {
	res, err := tx.exec(`UPDATE volumes SET project_id = $2, user_id = $3, name = $4, description = $5, size = $6,
			type_id = $7, backend = $8, availability_zone = $9, bootable = $10, multiattach = $11,
			encrypted = $12, readonly = $13, snapshot_id = $14, source_volume_id = $15, group_id = $16,
			metadata = $17, image_metadata = $18, replication_status = $19, epoch = $20,
			recovered_to = $21, recovered_from = $22, switching = $23, updated_at = $24,
			encryption_key_id = $25, encryption = $26, migration_status = $27
		WHERE id = $1`,
		v.ID, v.Project, v.User, v.Name, v.Description, v.Size, orNull(v.TypeID), v.Backend,
		v.AvailabilityZone, v.Bootable, v.Multiattach, v.Encrypted, v.Readonly, v.SnapshotID,
		v.SourceVolumeID, v.GroupID, pairs(v.Metadata), pairs(v.ImageMetadata),
		v.ReplicationStatus, v.Epoch, jsonOrNull(v.RecoveredTo), jsonOrNull(v.RecoveredFrom), v.Switching,
		micros(tx.Now), keyOf(v.Encryption), jsonOrNull(v.Encryption), orNull(v.MigrationStatus))
	if err := changed(res, err, noVolume, v.ID); err != nil {
		return err
	}
	_, err = tx.exec("UPDATE attachments SET project_id = $2 WHERE volume_id = $1 AND project_id <> $2", v.ID, v.Project)
	return err
}

// MoveVolume lets an event happen to a volume and returns it as it is then.
// It is the only way that its status moves, but for ResetVolumeStatus. Where
// the volume rests is read from its attachments, so they are written first. A
// volume that is gone after the event is deleted, and returned as it was with
// the status "". An event that the status does not allow is a Conflict.
func (tx *Tx) MoveVolume(id block.VolumeID, e block.Event) (block.Volume, error) {
	v, err := tx.Volume(id)
	if err != nil {
		return v, err
	}
	to, err := v.Status.After(e, v.Rest())
	if err != nil {
		return v, err
	}
	v.Status, v.UpdatedAt = to, tx.Now
	if to == "" {
		return v, tx.DeleteVolume(id)
	}
	return v, tx.ResetVolumeStatus(id, to)
}

// ResetVolumeStatus sets a volume's status without asking its table: what an
// administrator's os-reset_status does.
func (tx *Tx) ResetVolumeStatus(id block.VolumeID, to block.VolumeStatus) error {
	res, err := tx.exec("UPDATE volumes SET status = $2, updated_at = $3 WHERE id = $1", id, to, micros(tx.Now))
	return changed(res, err, noVolume, id)
}

// DeleteVolume removes a volume with its snapshots, attachments, connections,
// pins and key. One that is gone already stays gone, without an error.
func (tx *Tx) DeleteVolume(id block.VolumeID) error {
	if err := tx.deleteKeyOf(id); err != nil {
		return err
	}
	for _, statement := range []string{
		"DELETE FROM attachments WHERE volume_id = $1", "DELETE FROM connections WHERE volume_id = $1",
		"DELETE FROM snapshots WHERE volume_id = $1", "DELETE FROM pins WHERE volume_id = $1",
		"DELETE FROM released_snapshots WHERE volume_id = $1", "DELETE FROM cuts WHERE volume_id = $1",
		"DELETE FROM stale_primaries WHERE volume_id = $1",
		"DELETE FROM volumes WHERE id = $1",
	} {
		if _, err := tx.exec(statement, id); err != nil {
			return err
		}
	}
	return nil
}

func scanVolume(row scanner) (v block.Volume, err error) {
	var f fields
	if err := row.Scan(&f); err != nil {
		return v, err
	}
	v = f.volume()
	v.TypeName, v.GroupType = f.text(), block.GroupTypeID(f.text())
	return v, f.end()
}

// volume reads ownColumns.
func (f *fields) volume() block.Volume {
	v := block.Volume{
		ID: block.VolumeID(f.text()), Project: block.ProjectID(f.text()), User: block.UserID(f.text()),
		Name: textOrNil[string](f), Description: textOrNil[string](f), Size: f.whole(),
		Status: block.VolumeStatus(f.text()), TypeID: block.TypeID(f.text()), Backend: f.text(),
		AvailabilityZone: f.text(), Bootable: f.flag(), Multiattach: f.flag(), Encrypted: f.flag(), Readonly: f.flag(),
		SnapshotID: textOrNil[block.SnapshotID](f), SourceVolumeID: textOrNil[block.VolumeID](f),
		GroupID: textOrNil[block.GroupID](f), Metadata: f.pairs(), ImageMetadata: f.pairs(),
		ReplicationStatus: f.text(), Epoch: uint64(f.whole()),
		RecoveredTo: docOrNil[block.Recovered](f), RecoveredFrom: docOrNil[block.Origin](f),
		Switching: block.Zone(f.text()), CreatedAt: f.time(), UpdatedAt: f.time(),
	}
	key := block.SecretID(f.text())
	if v.Encryption = docOrNil[block.VolumeEncryption](f); v.Encryption != nil {
		v.Encryption.Key = key
	}
	v.MigrationStatus = f.text()
	return v
}

func keyOf(e *block.VolumeEncryption) any {
	if e == nil {
		return nil
	}
	return e.Key
}

// jsonOrNull is jsonText of what a pointer points to, and NULL for none.
func jsonOrNull[T any](v *T) any {
	if v == nil {
		return nil
	}
	return jsonText(v)
}

// pairs is jsonText of a map that reads back as empty, not as nil.
func pairs(m map[string]string) any {
	if m == nil {
		return "{}"
	}
	return jsonText(m)
}
