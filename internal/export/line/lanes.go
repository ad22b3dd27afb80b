package line

import (
	"slices"
	"sync"
	"time"
)

// Lane is a kind of request whose turns are taken in order.
type Lane int

// A connection's reads don't wait for its changes, nor the other way round.
const (
	Reads Lane = iota
	Changes
	lanes
)

// LanesConfig is what Lanes need. None of the functions may wait, and all but
// Drop are called with the lanes held.
type LanesConfig[T any] struct {
	Ask      func(T) time.Duration // counts a job, and tells how long it has to wait
	GiveBack func(T)               // takes back what Ask counted
	Due      func(T)               // the job's time has come
	Drop     func(T)               // it will never come
}

// Lanes are where a connection's jobs wait for their time. Only the first of
// each lane is counted, those behind it when it went: however much one client
// asks for, another one's job has no more before it than one of each lane of each
// connection. No goroutine waits meanwhile. Ask and Wait are for one goroutine,
// the connection's reader; the others for any.
type Lanes[T any] struct {
	c LanesConfig[T]

	mu    sync.Mutex // guards below
	lanes [lanes]lane[T]
	end   ending
}

// lane is a queue. Its timer is the first one's, which was counted; it is nil
// where the lane is empty.
type lane[T any] struct {
	jobs  []T
	timer *time.Timer
}

// ending is what becomes of those that wait, and of any that come.
type ending int

const (
	goesOn ending = iota
	hurried
	dropped
)

// NewLanes makes empty lanes.
func NewLanes[T any](c LanesConfig[T]) *Lanes[T] { return &Lanes[T]{c: c} }

// Turn is when a job may be carried out. The zero Turn is now.
type Turn struct {
	behind bool // others, and not counted
	wait   time.Duration
}

// Waits reports whether the job has to be given to Wait.
func (t Turn) Waits() bool { return t.behind || t.wait > 0 }

// Ask counts a job, if none of its lane waits, and tells when its turn is.
func (l *Lanes[T]) Ask(in Lane, job T) Turn {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.end == hurried:
		return Turn{}
	case l.end == dropped || len(l.lanes[in].jobs) > 0:
		return Turn{behind: true}
	}
	return Turn{wait: l.c.Ask(job)}
}

// Wait has a job wait for the turn that Ask told.
func (l *Lanes[T]) Wait(in Lane, job T, turn Turn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch l.end {
	case hurried:
		l.c.Due(job)
		return
	case dropped:
		if !turn.behind {
			l.c.GiveBack(job)
		}
		l.mu.Unlock()
		defer l.mu.Lock()
		l.c.Drop(job)
		return
	}
	q := &l.lanes[in]
	q.jobs = append(q.jobs, job)
	switch {
	case len(q.jobs) > 1:
	case turn.behind: // those before it went meanwhile
		l.nextLocked(q)
	default:
		l.startLocked(q, turn.wait)
	}
}

// nextLocked counts the first job of a lane, and lets it go if that is now.
func (l *Lanes[T]) nextLocked(q *lane[T]) {
	for len(q.jobs) > 0 {
		if wait := l.c.Ask(q.jobs[0]); wait > 0 {
			l.startLocked(q, wait)
			return
		}
		l.goLocked(q)
	}
}

func (l *Lanes[T]) goLocked(q *lane[T]) {
	job := q.jobs[0]
	q.jobs = slices.Delete(q.jobs, 0, 1)
	l.c.Due(job)
}

func (l *Lanes[T]) startLocked(q *lane[T], wait time.Duration) {
	var timer *time.Timer
	timer = time.AfterFunc(wait, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if q.timer != timer {
			return
		}
		q.timer = nil
		l.goLocked(q)
		l.nextLocked(q)
	})
	q.timer = timer
}

func (q *lane[T]) stop() {
	q.timer.Stop()
	q.timer = nil
}

// Take takes the jobs out that are meant, and their cost back.
func (l *Lanes[T]) Take(meant func(T) bool) (taken []T) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range l.lanes {
		q := &l.lanes[i]
		if len(q.jobs) == 0 {
			continue
		}
		first := meant(q.jobs[0])
		if first {
			l.c.GiveBack(q.jobs[0])
			q.stop()
		}
		q.jobs = slices.DeleteFunc(q.jobs, func(job T) bool {
			if !meant(job) {
				return false
			}
			taken = append(taken, job)
			return true
		})
		if first {
			l.nextLocked(q)
		}
	}
	return taken
}

// Hurry lets all go on that wait, and those that come, since the server stops.
func (l *Lanes[T]) Hurry() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, job := range l.endLocked(hurried) {
		l.c.Due(job)
	}
}

// Drop drops all that wait, and those that come, since the connection ends. Their
// cost is taken back.
func (l *Lanes[T]) Drop() {
	l.mu.Lock()
	for i := range l.lanes {
		if q := &l.lanes[i]; len(q.jobs) > 0 {
			l.c.GiveBack(q.jobs[0])
		}
	}
	waiting := l.endLocked(dropped)
	l.mu.Unlock()
	for _, job := range waiting {
		l.c.Drop(job)
	}
}

// endLocked empties the lanes.
func (l *Lanes[T]) endLocked(how ending) (waiting []T) {
	l.end = max(l.end, how)
	for i := range l.lanes {
		q := &l.lanes[i]
		if len(q.jobs) > 0 {
			q.stop()
		}
		waiting = append(waiting, q.jobs...)
		q.jobs = nil
	}
	return waiting
}
