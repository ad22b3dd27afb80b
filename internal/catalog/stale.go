package catalog

import "kvol/internal/block"

// PutStale writes what is kept of a stale volume, new or not.
func (tx *Tx) PutStale(s block.StalePrimary) error {
	_, err := tx.exec(`INSERT INTO stale_primaries (volume_id, until_at, stale) VALUES ($1, $2, $3)
		ON CONFLICT (volume_id) DO UPDATE SET until_at = $2, stale = $3`, string(s.Volume), micros(s.Until), jsonText(s))
	return err
}

// Stale returns what is kept of a stale volume.
func (tx *Tx) Stale(volume block.VolumeID) (block.StalePrimary, error) {
	s, err := scanStale(tx.queryRow("SELECT stale FROM stale_primaries WHERE volume_id = $1", string(volume)))
	return s, notFound(err, "Nothing is kept of volume %s.", volume)
}

// Stales lists what is kept of stale volumes: of a project, or all for "".
func (tx *Tx) Stales(project block.ProjectID) ([]block.StalePrimary, error) {
	return collect(tx, scanStale, `SELECT s.stale FROM stale_primaries s JOIN volumes v ON v.id = s.volume_id
		WHERE $1 = '' OR v.project_id = $1 ORDER BY s.volume_id`, string(project))
}

// OverdueStales lists those whose snapshot's time is over.
func (tx *Tx) OverdueStales() ([]block.StalePrimary, error) {
	return collect(tx, scanStale, `SELECT s.stale FROM stale_primaries s JOIN volumes v ON v.id = s.volume_id
		WHERE s.until_at <= $1 ORDER BY s.volume_id`, micros(tx.Now))
}

func scanStale(row scanner) (s block.StalePrimary, err error) {
	err = row.Scan(asJSON(&s))
	return s, err
}
