package block

import "time"

// Damage is something that a store of this zone found not to be as it was
// written, and what became of it.
type Damage struct {
	Store     string
	Place     string   // names it within the store
	What      string   // in words
	Volume    VolumeID // or replica, of whose history it is; "" where that is not known
	Off, Len  int64    // the range of the volume, in bytes; Len is 0 where no block is lost
	Segment   uint32   // of the store's log; 0 for its index
	SegmentAt int64    // where in the segment, in bytes
	State     string   // DamageStands, "healed" or "gone"
	Reason    string   // why it could not be healed, where that was tried
	Found     time.Time
	Changed   time.Time
}

// DamageStands is the State of damage whose alarm stands.
const DamageStands = "damaged"
