package control

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/driver"
	"kvol/internal/rivals"
)

// Forecast is what a recovery would do, found out without changing anything.
type Forecast struct {
	Volumes  []ForecastVolume
	Groups   []ForecastGroup // that are recovered as of one instant
	Problems []Problem       // of no single volume: quota and room
	Loss     block.Loss
	Expected time.Duration // by what was measured; 0 where nothing was
	Rests    string        // on what Expected rests
}

// ForecastGroup is the instant of all volumes of a group.
type ForecastGroup struct {
	Group   block.GroupID
	At      time.Time
	Seconds float64         // ago: what was written since is lost
	Cut     *block.GroupCut // nil where a group snapshot is the instant
	Volumes int             // that are recovered as of it
	Without int             // that have no point of it
}

// ForecastVolume is what would become of one volume.
type ForecastVolume struct {
	SourceZone block.Zone
	Source     block.VolumeID
	Wave       int    // from 1
	Name       string // of the new volume
	Project    block.ProjectID
	Type       block.VolumeType
	Zone       string // availability zone
	Size       int64  // GiB
	Way        string // clone or copy
	Point      *block.Point
	Loss       *block.Loss
	Problems   []Problem

	replica block.Replica
	named   bool // the point was chosen for good
}

// Problem is why something can't be recovered as was asked.
type Problem struct {
	Kind string `json:"kind"` // point, instant, type, zone, key, quota, room, recovered, rival
	Text string `json:"text"`
}

// forecasting is the making of a Forecast in one transaction that only reads.
type forecasting struct {
	s    *Service
	tx   *catalog.Tx
	c    block.Caller
	req  block.RecoveryRequest
	plan block.RecoveryPlan // its waves are what is recovered
	seen map[block.VolumeID]bool
	out  Forecast
	lost map[block.VolumeID]Unreplicated // what sources that answer say
}

// forecast finds out what a request would do. NotFound is for a scope that
// names nothing which the caller may see.
func (s *Service) forecast(ctx context.Context, c block.Caller, req block.RecoveryRequest) (
	f Forecast, plan block.RecoveryPlan, err error,
) {
	lost := s.askSources(ctx, req.Scope.Zone)
	var rtos []block.RTO
	err = s.catalog.View(ctx, func(tx *catalog.Tx) error {
		if plan, err = s.wavesOf(tx, c, req); err != nil {
			return err
		}
		g := forecasting{s: s, tx: tx, c: c, req: req, plan: plan, seen: map[block.VolumeID]bool{}, lost: lost}
		for i := range plan.Waves {
			if err := g.wave(i); err != nil {
				return err
			}
		}
		if err := g.quotas(); err != nil {
			return err
		}
		f = g.out
		rtos, err = tx.RTOs(rtoKept)
		return err
	})
	if err != nil {
		return f, plan, err
	}
	if len(f.Volumes) == 0 {
		return f, plan, block.Errorf(block.NotFound, "Nothing that was named is replicated to zone %s.", s.cfg.Zone)
	}
	s.foresee(&f, rtos, cmp.Or(req.Parallel, s.cfg.DR.parallel()))
	return f, plan, first(s.later(ctx, &f), s.rooms(ctx, &f), s.contested(ctx, &f, req))
}

// rtoKept is how many measured recoveries a forecast looks at.
const rtoKept = 500

// wavesOf is the plan that a request means; a scope without one is a plan of one
// wave.
func (s *Service) wavesOf(tx *catalog.Tx, c block.Caller, req block.RecoveryRequest) (block.RecoveryPlan, error) {
	if req.Scope.Plan == "" {
		return block.RecoveryPlan{Waves: []block.RecoveryWave{{Scope: req.Scope, Parallel: req.Parallel}},
			Mapping: req.Mapping}, nil
	}
	plan, err := planOf(tx, c, req.Scope.Plan)
	m := req.Mapping
	if m.Project == nil {
		m.Project = plan.Mapping.Project
	}
	if m.Type == nil {
		m.Type = plan.Mapping.Type
	}
	if m.AvailabilityZone == nil {
		m.AvailabilityZone = plan.Mapping.AvailabilityZone
	}
	m.Name = cmp.Or(m.Name, plan.Mapping.Name)
	plan.Mapping = m
	return plan, err
}

