package logstore

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// pace lets writers write as fast as compaction makes room: in each round they
// may take a part of the room that there is which grows as the round gets on.
// With much room that stops nobody. With little they are slowed down smoothly,
// and so never reach the end of it while there is something to get back.
type pace struct {
	waits atomic.Int64 // writes that were held up

	mu      sync.Mutex    // guards all below
	running bool          // a round
	room    int64         // bytes that writers may take in this round
	taken   int64         // of it
	done    float64       // part of the round that is over
	ending  time.Time     // when all was moved; zero before
	usually time.Duration // how long a round takes from there
}

const (
	// paceStart is the part of the room that writers may take at once, one in
	// so many.
	paceStart = 8
	// A round first looks at its victims, then moves, then makes that durable:
	// these are the parts of it that are over when the first two are.
	paceLooked, paceMoved = 0.15, 0.7

	paceStep = 250 * time.Microsecond // how often a writer that waits looks
	paceMost = 50 * time.Millisecond  // how long one write waits at most
)

// begin starts a round in which writers take at most room.
func (p *pace) begin(room int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.running, p.room, p.taken, p.done, p.ending = true, max(room, 0), 0, 0, time.Time{}
}

// reach notes which part of the round is over.
func (p *pace) reach(done float64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done = max(p.done, min(done, 1))
}

// finish notes that all was moved: what is left is to make that durable.
func (p *pace) finish(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done, p.ending = paceMoved, now
}

// end lets everybody go on, and remembers how long the last part took.
func (p *pace) end(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.running = false; !p.ending.IsZero() {
		p.usually, p.ending = (p.usually+now.Sub(p.ending))/2, time.Time{}
	}
}

// allows tells whether n more bytes may be written now, and counts them if so.
func (p *pace) allows(n int64, now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.running {
		return true
	}
	done := p.done
	if !p.ending.IsZero() && p.usually > 0 {
		done += (1 - done) * min(1, float64(now.Sub(p.ending))/float64(p.usually))
	}
	first := p.room / paceStart
	if p.taken+n > first+int64(float64(p.room-first)*done) {
		return false
	}
	p.taken += n
	return true
}

// hold keeps a writer of n bytes until it is its turn. It is called without a
// lock. However a round goes, nobody waits long: whether there is room for a
// record is for the log to say.
func (p *pace) hold(n int, clock func() time.Time) {
	now := clock()
	if p.allows(int64(n), now) {
		return
	}
	p.waits.Add(1)
	end := now.Add(paceMost)
	for range paceMost / paceStep {
		time.Sleep(paceStep)
		if now = clock(); !now.Before(end) || p.allows(int64(n), now) {
			return
		}
	}
}

// turn is a lock that is held by one at a time.
type turn chan struct{}

func (t turn) Lock()   { t <- struct{}{} }
func (t turn) Unlock() { <-t }

func (t turn) TryLock() bool {
	select {
	case t <- struct{}{}:
		return true
	default:
		return false
	}
}

// lockUnless waits for the turn and tells whether it came; not if the pool gets
// a free segment before.
func (t turn) lockUnless(ctx context.Context, p *pool) (ours bool, err error) {
	for {
		if p.freeCount() > 0 {
			return false, nil
		}
		select {
		case t <- struct{}{}:
			return true, nil
		case <-p.freed:
		case <-ctx.Done():
			return false, errClosed()
		}
	}
}
