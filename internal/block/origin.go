package block

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
}

// OriginHolder is the name of the pin on what a recovered volume began as. Who
// recovers sets it; replication takes it off when the volume's way back has
// begun.
const OriginHolder = "origin"
