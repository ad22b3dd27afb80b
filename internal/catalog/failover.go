package catalog

import "kvol/internal/block"

// PutFailover writes a planned failover, new or not.
func (tx *Tx) PutFailover(f block.Failover) error {
	_, err := tx.exec(`INSERT INTO failovers (id, volume_id, started_at, failover) VALUES ($1, $2, $3, $4)
		ON CONFLICT (id) DO UPDATE SET failover = $4`, f.ID, string(f.Volume), micros(f.Started), jsonText(f))
	return err
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

func scanFailover(row scanner) (f block.Failover, err error) {
	err = row.Scan(asJSON(&f))
	return f, err
}
