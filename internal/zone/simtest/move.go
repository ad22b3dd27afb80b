package simtest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/control"
)

// saga is a story of whole zones: volumes that are written to, and move.
type saga struct {
	*tale
	lines []*line // one, or those of a group
	group block.GroupID
	hosts sync.WaitGroup
	over  chan struct{} // closed when hosts are to stop
}

// line is a volume and all that it became.
type line struct {
	number int
	home   place
	places []place // that it was at, the home last
}

// place is a volume in a zone.
type place struct {
	zone   block.Zone
	volume block.VolumeID
}

var tenant = block.Caller{Project: "p", User: "u", UserName: "u", Roles: []string{"admin", "member", "reader"}}

// move tells a story of a volume, or of a group of two, that is recovered
// elsewhere by force, or moved as planned, and perhaps comes back, while things
// go wrong.
func (c *cloud) move(image []byte) {
	t := &tale{cloud: c, image: image, names: map[block.VolumeID][]block.SnapshotID{},
		grouped: map[block.VolumeID]bool{}}
	s := &saga{tale: t, over: make(chan struct{})}
	defer s.end()
	keep := block.Retention{Tiers: []block.RetentionTier{{Step: time.Second, For: time.Hour}}}
	t.protect("a", "b", keep)
	t.protect("b", "a", keep)
	t.several = true
	for _, n := range c.nodes {
		t.targets = append(t.targets, n)
		n.open(image)
	}
	slices.SortFunc(t.targets, func(x, y *node) int { return cmpText(string(x.name), string(y.name)) })
	t.raise()
	if !s.settle() {
		return
	}
	c.mu.Lock()
	t.faulty = true
	c.mu.Unlock()
	s.mishaps()
	if c.n(2) == 0 {
		s.force("b")
	} else {
		s.planned("b")
	}
	if s.lines[0].home.zone == "b" && c.n(2) == 0 && !c.broken() {
		s.await("a copy in the zone that was left", func() bool { return s.covered("a") })
		s.mishaps()
		s.planned("a")
	}
	s.rest()
}

// settle makes the volumes and waits for their first copies.
func (s *saga) settle() bool {
	count := 1
	if s.n(3) == 0 {
		count, s.group = 2, groupID
	}
	for i := range count {
		v := &line{number: i}
		s.lines = append(s.lines, v)
		s.call("a", "make a volume", func(l *life) error {
			one := int64(1)
			made, err := l.control.CreateVolume(l.ctx, tenant, control.NewVolume{Size: &one})
			v.home = place{"a", made.ID}
			return err
		})
		s.await("the volume", func() bool {
			return s.volume(v.home).Status == block.VolumeAvailable
		})
		s.live(v, v.home)
	}
	if s.group != "" {
		s.unite()
	}
	s.await("the first copy", func() bool { return s.covered("b") && (s.group == "" || s.united("b")) })
	return !s.broken()
}

// live has a host write to the volume at a place from now on.
func (s *saga) live(v *line, p place) {
	v.home, v.places = p, append(v.places, p)
	rnd := rand.New(rand.NewPCG(s.story.Seed, 200+100*uint64(v.number)+uint64(len(v.places))))
	s.hosts.Go(func() { s.host(p, rnd) })
}

// mishaps lets some things go wrong.
func (s *saga) mishaps() {
	for range s.n(5) {
		time.Sleep(time.Duration(s.n(2_000_000_000)))
		s.schedule.wait("saga")
		s.raise()
		s.mishap()
	}
}

func (s *saga) mishap() {
	n := s.nodes[s.cloud.names[s.n(3)]]
	switch s.n(6) {
	case 0, 1:
		if l := n.now(); l != nil {
			l.die("at once")
		}
	case 2, 3:
		other := []block.Zone{"b", "a"}[s.n(2)]
		if other == n.name {
			other = "c"
		}
		s.cut(n.name, other, true)
		s.after(s.n(20_000_000_000), func() { s.cut(n.name, other, false) })
	case 4:
		n.setFull(true)
		s.after(s.n(4_000_000_000), func() { n.setFull(false) })
	case 5:
		s.jumpClock(n)
	}
}

// await waits for something, in which zones die and are raised.
func (s *saga) await(what string, done func() bool) {
	for i := 0; !s.broken(); i++ {
		time.Sleep(time.Duration(500_000_000 + s.n(1_000_000)))
		s.schedule.wait("saga awaits")
		if i > 400 {
			s.calm()
		}
		if i > 4000 {
			s.violated("nothing comes of %s", what)
			return
		}
		s.raise()
		if done() {
			return
		}
	}
}

