package catalog

import "kvol/internal/block"

// MaxDREvents is how many events are kept.
const MaxDREvents = 10000

// InsertDREvents appends events at the transaction's time and lets the oldest
// go that are too many. Their ids are given by the catalog.
func (tx *Tx) InsertDREvents(events []block.DREvent) error {
	for _, e := range events {
		if e.At.IsZero() {
			e.At = tx.Now
		}
		if _, err := tx.exec(`INSERT INTO dr_events (at, project_id, event) VALUES ($1, $2, $3)`, micros(e.At),
			string(e.Project), jsonText(e)); err != nil {
			return err
		}
	}
	_, err := tx.exec(`DELETE FROM dr_events WHERE id <= (SELECT MAX(id) FROM dr_events) - $1`, MaxDREvents)
	return err
}

// DREvents returns at most limit events, the newest first, before an id where
// that is above 0. project, if not "", chooses those of a project's volumes.
func (tx *Tx) DREvents(project block.ProjectID, before int64, limit int) ([]block.DREvent, error) {
	return collect(tx, func(row scanner) (e block.DREvent, err error) {
		var id int64
		err = row.Scan(&id, asJSON(&e))
		e.ID = id
		return e, err
	}, `SELECT id, event FROM dr_events WHERE ($1 = '' OR project_id = $1) AND ($2 <= 0 OR id < $2)
		ORDER BY id DESC LIMIT $3`, string(project), before, limit)
}
