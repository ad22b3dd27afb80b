package control

import (
	"context"
	"encoding/json"
	"sync"
	"time"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/lag"
	"kvol/internal/replication"
)

// The ends of a replication, as a volume's health names them.
const (
	RoleSource = "source"
	RoleTarget = "target"
)

// How often the watchdog looks, unless looking takes long, and how often it
// writes down what it saw.
const (
	watchEvery = 2 * time.Second
	watchShare = 20 // it rests so many times longer than it works
	watchKeep  = time.Minute
	watchBatch = catalog.MaxLags // meters in a transaction
)

// watch is what the watchdog of a zone remembers. The zero value is ready.
type watch struct {
	looking sync.Mutex // held while health is assessed; taken before mu

	mu     sync.Mutex // guards all below
	loaded bool
	gauges map[catalog.LagKey]*gauge
	clocks map[block.Zone]*lag.Clock
	rooms  map[string]*lag.Room // of this zone's backends
	owners map[block.VolumeID]replicaOwner
	last   Health
	said   map[subject]verdict
	kept   time.Time
}

// gauge is what is measured of one end of a volume's replication.
type gauge struct {
	meter    lag.Meter
	flow     lag.Flow  // of the source only
	advanced time.Time // when the target last got something; zero if not since the start
	resumed  bool
	seen     bool // in the last assessment
}

type replicaOwner struct {
	catalog.Owner
	updated time.Time
}

// ObserveSource takes in what the sender says of its links. It does not block
// for long, and may be called by many at once.
func (s *Service) ObserveSource(a replication.Advance) { s.observe(RoleSource, a, 0) }

// ObserveTarget takes in what the receiver says of its replicas.
func (s *Service) ObserveTarget(a replication.Advance) {
	s.observe(RoleTarget, a, s.clockOf(a.SourceZone).Certain())
}

func (s *Service) observe(role string, a replication.Advance, ahead time.Duration) {
	w := &s.watch
	w.mu.Lock()
	defer w.mu.Unlock()
	g := w.gauges[catalog.LagKey{Role: role, SourceZone: a.SourceZone, Volume: a.Volume, Protection: a.Protection}]
	if g == nil || !g.resumed {
		return // the next look finds it
	}
	g.meter.Advance(a.At, a.UpTo.Add(-ahead))
	g.advanced = a.At
	if role == RoleSource {
		g.flow.Add(a.At, lag.Step{Bytes: a.Bytes, Span: a.Span, Took: a.Took, Wire: a.Wire})
	}
}

// clockOf is how far another zone's clock is from this one's.
func (s *Service) clockOf(zone block.Zone) lag.Offset {
	s.watch.mu.Lock()
	defer s.watch.mu.Unlock()
	if c := s.watch.clocks[zone]; c != nil {
		return c.Offset()
	}
	return lag.Offset{}
}

// clockAnswer takes in when a zone's document was written, and between which
// instants it was asked for.
func (s *Service) clockAnswer(zone block.Zone, asked, came, written time.Time) {
	w := &s.watch
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.clocks == nil {
		w.clocks = map[block.Zone]*lag.Clock{}
	}
	if w.clocks[zone] == nil {
		w.clocks[zone] = &lag.Clock{}
	}
	w.clocks[zone].Answer(asked, came, written)
}

// clockHeard is the same for a document that came unasked: it was on its way
// for no longer than its sender waits. That is less exact, and counts only where
// this zone gets no answers to questions of its own.
func (s *Service) clockHeard(zone block.Zone, written time.Time) {
	now := s.now()
	if o := s.clockOf(zone); o.Known && now.Sub(o.At) < pairPatience {
		return
	}
	s.clockAnswer(zone, now.Add(-exchangeTimeout), now, written)
}

// RunHealth assesses the health of all that is replicated from and to this
// zone, again and again until ctx ends: it notes for how long what was how far
// behind, and tells of changes in events and in the log. It needs no sender, no
// receiver and no other zone to see that nothing comes.
func (s *Service) RunHealth(ctx context.Context) error {
	for {
		err := s.askRooms(ctx)
		began := s.now() // a store that hangs costs nothing but the wait
		if err == nil {
			err = s.lookAgain(ctx)
		}
		if err != nil && ctx.Err() == nil {
			s.log.Error("the health of replication could not be assessed", "err", err)
		}
		rest := time.NewTimer(max(watchEvery, watchShare*s.now().Sub(began)))
		select {
		case <-ctx.Done():
			rest.Stop()
			return s.keepMeters(context.WithoutCancel(ctx))
		case <-rest.C:
		}
	}
}

// lookAgain is one round of the watchdog, with what stores last said of their room.
func (s *Service) lookAgain(ctx context.Context) error {
	h, err := s.assessAsked(ctx)
	if err != nil {
		return err
	}
	if err := s.tellChanges(ctx, h); err != nil {
		return err
	}
	w := &s.watch
	w.mu.Lock()
	due := s.now().Sub(w.kept) >= watchKeep
	if due {
		w.kept = s.now()
	}
	w.mu.Unlock()
	if !due {
		return nil
	}
	if err := s.keepRTOs(ctx); err != nil {
		return err
	}
	return s.keepMeters(ctx)
}

// loadMeters reads what a former process kept.
func (s *Service) loadMeters(ctx context.Context) error {
	w := &s.watch
	w.mu.Lock()
	loaded := w.loaded
	w.mu.Unlock()
	if loaded {
		return nil
	}
	var kept []catalog.KeptLag
	err := s.catalog.View(ctx, func(tx *catalog.Tx) (err error) {
		kept, err = tx.Lags()
		return err
	})
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.loaded {
		return nil // another one was quicker
	}
	w.gauges, w.rooms = map[catalog.LagKey]*gauge{}, map[string]*lag.Room{}
	w.owners, w.said = map[block.VolumeID]replicaOwner{}, map[subject]verdict{}
	w.loaded, w.kept = true, s.now()
	for _, k := range kept {
		g := &gauge{}
		if err := json.Unmarshal(k.Meter, &g.meter); err != nil {
			s.log.Error("a meter in the catalog is unreadable and begins anew", "volume", k.Volume, "err", err)
			g = &gauge{}
		}
		w.gauges[k.LagKey] = g
	}
	return nil
}

// keepMeters writes all meters down and forgets those of what is gone.
func (s *Service) keepMeters(ctx context.Context) error {
	w := &s.watch
	var keep []catalog.KeptLag
	var gone []catalog.LagKey
	w.mu.Lock()
	for k, g := range w.gauges {
		if !g.seen {
			gone = append(gone, k)
			delete(w.gauges, k)
			continue
		}
		text, err := json.Marshal(&g.meter)
		if err != nil {
			w.mu.Unlock()
			return err
		}
		keep = append(keep, catalog.KeptLag{LagKey: k, Meter: text})
	}
	w.mu.Unlock()
	for len(keep)+len(gone) > 0 {
		n, m := min(len(keep), watchBatch), min(len(gone), watchBatch)
		err := s.catalog.Update(ctx, func(tx *catalog.Tx) error {
			if err := tx.PutLags(keep[:n]); err != nil {
				return err
			}
			for _, k := range gone[:m] {
				if err := tx.DeleteLag(k); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		keep, gone = keep[n:], gone[m:]
	}
	return nil
}
