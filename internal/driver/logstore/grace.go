package logstore

import (
	"context"
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

// wait returns once all readers that entered before the call have left.
func (g *grace) wait(ctx context.Context) error {
	g.waiting.Lock()
	defer g.waiting.Unlock()
	e := g.epoch.Load() & 1
	g.epoch.Add(1)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for g.readers[e].Load() != 0 {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
	return nil
}
