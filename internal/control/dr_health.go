package control

import (
	"context"
	"maps"
	"slices"
	"time"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/lag"
)

// Health is how well everything could be recovered that is replicated from or
// to this zone, as this zone sees it for itself.
type Health struct {
	At      time.Time
	Pairs   []PairState
	Volumes []VolumeState
}

// PairState is the health of a policy.
type PairState struct {
	block.Protection
	Role    string // this zone's end
	State   block.HealthState
	Advice  string // what to do; "" where nothing is to be done
	Volumes map[block.HealthState]int
	// UpTo is how far the volume is that is the furthest behind, on this zone's
	// clock; zero where there is none.
	UpTo         time.Time
	Lag          lag.Report // of all its volumes together
	Unreplicated int64      // bytes, of all volumes; known to the source only
	Heard        time.Time  // when the other zone last spoke; zero for never
	Clock        lag.Offset
	Busy         float64 // share of the link's time that the changes take; source only
	Churn        float64 // bytes a second; source only
	Needs        float64 // bytes a second that the changes take of the link; source only
	// By is how many volumes there are by how the bytes of their newest point came,
	// which may be the stream where the protection says otherwise. Source only.
	By map[block.Transport]int
	// Limit is how many bytes a second may be sent now, and Tightest the least of
	// the next day with when that begins; 0 for no limit. Source only.
	Limit, Tightest int64
	TightestAt      time.Time
	Room            RoomState
}

// RoomState is the room of a pair's backup backend.
type RoomState struct {
	Known       bool
	Total, Free int64
	Fills       float64 // bytes a second, negative where it gets emptier
	FullIn      time.Duration
	Low         bool // less than a twentieth is free, or it is full within an hour
}

// VolumeState is the health of a volume under a policy. Where nothing replicates
// a volume, Protection is the policy that should, or 0.
type VolumeState struct {
	Role        string
	SourceZone  block.Zone
	Destination block.Zone
	Protection  int64
	catalog.Owner
	State  block.HealthState
	Reason string
	Advice string

	Point block.Point // the newest that is committed
	// UpTo is the instant up to which the target has everything, on this zone's
	// clock; zero before the first point.
	UpTo     time.Time
	Advanced time.Time // when it last moved, as far as this process knows
	// Unreplicated is how many bytes the target lacked as of UnreplicatedAt;
	// negative where that is not known, as at the target.
	Unreplicated      int64
	UnreplicatedAt    time.Time
	UnreplicatedSince time.Time
	Target            time.Duration
	Lag               lag.Report
	Churn             float64 // bytes a second; source only, as all below
	Throughput        float64 // bytes a second while something is sent
	Forecast          lag.Forecast
	Error             string // for operators
	Sending           bool
	// By is how the bytes of Point came; nil at the target and before the first point.
	By        *block.Transport
	whole     string       // why all of it must be sent; source only
	needs     float64      // bytes a second on the link; source only
	RTO       *RTOForecast // where a point is committed: of a recovery at the target, of a failover at the source
	backend   string       // of the replica
	created   time.Time
	recovered bool // this zone made a volume of it
}

func (v VolumeState) policy() block.ProtectionKey {
	return block.ProtectionKey{SourceZone: v.SourceZone, Seq: v.Protection}
}

const (
	healthFor     = time.Second // an assessment is good for answers that long
	maxUnlinked   = 1000        // volumes that nothing replicates, in one assessment
	unlinkedGrace = time.Minute // that a new volume has until something replicates it
	roomSoon      = time.Hour
	leastStill    = time.Minute // what stands still for less is only late
)

// Health tells how well what is replicated could be recovered: all of it to
// administrators, to others their own volumes. It is at most a second old.
func (s *Service) Health(ctx context.Context, c block.Caller) (Health, error) {
	s.watch.mu.Lock()
	h := s.watch.last
	s.watch.mu.Unlock()
	if age := s.now().Sub(h.At); age > healthFor || age < 0 { // a clock may be set back
		var err error
		if h, err = s.assess(ctx); err != nil {
			return h, err
		}
	}
	if c.Admin() {
		return h, nil
	}
	h.Pairs = nil
	var own []VolumeState
	for _, v := range h.Volumes {
		if sees(c, v.Project) {
			v.Error = "" // it speaks of stores and addresses
			own = append(own, v)
		}
	}
	h.Volumes = own
	return h, nil
}

// assess looks at everything.
func (s *Service) assess(ctx context.Context) (Health, error) {
	if err := s.askRooms(ctx); err != nil {
		return Health{}, err
	}
	return s.assessAsked(ctx)
}

// askRooms has the stores say how full they are, which takes long where one hangs.
// Nobody else waits for that.
func (s *Service) askRooms(ctx context.Context) error {
	if err := s.loadMeters(ctx); err != nil {
		return err
	}
	s.markRooms(ctx)
	return nil
}

