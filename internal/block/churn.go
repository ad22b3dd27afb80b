package block

import "time"

// PointStats is what a recovery point's step changed, in bytes.
type PointStats struct {
	Changed   int64 `json:"changed_bytes"`   // data that came
	Zeroed    int64 `json:"zeroed_bytes"`    // that reads as zeros now; about
	Sent      int64 `json:"sent_bytes"`      // Changed, as it was compressed for the way
	Rewritten int64 `json:"rewritten_bytes"` // of Changed, where data was before
	Freed     int64 `json:"freed_bytes"`     // of Zeroed, where data was before
	// Scrambled is of Rewritten what could be compressed well before and can't be
	// at all now; an estimate from every eighth block.
	Scrambled int64         `json:"scrambled_bytes"`
	Span      time.Duration `json:"span"` // from the base to the point, on the source's clock; 0 for a whole copy
}

// Suspicion says that a volume looks as if it had been encrypted suddenly.
type Suspicion struct {
	Since   time.Time `json:"since"`    // the instant of the first point that looks so
	Raised  time.Time `json:"raised"`   // when it was noticed
	Clean   PointID   `json:"clean"`    // the last point before
	CleanAt time.Time `json:"clean_at"` // its instant
	Bytes   int64     `json:"bytes"`    // about how many looked so when it was noticed
}
