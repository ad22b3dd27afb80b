package block

import "time"

// DrillRequest asks for a drill: volumes of another zone are recovered as
// isolated clones, which are looked at and deleted.
type DrillRequest struct {
	Scope    RecoveryScope   `json:"scope"`
	Point    PointChoice     `json:"point,omitzero"`
	Mapping  RecoveryMapping `json:"mapping,omitzero"`
	Parallel int             `json:"parallel,omitempty"` // clones that are filled at once; the zone's limit for 0
	// Probes are what the clones are looked at with, one after another; the root
	// hashes where there are none.
	Probes []DrillProbe `json:"probes,omitempty"`
	// WatchSeconds is how long replication is watched before and after, to compare
	// with; 6 for 0.
	WatchSeconds int `json:"watch_seconds,omitempty"`
	// TimeoutSeconds is how long the drill may take before it is cleaned up; an
	// hour for 0.
	TimeoutSeconds int `json:"timeout_seconds,omitempty"`
	// OverQuota does not count it as a failure that a recovery would be refused for
	// quotas, for administrators.
	OverQuota      bool   `json:"over_quota,omitempty"`
	IdempotencyKey string `json:"idempotency_key,omitempty"`
}

// DrillProbeKind says how clones are looked at.
type DrillProbeKind string

// The kinds of probes.
const (
	ProbeVerify  DrillProbeKind = "verify"  // the root hash of each clone is that of its point
	ProbeFsck    DrillProbeKind = "fsck"    // the file systems on each clone are checked
	ProbeCommand DrillProbeKind = "command" // a command of the zone's configuration, once for all clones
	ProbeHTTP    DrillProbeKind = "http"    // a URL of the zone's configuration, once for all clones
)

// DrillProbe is a way to look at the clones of a drill.
type DrillProbe struct {
	Kind DrillProbeKind `json:"kind"`
	Name string         `json:"name,omitempty"` // of a command or a URL in the zone's configuration
	// TimeoutSeconds is how long it may take; what the configuration says for 0,
	// else what the drill may take.
	TimeoutSeconds int `json:"timeout_seconds,omitempty"`
}

// The kinds of a drill's steps.
const (
	StepWatch StepKind = "watch" // replication is watched
	StepClone StepKind = "clone" // a clone is made and opened
	StepProbe StepKind = "probe"
	StepClean StepKind = "clean" // all clones are deleted, whatever came before
)

// RTODrill is the kind of an RTO that a drill measured.
const RTODrill = "drill"

// DrillClone is a volume in a store that a drill made. It is no volume of the
// catalog: it is in no list, counts for no quota, is replicated nowhere and
// can't be attached.
type DrillClone struct {
	ID        VolumeID // in its store
	Operation string
	Seq       int // the drill's step
	Backend   string
	Replica   VolumeID
	Point     PointID // pinned for it
}

// The verdicts of drills.
const (
	DrillPassed   = "pass"
	DrillFailed   = "fail"
	DrillCanceled = "canceled" // by somebody, or by a real recovery
)

// DrillReport is what is kept of a drill that ended. Report is JSON.
type DrillReport struct {
	Operation string
	Project   ProjectID
	Schedule  string // id; "" for a drill on demand
	At        time.Time
	Verdict   string
	Report    []byte
}

// DrillSchedule has drills begin by themselves, with the roles of who made it.
type DrillSchedule struct {
	ID      string    `json:"id"`
	Project ProjectID `json:"project_id"`
	User    UserID    `json:"user_id"`
	Roles   []string  `json:"roles"`
	Name    string    `json:"name"` // of its own in its project
	// When is "every 24h", or five fields as cron has them, in UTC.
	When    string       `json:"when"`
	Enabled bool         `json:"enabled"`
	Request DrillRequest `json:"request"`

	NextAt      time.Time `json:"next_at"` // zero while it is not enabled
	LastAt      time.Time `json:"last_at"` // when it last was due
	LastDrill   string    `json:"last_drill"`
	LastOutcome string    `json:"last_outcome"` // what became of its being due, in a sentence
	Skipped     int       `json:"skipped"`      // times it was due while its last drill ran
	CreatedAt   time.Time `json:"created_at"`
	UpdatedAt   time.Time `json:"updated_at"`
}
