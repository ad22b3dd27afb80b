package block

import "time"

// KeepKind says how a Keep ends.
type KeepKind string

// The kinds of Keeps.
const (
	KeepPin  KeepKind = "pin"  // until somebody takes it off
	KeepHold KeepKind = "hold" // until a time, and nobody ends it before
)

// Keep keeps a recovery point of a replica: no retention thins the point out,
// and the replica stays while it has one, whatever becomes of its volume.
type Keep struct {
	ID         string    `json:"id"`
	Kind       KeepKind  `json:"kind"`
	SourceZone Zone      `json:"source_zone"`
	Source     VolumeID  `json:"volume_id"`
	Replica    VolumeID  `json:"replica_id"`
	Point      PointID   `json:"point_id"`
	At         time.Time `json:"point_at"` // the point's instant
	Project    ProjectID `json:"project_id"`
	User       UserID    `json:"user_id"` // "" for the zone itself
	Name       string    `json:"name"`    // what a person reads; "" for none
	// Until is when a hold ends by the calendar; zero for a pin. Ends is the
	// reading of the zone's hold clock that must have come too.
	Until     time.Time `json:"until"`
	Ends      int64     `json:"ends"`
	CreatedAt time.Time `json:"created_at"`
}

// HoldClock is how long a zone has been running, as far as it can be sure:
// neither setting the clock of its machine nor stopping the zone moves it
// forward. A reading is in microseconds.
type HoldClock struct {
	Reading int64 `json:"reading"`
}

// Tick is what the clock shows an interval later. An interval beyond most is
// somebody's who set the machine's clock; a negative one is none.
func (c HoldClock) Tick(interval, most time.Duration) HoldClock {
	return HoldClock{c.Reading + max(0, min(interval, most)).Microseconds()}
}
