package replication

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"kvol/internal/block"
	"kvol/internal/catalog"
)

// runRelays sends replicas of this zone on to third ones, until ctx ends: the
// same points by the same names, as soon as they are committed here. Each relay
// sends as many volumes at a time as a source does.
func (s *Sender) runRelays(ctx context.Context) {
	if s.cfg.Relays == nil {
		return
	}
	for _, p := range s.cfg.Relays() {
		if p.Enabled {
			s.visits.Go(func() { s.relay(ctx, p) })
		}
	}
}

// relay is the loop of one relay.
func (s *Sender) relay(ctx context.Context, p block.Protection) {
	r := relaying{sender: s, policy: p, turns: make(chan struct{}, s.cfg.Sessions), busy: map[block.VolumeID]bool{}}
	for ctx.Err() == nil {
		r.note(ctx, r.look(ctx))
		timer := time.NewTimer(r.rest())
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
		timer.Stop()
	}
	r.running.Wait()
}

// relaying is what a relay sends on at the moment: some volumes at a time, so that
// one that takes long holds up no other.
type relaying struct {
	sender  *Sender
	policy  block.Protection
	turns   chan struct{} // holds a token for each volume that is sent
	running sync.WaitGroup

	mu       sync.Mutex // guards all below
	busy     map[block.VolumeID]bool
	failures int // in a row

	unreached bool // the third zone could not be reached the last time
}

// note counts failures, and ends that with what succeeds.
func (r *relaying) note(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if err == nil {
		return
	}
	r.failures++
	r.sender.cfg.Log.Warn("replicas could not be sent on", "peer", r.policy.Destination, "protection", r.policy.Seq,
		"err", err)
}

// rest is how long nothing is begun.
func (r *relaying) rest() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.failures > 0 {
		return r.sender.backOff(r.failures)
	}
	return max(r.policy.Interval, minInterval)
}

// underWay are the replicas that are being sent on. Only look begins with one, so
// what it finds in the catalog afterwards of the others is how they stand.
func (r *relaying) underWay() map[block.VolumeID]bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.busy)
}

// look begins to send on what the third zone lacks.
func (r *relaying) look(ctx context.Context) error {
	s, p, busy := r.sender, r.policy, r.underWay()
	var replicas []block.Replica
	far := map[block.VolumeID]catalog.Relay{}
	err := s.cfg.Catalog.View(ctx, func(tx *catalog.Tx) (err error) {
		clear(far)
		if replicas, err = tx.Replicas(p.SourceZone); err != nil {
			return err
		}
		all, err := tx.Relays()
		for _, r := range all {
			if r.Protection == p.Seq {
				far[r.Replica] = r
			}
		}
		return err
	})
	if err != nil {
		return err
	}
	for _, rep := range replicas {
		if rep.Protection != p.Follows || rep.Newest.ID == "" {
			continue
		}
		row := far[rep.ID]
		delete(far, rep.ID)
		row.Replica, row.Protection = rep.ID, p.Seq
		v := &relayed{sender: s, policy: p, rep: rep, row: row}
		if !busy[rep.ID] && v.news() && !r.begin(ctx, v) {
			break
		}
	}
	return s.forgetRelays(ctx, p, replicas, far)
}