// wave adds the volumes of a wave that none before it has.
func (g *forecasting) wave(i int) error {
	scope := g.plan.Waves[i].Scope
	scope.Zone = cmp.Or(scope.Zone, g.req.Scope.Zone)
	all, err := candidatesOf(g.tx, g.c, scope)
	if err != nil {
		return err
	}
	for _, id := range scope.Volumes {
		if !slices.ContainsFunc(all, func(c candidate) bool { return c.Source == id }) {
			g.out.Volumes = append(g.out.Volumes, ForecastVolume{Source: id, SourceZone: scope.Zone, Wave: i + 1,
				Problems: []Problem{{"point", fmt.Sprintf("Volume %s is not replicated to zone %s.", id, g.s.cfg.Zone)}}})
		}
	}
	all = slices.DeleteFunc(all, func(c candidate) bool {
		seen := g.seen[c.Source]
		g.seen[c.Source] = true
		return seen
	})
	instants, missing := g.instants(all, scope)
	for _, c := range all {
		v, err := g.volume(c, instants, missing)
		if err != nil {
			return err
		}
		v.Wave = i + 1
		g.out.Volumes = append(g.out.Volumes, v)
	}
	return nil
}

// instants chooses the points of groups that are to be of one instant, by
// volume, and names the groups that have none.
func (g *forecasting) instants(all []candidate, scope block.RecoveryScope) (
	chosen map[block.VolumeID]block.Point, missing map[block.GroupID]bool,
) {
	chosen, missing = map[block.VolumeID]block.Point{}, map[block.GroupID]bool{}
	same := g.req.Point.SameInstant
	if same != nil && !*same || same == nil && scope.Group == "" || g.req.Point.Name != "" {
		return chosen, missing
	}
	groups := map[block.GroupID][]candidate{}
	for _, c := range all {
		if id := c.group(); id != "" && c.Newest.ID != "" {
			groups[id] = append(groups[id], c)
		}
	}
	for id, members := range groups {
		points, ok := chooseInstant(members, g.req.Point)
		missing[id] = !ok || len(points) < len(members)
		for i, p := range points {
			chosen[members[i].Source] = p
		}
		if ok {
			g.tellGroup(id, len(members), points)
		}
	}
	return chosen, missing
}

// tellGroup notes as of which instant a group is recovered, and what that loses.
func (g *forecasting) tellGroup(id block.GroupID, members int, points map[int]block.Point) {
	one := ForecastGroup{Group: id, Volumes: len(points), Without: members - len(points)}
	for _, p := range points {
		one.At, one.Cut = p.At, p.Cut
		break
	}
	one.Seconds = max(0, g.tx.Now.Sub(one.At).Seconds())
	g.out.Groups = append(g.out.Groups, one)
}

// volume says what becomes of one volume.
func (g *forecasting) volume(c candidate, instants map[block.VolumeID]block.Point, missing map[block.GroupID]bool) (
	v ForecastVolume, err error,
) {
	v = ForecastVolume{SourceZone: c.SourceZone, Source: c.Source, replica: c.Replica, Name: g.name(c)}
	from := c.Entry.Volume
	v.Project = cmp.Or(g.plan.Mapping.Project[from.Project], g.plan.Mapping.Project["*"], from.Project)
	if !sees(g.c, v.Project) {
		return v, block.Errorf(block.Forbidden, "Only an administrator may recover volumes for project %s.", v.Project)
	}
	var p block.Point
	if in, ok := instants[c.Source]; ok {
		p, v.named = in, true
	} else if missing[c.group()] {
		err = block.Errorf(block.Unavailable, "Volume %s has no point here that is of one instant with the others of group "+
			"%s; same_instant false does without.", c.Source, c.group())
		v.blame("instant", err)
	} else {
		p, err = choosePoint(c, g.req.Point)
		v.blame("point", err)
		v.named = !g.req.Point.Newest()
	}
	if err == nil {
		v.at(p, g.tx.Now.Add(g.s.clockOf(c.SourceZone).Certain()), c.Replica, g.lost)
	}
	v.Size = (cmp.Or(p.Size, from.Size*block.GiB) + block.GiB - 1) / block.GiB
	if err := g.fit(&v, c); err != nil {
		return v, err
	}
	return v, g.recovered(&v, c)
}

// blame notes why a volume can't be recovered.
func (v *ForecastVolume) blame(kind string, err error) {
	if err == nil {
		return
	}
	text, ok := block.UserMessage(err)
	if !ok {
		text = "A fault of this zone; its log says more."
	}
	v.Problems = append(v.Problems, Problem{kind, text})
}

// leastLoss is how much time is lost at least.
const leastLoss = time.Millisecond

