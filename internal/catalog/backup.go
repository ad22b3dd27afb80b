package catalog

import "kvol/internal/block"

const (
	noBackup = "Backup %s could not be found."

	selectBackups = `SELECT backups.id, backups.project_id, backups.user_id, backups.volume_id, backups.snapshot_id,
		backups.parent_id, backups.name, backups.description, backups.size, backups.status, backups.fail_reason,
		backups.container, backups.availability_zone, backups.object_count, backups.metadata,
		backups.data_timestamp, backups.restore_volume_id, backups.location, backups.root, backups.backend,
		backups.bootable, backups.image_metadata,
		(SELECT COUNT(*) FROM backups AS children WHERE children.parent_id = backups.id),
		backups.created_at, backups.updated_at, backups.encryption_key_id, backups.encryption FROM backups`
)

var backupList = lister{
	table: "backups", missing: noBackup, metadata: "backups.metadata",
	columns: map[string]listColumn{
		"id":                  {sql: "backups.id"},
		"project_id":          {sql: "backups.project_id"},
		"user_id":             {sql: "backups.user_id"},
		"volume_id":           {sql: "backups.volume_id"},
		"snapshot_id":         {sql: "backups.snapshot_id", nullable: true},
		"parent_id":           {sql: "backups.parent_id", nullable: true},
		"name":                {sql: "backups.name", nullable: true},
		"display_name":        {sql: "backups.name", nullable: true},
		"description":         {sql: "backups.description", nullable: true},
		"display_description": {sql: "backups.description", nullable: true},
		"size":                {sql: "backups.size", kind: numberColumn},
		"status":              {sql: "backups.status"},
		"container":           {sql: "backups.container", nullable: true},
		"availability_zone":   {sql: "backups.availability_zone", nullable: true},
		"object_count":        {sql: "backups.object_count", kind: numberColumn},
		"fail_reason":         {sql: "backups.fail_reason", nullable: true},
		"data_timestamp":      {sql: "backups.data_timestamp", kind: timeColumn},
		"created_at":          {sql: "backups.created_at", kind: timeColumn},
		"updated_at":          {sql: "backups.updated_at", kind: timeColumn, nullable: true},
	},
}

// InsertBackup adds a backup. CreatedAt is Now unless it is given, and
// DataTimestamp is CreatedAt unless it is given. An id that exists is a
// Conflict.
func (tx *Tx) InsertBackup(b block.Backup) error {
	if b.CreatedAt.IsZero() {
		b.CreatedAt = tx.Now
	}
	if b.DataTimestamp.IsZero() {
		b.DataTimestamp = b.CreatedAt
	}
	_, err := tx.exec(`INSERT INTO backups (id, project_id, user_id, volume_id, snapshot_id, parent_id, name,
			description, size, status, fail_reason, container, availability_zone, object_count, metadata,
			data_timestamp, restore_volume_id, location, root, backend, bootable, image_metadata, created_at,
			updated_at, encryption_key_id, encryption)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22,
			$23, $24, $25, $26)`,
		b.ID, b.Project, b.User, b.VolumeID, b.SnapshotID, b.ParentID, b.Name, b.Description, b.Size, b.Status,
		b.FailReason, b.Container, b.AvailabilityZone, b.ObjectCount, pairs(b.Metadata), micros(b.DataTimestamp),
		b.RestoreVolumeID, b.Location, b.Root, b.Backend, b.Bootable, pairs(b.ImageMetadata),
		micros(b.CreatedAt), micros(b.UpdatedAt), keyOf(b.Encryption), jsonOrNull(b.Encryption))
	if tx.duplicate(err) {
		return block.Wrap(block.Conflict, err, "Backup %s exists already.", b.ID)
	}
	return err
}

// Backup returns a backup.
func (tx *Tx) Backup(id block.BackupID) (block.Backup, error) {
	b, err := scanBackup(tx.queryRow(selectBackups+" WHERE backups.id = $1", id))
	return b, notFound(err, noBackup, id)
}

