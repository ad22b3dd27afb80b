package block

import "time"

// FailoverPhase says where a planned failover stands. FailoverDone and
// FailoverBack are its ends.
type FailoverPhase string

// The phases. Until FailoverPromoting is committed the destination was asked
// nothing, so the source may take the volume back on its own; from then on only
// the destination's word decides.
const (
	FailoverDraining  FailoverPhase = "draining"  // no writes are taken; the last point is under way
	FailoverPromoting FailoverPhase = "promoting" // the destination has all, and was or will be asked to take over
	FailoverReturning FailoverPhase = "returning" // it is to say that it did not take over, and never will
	FailoverDone      FailoverPhase = "done"      // the volume lives in the destination
	FailoverBack      FailoverPhase = "back"      // it lives here, as before
)

// Ended reports whether nothing more will happen.
func (p FailoverPhase) Ended() bool { return p == FailoverDone || p == FailoverBack }

// FailoverAsk is what somebody asks for who wants a planned failover. It can be
// compared.
type FailoverAsk struct {
	Volume          VolumeID `json:"volume"`
	Destination     Zone     `json:"destination,omitempty"`
	DestinationType TypeID   `json:"destination_type,omitempty"`
	Back            bool     `json:"back,omitempty"` // to the zone from which the volume was recovered
}

// Failover is a planned move of the right to write a volume to another zone,
// without loss.
type Failover struct {
	// Asker is the project of who asked, Key the idempotency key, and Request what
	// was asked for, by which it is told from another request of the same key.
	Asker   ProjectID   `json:"asker,omitempty"`
	Key     string      `json:"key,omitempty"`
	Request FailoverAsk `json:"request,omitzero"`

	ID              string        `json:"id"`
	Volume          VolumeID      `json:"volume"`
	Project         ProjectID     `json:"project"`
	Epoch           uint64        `json:"epoch"` // of the volume before it
	Protection      int64         `json:"protection"`
	Destination     Zone          `json:"destination"`
	DestinationType TypeID        `json:"destination_type"`
	SourceType      TypeID        `json:"source_type"`
	Phase           FailoverPhase `json:"phase"`
	Message         string        `json:"message"` // why it went back, or what it waits for; "" for nothing
	Last            PointID       `json:"last"`    // the snapshot that was taken when no write was under way any more
	Point           *Point        `json:"point"`   // that has all, confirmed by the destination
	Recovered       *Recovered    `json:"recovered"`
	Started         time.Time     `json:"started"`
	Drained         time.Time     `json:"drained"`  // from when on no write was taken
	Asked           time.Time     `json:"asked"`    // when the destination was first asked
	Deadline        time.Time     `json:"deadline"` // for the phase; then it goes back
	Ended           time.Time     `json:"ended"`
}
