package catalog

import (
	"time"

	"kvol/internal/block"
)

// Rival is a volume that was made of one that two zones took over, and which lost,
// since its epoch is the lower one: a volume of another zone where this one won,
// else of this one.
type Rival struct {
	SourceZone block.Zone
	Source     block.VolumeID
	Lost       block.Recovered // the other zone's volume
	HeardAt    time.Time
	SettledAt  time.Time // when the other zone had heard; zero before
}

// PutRival notes a rival that was heard of, once.
func (tx *Tx) PutRival(r Rival) error {
	_, err := tx.exec(`INSERT INTO rivals (source_zone, source_id, zone, volume_id, rival, heard_at)
		VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING`, string(r.SourceZone), string(r.Source),
		string(r.Lost.Zone), string(r.Lost.Volume), jsonText(r.Lost), tx.Now.UnixMicro())
	return err
}

// SettleRival notes that the other zone has heard of a rival.
func (tx *Tx) SettleRival(r Rival) error {
	_, err := tx.exec(`UPDATE rivals SET settled_at = $5
		WHERE source_zone = $1 AND source_id = $2 AND zone = $3 AND volume_id = $4`, string(r.SourceZone),
		string(r.Source), string(r.Lost.Zone), string(r.Lost.Volume), tx.Now.UnixMicro())
	return err
}

// OpenRivals lists the rivals in a zone, or in all for "", of which the other zone
// has not heard yet.
func (tx *Tx) OpenRivals(zone block.Zone) ([]Rival, error) {
	return collect(tx, func(row scanner) (r Rival, err error) {
		err = row.Scan(&r.SourceZone, &r.Source, asJSON(&r.Lost), asTime(&r.HeardAt))
		return r, err
	}, `SELECT source_zone, source_id, rival, heard_at FROM rivals WHERE settled_at IS NULL AND ($1 = '' OR zone = $1)
		ORDER BY source_zone, source_id, zone, volume_id`, string(zone))
}
