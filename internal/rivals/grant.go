package rivals

import (
	"kvol/internal/block"
	"kvol/internal/catalog"
)

// Known is what a zone knows of a volume of another one when it is asked.
type Known struct {
	Taken *block.Recovered // as which the volume lives on, as far as is known; nil if that is not so, or gone
	Busy  *Busy            // this zone's own takeover that is under way
	Live  *Busy            // this zone asks others for it at this moment
	Own   uint64           // epoch of this zone's own bid
	Bids  uint64           // the highest epoch of a bid that was granted here to others than who asks
	Seen  uint64           // the highest epoch of points and fences
}

// Decide is a zone's answer to a bid of another one.
//
// A bid that is only written down is no hindrance: if it is the lower one it
// can't be used any more once the higher one is granted, and if it is the higher
// one, who asks must outbid it. What is being asked for at this moment wins
// against a lower bid, so that of two zones that ask each other one is refused.
func Decide(k Known, asks block.Zone, self block.Zone, b Bid) Answer {
	switch {
	case k.Taken != nil && k.Taken.Zone != asks:
		return Answer{Taken: k.Taken}
	case k.Busy != nil:
		return Answer{Busy: k.Busy}
	case b.Epoch == 0:
		return Answer{Granted: true}
	case k.Live != nil && k.Own > b.Epoch:
		return Answer{Busy: k.Live}
	case max(k.Own, k.Bids, k.Seen) >= b.Epoch:
		return Answer{Above: max(k.Own, k.Bids, k.Seen)}
	}
	return Answer{Granted: true}
}

// Grant answers a bid in the transaction that writes it down, if it is granted.
// busy and live are of this zone's own; see Known.
func Grant(tx *catalog.Tx, self, from block.Zone, b Bid, busy, live *Busy) (Answer, error) {
	k := Known{Busy: busy, Live: live}
	f, taken, err := tx.Fence(b.SourceZone, b.Volume)
	if err != nil {
		return Answer{}, err
	}
	if taken {
		k.Taken = &f.Recovered
		if f.Recovered.Zone == self {
			gone, err := Gone(tx, f.Recovered.Volume)
			if err != nil {
				return Answer{}, err
			}
			if gone {
				k.Taken = nil
			}
		}
	}
	if k.Seen, err = tx.EpochSeen(b.SourceZone, b.Volume); err != nil {
		return Answer{}, err
	}
	bids, err := tx.BidsFor(b.SourceZone, b.Volume)
	if err != nil {
		return Answer{}, err
	}
	for _, other := range bids {
		switch other.Zone {
		case self:
			k.Own = other.Epoch
		case from:
		default:
			k.Bids = max(k.Bids, other.Epoch)
		}
	}
	a := Decide(k, from, self, b)
	if !a.Granted || b.Epoch == 0 {
		return a, nil
	}
	return a, tx.PutBid(catalog.Bid{SourceZone: b.SourceZone, Source: b.Volume, Zone: from, Epoch: b.Epoch})
}

// Gone reports whether a volume of this zone that took another one over is no
// hindrance any more: it was deleted, or the recovery that was to make it failed
// for good. Then nobody ever wrote to it, and nobody may. Its epoch stays known,
// so that whoever takes the volume over next has a higher one.
func Gone(tx *catalog.Tx, id block.VolumeID) (bool, error) {
	_, err := tx.Volume(id)
	if block.Is(err, block.NotFound) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	return tx.FailedRecovery(id)
}

// Place writes a bid of this zone down that is above all that it knows of, and
// above least; the one that it made before serves if it is. Others are the zones
// that bid for or took the volume, as far as is known here.
func Place(tx *catalog.Tx, self block.Zone, index int, source block.Zone, volume block.VolumeID, least uint64) (
	b Bid, others []block.Zone, err error,
) {
	seen, err := tx.EpochSeen(source, volume)
	if err != nil {
		return b, nil, err
	}
	seen = max(seen, least)
	others, err = Bidders(tx, self, source, volume)
	if err != nil {
		return b, nil, err
	}
	bids, err := tx.BidsFor(source, volume)
	own := uint64(0)
	for _, other := range bids {
		if other.Zone == self {
			own = other.Epoch
		} else {
			seen = max(seen, other.Epoch)
		}
	}
	if err != nil {
		return b, nil, err
	}
	if b = (Bid{SourceZone: source, Volume: volume, Epoch: own}); own <= seen {
		b.Epoch = block.NextEpoch(seen, index)
	}
	return b, others, tx.PutBid(catalog.Bid{SourceZone: source, Source: volume, Zone: self, Epoch: b.Epoch})
}

// Bidders are the other zones that bid for a volume or took it over, as far as
// is known here.
func Bidders(tx *catalog.Tx, self, source block.Zone, volume block.VolumeID) (others []block.Zone, err error) {
	bids, err := tx.BidsFor(source, volume)
	for _, b := range bids {
		if b.Zone != self {
			others = append(others, b.Zone)
		}
	}
	if err != nil {
		return nil, err
	}
	f, taken, err := tx.Fence(source, volume)
	if taken && f.Recovered.Zone != self {
		others = append(others, f.Recovered.Zone)
	}
	return others, err
}
