package catalog

import (
	"kvol/internal/block"
)

// RaiseEpoch takes the right to write a replica's source volume over: it raises
// the epoch of every replica of that volume in this zone above all that were
// seen, and stores the fence that tells the source zone so. From the commit on
// no point of a lower epoch is accepted. recovered says where the volume lives
// on; its Epoch is set to the one returned, and its At to Now if it has none.
func (tx *Tx) RaiseEpoch(replica block.VolumeID, recovered block.Recovered) (epoch uint64, err error) {
	r, err := tx.Replica(replica)
	if err != nil {
		return 0, err
	}
	err = tx.queryRow(`SELECT MAX(epoch) FROM replicas WHERE source_zone = $1 AND source_id = $2`,
		string(r.SourceZone), string(r.Source)).Scan(&epoch)
	if err != nil {
		return 0, err
	}
	f, found, err := tx.Fence(r.SourceZone, r.Source)
	if err != nil {
		return 0, err
	}
	if found {
		epoch = max(epoch, f.Recovered.Epoch)
	}
	epoch++
	if _, err := tx.exec(`UPDATE replicas SET epoch = $3, updated_at = $4 WHERE source_zone = $1 AND source_id = $2`,
		string(r.SourceZone), string(r.Source), epoch, tx.Now.UnixMicro()); err != nil {
		return 0, err
	}
	recovered.Epoch = epoch
	if recovered.At.IsZero() {
		recovered.At = tx.Now
	}
	_, err = tx.exec(`INSERT INTO fences (source_zone, source_id, epoch, recovered) VALUES ($1, $2, $3, $4)
		ON CONFLICT (source_zone, source_id) DO UPDATE SET epoch = $3, recovered = $4`,
		string(r.SourceZone), string(r.Source), epoch, jsonText(recovered))
	return epoch, err
}

func scanFence(row scanner) (f block.Fence, err error) {
	err = row.Scan(&f.SourceZone, &f.Source, asJSON(&f.Recovered))
	return f, err
}

// FencesFor lists the volumes of a zone that were recovered here, or all for
// "", in order of volume.
func (tx *Tx) FencesFor(zone block.Zone) ([]block.Fence, error) {
	return collect(tx, scanFence, `SELECT source_zone, source_id, recovered FROM fences
		WHERE $1 = '' OR source_zone = $1 ORDER BY source_zone, source_id`, string(zone))
}

// Fence returns the fence of one volume of another zone, if there is one.
func (tx *Tx) Fence(zone block.Zone, source block.VolumeID) (f block.Fence, found bool, err error) {
	f, err = scanFence(tx.queryRow(`SELECT source_zone, source_id, recovered FROM fences
		WHERE source_zone = $1 AND source_id = $2`, string(zone), string(source)))
	err = notFound(err, "Volume %s of zone %s has no fence.", source, zone)
	if block.Is(err, block.NotFound) {
		return f, false, nil
	}
	return f, err == nil, err
}
