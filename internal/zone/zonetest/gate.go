package zonetest

import (
	"context"
	"sync"

	"kvol/internal/block"
	"kvol/internal/driver"
)

// Gate is a store at which a zone can be stopped in a step of its work: before
// or after it makes a snapshot or a clone. It is open at first.
type Gate struct {
	driver.Driver
	mu   sync.Mutex
	shut map[Step]*stop // guarded by mu
}

// Step is where a Gate stops a zone.
type Step string

// The steps.
const (
	BeforeSnapshot Step = "before a snapshot"
	BeforeClone    Step = "before a clone"
	AfterClone     Step = "after a clone"
)

// stop is a step that is shut.
type stop struct {
	came chan struct{} // closed when somebody came
	once sync.Once
	one  bool          // only the first is stopped
	open chan struct{} // closed when it is opened
	err  error         // what the step then fails with; nil: it goes on
}

// NewGate puts a gate before a store.
func NewGate(store driver.Driver) *Gate { return &Gate{Driver: store, shut: map[Step]*stop{}} }

// Unwrap lets capabilities be found.
func (g *Gate) Unwrap() driver.Driver { return g.Driver }

// Shut stops whoever comes to a step. came is closed when somebody waits there;
// open lets all go on, or has them fail where it is given an error. It is called
// once.
func (g *Gate) Shut(at Step) (came <-chan struct{}, open func(error)) { return g.set(at, false) }

// Catch stops the first that comes to a step, and lets the others pass.
func (g *Gate) Catch(at Step) (came <-chan struct{}, open func(error)) { return g.set(at, true) }

func (g *Gate) set(at Step, one bool) (came <-chan struct{}, open func(error)) {
	s := &stop{came: make(chan struct{}), open: make(chan struct{}), one: one}
	g.mu.Lock()
	g.shut[at] = s
	g.mu.Unlock()
	return s.came, func(err error) {
		g.mu.Lock()
		delete(g.shut, at)
		g.mu.Unlock()
		s.err = err
		close(s.open)
	}
}

func (g *Gate) pass(ctx context.Context, at Step) error {
	g.mu.Lock()
	s := g.shut[at]
	g.mu.Unlock()
	if s == nil {
		return nil
	}
	first := false
	s.once.Do(func() {
		first = true
		close(s.came)
	})
	if s.one && !first {
		return nil
	}
	select {
	case <-s.open:
		return s.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// CreateSnapshot implements driver.Driver.
func (g *Gate) CreateSnapshot(ctx context.Context, ref driver.SnapshotRef) error {
	if err := g.pass(ctx, BeforeSnapshot); err != nil {
		return err
	}
	return g.Driver.CreateSnapshot(ctx, ref)
}

// CloneSnapshot implements driver.Driver.
func (g *Gate) CloneSnapshot(ctx context.Context, id block.VolumeID, from driver.SnapshotRef, size int64) error {
	if err := g.pass(ctx, BeforeClone); err != nil {
		return err
	}
	if err := g.Driver.CloneSnapshot(ctx, id, from, size); err != nil {
		return err
	}
	return g.pass(ctx, AfterClone)
}
