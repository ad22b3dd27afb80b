package logstore

import (
	"sync"
	"sync/atomic"
	"time"
)

// grace lets a segment be reused only after all readers that may have a place
// in it at hand are through, without a lock for them.
type grace struct {
	epoch   atomic.Uint32
	readers [2]atomic.Int64
	waiting sync.Mutex // one wait at a time
}

func (g *grace) enter() uint32 {
	for {
		e := g.epoch.Load() & 1
		g.readers[e].Add(1)
		if g.epoch.Load()&1 == e {
			return e
		}
		g.readers[e].Add(-1)
	}
}

func (g *grace) leave(e uint32) { g.readers[e].Add(-1) }

// wait returns once all readers that entered before the call have left, or
// with an error when closing is closed.
func (g *grace) wait(closing <-chan struct{}) error {
	g.waiting.Lock()
	defer g.waiting.Unlock()
	e := g.epoch.Load() & 1
	g.epoch.Add(1)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for g.readers[e].Load() != 0 {
		select {
		case <-closing:
			return errClosed()
		case <-tick.C:
		}
	}
	return nil
}
