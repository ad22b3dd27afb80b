package catalog

import (
	"database/sql"
	"errors"

	"kvol/internal/block"
)

// Lent tells how it stands with a volume that was lent to hosts; ok is false for
// one that was not.
func (tx *Tx) Lent(volume block.VolumeID) (l block.Lent, ok bool, err error) {
	err = tx.queryRow("SELECT wanted, done FROM lent WHERE volume_id = $1", volume).Scan(&l.Wanted, &l.Done)
	if errors.Is(err, sql.ErrNoRows) {
		return l, false, nil
	}
	return l, err == nil, err
}

// Lend notes that a volume that exists is about to be lent, if it was not yet.
func (tx *Tx) Lend(volume block.VolumeID) error {
	_, err := tx.exec("INSERT INTO lent (volume_id) VALUES ($1) ON CONFLICT DO NOTHING", volume)
	return err
}

// WantCut notes that a host of a volume is to be cut off.
func (tx *Tx) WantCut(volume block.VolumeID) error {
	_, err := tx.exec("UPDATE lent SET wanted = wanted + 1 WHERE volume_id = $1", volume)
	return err
}

// CutDone notes that the hosts were cut off that were to be when Lent said so.
func (tx *Tx) CutDone(volume block.VolumeID, l block.Lent) error {
	_, err := tx.exec("UPDATE lent SET done = $2 WHERE volume_id = $1 AND done < $2", volume, l.Wanted)
	return err
}

// Reclaimed notes that a volume is lent no more, unless a host is to be cut off
// since Lent said otherwise.
func (tx *Tx) Reclaimed(volume block.VolumeID, l block.Lent) error {
	_, err := tx.exec("DELETE FROM lent WHERE volume_id = $1 AND wanted = $2", volume, l.Wanted)
	return err
}
