package catalog

import (
	"kvol/internal/block"
)

// Pin keeps a snapshot's bytes until the holder unpins it, whatever the tenant
// does to the snapshot meanwhile. Pinning again changes nothing. A snapshot
// that was released while nobody held it may be gone from its store at any
// moment, and is NotFound.
func (tx *Tx) Pin(volume block.VolumeID, name block.PointID, holder string) error {
	lost, err := tx.unheld(volume, name)
	if err != nil {
		return err
	}
	if lost {
		return block.Errorf(block.NotFound, noSnapshot, name)
	}
	_, err = tx.exec(`INSERT INTO pins (volume_id, name, holder) VALUES ($1, $2, $3)
		ON CONFLICT (volume_id, name, holder) DO NOTHING`, volume, name, holder)
	return err
}

// Unpin takes a holder's pin off. deleteNow says that the caller is to delete
// the snapshot from its store: it was released, and this holder was the last.
// Unpinning again gives the same answer, so that a caller that was interrupted
// can repeat both.
func (tx *Tx) Unpin(volume block.VolumeID, name block.PointID, holder string) (deleteNow bool, err error) {
	_, err = tx.exec("DELETE FROM pins WHERE volume_id = $1 AND name = $2 AND holder = $3", volume, name, holder)
	if err != nil {
		return false, err
	}
	return tx.unheld(volume, name)
}

// ReleaseSnapshot notes that a snapshot is deleted for its tenant. deleteNow
// says that nobody holds it, so that the caller is to delete it from its
// store; otherwise whoever unpins it last does.
func (tx *Tx) ReleaseSnapshot(volume block.VolumeID, name block.PointID) (deleteNow bool, err error) {
	_, err = tx.exec(`INSERT INTO released_snapshots (volume_id, name) VALUES ($1, $2)
		ON CONFLICT (volume_id, name) DO NOTHING`, volume, name)
	if err != nil {
		return false, err
	}
	return tx.unheld(volume, name)
}

// Held reports whether a snapshot's bytes are somebody's business: pinned, of
// replication, or released and not yet gone.
func (tx *Tx) Held(volume block.VolumeID, name block.PointID) (held bool, err error) {
	var n int64
	err = tx.queryRow(`SELECT (SELECT COUNT(*) FROM pins WHERE volume_id = $1 AND name = $2) +
		(SELECT COUNT(*) FROM released_snapshots WHERE volume_id = $1 AND name = $2) +
		(SELECT COUNT(*) FROM cuts WHERE volume_id = $1 AND point_id = $2)`, volume, name).Scan(&n)
	return n > 0, err
}

// unheld reports whether a snapshot is released and nobody holds it.
func (tx *Tx) unheld(volume block.VolumeID, name block.PointID) (bool, error) {
	var n int64
	err := tx.queryRow(`SELECT COUNT(*) FROM released_snapshots WHERE volume_id = $1 AND name = $2
		AND NOT EXISTS (SELECT 1 FROM pins WHERE volume_id = $1 AND name = $2)`, volume, name).Scan(&n)
	return n > 0, err
}
