package block

import (
	"encoding/json"
	"time"
)

// JobState is where a job stands.
type JobState string

// The states of a job. A running job whose lease ran out is claimed again.
const (
	JobReady   JobState = "ready"
	JobRunning JobState = "running"
	JobDone    JobState = "done"
	JobFailed  JobState = "failed"
)

// Job is durable work: enqueued in the transaction that states the intent, and
// run until it is done or given up.
type Job struct {
	ID       JobID
	Kind     string          // names the handler: "volume.create"
	Subject  string          // id of the thing it works on
	Backend  string          // that it works on; "" for none
	Beside   string          // another one that it needs, as who copies does; "" for none
	Args     json.RawMessage // what the handler needs besides
	State    JobState
	Step     string // what it is doing now, for people
	Done     int64  // bytes
	Total    int64  // bytes; 0 if unknown
	Attempts int
	Error    string          // of the last attempt, for the operator
	Evidence json.RawMessage // what was seen when it ended: hashes, counts
	RunAt    time.Time       // not before
	Created  time.Time
	Started  time.Time // of the last attempt
	Ended    time.Time
	// RequestID is the request that asked for it; "" for none.
	RequestID string
	// Token is the number of the claim, for who runs it.
	Token int64
}

// Needs are the backends that a job waits for if they don't answer. Jobs that need the
// same hold up each other and no others.
type Needs struct {
	Backend string // "" for none
	Beside  string // another one; "" for none
}

// Needs returns the backends that the job needs.
func (j Job) Needs() Needs { return Needs{Backend: j.Backend, Beside: j.Beside} }
