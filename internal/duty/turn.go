package duty

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"kvol/internal/block"
	"kvol/internal/catalog"
)

// Turn is a duty in the hands of this process. Its methods may be called at once.
type Turn struct {
	k     *Keeper
	hold  catalog.Hold
	epoch time.Time    // when it was asked for
	until atomic.Int64 // nanoseconds after epoch
	lost  atomic.Bool
	said  chan struct{} // gets a token when there is something to say
	gate  gate

	mu      sync.Mutex
	words   string        // guarded by mu
	changed chan struct{} // closed when until or lost changes; guarded by mu
}

func newTurn(k *Keeper, h catalog.Hold, began time.Time) *Turn {
	t := &Turn{k: k, hold: h, epoch: began, said: make(chan struct{}, 1), changed: make(chan struct{})}
	t.until.Store(int64(k.Lease))
	return t
}

// Hold is the right itself.
func (t *Turn) Hold() catalog.Hold { return t.hold }

// Say tells the other processes something, until something else is said.
func (t *Turn) Say(words string) {
	t.mu.Lock()
	t.words = words
	t.mu.Unlock()
	select {
	case t.said <- struct{}{}:
	default: // a token is waiting already
	}
}

// Await returns nil while the duty is surely this process's. Where it may be
// another's by now, since it could not be renewed in time, Await waits until that
// is clear: nil if it is still held, ErrLost if not, the context's error if that
// ends before. The time runs from before the renewal was asked for, by a clock
// that does not jump, so that it is over here before it is over for others.
func (t *Turn) Await(ctx context.Context) error {
	for {
		if t.lost.Load() {
			return ErrLost
		}
		if t.k.Now().Sub(t.epoch) < time.Duration(t.until.Load()) {
			return nil
		}
		t.mu.Lock()
		changed := t.changed
		t.mu.Unlock()
		if t.lost.Load() || t.k.Now().Sub(t.epoch) < time.Duration(t.until.Load()) {
			continue
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-changed:
		}
	}
}

// Enter is Await for who is about to change what other processes can change too, a
// store that they share; he calls Leave when it is done. Nobody is inside when the
// duty's time is over: the process is killed otherwise.
func (t *Turn) Enter(ctx context.Context) error {
	for {
		if err := t.Await(ctx); err != nil {
			return err
		}
		wait := t.gate.enter()
		if wait == nil {
			return nil
		}
		t.mu.Lock()
		changed := t.changed
		t.mu.Unlock()
		if t.lost.Load() {
			continue
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-changed:
		case <-wait:
		}
	}
}

// Leave says that what Enter was called for is done.
func (t *Turn) Leave() { t.gate.leave() }

// keepUp lets changes go on for a lease that was renewed; asked is when it was
// asked for, by uptime. It is late when the renewal took so long that another one is
// needed before.
func (t *Turn) keepUp(asked time.Duration) (late bool, err error) {
	return t.gate.open(asked+t.k.Lease, t.k.Lease/6)
}

// change wakes those that wait.
func (t *Turn) change() {
	t.mu.Lock()
	defer t.mu.Unlock()
	close(t.changed)
	t.changed = make(chan struct{})
}

// renew keeps the duty until ctx ends, and calls end when another process has it.
func (t *Turn) renew(ctx context.Context, end context.CancelCauseFunc) {
	next := time.NewTimer(0)
	defer next.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-next.C:
		case <-t.said:
		}
		pause := t.k.Lease / 3
		began := t.k.Now()
		asked, err := uptime()
		t.mu.Lock()
		words := t.words
		t.mu.Unlock()
		if err == nil {
			err = t.k.Catalog.Update(ctx, func(tx *catalog.Tx) error { return tx.RenewDuty(t.hold, t.k.Lease, words) })
		}
		if err == nil {
			var late bool
			if late, err = t.keepUp(asked); late {
				pause = 0
			}
		}
		switch {
		case err == nil:
			t.until.Store(int64(began.Sub(t.epoch) + t.k.Lease))
			t.change()
		case ctx.Err() != nil:
			return
		case block.Is(err, block.Stale):
			t.lost.Store(true)
			t.change()
			end(ErrLost)
			return
		default:
			t.k.Log.Warn("a duty can't be renewed", "duty", t.hold.Duty, "err", err)
			pause = t.k.Lease / 20
		}
		next.Reset(pause)
	}
}
