package catalog

import (
	"time"

	"kvol/internal/block"
)

// PutFailover writes a planned failover, new or not.
func (tx *Tx) PutFailover(f block.Failover) error {
	_, err := tx.exec(`INSERT INTO failovers (id, volume_id, started_at, failover, asker, idempotency_key)
		VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (id) DO UPDATE SET failover = $4`,
		f.ID, string(f.Volume), micros(f.Started), jsonText(f), string(f.Asker), f.Key)
	return err
}

// FailoverWithKey returns the planned failover that somebody of a project asked
// for with an idempotency key, NotFound if there is none.
func (tx *Tx) FailoverWithKey(asker block.ProjectID, key string) (block.Failover, error) {
	f, err := scanFailover(tx.queryRow(`SELECT failover FROM failovers
		WHERE asker = $1 AND idempotency_key = $2 AND idempotency_key <> ''`, string(asker), key))
	return f, notFound(err, "No failover was asked for with this idempotency key.")
}

// Failover returns a planned failover.
func (tx *Tx) Failover(id string) (block.Failover, error) {
	f, err := scanFailover(tx.queryRow("SELECT failover FROM failovers WHERE id = $1", id))
	return f, notFound(err, "Failover %s could not be found.", id)
}

// Failovers lists planned failovers, the newest first, at most limit: of a
// project, or all for "".
func (tx *Tx) Failovers(project block.ProjectID, limit int) ([]block.Failover, error) {
	return collect(tx, scanFailover, `SELECT failover FROM failovers
		WHERE $1 = '' OR failover ->> '$.project' = $1 ORDER BY started_at DESC, id LIMIT $2`, string(project), limit)
}

// CountSwitching says how many volumes of a backend are being moved to other
// zones.
func (tx *Tx) CountSwitching(backend string) (n int, err error) {
	return n, tx.queryRow("SELECT COUNT(*) FROM volumes WHERE backend = $1 AND switching <> ''", backend).Scan(&n)
}

// Unmoved lists volumes of a backend that live here and could be moved to
// another zone, and of which no planned failover began since then, at most a
// thousand.
func (tx *Tx) Unmoved(backend string, types []block.TypeID, since time.Time) ([]block.VolumeID, error) {
	s := statement{dialect: tx.dialect}
	query := `SELECT id FROM volumes WHERE backend = ` + s.arg(backend) + ` AND recovered_to IS NULL AND switching = ''
		AND status NOT LIKE 'error%' AND status <> 'deleting' AND type_id IN (`
	for i, t := range types {
		if i > 0 {
			query += ", "
		}
		query += s.arg(string(t))
	}
	query += `) AND NOT EXISTS (SELECT 1 FROM failovers WHERE failovers.volume_id = volumes.id
		AND failovers.started_at >= ` + s.arg(micros(since)) + `) ORDER BY id LIMIT 1000`
	return collect(tx, scanVolumeID, query, s.args...)
}

// CountFailovers says of the planned failovers of a backend's volumes that began
// since then how many ended in the other zone and how many here.
func (tx *Tx) CountFailovers(backend string, since time.Time) (there, here int, err error) {
	return there, here, tx.queryRow(`SELECT COUNT(CASE WHEN failover ->> '$.phase' = $3 THEN 1 END),
			COUNT(CASE WHEN failover ->> '$.phase' = $4 THEN 1 END) FROM failovers
		JOIN volumes ON volumes.id = failovers.volume_id AND volumes.backend = $1 WHERE started_at >= $2`,
		backend, micros(since), string(block.FailoverDone), string(block.FailoverBack)).Scan(&there, &here)
}

// LivingIn lists volumes of a backend that live on in another zone, with ids
// after a given one, at most limit.
func (tx *Tx) LivingIn(backend string, zone block.Zone, after block.VolumeID, limit int) ([]block.VolumeID, error) {
	return collect(tx, scanVolumeID, `SELECT id FROM volumes WHERE backend = $1 AND recovered_to ->> '$.Zone' = $2
		AND id > $3 AND status <> 'deleting' ORDER BY id LIMIT $4`, backend, string(zone), string(after), limit)
}

func scanFailover(row scanner) (f block.Failover, err error) {
	err = row.Scan(asJSON(&f))
	return f, err
}
