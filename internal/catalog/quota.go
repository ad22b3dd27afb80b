package catalog

import "kvol/internal/block"

// typedUsage is what triggers keep up to date (migrations/0170_usage.sql).
const typedUsage = `SELECT volume_types.name, usage.volumes, usage.volume_size, usage.snapshots, usage.snapshot_size
	FROM usage LEFT JOIN volume_types ON volume_types.id = usage.type_id WHERE usage.project_id = $1`

// QuotaLimits returns the limits that were set for a project, by resource name;
// what was never set is missing.
func (tx *Tx) QuotaLimits(project block.ProjectID) (map[string]int64, error) {
	return tx.limits("SELECT resource, max FROM quotas WHERE project_id = $1", project)
}

// SetQuota sets a project's limit; block.Unlimited is one too.
func (tx *Tx) SetQuota(project block.ProjectID, resource string, limit int64) error {
	_, err := tx.exec(`INSERT INTO quotas (project_id, resource, max) VALUES ($1, $2, $3)
		ON CONFLICT (project_id, resource) DO UPDATE SET max = excluded.max`, project, resource, limit)
	return err
}

// DeleteQuotas forgets all limits that were set for a project.
func (tx *Tx) DeleteQuotas(project block.ProjectID) error {
	_, err := tx.exec("DELETE FROM quotas WHERE project_id = $1", project)
	return err
}

// Usage counts what a project holds: "volumes", "snapshots", "gigabytes" (of
// both) and each of these with "_<type name>", "backups", "backup_gigabytes" and
// "groups". Every row counts, whatever its
// status, until it goes (cinder/db/sqlalchemy/api.py, _volume_data_get_for_project).
// In an Update the result stays true until it commits. Volumes and snapshots cost
// the same however many there are.
func (tx *Tx) Usage(project block.ProjectID) (block.Usage, error) {
	u, err := tx.VolumeUsage(project)
	if err != nil {
		return nil, err
	}
	var groups int64
	err = tx.queryRow("SELECT COUNT(*) FROM volume_groups WHERE project_id = $1", project).Scan(&groups)
	if err != nil {
		return nil, err
	}
	u["groups"] = groups
	return u, tx.backupUsage(u, project)
}

// VolumeUsage is Usage of volumes and snapshots only, which is all that these
// are bounded by.
func (tx *Tx) VolumeUsage(project block.ProjectID) (block.Usage, error) {
	u := block.Usage{"volumes": 0, "snapshots": 0, "gigabytes": 0}
	_, err := collect(tx, func(row scanner) (struct{}, error) {
		var typeName string
		var volumes, volumeSize, snapshots, snapshotSize int64
		err := row.Scan(nullable(&typeName), &volumes, &volumeSize, &snapshots, &snapshotSize)
		addUsage(u, "volumes", typeName, volumes, volumeSize)
		addUsage(u, "snapshots", typeName, snapshots, snapshotSize)
		return struct{}{}, err
	}, typedUsage, project)
	return u, err
}

// addUsage counts so many of a type, of which there are some.
func addUsage(u block.Usage, resource, typeName string, n, gigabytes int64) {
	u[resource] += n
	u["gigabytes"] += gigabytes
	if typeName != "" && n > 0 {
		u[resource+"_"+typeName] += n
		u["gigabytes_"+typeName] += gigabytes
	}
}
