package catalog

import "kvol/internal/block"

// ServiceState is what administrators said of a service.
type ServiceState struct {
	Kind     string  // cinder-volume, cinder-scheduler, ...
	Backend  string  // "" for a service that has none
	Disabled bool    // takes no new volumes
	Reason   *string // why; nil if none was ever given
	Frozen   bool    // refuses what changes volumes and snapshots as things
	// Replication is what a failover of the backend came to, in Cinder's words; ""
	// where none was asked for. Active is the zone that its volumes went to: nil if
	// they never went, "" if it has taken its place again.
	Replication string
	Active      *string
}

// Services returns the states that administrators set, in no order.
func (tx *Tx) Services() ([]ServiceState, error) {
	return collect(tx, func(row scanner) (s ServiceState, err error) {
		return s, row.Scan(&s.Kind, &s.Backend, &s.Disabled, &s.Reason, &s.Frozen, &s.Replication, &s.Active)
	}, "SELECT kind, backend, disabled, reason, frozen, replication, active FROM services")
}

// PutService sets a service's state.
func (tx *Tx) PutService(s ServiceState) error {
	_, err := tx.exec(`INSERT INTO services (kind, backend, disabled, reason, frozen, replication, active,
			updated_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (kind, backend) DO UPDATE SET disabled = excluded.disabled,
			reason = excluded.reason, frozen = excluded.frozen, replication = excluded.replication,
			active = excluded.active, updated_at = excluded.updated_at`,
		s.Kind, s.Backend, s.Disabled, s.Reason, s.Frozen, s.Replication, s.Active, micros(tx.Now))
	return err
}

// BackendUse is what a project has on a backend.
type BackendUse struct {
	Backend                string
	Project                block.ProjectID
	Volumes, VolumeGiB     int64
	Snapshots, SnapshotGiB int64
}

// BackendUses adds up volumes and snapshots by backend and project, in that
// order. Projects with nothing are left out.
func (tx *Tx) BackendUses() ([]BackendUse, error) {
	return collect(tx, func(row scanner) (u BackendUse, err error) {
		return u, row.Scan(&u.Backend, &u.Project, &u.Volumes, &u.VolumeGiB, &u.Snapshots, &u.SnapshotGiB)
	}, `SELECT backend, project_id, CAST(SUM(volumes) AS BIGINT), CAST(SUM(gib) AS BIGINT),
			CAST(SUM(snapshots) AS BIGINT), CAST(SUM(snapshot_gib) AS BIGINT) FROM (
			SELECT backend, project_id, 1 AS volumes, size AS gib, 0 AS snapshots, 0 AS snapshot_gib FROM volumes
			UNION ALL
			SELECT volumes.backend, snapshots.project_id, 0, 0, 1, snapshots.size
			FROM snapshots JOIN volumes ON volumes.id = snapshots.volume_id) AS things
		GROUP BY backend, project_id ORDER BY backend, project_id`)
}
