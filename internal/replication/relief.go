package replication

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"kvol/internal/block"
	"kvol/internal/catalog"
)

// The room that is kept free for hosts: where a store has less than a twentieth
// free, what targets need that are far behind is given up, one at a time.
// relieveEvery leaves the store the time to get the space back in between.
const (
	reserveShare  = 20
	relieveEvery  = 10 * time.Second
	relieveWait   = 2 * time.Second
	relieveBehind = 30 * time.Second // a target that is less behind keeps what it needs
)

// GivenUp counts the points that targets needed, and that were given up since a
// store ran out of room.
func (s *Sender) GivenUp() int64 { return s.givenUp.Load() }

// runRelief looks after the room of each store, of each by itself, until ctx ends: one
// that hangs keeps no other one waiting.
func (s *Sender) runRelief(ctx context.Context) {
	seen := map[string]bool{}
	for _, b := range s.cfg.Backends.Backends() {
		if !seen[b.Store] {
			seen[b.Store] = true
			s.visits.Go(func() { s.relief(ctx, b.Name) })
		}
	}
}

// relief is the loop of one store, which a backend lies on.
func (s *Sender) relief(ctx context.Context, backend string) {
	tick := time.NewTicker(s.cfg.RelieveEvery)
	defer tick.Stop()
	for ctx.Err() == nil {
		if err := s.relieve(ctx, backend); err != nil && ctx.Err() == nil {
			s.cfg.Log.Error("making room in a store failed", "backend", backend, "err", err)
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
}

// relieve looks whether a store runs out of room, and gives up what is kept
// there for the target that is the furthest behind. Hosts come first: a target
// that is dead for long must not fill the store.
func (s *Sender) relieve(ctx context.Context, backend string) error {
	ask, cancel := context.WithTimeout(ctx, relieveWait)
	room, err := s.cfg.Backends.Capacity(ask, backend)
	cancel()
	if err != nil || room.Total <= 0 || room.Free >= room.Total/reserveShare {
		return nil // who can't tell its room is seen to by others
	}
	err = s.giveUp(ctx, backend, room.Free)
	s.nudge()
	return err
}

// giveUp lets go of what is kept for one link of a backend's volumes.
func (s *Sender) giveUp(ctx context.Context, backend string, free int64) error {
	for _, t := range s.behind() {
		v, ok := s.claimTrack(t)
		if !ok {
			continue
		}
		given, err := v.giveUp(ctx, backend, free)
		s.mu.Lock()
		t.blank, t.cut, t.instant = v.link.Confirmed.ID == "", v.link.Target != nil, instantOf(v.link)
		t.quiet = quiet{}
		t.status.fill(v.link, t.zone)
		if t.again { // somebody kicked meanwhile
			t.again, t.due = false, s.cfg.Now()
		}
		s.pushLocked(t)
		s.mu.Unlock()
		if given || err != nil {
			return err
		}
	}
	return nil
}

// behind are the tracks whose targets fail, or are far behind, that with the
// oldest replica first.
func (s *Sender) behind() (all []*track) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.cfg.Now()
	upTo := map[*track]time.Time{}
	for _, t := range s.tracks {
		p, ok := s.policy(t.key.protection)
		late := now.Sub(t.status.ReplicatedTo) > max(relieveBehind, 2*p.RPO())
		paused := t.status.State == catalog.LinkPaused
		if ok && t.index >= 0 && !t.blank && (late || paused) {
			all, upTo[t] = append(all, t), t.status.ReplicatedTo
		}
	}
	slices.SortFunc(all, func(a, b *track) int {
		return cmp.Or(upTo[a].Compare(upTo[b]), cmp.Compare(a.key.volume, b.key.volume))
	})
	return all
}

// claimTrack takes a track out of its queue, so that nobody else works on it.
func (s *Sender) claimTrack(t *track) (*visit, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t.index < 0 {
		return nil, false
	}
	s.takeLocked(t)
	return &visit{sender: s, track: t, lane: s.laneLocked(t.zone)}, true
}

// giveUp lets go of the points that the link keeps in the store for its target.
// The next step begins with the newest point that both ends have otherwise, a
// tenant's snapshot; where there is none it carries the whole volume. What the
// target has stays there.
func (v *visit) giveUp(ctx context.Context, backend string, free int64) (bool, error) {
	if err := v.load(ctx); err != nil {
		if block.Is(err, block.NotFound) {
			return false, nil
		}
		return false, err
	}
	if v.gone || v.released || !v.sender.cfg.Backends.Shared(v.volume.Backend, backend) {
		return false, nil
	}
	l, now := v.link, v.sender.cfg.Now().UTC()
	text := fmt.Sprintf("the store of backend %s had %d bytes left at %s: point %s, which zone %s has, was given up here",
		v.volume.Backend, free, now.Format(time.RFC3339), l.Confirmed.ID, v.policy.Destination)
	event := block.DREvent{At: now, Kind: "room", SourceZone: v.sender.cfg.Zone, Peer: v.policy.Destination,
		Protection: l.Protection, Volume: l.Volume, Project: v.volume.Project, From: block.HealthLate,
		To: block.HealthNoRoom, Text: text}
	l.Confirmed, l.Target, l.Sum, l.State, l.Whole = block.Point{}, nil, block.RootHash{}, catalog.LinkNew, text
	err := v.save(ctx, l, func(tx *catalog.Tx) error {
		return firstOf(tx.InsertDREvents([]block.DREvent{event}), tx.InsertAudit(block.Audit{User: "kvol",
			Call: "replication gives up a point", Params: fmt.Sprintf("%s %d", l.Volume, l.Protection), Code: 200}))
	})
	if err != nil {
		return false, err
	}
	v.sender.givenUp.Add(1)
	v.sender.cfg.Log.Error("the room of a store runs out: what a target that is behind needs of a volume is given up",
		"volume", l.Volume, "peer", v.policy.Destination, "protection", l.Protection, "backend", v.volume.Backend,
		"free", free, "replicated_up_to", l.Current)
	return true, v.tidy(ctx)
}

func firstOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