// begin sends a replica on when it is its turn; false where the third zone could
// not be reached meanwhile.
func (r *relaying) begin(ctx context.Context, v *relayed) bool {
	select {
	case r.turns <- struct{}{}:
	case <-ctx.Done():
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.unreached {
		r.unreached = false // it is tried again after a rest
		<-r.turns
		return false
	}
	r.busy[v.rep.ID] = true
	r.running.Go(func() { r.end(ctx, v, v.sendOn(ctx)) })
	return true
}

// end takes in how sending a replica on ended.
func (r *relaying) end(ctx context.Context, v *relayed, err error) {
	r.note(ctx, err)
	var down *unreachable
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.unreached = errors.As(err, &down); err == nil {
		r.failures = 0
	}
	delete(r.busy, v.rep.ID)
	<-r.turns
}

// sendOn brings the third zone up to date, and notes what stands in the way.
func (v *relayed) sendOn(ctx context.Context) error {
	seen := v.rep.UpdatedAt
	err := v.run(ctx)
	switch {
	case block.Is(err, block.Stale): // it lives on elsewhere
		v.row.Seen = seen
		return v.failed(ctx, fmt.Errorf("%s%w", relayFenced, err))
	case err != nil && ctx.Err() == nil:
		return errors.Join(err, v.failed(ctx, err))
	}
	return nil
}

// forgetRelays removes the rows of replicas that are gone here.
func (s *Sender) forgetRelays(ctx context.Context, p block.Protection, there []block.Replica,
	left map[block.VolumeID]catalog.Relay,
) error {
	for _, r := range there {
		delete(left, r.ID)
	}
	if len(left) == 0 {
		return nil
	}
	return s.cfg.Catalog.Update(ctx, func(tx *catalog.Tx) error {
		for id := range left {
			if err := tx.DeleteRelay(id, p.Seq); err != nil {
				return err
			}
		}
		return nil
	})
}

// relayFenced begins what is noted of a replica that the third zone takes nothing
// of any more.
const relayFenced = "fenced: "

// relayed is one replica on its way to a third zone.
type relayed struct {
	sender *Sender
	policy block.Protection
	rep    block.Replica
	row    catalog.Relay
	points []block.Point                    // of the replica, from old to new
	sums   map[block.PointID]block.RootHash // of those that are a base
	needed map[block.PointID]bool           // by its group
	store  store
	peer   Target
}

// news reports whether the third zone lacks something.
func (v *relayed) news() bool {
	if !v.rep.DeletedAt.IsZero() {
		return !v.row.Gone
	}
	if strings.HasPrefix(v.row.Error, relayFenced) && v.row.Seen.Equal(v.rep.UpdatedAt) {
		return false
	}
	return v.row.Confirmed.ID != v.rep.Newest.ID || !v.row.Seen.Equal(v.rep.UpdatedAt) ||
		v.rep.Current.Sub(v.row.Current) >= min(v.sender.cfg.Heartbeat, v.policy.RPO()/2)
}

func (v *relayed) holder() string { return fmt.Sprintf("relay/%d", v.policy.Seq) }

// run brings the third zone up to date.
func (v *relayed) run(ctx context.Context) error {
	s := v.sender
	d, err := s.cfg.Backends.Of(v.rep.Backend)
	if err != nil {
		return err
	}
	v.store = store{driver: d, volume: v.rep.ID}
	s.mu.Lock()
	l := s.laneLocked(v.policy.Destination)
	s.mu.Unlock()
	remote, _, err := s.connect(ctx, l, v.policy.Destination, false)
	if err != nil {
		return err
	}
	defer s.disconnect(ctx, l, remote)
	before := remote.Sent()
	flow := l.shaper.Flow(v.policy.Seq, v.row.Confirmed.ID == "")
	v.peer = &paced{Target: remote, remote: remote, shaper: l.shaper, flow: flow, part: v.policy.Seq, told: before}
	err = v.exchange(ctx)
	v.row.BytesSent += remote.Sent() - before
	if err != nil {
		return err
	}
	v.row.Error = ""
	return s.cfg.Catalog.Update(ctx, v.save)
}

// exchange takes the steps that the third zone lacks.
func (v *relayed) exchange(ctx context.Context) error {
	have, err := v.peer.Offer(ctx, Offer{Volume: v.rep.Source, Protection: v.policy.Seq, Epoch: v.rep.Epoch,
		Holders: v.holders(), Gone: !v.rep.DeletedAt.IsZero()})
	if err != nil {
		return err
	}
	if !v.rep.DeletedAt.IsZero() {
		if have.Replica != "" {
			err = v.peer.Gone(ctx)
		}
		v.row.Gone = err == nil
		return err
	}
	v.row.Gone = false
	entry := v.rep.Entry
	if len(entry.Key) > 0 {
		if v.sender.cfg.Reseal == nil {
			return block.Errorf(block.Unavailable, "This zone can't send keys of volumes on.")
		}
		if entry.Key, err = v.sender.cfg.Reseal(v.rep.Source, entry.Key, have.Box); err != nil {
			return err
		}
	}
	base, steps, drop, err := v.plan(ctx, have)
	if err != nil {
		return err
	}
	for _, t := range steps {
		if base, err = v.take(ctx, base, t, entry); err != nil {
			return err
		}
	}
	v.row.Confirmed = base
	h := Heartbeat{Point: base.ID, At: v.rep.Current, Entry: &entry, Drop: drop}
	if err := v.peer.Heartbeat(ctx, h); err != nil {
		return err
	}
	v.row.Seen, v.row.Current = v.rep.UpdatedAt, v.rep.Current
	return nil
}

// holders are the zones that have replicas: what the source told, and this one.
func (v *relayed) holders() []block.Zone {
	if v.rep.Holders == nil {
		return nil
	}
	return append(slices.Clone(v.rep.Holders), v.sender.cfg.Zone)
}

// plan finds the newest point that both zones have, pins it, and says which
// points follow: those with names, those that a group needs to be of one
// instant, and the newest.
func (v *relayed) plan(ctx context.Context, have Have) (base block.Point, steps []block.Point, drop []block.PointID,
	err error,
) {
	held := map[block.PointID]block.Point{}
	for _, p := range have.Points {
		held[p.ID] = p
	}
	err = v.sender.cfg.Catalog.Update(ctx, func(tx *catalog.Tx) (err error) {
		base, steps, drop, v.sums = block.Point{}, nil, nil, map[block.PointID]block.RootHash{}
		if v.rep, err = tx.Replica(v.rep.ID); err != nil {
			return err
		}
		if v.points, err = tx.Points(v.rep.ID); err != nil {
			return err
		}
		if v.needed, err = newestWhole(tx, v.points); err != nil {
			return err
		}
		named := map[block.PointID]bool{}
		for n, p := range v.points {
			named[p.ID] = p.Name != ""
			if common, ok := held[p.ID]; ok {
				if common.Root != p.Root {
					return block.Errorf(block.Corrupt, "point %s is not the same at both ends", p.ID)
				}
				base, steps = p, nil
			} else if p.Name != "" || v.needed[p.ID] || n == len(v.points)-1 {
				steps = append(steps, p)
			}
		}
		for _, p := range have.Points {
			if p.Name != "" && !named[p.ID] {
				drop = append(drop, p.ID)
			}
		}
		if base.ID == "" {
			return nil
		}
		return v.pin(tx, base.ID)
	})
	return base, steps, drop, err
}

// pin keeps a point of the replica while it is sent on, or the base of what
// comes next, and notes its sum.
func (v *relayed) pin(tx *catalog.Tx, id block.PointID) error {
	_, sum, err := tx.Point(v.rep.ID, id)
	if err != nil {
		return err
	}
	v.sums[id] = sum
	return tx.Pin(v.rep.ID, id, v.holder())
}

// take takes one step: the point that comes out has the identity that it has
// here.
func (v *relayed) take(ctx context.Context, base, target block.Point, entry block.Entry) (block.Point, error) {
	err := v.sender.cfg.Catalog.Update(ctx, func(tx *catalog.Tx) error { return v.pin(tx, target.ID) })
	if block.Is(err, block.NotFound) {
		return base, block.Wrap(block.Unavailable, err, "Point %s was thinned out meanwhile.", target.ID)
	}
	if err != nil {
		return base, err
	}
	step := block.Step{Base: base, Target: target, Epoch: v.rep.Epoch}
	step.Target.Parent = base.ID
	p, sum, err := Send(ctx, v.store, v.peer, step, SumFrom(v.sums[base.ID]), entry)
	if err != nil {
		return base, err
	}
	if p.ID != target.ID || sum.Root(target.Size) != target.Root {
		return base, block.Errorf(block.Corrupt, "point %s came out otherwise than it is here", target.ID)
	}
	v.row.Confirmed = target
	return target, v.sender.cfg.Catalog.Update(ctx, v.save)
}

// save notes how far the replica was sent on, and lets go of what is older.
func (v *relayed) save(tx *catalog.Tx) error {
	pins, err := tx.PinnedBy(v.rep.ID, v.holder())
	if err != nil {
		return err
	}
	for _, id := range pins {
		if id == v.row.Confirmed.ID {
			continue
		}
		if _, err := tx.Unpin(v.rep.ID, id, v.holder()); err != nil {
			return err
		}
	}
	return tx.PutRelay(v.row)
}

// failed notes why a replica could not be sent on.
func (v *relayed) failed(ctx context.Context, cause error) error {
	v.row.Error = strings.TrimSpace(cause.Error())
	return v.sender.cfg.Catalog.Update(ctx, func(tx *catalog.Tx) error {
		if _, err := tx.Replica(v.rep.ID); err != nil {
			return nil // it is gone, and so is the row
		}
		return tx.PutRelay(v.row)
	})
}