// call asks a zone for something until it does not refuse.
func (s *saga) call(zone block.Zone, what string, fn func(l *life) error) {
	var last error
	defer func() {
		if s.broken() && last != nil {
			s.schedule.note("%s: %v", what, last)
		}
	}()
	s.await(what, func() bool {
		l := s.nodes[zone].now()
		if l == nil {
			return false
		}
		if last = fn(l); last != nil {
			s.schedule.note("%s refuses to %s: %v", zone, what, last)
		}
		return last == nil
	})
}

// volume is the row of a volume, zero if there is none.
func (s *saga) volume(p place) (v block.Volume) {
	err := s.nodes[p.zone].catalog.View(context.Background(), func(tx *catalog.Tx) (err error) {
		v, err = tx.Volume(p.volume)
		return err
	})
	if err != nil && !block.Is(err, block.NotFound) {
		s.violated("zone %s: %w", p.zone, err)
	}
	return v
}

// covered reports whether a zone has a point of each volume as it lives now.
func (s *saga) covered(zone block.Zone) bool {
	return !slices.ContainsFunc(s.lines, func(v *line) bool { return v.home.zone != zone && !s.has(zone, v) })
}

// has reports whether a zone has a point of a volume as it lives now.
func (s *saga) has(zone block.Zone, v *line) (ok bool) {
	err := s.nodes[zone].catalog.View(context.Background(), func(tx *catalog.Tx) error {
		all, err := tx.Replicas(v.home.zone)
		for _, rep := range all {
			ok = ok || rep.Source == v.home.volume && rep.Newest.ID != ""
		}
		return err
	})
	if err != nil {
		s.violated("zone %s: %w", zone, err)
	}
	return ok
}

// force recovers the volumes in another zone, whatever their own does: a group as
// of one instant.
func (s *saga) force(to block.Zone) {
	var op block.Operation
	scope := block.RecoveryScope{Zone: "a", Volumes: []block.VolumeID{s.lines[0].home.volume}}
	if s.group != "" {
		scope = block.RecoveryScope{Zone: "a", Group: s.group}
	}
	s.call(to, "recover", func(l *life) (err error) {
		op, _, err = l.control.StartRecovery(l.ctx, tenant, block.RecoveryRequest{AcceptLoss: true, Scope: scope,
			AcceptRivals: []block.Zone{"c"}, IdempotencyKey: "once"})
		return err
	})
	var steps []block.OperationStep
	s.await("the recovery", func() bool {
		l := s.nodes[to].now()
		if l == nil {
			return false
		}
		v, err := l.control.Operation(l.ctx, tenant, op.ID)
		if err != nil || !v.Status.Ended() {
			return false
		}
		op = v.Operation
		steps = slices.DeleteFunc(v.Steps, func(x block.OperationStep) bool { return x.Kind != block.StepRecover })
		return true
	})
	if s.broken() {
		return
	}
	s.tally.add("recoveries " + string(op.Status))
	if s.group != "" {
		s.tally.add("recoveries of groups " + string(op.Status))
		s.oneCut(steps)
	}
	for _, step := range steps {
		if step.Status != block.StepSucceeded {
			s.schedule.note("a step of the recovery is %s: %s", step.Status, step.Error)
			continue
		}
		since := step.Point.At
		if step.Loss != nil {
			since = step.Loss.Since
		}
		s.moved(s.lineOf(step.Source), place{to, step.NewVolume}, since)
	}
}

// moved holds what the volume became against what it was: everything up to an
// instant on the clock of the zone that it was in is there.
func (s *saga) moved(of *line, p place, since time.Time) {
	old, v := of.home, s.volume(p)
	if v.RecoveredFrom == nil {
		s.violated("volume %s in zone %s does not say what it was", p.volume, p.zone)
		return
	}
	from := v.RecoveredFrom
	if from.Volume != old.volume || from.Zone != old.zone {
		s.violated("volume %s in zone %s was %s", p.volume, p.zone, from.Volume)
	}
	b, now := s.book(old.zone, old.volume), s.book(p.zone, p.volume)
	if now == nil {
		s.violated("volume %s is not in the store of zone %s", p.volume, p.zone)
		return
	}
	now.mu.Lock()
	begun := slices.Clone(now.cuts[from.Point.ID].blocks)
	now.mu.Unlock()
	if err := b.same(from.Point.ID, begun, s.watch(from.Point.Size)); err != nil {
		s.violated("what was recovered: %w", err)
	}
	if err := b.covers(from.Point.ID, s.nodes[old.zone].clock.first(since)); err != nil {
		s.violated("more was lost than was told: %w", err)
	}
	s.live(of, p)
}

