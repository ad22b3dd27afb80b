package job

import (
	"context"
	"errors"
	"time"

	"kvol/internal/block"
	"kvol/internal/catalog"
)

// Handler does one kind of job. Its methods may be called at once for
// different jobs, never for one.
type Handler interface {
	// Run does the job. nil means that it is done. An error made by Snooze or
	// GiveUp steers what happens next; any other is tried again later, up to a
	// limit. ctx ends when the process stops or when the job is no longer ours;
	// Run is then to return soon, and is run again from its start.
	Run(ctx context.Context, t *Task) error
	// GaveUp is called in the transaction that fails the job, so that what the
	// job works on gets its error status if and only if the job has failed. An
	// error from it keeps the job alive, and GaveUp is tried again later.
	GaveUp(tx *catalog.Tx, j block.Job, cause error) error
}

// Patience is what a handler with other limits than the default has besides.
type Patience interface {
	Retries() Retries
}

// Retries say how often a job is tried, and how long is waited before the next
// attempt: First after the first, twice as long after each, Max at most.
type Retries struct {
	Attempts   int
	First, Max time.Duration
}

// DefaultRetries are those of a handler without Patience: about ten minutes in
// all.
var DefaultRetries = Retries{Attempts: 12, First: time.Second, Max: 2 * time.Minute}

// wait is how long to wait after an attempt, counted from 1.
func (r Retries) wait(attempt int) time.Duration {
	d := r.First
	for ; attempt > 1 && d < r.Max; attempt-- {
		d *= 2
	}
	return min(d, r.Max)
}

func retriesOf(h Handler) Retries {
	if p, ok := h.(Patience); ok {
		return p.Retries()
	}
	return DefaultRetries
}

type snooze struct {
	wait  time.Duration
	cause error
}

func (s *snooze) Error() string {
	if s.cause == nil {
		return "not yet"
	}
	return s.cause.Error()
}

func (s *snooze) Unwrap() error { return s.cause }

// Snooze is returned by a handler that can't go on yet through no fault: the
// job is run again after d, and the attempt isn't counted. cause, which may be
// nil, is shown as the job's error meanwhile.
func Snooze(d time.Duration, cause error) error { return &snooze{d, cause} }

// Waits reports whether a handler's error is one of Snooze.
func Waits(err error) bool {
	_, ok := asSnooze(err)
	return ok
}

type giveUp struct{ error }

func (g *giveUp) Unwrap() error { return g.error }

// GiveUp is returned by a handler for which trying again is useless: the job
// fails now. cause must not be nil.
func GiveUp(cause error) error { return &giveUp{cause} }

func asSnooze(err error) (*snooze, bool) {
	var s *snooze
	ok := errors.As(err, &s)
	return s, ok
}

func isGiveUp(err error) bool {
	var g *giveUp
	return errors.As(err, &g)
}
