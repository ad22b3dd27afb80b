package catalog

import "kvol/internal/block"

// MaxPlacements is how many placements are kept.
const MaxPlacements = 10000

// BackendRoom is what lies on a backend.
type BackendRoom struct {
	Backend      string
	Volumes, GiB int64
}

// BackendRooms tells what lies on each backend, by name. Backends with nothing may
// be left out. It costs a row for each backend, however many volumes there are.
func (tx *Tx) BackendRooms() ([]BackendRoom, error) {
	return collect(tx, func(row scanner) (r BackendRoom, err error) {
		return r, row.Scan(&r.Backend, &r.Volumes, &r.GiB)
	}, "SELECT backend, volumes, gib FROM backend_usage ORDER BY backend")
}

// InsertPlacement appends a placement at the transaction's time and lets the
// oldest go that are too many. Its id is given by the catalog.
func (tx *Tx) InsertPlacement(p block.Placement) error {
	p.At = tx.Now
	if _, err := tx.exec(`INSERT INTO placements (at, volume_id, event) VALUES ($1, $2, $3)`, micros(p.At),
		string(p.Volume), jsonText(p)); err != nil {
		return err
	}
	_, err := tx.exec(`DELETE FROM placements WHERE id <= (SELECT MAX(id) FROM placements) - $1`, MaxPlacements)
	return err
}

// Placements returns at most limit placements, the newest first, before an id
// where that is above 0; of one volume where that is not "".
func (tx *Tx) Placements(volume block.VolumeID, before int64, limit int) ([]block.Placement, error) {
	of, args := "", []any{before, limit}
	if volume != "" {
		of, args = " AND volume_id = $3", append(args, string(volume))
	}
	return collect(tx, func(row scanner) (p block.Placement, err error) {
		var id int64
		err = row.Scan(&id, asJSON(&p))
		p.ID = id
		return p, err
	}, `SELECT id, event FROM placements WHERE ($1 <= 0 OR id < $1)`+of+` ORDER BY id DESC LIMIT $2`, args...)
}