// at notes the point and what it loses. The newest point has all up to the last
// instant at which the source said that nothing had changed since. now is on the
// source's clock, as far as that is known. Nobody can know that nothing is lost,
// whatever the clocks say.
func (v *ForecastVolume) at(p block.Point, now time.Time, r block.Replica, lost map[block.VolumeID]Unreplicated) {
	v.Point = &p
	l := block.Loss{Since: p.At}
	if p.ID == r.Newest.ID && r.Current.After(p.At) {
		l.Since = r.Current
	}
	if u, ok := lost[r.Source]; ok && u.Protection == r.Protection {
		if u.Bytes >= 0 {
			l.Unreplicated = &u.Bytes
		}
		if p.ID == r.Newest.ID && u.Point == p.ID && u.Bytes == 0 && u.UpTo.After(l.Since) {
			l.Since = u.UpTo
		}
	}
	l.Seconds = max(leastLoss, now.Sub(l.Since)).Seconds()
	v.Loss = &l
}

// name is what a new volume is called.
func (g *forecasting) name(c candidate) string {
	own := ""
	if n := c.Entry.Volume.Name; n != nil {
		own = *n
	}
	if g.plan.Mapping.Name == "" {
		return own
	}
	name := strings.NewReplacer("{name}", own, "{id}", string(c.Source), "{zone}", string(c.SourceZone)).
		Replace(g.plan.Mapping.Name)
	return string([]rune(name)[:min(len([]rune(name)), maxMetadataLength)])
}

// fit finds the type, the availability zone and the backend, and whether the
// volume fits them.
func (g *forecasting) fit(v *ForecastVolume, c candidate) error {
	from, m := c.Entry.Volume, g.plan.Mapping
	wanted := cmp.Or(m.Type[string(from.TypeID)], m.Type[c.Entry.TypeName], m.Type["*"], c.Entry.TypeName)
	t, err := typeOf(g.tx, block.Caller{Project: v.Project}, wanted)
	if err != nil {
		v.blame("type", err)
		return ignoring(block.NotFound, err)
	}
	v.Type = t
	v.blame("type", checkTypeSize(&t, v.Size))
	backend, err := g.s.nearest(&t, c.Backend)
	v.blame("type", err)
	if v.Way = "copy"; err == nil && g.s.backends.Shared(c.Backend, backend) {
		v.Way = "clone"
	}
	asked := cmp.Or(m.AvailabilityZone[from.AvailabilityZone], m.AvailabilityZone["*"])
	v.Zone, err = g.s.availabilityZone(&asked, &t)
	v.blame("zone", err)
	encrypted, err := wantedEncryption(g.tx, &t)
	if err != nil {
		return err
	}
	switch {
	case from.Encryption == nil && encrypted != nil:
		v.blame("key", block.Errorf(block.Invalid, "Volumes of type %s are encrypted, and this one is not.", t.Name))
	case from.Encryption != nil:
		_, err = g.s.sealer.OpenFor(c.Source, c.Entry.Key)
		v.blame("key", err)
	}
	if !g.req.OverQuota {
		v.blame("quota", checkVolumeSize(g.tx, v.Project, v.Size))
	}
	return nil
}

// recovered says where a volume lives on already.
func (g *forecasting) recovered(v *ForecastVolume, c candidate) error {
	return recoveredAlready(g.tx, c.Replica, g.req.Again, func(err error) { v.blame("recovered", err) })
}

// recoveredAlready tells blame of a replica whose source lives on as a volume
// that is still there.
func recoveredAlready(tx *catalog.Tx, r block.Replica, again bool, blame func(error)) error {
	f, found, err := tx.Fence(r.SourceZone, r.Source)
	if err != nil || !found || again {
		return err
	}
	gone, err := rivals.Gone(tx, f.Recovered.Volume)
	if err == nil && !gone {
		blame(block.Errorf(block.Conflict, "Volume %s was recovered already: it lives on as volume %s in zone %s.", r.Source,
			f.Recovered.Volume, f.Recovered.Zone))
	}
	return err
}

// quotas adds what all volumes together take of each project's quota.
func (g *forecasting) quotas() error {
	if g.req.OverQuota {
		return nil
	}
	all := map[block.ProjectID]block.Usage{}
	for _, v := range g.out.Volumes {
		if len(v.Problems) > 0 {
			continue
		}
		if all[v.Project] == nil {
			all[v.Project] = block.Usage{}
		}
		for resource, n := range volumeDelta(1, v.Size, v.Type.Name) {
			all[v.Project][resource] += n
		}
	}
	for _, project := range slices.Sorted(maps.Keys(all)) {
		err := checkQuota(g.tx, project, all[project])
		if text, ok := block.UserMessage(err); ok {
			g.out.Problems = append(g.out.Problems, Problem{"quota", fmt.Sprintf("Project %s: %s", project, text)})
		} else if err != nil {
			return err
		}
	}
	return nil
}