// Backups lists backups; its errors are those of Volumes.
func (tx *Tx) Backups(q block.ListQuery) ([]block.Backup, error) {
	query, args, err := backupList.page(tx, q, selectBackups)
	if err != nil {
		return nil, err
	}
	return collect(tx, scanBackup, query, args...)
}

// CountBackups says how many backups a query selects on all its pages.
func (tx *Tx) CountBackups(q block.ListQuery) (int64, error) { return backupList.count(tx, q) }

// BackupsOf returns a project's backups of a volume, those with the newest
// content first.
func (tx *Tx) BackupsOf(volume block.VolumeID, project block.ProjectID) ([]block.Backup, error) {
	return collect(tx, scanBackup, selectBackups+` WHERE backups.volume_id = $1 AND backups.project_id = $2
		ORDER BY backups.data_timestamp DESC, backups.created_at DESC, backups.id DESC`, volume, project)
}

// UpdateBackup writes what may change of a backup but its status. UpdatedAt
// becomes Now.
func (tx *Tx) UpdateBackup(b block.Backup) error {
	res, err := tx.exec(`UPDATE backups SET name = $2, description = $3, size = $4, fail_reason = $5,
			object_count = $6, metadata = $7, restore_volume_id = $8, location = $9, root = $10, updated_at = $11
		WHERE id = $1`,
		b.ID, b.Name, b.Description, b.Size, b.FailReason, b.ObjectCount, pairs(b.Metadata), b.RestoreVolumeID,
		b.Location, b.Root, micros(tx.Now))
	return changed(res, err, noBackup, b.ID)
}

// MoveBackup lets an event happen to a backup; it is MoveSnapshot's fellow.
func (tx *Tx) MoveBackup(id block.BackupID, e block.Event) (block.Backup, error) {
	b, err := tx.Backup(id)
	if err != nil {
		return b, err
	}
	to, err := b.Status.After(e)
	if err != nil {
		return b, err
	}
	b.Status, b.UpdatedAt = to, tx.Now
	if to == block.BackupDeleted {
		if _, err := tx.exec("DELETE FROM backups WHERE id = $1", id); err != nil || b.Encryption == nil {
			return b, err
		}
		return b, tx.DeleteSecret(b.Encryption.Key)
	}
	return b, tx.ResetBackupStatus(id, to)
}

// ResetBackupStatus sets a backup's status without asking its table.
func (tx *Tx) ResetBackupStatus(id block.BackupID, to block.BackupStatus) error {
	res, err := tx.exec("UPDATE backups SET status = $2, updated_at = $3 WHERE id = $1", id, to, micros(tx.Now))
	return changed(res, err, noBackup, id)
}

// backupUsage adds what a project's backups come to.
func (tx *Tx) backupUsage(u block.Usage, project block.ProjectID) error {
	var n, size int64
	err := tx.queryRow("SELECT COUNT(*), CAST(COALESCE(SUM(size), 0) AS BIGINT) FROM backups "+
		"WHERE project_id = $1", project).Scan(&n, &size)
	u["backups"], u["backup_gigabytes"] = n, size
	return err
}

func scanBackup(row scanner) (block.Backup, error) {
	var b block.Backup
	var key block.SecretID
	err := row.Scan(&b.ID, &b.Project, &b.User, &b.VolumeID, &b.SnapshotID, &b.ParentID, &b.Name, &b.Description,
		&b.Size, &b.Status, &b.FailReason, &b.Container, &b.AvailabilityZone, &b.ObjectCount, asJSON(&b.Metadata),
		asTime(&b.DataTimestamp), &b.RestoreVolumeID, &b.Location, &b.Root, &b.Backend, &b.Bootable,
		asJSON(&b.ImageMetadata), &b.Dependents,
		asTime(&b.CreatedAt), asTime(&b.UpdatedAt), nullable(&key), asJSON(&b.Encryption))
	if b.Encryption != nil {
		b.Encryption.Key = key
	}
	return b, err
}
