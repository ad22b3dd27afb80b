package catalog

import (
	"kvol/internal/block"
)

// RaiseEpoch takes the right to write a replica's source volume over: it raises
// the epoch of every replica of that volume in this zone above all that were
// seen, and stores the fence that tells the source zone so. From the commit on
// no point of a lower epoch is accepted. recovered says where the volume lives
// on; its Epoch is what other zones granted, and is taken if it is above all
// that were seen, else the next one of the zone's index is; its At is set to Now
// if it has none. The caller makes sure that no other zone's bid stands.
func (tx *Tx) RaiseEpoch(replica block.VolumeID, recovered block.Recovered, index int) (epoch uint64, err error) {
	r, err := tx.Replica(replica)
	if err != nil {
		return 0, err
	}
	seen, err := tx.EpochSeen(r.SourceZone, r.Source)
	if err != nil {
		return 0, err
	}
	if recovered.Epoch <= seen {
		bids, err := tx.BidsFor(r.SourceZone, r.Source)
		if err != nil {
			return 0, err
		}
		for _, b := range bids {
			seen = max(seen, b.Epoch)
		}
		recovered.Epoch = block.NextEpoch(seen, index)
	}
	if _, err := tx.exec(`UPDATE replicas SET epoch = $3, updated_at = $4 WHERE source_zone = $1 AND source_id = $2`,
		string(r.SourceZone), string(r.Source), recovered.Epoch, tx.Now.UnixMicro()); err != nil {
		return 0, err
	}
	if recovered.At.IsZero() {
		recovered.At = tx.Now
	}
	return recovered.Epoch, tx.PutFence(block.Fence{SourceZone: r.SourceZone, Source: r.Source, Recovered: recovered})
}

// EpochSeen is the highest epoch of a volume of another zone that points came
// with here, or that somebody is known to have taken it over with; 0 for none.
func (tx *Tx) EpochSeen(zone block.Zone, source block.VolumeID) (epoch uint64, err error) {
	err = tx.queryRow(`SELECT COALESCE(MAX(epoch), 0) FROM replicas WHERE source_zone = $1 AND source_id = $2`,
		string(zone), string(source)).Scan(&epoch)
	if err != nil {
		return 0, err
	}
	f, found, err := tx.Fence(zone, source)
	if found {
		epoch = max(epoch, f.Recovered.Epoch)
	}
	return epoch, err
}

// PutFence notes that a volume lives on elsewhere, in the place of what was
// known, under a new revision. Bids that it ends are forgotten.
func (tx *Tx) PutFence(f block.Fence) error {
	revision, err := tx.Next("fences")
	if err != nil {
		return err
	}
	_, err = tx.exec(`INSERT INTO fences (source_zone, source_id, epoch, recovered, revision) VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT (source_zone, source_id) DO UPDATE SET epoch = $3, recovered = $4, revision = $5`,
		string(f.SourceZone), string(f.Source), f.Recovered.Epoch, jsonText(f.Recovered), revision)
	if err != nil {
		return err
	}
	_, err = tx.exec(`DELETE FROM bids WHERE source_zone = $1 AND source_id = $2 AND epoch <= $3`,
		string(f.SourceZone), string(f.Source), f.Recovered.Epoch)
	return err
}

// FenceRevision is the revision of the newest fence; 0 where there is none.
func (tx *Tx) FenceRevision() (revision int64, err error) {
	err = tx.queryRow(`SELECT COALESCE(MAX(revision), 0) FROM fences`).Scan(&revision)
	return revision, err
}

// FencesSince lists at most limit fences that changed after a revision, in
// order of revision, and the revision up to which they go.
func (tx *Tx) FencesSince(revision int64, limit int) (fences []block.Fence, upTo int64, err error) {
	upTo = revision
	fences, err = collect(tx, func(row scanner) (f block.Fence, err error) {
		err = row.Scan(&f.SourceZone, &f.Source, asJSON(&f.Recovered), &upTo)
		return f, err
	}, `SELECT source_zone, source_id, recovered, revision FROM fences WHERE revision > $1
		ORDER BY revision LIMIT $2`, revision, limit)
	return fences, upTo, err
}

func scanFence(row scanner) (f block.Fence, err error) {
	err = row.Scan(&f.SourceZone, &f.Source, asJSON(&f.Recovered))
	return f, err
}

// FencesFor lists the volumes of a zone that live on elsewhere, as far as is
// known here, or all for "", in order of volume.
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
