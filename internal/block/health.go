package block

import "time"

// HealthState says whether a volume, or a pair of zones, could be recovered as
// its protection promises.
type HealthState string

// The states of health, from the best to the worst; a pair is as its worst
// volume is.
const (
	HealthOK          HealthState = "ok"
	HealthPaused      HealthState = "paused"      // its protection is disabled
	HealthStale       HealthState = "stale"       // it was recovered in another zone
	HealthCopying     HealthState = "copying"     // the first copy is under way
	HealthCannotHold  HealthState = "cannot-hold" // what changes is more than the link carries
	HealthLate        HealthState = "late"        // further behind than it may be, and advancing
	HealthNoRoom      HealthState = "no-room"     // the target has no room, or soon won't have
	HealthUnprotected HealthState = "unprotected" // nothing replicates it
	HealthSuspect     HealthState = "suspect"     // it looks as if it had been encrypted; told by events only
	HealthDamaged     HealthState = "damaged"     // points are not what was committed; told by events only
	HealthStalled     HealthState = "stalled"     // further behind than it may be, and standing still
)

// healthOrder is how bad a state is.
var healthOrder = map[HealthState]int{HealthOK: 0, HealthPaused: 1, HealthStale: 2, HealthCopying: 3,
	HealthCannotHold: 4, HealthLate: 5, HealthNoRoom: 6, HealthUnprotected: 7, HealthStalled: 8,
	HealthSuspect: 9, HealthDamaged: 10}

// Worse reports whether a state is worse than another one.
func (h HealthState) Worse(than HealthState) bool { return healthOrder[h] > healthOrder[than] }

// Bad reports whether a state is one that somebody should look at.
func (h HealthState) Bad() bool { return healthOrder[h] >= healthOrder[HealthCannotHold] }

// DREvent is a change of health. Volume and Project are "" for one of a pair.
type DREvent struct {
	ID         int64       `json:"id"`
	At         time.Time   `json:"at"`
	Kind       string      `json:"kind"` // pair, volume, zone, clock, room
	SourceZone Zone        `json:"source_zone"`
	Peer       Zone        `json:"peer"` // the zone at the other end
	Protection int64       `json:"protection"`
	Volume     VolumeID    `json:"volume_id"`
	Project    ProjectID   `json:"project_id"`
	From       HealthState `json:"from"` // "" for the first that is known
	To         HealthState `json:"to"`
	Text       string      `json:"text"`
}

// RTOFailover is the kind of an RTO that is of a planned failover: how long
// nobody could write.
const RTOFailover = "failover"

// RTO is how long a recovery took from the call to a volume that can be used.
type RTO struct {
	Kind    string        `json:"kind"` // recovery, create, failover, or drill
	Rowkey  int64         `json:"rowkey"`
	Subject string        `json:"subject"` // the rowkey, or the id of what has none
	At      time.Time     `json:"at"`      // when it ended
	Way     string        `json:"way"`     // clone, copy, or switch
	Bytes   int64         `json:"bytes"`
	Took    time.Duration `json:"took"`
}
