package block

import "time"

// StalePrimary is what a zone keeps of a volume of its own that was recovered in
// another zone: what was written here after the point as which it lives on.
type StalePrimary struct {
	Volume VolumeID  `json:"volume"`
	Common PointID   `json:"common"` // of which both have the content; "" if there is none any more
	Undo   PointID   `json:"undo"`   // the snapshot of what the volume was when it became stale; "" if it is not kept
	State  string    `json:"state"`
	Bytes  int64     `json:"bytes"`  // that differ from Common
	Ranges []Range   `json:"ranges"` // where; the first MaxStaleRanges
	More   int64     `json:"more"`   // further ranges
	At     time.Time `json:"at"`     // when it became stale
	// Rival says that it was made by a recovery that lost against another zone's of
	// the same volume: nothing of what its hosts wrote lives on.
	Rival bool      `json:"rival,omitempty"`
	Until time.Time `json:"until"` // how long Undo is kept; zero where there is none
}

// MaxStaleRanges is how many ranges of a StalePrimary are listed.
const MaxStaleRanges = 1000

// The states of a StalePrimary.
const (
	StaleComparing = "comparing" // what differs is being looked for
	StaleKept      = "kept"      // something differs, and Undo keeps it
	StaleEqual     = "equal"     // nothing differs
	StaleExpired   = "expired"   // Undo's time is over; the stale volume itself stays as it is
)

// Range is a stretch of a volume, in bytes.
type Range struct {
	Off int64 `json:"offset"`
	Len int64 `json:"length"`
}

// End is the offset after the range.
func (r Range) End() int64 { return r.Off + r.Len }
