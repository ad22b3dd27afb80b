package block

import (
	"encoding/json"
	"time"
)

// OperationKind says what an Operation does.
type OperationKind string

// The kinds of operations.
const (
	OperationRecover OperationKind = "recover" // volumes out of points
	OperationDrill   OperationKind = "drill"   // the same on isolated clones
	OperationVerify  OperationKind = "verify"  // replicas are read and compared
)

// OperationStatus says where an Operation stands.
type OperationStatus string

// The statuses of an Operation. OperationProving is that of one whose volumes
// are there, while what they serve is compared with the points.
const (
	OperationConsent   OperationStatus = "waiting for consent"
	OperationWaiting   OperationStatus = "waiting"
	OperationRunning   OperationStatus = "running"
	OperationProving   OperationStatus = "proving"
	OperationSucceeded OperationStatus = "succeeded"
	OperationPartly    OperationStatus = "partly" // some steps succeeded, and others did not
	OperationFailed    OperationStatus = "failed"
	OperationCanceled  OperationStatus = "canceled"
)

// Ended reports whether nothing more will happen.
func (s OperationStatus) Ended() bool {
	switch s {
	case OperationSucceeded, OperationPartly, OperationFailed, OperationCanceled:
		return true
	}
	return false
}

// Operation is durable work of disaster recovery in steps. What it is to do is
// decided before its first step; what became of it is in its steps.
type Operation struct {
	ID        string          `json:"id"`
	Kind      OperationKind   `json:"kind"`
	Project   ProjectID       `json:"project"` // of who asked, and who sees it beside administrators
	User      UserID          `json:"user"`
	Key       string          `json:"key"`     // idempotency key, of its own in its project; "" for none
	Request   json.RawMessage `json:"request"` // as it was understood
	Status    OperationStatus `json:"status"`
	Message   string          `json:"message"` // why it ended so, or what it waits for; "" for nothing
	Cancel    UserID          `json:"cancel"`  // who canceled it: no step begins any more; "" for nobody
	Consent   UserID          `json:"consent"` // the second person who agreed; "" for nobody
	Evidence  json.RawMessage `json:"evidence,omitempty"`
	CreatedAt time.Time       `json:"created_at"`
	StartedAt time.Time       `json:"started_at"` // when its first step began
	ServedAt  time.Time       `json:"served_at"`  // when the last of its volumes could be used
	EndedAt   time.Time       `json:"ended_at"`
}

// StepKind says what an OperationStep does.
type StepKind string

// The kinds of steps.
const (
	StepRecover StepKind = "recover"
	StepHook    StepKind = "hook" // what the operator's configuration has under a name
	StepWait    StepKind = "wait"
	StepVerify  StepKind = "verify"
)

// StepStatus says where an OperationStep stands.
type StepStatus string

// The statuses of an OperationStep. A step that is StepWaiting has changed
// nothing and may be canceled; one that began goes to its end.
const (
	StepWaiting   StepStatus = "waiting"
	StepQueued    StepStatus = "queued" // begun: the right to write is taken over; its turn to be filled comes
	StepRunning   StepStatus = "running"
	StepSucceeded StepStatus = "succeeded"
	StepFailed    StepStatus = "failed"
	StepCanceled  StepStatus = "canceled"
	StepSkipped   StepStatus = "skipped" // since an earlier one failed, or since it can't be done
)

// Ended reports whether nothing more will happen.
func (s StepStatus) Ended() bool { return s != StepWaiting && s != StepQueued && s != StepRunning }

// OperationStep is one thing that an Operation does. Steps of one stage run at
// the same time, stages one after another.
type OperationStep struct {
	Operation string     `json:"operation"`
	Seq       int        `json:"seq"` // from 0, of its own in its operation
	Stage     int        `json:"stage"`
	Wave      int        `json:"wave"` // of the plan, from 1; 0 for none
	Kind      StepKind   `json:"kind"`
	Name      string     `json:"name"` // what a person reads
	Status    StepStatus `json:"status"`

	// Of a recovery: what becomes what.
	SourceZone Zone      `json:"source_zone,omitempty"`
	Source     VolumeID  `json:"source,omitempty"`
	Replica    VolumeID  `json:"replica,omitempty"`
	Point      *Point    `json:"point,omitempty"`
	NewVolume  VolumeID  `json:"new_volume,omitempty"` // "" before it began
	Project    ProjectID `json:"project,omitempty"`    // of the new volume
	Rowkey     int64     `json:"rowkey,omitempty"`     // of the kvol API's job behind it
	Loss       *Loss     `json:"loss,omitempty"`

	Params     json.RawMessage `json:"params,omitempty"` // what else its kind needs
	BytesDone  int64           `json:"bytes_done"`
	BytesTotal int64           `json:"bytes_total"`
	Error      string          `json:"error"` // a sentence for the user; "" for none
	Evidence   json.RawMessage `json:"evidence,omitempty"`
	StartedAt  time.Time       `json:"started_at"`
	EndedAt    time.Time       `json:"ended_at"`
}

// Loss is what a recovery loses of what was written to a volume: all after an
// instant.
type Loss struct {
	// Since is the instant on the source's clock up to which the point has
	// everything, and Seconds how long before now that is: the most that can be
	// lost.
	Since   time.Time `json:"since"`
	Seconds float64   `json:"seconds"`
	// Later is how many bytes newer points of the replica have that the chosen one
	// has not, block by block.
	Later int64 `json:"later_bytes"`
	// Unreplicated is how many bytes the source has that no point here has; nil
	// where the source does not answer.
	Unreplicated *int64 `json:"unreplicated_bytes"`
}
