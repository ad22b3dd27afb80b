package line

import (
	"sync"
	"sync/atomic"
	"time"
)

// Crew is a connection's workers: goroutines that are started as they are
// needed, and wait for more until Close.
type Crew[T any] struct {
	most   int
	do     func(T)
	work   chan T
	joined sync.WaitGroup
	queued atomic.Int32 // with the workers

	// Broken is told of a job that panicked, and has to end it and its
	// connection: a fault in one must not end all others with the process. It is
	// set before the first job; nil lets panics go on.
	Broken func(job T, cause any)

	mu      sync.Mutex // guards below
	started int
}

// NewCrew makes a crew of at most so many, who do what they are given. There
// must never be more than room jobs that were given and not begun.
func NewCrew[T any](most, room int, do func(T)) *Crew[T] {
	return &Crew[T]{most: most, do: do, work: make(chan T, room)}
}

// Give gives a job to the crew. It does not wait, and any goroutine may call it.
func (c *Crew[T]) Give(job T) {
	c.employ()
	c.work <- job
}

// Idle reports whether the crew has nothing to do.
func (c *Crew[T]) Idle() bool { return c.queued.Load() == 0 }

// employ counts a job that the crew will get, and starts one more if all have
// something to do.
func (c *Crew[T]) employ() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if int(c.queued.Add(1)) <= c.started || c.started == c.most {
		return
	}
	c.started++
	c.joined.Go(func() {
		for job := range c.work {
			c.carryOut(job)
		}
	})
}

func (c *Crew[T]) carryOut(job T) {
	defer c.queued.Add(-1)
	if c.Broken != nil {
		defer func() {
			if cause := recover(); cause != nil {
				c.Broken(job, cause)
			}
		}()
	}
	c.do(job)
}

// Close waits until all is done that was given. It is called once, after the last
// Give.
func (c *Crew[T]) Close() {
	close(c.work)
	c.joined.Wait()
}

const (
	// slowRead is how long a read may take before a reader leaves reads to its
	// crew while others wait behind them, and wary for how many.
	slowRead = 200 * time.Microsecond
	wary     = 64
)

// Wary decides for a connection's reader whether it reads from the device
// itself, which is the quickest where the store has the bytes at hand. The zero
// value is ready.
type Wary struct{ left int }

// Now decides it for one read: if alone, since nothing waits behind it, or if
// reads have been quick of late.
func (w *Wary) Now(alone func() bool) bool {
	if w.left == 0 || alone() {
		return true
	}
	w.left--
	return false
}

// Took tells how long a read took that the reader carried out.
func (w *Wary) Took(d time.Duration) {
	if d > slowRead {
		w.left = wary
	}
}
