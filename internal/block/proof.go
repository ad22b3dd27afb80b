package block

import "time"

// ProofState says what is being done about a replica's bytes.
type ProofState string

// The states of a Proof.
const (
	ProofIdle    ProofState = ""        // nothing
	ProofReading ProofState = "reading" // a point is read and hashed
	ProofDamaged ProofState = "damaged" // the newest point is not what was committed
	ProofMending ProofState = "mending" // its snapshot is made anew from what was repaired
)

// Proof is the account of reading a replica again and comparing it with what was
// committed.
type Proof struct {
	State ProofState `json:"state"`
	// While a point is read: which one, how far, and what was summed up to there.
	Point  PointID   `json:"point,omitempty"`
	Offset int64     `json:"offset,omitempty"`
	Sum    RootHash  `json:"sum"`
	Bytes  int64     `json:"bytes,omitempty"` // of data that were read
	Began  time.Time `json:"began,omitzero"`
	Note   string    `json:"note,omitempty"` // what is wrong, or stands in the way; "" for nothing
	Last   Verified  `json:"last"`
	// Source is what was wrong in the volume's own zone when it was last compared;
	// nil for nothing.
	Source *WrongSource `json:"source,omitempty"`
}

// WrongSource is a point that is another one in the volume's own zone than was
// committed.
type WrongSource struct {
	At      time.Time `json:"at"` // when it was found
	Point   PointID   `json:"point"`
	PointAt time.Time `json:"point_at"`
	Root    RootHash  `json:"root"` // as that zone has it
}

// Verified is how the newest reading of a replica that found it whole went.
type Verified struct {
	At      time.Time     `json:"at"` // when it ended; zero for never
	Point   PointID       `json:"point"`
	PointAt time.Time     `json:"point_at"`
	Root    RootHash      `json:"root"` // as read, and as committed
	Bytes   int64         `json:"bytes"`
	Took    time.Duration `json:"took"`
	Points  int           `json:"points"` // that were compared, this one and older ones
}
