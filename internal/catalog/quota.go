package catalog

import "kvol/internal/block"

const (
	// Rows are counted in the order of an index, before the names are looked up.
	volumeUsage = `SELECT volume_types.name, used.n, used.size FROM (
			SELECT type_id, COUNT(*) AS n, SUM(size) AS size FROM volumes
			WHERE project_id = $1 GROUP BY type_id) AS used
		LEFT JOIN volume_types ON volume_types.id = used.type_id`

	snapshotUsage = `SELECT volume_types.name, used.n, used.size FROM (
			SELECT volumes.type_id, COUNT(*) AS n, SUM(snapshots.size) AS size FROM snapshots
			LEFT JOIN volumes ON volumes.id = snapshots.volume_id
			WHERE snapshots.project_id = $1 GROUP BY volumes.type_id) AS used
		LEFT JOIN volume_types ON volume_types.id = used.type_id`
)

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
// In an Update the result stays true until it commits.
func (tx *Tx) Usage(project block.ProjectID) (block.Usage, error) {
	u := block.Usage{"volumes": 0, "snapshots": 0, "gigabytes": 0}
	if err := tx.count(u, "volumes", volumeUsage, project); err != nil {
		return nil, err
	}
	if err := tx.count(u, "snapshots", snapshotUsage, project); err != nil {
		return nil, err
	}
	var groups int64
	err := tx.queryRow("SELECT COUNT(*) FROM volume_groups WHERE project_id = $1", project).Scan(&groups)
	if err != nil {
		return nil, err
	}
	u["groups"] = groups
	return u, tx.backupUsage(u, project)
}

func (tx *Tx) count(u block.Usage, resource, query string, project block.ProjectID) error {
	_, err := collect(tx, func(row scanner) (struct{}, error) {
		var typeName string
		var n, gigabytes int64
		err := row.Scan(nullable(&typeName), &n, &gigabytes)
		u[resource] += n
		u["gigabytes"] += gigabytes
		if typeName != "" {
			u[resource+"_"+typeName] += n
			u["gigabytes_"+typeName] += gigabytes
		}
		return struct{}{}, err
	}, query, project)
	return err
}
