package catalog

import (
	"database/sql"
	"errors"

	"kvol/internal/block"
)

// Reservations returns what SetReservations kept for a volume; nil for nothing.
func (tx *Tx) Reservations(volume block.VolumeID) (state []byte, err error) {
	err = tx.queryRow("SELECT state FROM reservations WHERE volume_id = $1", volume).Scan(&state)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	return state, err
}

// SetReservations keeps the persistent reservations of a volume that exists, in
// the form of the export protocol; nil for none. They end with the volume.
func (tx *Tx) SetReservations(volume block.VolumeID, state []byte) error {
	if state == nil {
		_, err := tx.exec("DELETE FROM reservations WHERE volume_id = $1", volume)
		return err
	}
	_, err := tx.exec(`INSERT INTO reservations (volume_id, state, updated_at) VALUES ($1, $2, $3)
		ON CONFLICT (volume_id) DO UPDATE SET state = excluded.state, updated_at = excluded.updated_at`,
		volume, string(state), micros(tx.Now))
	return err
}