// rest ends the faults; after a while, one place may be written to, and nothing
// is left over.
func (s *saga) rest() {
	s.cloud.mu.Lock()
	s.faulty = false
	s.cloud.mu.Unlock()
	s.jobs.Wait()
	for _, a := range s.cloud.names {
		for _, b := range s.cloud.names {
			s.cut(a, b, false)
		}
	}
	var err error
	for range 120 {
		if s.broken() {
			return
		}
		time.Sleep(time.Duration(5_000_000_000 + s.n(1_000_000)))
		s.schedule.wait("saga looks")
		s.calm()
		if err = s.well(); err == nil {
			return
		}
	}
	s.violated("not well after ten quiet minutes: %w", err)
}

// well says what is not as it should be when nothing goes wrong any more.
func (s *saga) well() error {
	for _, v := range s.lines {
		if err := s.oneWriter(v); err != nil || s.broken() {
			return err
		}
	}
	for _, zone := range []block.Zone{"a", "b"} {
		if !s.covered(zone) {
			return fmt.Errorf("zone %s has no copy", zone)
		}
	}
	for _, n := range s.targets {
		s.look(n)
		found, err := n.now().control.Doctor(context.Background(), tenant)
		if err != nil {
			return err
		}
		for _, f := range found.All {
			switch f.Kind {
			case block.FindStalePrimary, block.FindClocksApart, block.FindUnprotected, block.FindOrphanReplica:
			default:
				return fmt.Errorf("zone %s: %s: %s", n.name, f.Kind, f.Text)
			}
		}
	}
	return nil
}

// oneWriter checks that a volume may be written to at one place.
func (s *saga) oneWriter(of *line) error {
	epochs := map[uint64]place{}
	for _, p := range of.places {
		v := s.volume(p)
		if v.ID == "" {
			s.violated("volume %s of zone %s is gone", p.volume, p.zone)
			return nil
		}
		if other, twice := epochs[v.Epoch]; twice {
			s.violated("volumes %s and %s have the epoch %d", other.volume, p.volume, v.Epoch)
		}
		epochs[v.Epoch] = p
		if stale := v.RecoveredTo != nil; stale == (p == of.home) {
			return fmt.Errorf("volume %s of zone %s is stale: %v", p.volume, p.zone, stale)
		}
	}
	return nil
}

// host writes to a volume through its export while it may.
func (s *saga) host(p place, rnd *rand.Rand) {
	n, b, name := s.nodes[p.zone], (*book)(nil), ""
	for s.pauseHost(time.Duration(100_000_000 + rnd.Int64N(int64(900*time.Millisecond)))) {
		l := n.now()
		if l == nil {
			continue
		}
		s.schedule.wait("host of " + string(p.volume))
		if b = s.book(p.zone, p.volume); b == nil {
			continue
		}
		if name == "" {
			name = s.attach(l, p)
		}
		if name != "" {
			s.session(l, p, b, name, rnd)
		}
	}
}

// attach gives the host a path to the volume, and returns the export's name; ""
// for not now. What an attempt left that was interrupted goes first.
func (s *saga) attach(l *life, p place) string {
	server := "server"
	for _, a := range s.volume(p).Attachments {
		if _, err := l.control.DeleteAttachment(l.ctx, tenant, a.ID); err != nil {
			return ""
		}
	}
	a, err := l.control.CreateAttachment(l.ctx, tenant, control.NewAttachment{VolumeID: p.volume, ServerID: &server,
		Connector: map[string]any{"host": "host"}, Mode: "rw"})
	if err != nil || l.control.CompleteAttachment(l.ctx, tenant, a.ID) != nil {
		return ""
	}
	name, _ := a.Info.Data["export"].(string)
	return name
}

// session writes until the export ends.
func (s *saga) session(l *life, p place, b *book, name string, rnd *rand.Rand) {
	x, err := l.control.Exports().Open(l.ctx, name)
	if err != nil {
		return
	}
	defer x.Release()
	for !x.ReadOnly && s.pauseHost(time.Duration(rnd.Int64N(int64(700*time.Millisecond)))) {
		select {
		case <-x.Revoked:
			return
		default:
		}
		s.schedule.wait("write to " + string(p.volume))
		stale := s.volume(p).RecoveredTo != nil
		for range 1 + rnd.IntN(3) {
			err = errors.Join(err, scribble(x.Device, watched, rnd))
			if err == nil && stale {
				s.violated("a write to volume %s was acknowledged after zone %s knew that it lives elsewhere", p.volume, p.zone)
			}
		}
		if rnd.IntN(3) == 0 {
			err = errors.Join(err, x.Device.Flush())
		}
		if err != nil {
			return
		}
		s.tally.add("writes")
	}
}

func (s *saga) pauseHost(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-s.over:
		return false
	case <-timer.C:
		return true
	}
}

// end ends all that runs.
func (s *saga) end() {
	close(s.over)
	s.hosts.Wait()
	s.tale.over()
}