// assessAsked looks at everything with what stores last said. askRooms comes before.
func (s *Service) assessAsked(ctx context.Context) (Health, error) {
	s.watch.looking.Lock()
	defer s.watch.looking.Unlock()
	policies := map[block.ProtectionKey]block.Protection{}
	for _, p := range s.KnownProtections() {
		policies[p.Key()] = p
	}
	a := assessment{s: s, policies: policies, now: s.now()}
	err := s.catalog.View(ctx, func(tx *catalog.Tx) error {
		a.volumes = nil
		var err error
		if a.rtos, err = tx.RTOs(2 * rtoRecent); err != nil {
			return err
		}
		for _, look := range []func(*catalog.Tx) error{a.sources, a.alone, a.replicas} {
			if err := look(tx); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return Health{}, err
	}
	h := Health{At: a.now, Volumes: a.volumes}
	a.predict()
	if h.Pairs, err = a.pairs(ctx); err != nil {
		return h, err
	}
	a.measure(h.Pairs)
	a.judge(&h)
	s.watch.mu.Lock()
	s.watch.last = h
	s.watch.mu.Unlock()
	return h, nil
}

// assessment is one look at everything.
type assessment struct {
	s        *Service
	policies map[block.ProtectionKey]block.Protection
	now      time.Time
	volumes  []VolumeState
	rtos     []block.RTO // measured, the newest first
}

// predict says how long each replica's recovery would take, and at the source
// how long a planned failover would.
func (a *assessment) predict() {
	for i := range a.volumes {
		v := &a.volumes[i]
		if v.Point.ID == "" || v.recovered || v.State == block.HealthStale {
			continue
		}
		way := waySwitch
		if v.Role == RoleTarget {
			way = a.s.wayFrom(v.backend)
		}
		f := predictRTO(a.rtos, way, v.Point.Size)
		v.RTO = &f
	}
}

// sources looks at the links of this zone's volumes.
func (a *assessment) sources(tx *catalog.Tx) error {
	links, err := a.s.sourceLinks(tx)
	if err != nil {
		return err
	}
	owners, err := tx.LinkedOwners()
	if err != nil {
		return err
	}
	known := make(map[block.VolumeID]catalog.Owner, len(owners))
	for _, o := range owners {
		known[o.Volume] = o
	}
	for _, l := range links {
		p, ok := a.policies[block.ProtectionKey{SourceZone: a.s.cfg.Zone, Seq: l.Protection}]
		if !ok || l.Gone {
			continue
		}
		v := VolumeState{Role: RoleSource, SourceZone: a.s.cfg.Zone, Destination: p.Destination, Protection: l.Protection,
			Owner: known[l.Volume], Point: l.Confirmed, UpTo: l.Current, Unreplicated: l.Unreplicated,
			UnreplicatedAt: l.UnreplicatedAt, UnreplicatedSince: l.UnreplicatedSince, Target: p.RPO(), Error: l.Error,
			Sending: l.State == catalog.LinkSending, created: l.CreatedAt}
		v.Volume, v.whole = l.Volume, l.Whole
		if l.Confirmed.ID != "" {
			by := l.Transport
			v.By = &by
		}
		if l.State == catalog.LinkFenced || v.Stale {
			v.State, v.Reason = block.HealthStale, "it lives on in another zone"
		} else if l.State == catalog.LinkPaused {
			v.State, v.Reason = block.HealthPaused, "its group was taken out of replication"
		}
		a.volumes = append(a.volumes, v)
	}
	return nil
}

// alone looks for volumes that nothing replicates though something should.
func (a *assessment) alone(tx *catalog.Tx) error {
	before := a.now.Add(-unlinkedGrace)
	for _, p := range a.policies {
		if p.SourceZone != a.s.cfg.Zone || !p.Enabled {
			continue
		}
		owners, err := tx.Unprotected(p.SourceType, p.Seq, before, maxUnlinked)
		if err != nil {
			return err
		}
		for _, o := range owners {
			a.volumes = append(a.volumes, VolumeState{Role: RoleSource, SourceZone: p.SourceZone, Destination: p.Destination,
				Protection: p.Seq, Owner: o, Target: p.RPO(),
				State: block.HealthUnprotected, Reason: "its type is protected, and nothing replicates it yet"})
		}
	}
	left, err := tx.LeftAlone(before, maxUnlinked)
	told := map[block.VolumeID]bool{}
	for _, v := range a.volumes {
		told[v.Volume] = len(left) > 0
	}
	for _, o := range left {
		if told[o.Volume] {
			continue
		}
		a.volumes = append(a.volumes, VolumeState{Role: RoleSource, SourceZone: a.s.cfg.Zone, Owner: o,
			State:  block.HealthUnprotected,
			Reason: "it was recovered in this zone, and no protection covers its type here"})
	}
	return err
}

// replicas looks at what other zones send.
func (a *assessment) replicas(tx *catalog.Tx) error {
	marks, err := tx.ReplicaMarks()
	if err != nil {
		return err
	}
	marks = slices.DeleteFunc(marks, func(m catalog.ReplicaMark) bool {
		_, ok := a.policies[m.Policy()]
		return !ok || !m.DeletedAt.IsZero()
	})
	owners, err := a.owners(tx, marks)
	if err != nil {
		return err
	}
	fences, err := tx.FencesFor("")
	if err != nil {
		return err
	}
	recovered := map[block.VolumeID]bool{}
	for _, f := range fences {
		recovered[f.Source] = true
	}
	for _, m := range marks {
		p, ahead := a.policies[m.Policy()], a.s.clockOf(m.SourceZone)
		v := VolumeState{Role: RoleTarget, SourceZone: m.SourceZone, Destination: a.s.cfg.Zone, Protection: m.Protection,
			Owner: owners[m.ID], Point: m.Newest, Unreplicated: -1, Target: p.RPO(), Sending: m.Pending, created: m.CreatedAt,
			backend:   m.Backend,
			recovered: recovered[m.Source]}
		if !m.Current.IsZero() {
			v.UpTo = m.Current.Add(-ahead.Certain())
		}
		if v.recovered {
			v.State, v.Reason = block.HealthStale, "it was recovered, and lives on elsewhere"
		}
		a.volumes = append(a.volumes, v)
	}
	return nil
}

// owners tells whose replicas are. Those of which that may have changed are read.
func (a *assessment) owners(tx *catalog.Tx, marks []catalog.ReplicaMark) (map[block.VolumeID]catalog.Owner, error) {
	all := make(map[block.VolumeID]catalog.Owner, len(marks))
	var changed []block.VolumeID
	w := &a.s.watch
	w.mu.Lock()
	for _, m := range marks {
		if known, ok := w.owners[m.ID]; ok && known.updated.Equal(m.UpdatedAt) {
			all[m.ID] = known.Owner
		} else {
			changed = append(changed, m.ID)
		}
	}
	w.mu.Unlock()
	read, err := tx.ReplicaOwners(changed)
	if err != nil {
		return nil, err
	}
	maps.Copy(all, read)
	now := make(map[block.VolumeID]replicaOwner, len(marks)) // without those that are gone
	for _, m := range marks {
		now[m.ID] = replicaOwner{all[m.ID], m.UpdatedAt}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.owners = now
	return all, nil
}

// measure accounts for the time until now, and fills in what was measured.
func (a *assessment) measure(pairs []PairState) {
	w := &a.s.watch
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, g := range w.gauges {
		g.seen = false
	}
	meters := map[block.ProtectionKey][]*lag.Meter{}
	for i := range a.volumes {
		v := &a.volumes[i]
		p := a.policies[v.policy()]
		if v.State != "" || !p.Enabled {
			continue // nothing is promised
		}
		k := catalog.LagKey{Role: v.Role, SourceZone: v.SourceZone, Volume: v.Volume, Protection: v.Protection}
		g := w.gauges[k]
		if g == nil {
			g = &gauge{}
			w.gauges[k] = g
		}
		g.seen, g.meter.Target = true, v.Target
		upTo := v.UpTo
		if upTo.IsZero() {
			upTo = v.created
		}
		before := g.meter.UpTo
		if !g.resumed {
			g.meter.Resume(a.now, upTo)
			g.resumed = true
		} else {
			g.meter.Advance(a.now, upTo)
			if g.meter.UpTo.After(before) {
				g.advanced = a.now
			}
		}
		v.Lag, v.Advanced = g.meter.Report(a.now), g.advanced
		meters[v.policy()] = append(meters[v.policy()], &g.meter)
		v.Churn, v.Throughput, v.needs = g.flow.Churn(), g.flow.Throughput(), g.flow.Needs()
		v.Forecast = lag.Predict(g.flow, p.Interval, v.Target, v.Lag.Now, max(0, v.Unreplicated), 0)
	}
	for i := range pairs {
		pairs[i].Lag = lag.Together(meters[pairs[i].Key()], a.now)
	}
}

// pairs lists the policies of which this zone is an end, by seq and source.
func (a *assessment) pairs(ctx context.Context) ([]PairState, error) {
	var out []PairState
	for _, p := range a.policies {
		st := PairState{Protection: p, Role: RoleSource, State: block.HealthOK, Volumes: map[block.HealthState]int{},
			By: map[block.Transport]int{}}
		other := p.Destination
		if p.SourceZone != a.s.cfg.Zone {
			st.Role, other = RoleTarget, p.SourceZone
		}
		d, heard, _, err := a.s.PeerCopy(ctx, other)
		if err != nil {
			return nil, err
		}
		st.Heard, st.Clock = heard, a.s.clockOf(other)
		st.Room = a.s.roomOf(p, d, st.Role)
		a.limit(&st)
		out = append(out, st)
	}
	slices.SortFunc(out, func(x, y PairState) int { return bySeq(x.Protection, y.Protection) })
	return out, nil
}
