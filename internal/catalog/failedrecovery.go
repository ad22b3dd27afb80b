package catalog

import "kvol/internal/block"

// PutFailedRecovery notes that a recovery gave the volume up that it was to
// make, for ever. It has no effect on a volume that is gone.
func (tx *Tx) PutFailedRecovery(id block.VolumeID) error {
	_, err := tx.exec(`INSERT INTO failed_recoveries (volume_id) SELECT id FROM volumes WHERE id = $1
		ON CONFLICT DO NOTHING`, string(id))
	return err
}

// FailedRecovery reports whether a volume is what a recovery left that failed.
func (tx *Tx) FailedRecovery(id block.VolumeID) (failed bool, err error) {
	n := 0
	err = tx.queryRow(`SELECT COUNT(*) FROM failed_recoveries WHERE volume_id = $1`, string(id)).Scan(&n)
	return n > 0, err
}
