package block

// EpochClasses is how many zones draw epochs: a zone's index is below it.
const EpochClasses = 64

// NextEpoch is the lowest epoch by which the zone of an index takes a volume
// over whose highest known epoch is known. Epochs are rounds of EpochClasses
// numbers, of which each zone has one: so no two zones ever give one volume the
// same epoch, and comparing the numbers compares rounds first and zones then.
// The first epoch of a volume is 1 in whichever zone it was made; nobody gives
// that by taking a volume over.
func NextEpoch(known uint64, index int) uint64 {
	return (known/EpochClasses+1)*EpochClasses + uint64(index)
}
