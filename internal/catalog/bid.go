package catalog

import (
	"time"

	"kvol/internal/block"
)

// Bid is a zone's wish to take a volume of another zone over under an epoch.
type Bid struct {
	SourceZone block.Zone
	Source     block.VolumeID
	Zone       block.Zone // whose bid it is: this one's, or one that this one granted
	Epoch      uint64
	At         time.Time // when it was made or granted here
}

const bidColumns = `source_zone, source_id, zone, epoch, at`

func scanBid(row scanner) (b Bid, err error) {
	err = row.Scan(&b.SourceZone, &b.Source, &b.Zone, &b.Epoch, asTime(&b.At))
	return b, err
}

// BidsFor lists the highest bid of each zone that was made or granted here for a
// volume, from the highest to the lowest.
func (tx *Tx) BidsFor(zone block.Zone, source block.VolumeID) ([]Bid, error) {
	return collect(tx, scanBid, `SELECT `+bidColumns+` FROM bids WHERE source_zone = $1 AND source_id = $2
		ORDER BY epoch DESC`, string(zone), string(source))
}

// PutBid writes a zone's bid in the place of its former one; At is set to Now.
func (tx *Tx) PutBid(b Bid) error {
	_, err := tx.exec(`INSERT INTO bids (`+bidColumns+`) VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT (source_zone, source_id, zone) DO UPDATE SET epoch = $4, at = $5`,
		string(b.SourceZone), string(b.Source), string(b.Zone), b.Epoch, tx.Now.UnixMicro())
	return err
}

// DropBid forgets a bid that was given up, if it is the zone's highest one.
func (tx *Tx) DropBid(b Bid) error {
	_, err := tx.exec(`DELETE FROM bids WHERE source_zone = $1 AND source_id = $2 AND zone = $3 AND epoch = $4`,
		string(b.SourceZone), string(b.Source), string(b.Zone), b.Epoch)
	return err
}
