package logstore

import (
	"log/slog"
	"sync"
	"time"

	"kvol/internal/block"
)

const (
	indexPatience = 10 * time.Second      // for which the index may fail to be written before the store stops
	firstPause    = 10 * time.Millisecond // after a failure
	longestPause  = time.Second
	failureGap    = time.Minute // failures further apart have nothing to do with each other
)

// patience is with a disk that does not take what the index writes. A hiccup
// ends by itself, and room may be made: writers are held meanwhile, and the
// store does not stop for less than failures that last. Pebble would try again
// without a pause.
type patience struct {
	most    time.Duration // that failures may last
	now     func() time.Time
	log     *slog.Logger
	closing <-chan struct{} // ends pauses
	// forRoom tells whether a full file system may stay full for as long as it
	// likes. Whoever opens or closes a store is told instead.
	forRoom func() bool

	mu          sync.Mutex // guards all below
	first, last time.Time  // failures in a row
	delay       time.Duration
}

// impatient is of who mends an index: the first failure ends that.
func impatient() *patience {
	never := func() bool { return false }
	return &patience{now: func() time.Time { return time.Time{} }, log: slog.New(slog.DiscardHandler), forRoom: never}
}

// failed notes a failure and tells whether it was one too many. It is called
// with Pebble's locks held.
func (p *patience) failed(err error) (over bool) {
	now := p.now()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.delay == 0 || now.Sub(p.last) > failureGap {
		p.first, p.delay = now, firstPause
		p.log.Warn("the store's index can't be written; it is tried again", "err", err)
	} else {
		p.delay = min(2*p.delay, longestPause)
	}
	p.last = now
	if ioKind(err) == block.NoSpace && p.forRoom() {
		return false
	}
	return now.Sub(p.first) >= p.most
}

// well says that writing succeeded.
func (p *patience) well() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.delay = 0
}

// pause waits as long as the last failure asks for.
func (p *patience) pause() {
	p.mu.Lock()
	wait := p.delay
	if wait > 0 {
		wait -= p.now().Sub(p.last)
	}
	p.mu.Unlock()
	if wait <= 0 {
		return
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-p.closing:
	case <-t.C:
	}
}

// over reports whether the store is being closed.
func (p *patience) over() bool {
	select {
	case <-p.closing:
		return true
	default:
		return false
	}
}
