package block

import "time"

// Origin says which volume of another zone a volume continues: it began as a
// recovery point of that one. The store keeps the new volume's beginning as a
// snapshot named by the point, until the zone of the origin has a newer point
// of the new volume; so the way back costs no more than the difference.
type Origin struct {
	Zone   Zone
	Volume VolumeID // in that zone
	Point  Point
	Sum    RootHash // the root sum of the point, from which those of later ones are computed
	Epoch  uint64   // under which the new volume was promoted
	// Began is an instant on the clock of the new volume's zone at which it was the
	// point and nothing else; zero where nobody noted it. The point itself is dated
	// by the other zone's clock.
	Began time.Time `json:",omitzero"`
}

// UpTo is until when what has the point has all of the new volume, on the clock
// of the new volume's zone: where that of the other zone is ahead, its date of
// the point would claim too much.
func (o Origin) UpTo() time.Time {
	if o.Began.IsZero() || o.Point.At.Before(o.Began) {
		return o.Point.At
	}
	return o.Began
}

// OriginHolder is the name of the pin on what a recovered volume began as. Who
// recovers sets it; replication takes it off when the volume's way back has
// begun.
const OriginHolder = "origin"
