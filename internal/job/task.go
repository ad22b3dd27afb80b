package job

import (
	"encoding/json"
	"sync"

	"kvol/internal/block"
)

// Task is one attempt at a job, as its handler sees it. Its methods may be
// called at once from many goroutines.
type Task struct {
	Job block.Job // as it was claimed

	changed chan struct{} // gets a token when there is progress to write

	mu       sync.Mutex // guards what follows
	progress progress
	number   int // of progress, counted
	written  int // number of the one in the catalog
	evidence any
}

type progress struct {
	step        string
	done, total int64
}

func newTask(j block.Job) *Task { return &Task{Job: j, changed: make(chan struct{}, 1)} }

// Args reads the job's arguments.
func (t *Task) Args(into any) error {
	if err := json.Unmarshal(t.Job.Args, into); err != nil {
		return GiveUp(block.Wrap(block.Internal, err, "the arguments of job %d can't be read", t.Job.ID))
	}
	return nil
}

// Progress tells what is being done and how much of it, in bytes; total is 0
// if unknown. It costs next to nothing and never waits: the newest is written
// to the catalog now and then.
func (t *Task) Progress(step string, done, total int64) {
	t.mu.Lock()
	t.progress = progress{step, done, total}
	t.number++
	t.mu.Unlock()
	select {
	case t.changed <- struct{}{}:
	default: // the writer is told already
	}
}

// Evidence sets what is kept of this attempt as JSON when the job ends: what
// was seen that shows that it was done right. The last call counts.
func (t *Task) Evidence(v any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.evidence = v
}

// pending returns the newest progress and its number; ok is false if it is
// written already.
func (t *Task) pending() (p progress, number int, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.progress, t.number, t.number > t.written
}

// wrote notes that the progress with a number is in the catalog.
func (t *Task) wrote(number int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.written = number
}

// proof is the evidence as JSON; nil if there is none.
func (t *Task) proof() (json.RawMessage, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.evidence == nil {
		return nil, nil
	}
	return json.Marshal(t.evidence)
}