// rooms adds what does not fit into the stores, each volume where most is left of
// those that may hold it. A clone takes none.
func (s *Service) rooms(ctx context.Context, f *Forecast) error {
	ask := asking{s: s, ctx: ctx, free: map[string]int64{}, need: map[string]int64{}, silent: map[string]bool{}}
	for _, v := range f.Volumes {
		if v.Way != "copy" || v.Point == nil || len(v.Problems) > 0 {
			continue
		}
		best := ""
		names := s.holders(&v.Type)
		for _, name := range names {
			if ask.answers(name) && (best == "" || ask.left(name) > ask.left(best)) {
				best = name
			}
		}
		if best == "" && len(names) == 0 {
			return noBackend()
		}
		ask.need[cmp.Or(best, append(names, "")[0])] += v.Point.Size
	}
	for _, backend := range slices.Sorted(maps.Keys(ask.need)) {
		if ask.silent[backend] {
			f.Problems = append(f.Problems, Problem{"room", "The store of backend " + backend + " does not answer."})
		} else if ask.left(backend) < 0 {
			f.Problems = append(f.Problems, Problem{"room", fmt.Sprintf("Backend %s has %d bytes free; copies take up to %d.",
				backend, ask.free[backend], ask.need[backend])})
		}
	}
	return nil
}

// asking is what stores said of their room, by backend, and what is to lie there.
type asking struct {
	s          *Service
	ctx        context.Context //nolint:containedctx // of one call
	free, need map[string]int64
	silent     map[string]bool
}

// answers asks a backend's store, once.
func (a asking) answers(backend string) bool {
	if _, asked := a.free[backend]; asked || a.silent[backend] {
		return asked
	}
	ctx, cancel := context.WithTimeout(a.ctx, capacityTimeout)
	defer cancel()
	room, err := a.s.backends.Capacity(ctx, backend)
	if err != nil {
		a.silent[backend] = true
		return false
	}
	a.free[backend] = room.Free
	return true
}

// left is what a backend's store has beside what is to lie on it.
func (a asking) left(backend string) int64 {
	left := a.free[backend]
	for other, need := range a.need {
		if other == backend || a.s.backends.Shared(other, backend) {
			left -= need
		}
	}
	return left
}

// later counts what newer points than the chosen ones have.
func (s *Service) later(ctx context.Context, f *Forecast) error {
	for i := range f.Volumes {
		v := &f.Volumes[i]
		if v.Point == nil {
			continue
		}
		if v.Point.ID != v.replica.Newest.ID {
			store, err := s.backends.Of(v.replica.Backend)
			if err != nil {
				return err
			}
			of := func(name block.PointID) driver.SnapshotRef {
				return driver.SnapshotRef{Volume: v.replica.ID, Name: name}
			}
			for e, err := range driver.Diff(ctx, store, of(v.Point.ID), of(v.replica.Newest.ID)) {
				if err != nil {
					return err
				}
				v.Loss.Later += e.Len
			}
		}
		f.Loss.Later += v.Loss.Later
		if v.Loss.Unreplicated != nil {
			f.Loss.Unreplicated = sum(f.Loss.Unreplicated, *v.Loss.Unreplicated)
		}
		if f.Loss.Since.IsZero() || v.Loss.Seconds > f.Loss.Seconds {
			f.Loss.Since, f.Loss.Seconds = v.Loss.Since, v.Loss.Seconds
		}
	}
	for _, v := range f.Volumes {
		if v.Loss != nil && v.Loss.Unreplicated == nil {
			f.Loss.Unreplicated = nil // of some nobody knows
		}
	}
	return nil
}

func sum(a *int64, b int64) *int64 {
	if a != nil {
		b += *a
	}
	return &b
}

// foresee adds how long it takes by what was measured, for so many at once.
func (s *Service) foresee(f *Forecast, rtos []block.RTO, parallel int) {
	var all time.Duration
	for _, v := range f.Volumes {
		if v.Point == nil {
			continue
		}
		one := predictRTO(rtos, v.Way, v.Point.Size)
		all, f.Rests = all+one.Expected, one.Rests
	}
	f.Expected = all / time.Duration(max(1, min(parallel, len(f.Volumes))))
}
