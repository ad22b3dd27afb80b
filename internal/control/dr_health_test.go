package control

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/catalog/catalogtest"
	"kvol/internal/driver"
	"kvol/internal/driver/mem"
	"kvol/internal/replication"
)

// healthZone is zone "b": the source of "g" volumes, and the target of zone a's,
// with a clock of its own and nothing that runs.
type healthZone struct {
	*Service
	t       *testing.T
	catalog *catalog.Catalog
	clock   *testClock
	links   []replication.LinkStatus
	set     *driver.Set
	by      block.Transport // of both protections
}

type testClock struct {
	mu sync.Mutex // guards at
	at time.Time
}

func (c *testClock) now() time.Time { c.mu.Lock(); defer c.mu.Unlock(); return c.at }

func (c *testClock) pass(d time.Duration) { c.mu.Lock(); defer c.mu.Unlock(); c.at = c.at.Add(d) }

const (
	ownVolume   = block.VolumeID("11111111-1111-4111-8111-111111111111")
	theirVolume = block.VolumeID("22222222-2222-4222-8222-222222222222")
	healthType  = block.TypeID("33333333-3333-4333-8333-333333333333")
)

var everybody = block.Caller{Project: "ops", Roles: []string{"admin"}}

func newHealthZone(t *testing.T) *healthZone {
	t.Helper()
	z := &healthZone{t: t, clock: &testClock{at: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}}
	var err error
	z.catalog, err = catalog.Open(t.Context(), catalog.Options{Now: z.clock.now, Image: catalogtest.Empty()})
	if err != nil {
		t.Fatal(err)
	}
	store := mem.New(mem.Options{})
	z.set, err = driver.NewSet(map[string]driver.Driver{"s": store}, []block.Backend{{Name: "b", Store: "s"},
		{Name: "bak", Store: "s"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(z.catalog.Close(), store.Close()); err != nil {
			t.Error(err)
		}
	})
	z.start()
	z.hear("a")
	at := z.clock.now()
	point := func(v block.VolumeID) block.Point {
		return block.Point{ID: "point", Volume: v, Epoch: 1, Sequence: 1, At: at, Size: 4096}
	}
	z.update(func(tx *catalog.Tx) error {
		name := "data"
		return errors.Join(tx.UpsertType(block.VolumeType{ID: healthType, Name: "g", Public: true}),
			tx.InsertVolume(block.Volume{ID: ownVolume, Project: "p", TypeID: healthType, Backend: "b", Size: 1, Epoch: 1,
				Status: block.VolumeAvailable}),
			tx.PutLink(catalog.Link{Volume: ownVolume, Protection: 7, State: catalog.LinkCurrent, Current: at,
				Confirmed: point(ownVolume)}),
			tx.InsertReplica(block.Replica{ID: "replica", SourceZone: "a", Source: theirVolume, Protection: 2, Backend: "bak",
				Epoch: 1, Newest: point(theirVolume), Current: at,
				Entry: block.Entry{Volume: block.Volume{Project: "q", Name: &name}}}),
			tx.InsertPoint("replica", point(theirVolume), block.RootHash{}))
	})
	return z
}

// start makes a Service, as a process does that begins.
func (z *healthZone) start() {
	z.t.Helper()
	s, err := New(Config{Catalog: z.catalog, Backends: z.set, Zone: "b", Now: z.clock.now,
		DR: DR{Replicating: func() []replication.LinkStatus { return z.links }},
		Protections: func() []block.Protection {
			return []block.Protection{{Seq: 7, SourceZone: "b", SourceType: healthType, Destination: "a",
				Source: block.Backend{Name: "b"}, Backup: block.Backend{Name: "abak"}, Interval: time.Second, Enabled: true,
				Transport: z.by}}
		}})
	if err != nil {
		z.t.Fatal(err)
	}
	z.Service = s
}

// hear takes in the document of a zone.
func (z *healthZone) hear(zone block.Zone, rooms ...DocumentRoom) {
	z.t.Helper()
	d := Document{Zone: zone, At: z.clock.now(), Rooms: rooms, Protections: []DocumentProtection{{
		Protection: block.Protection{Seq: 2, SourceZone: zone, SourceType: "t", Destination: "b",
			Backup: block.Backend{Name: "bak"}, Interval: time.Second, Enabled: true, Transport: z.by}}}}
	if _, err := z.ExchangeDocument(z.t.Context(), zone, d); err != nil {
		z.t.Fatal(err)
	}
}

func (z *healthZone) update(fn func(*catalog.Tx) error) {
	z.t.Helper()
	if err := z.catalog.Update(context.Background(), fn); err != nil {
		z.t.Fatal(err)
	}
}

// look is a round of the watchdog.
func (z *healthZone) look() {
	z.t.Helper()
	if err := z.askRooms(z.t.Context()); err != nil {
		z.t.Fatal(err)
	}
	if err := z.lookAgain(z.t.Context()); err != nil {
		z.t.Fatal(err)
	}
}

func (z *healthZone) of(id block.VolumeID) VolumeState {
	z.t.Helper()
	h, err := z.Health(z.t.Context(), everybody)
	if err != nil {
		z.t.Fatal(err)
	}
	for _, v := range h.Volumes {
		if v.Volume == id {
			return v
		}
	}
	z.t.Fatalf("volume %s is not in %+v", id, h.Volumes)
	return VolumeState{}
}

func (z *healthZone) pair(seq int64) PairState {
	z.t.Helper()
	h, err := z.Health(z.t.Context(), everybody)
	if err != nil {
		z.t.Fatal(err)
	}
	for _, p := range h.Pairs {
		if p.Seq == seq {
			return p
		}
	}
	z.t.Fatalf("pair %d is not in %+v", seq, h.Pairs)
	return PairState{}
}

// TestStoppedReplicationIsSeenByBothEnds: no sender, no receiver and no other
// zone runs, and each end sees for itself that nothing comes, says so in an
// event, and counts the time.
func TestStoppedReplicationIsSeenByBothEnds(t *testing.T) {
	z := newHealthZone(t)
	z.look()
	for _, id := range []block.VolumeID{ownVolume, theirVolume} {
		if v := z.of(id); v.State != block.HealthOK || v.Reason == "" {
			t.Errorf("at the start: %+v", v)
		}
	}
	for range 60 {
		z.clock.pass(2 * time.Second)
		z.look()
	}
	for _, id := range []block.VolumeID{ownVolume, theirVolume} {
		v := z.of(id)
		if v.State != block.HealthStalled || v.Advice == "" || v.Lag.Now != 2*time.Minute ||
			v.Lag.Hour.Worst < 119*time.Second ||
			v.Lag.Hour.Breach < 104*time.Second ||
			v.Lag.Burn1h < 50 {
			t.Errorf("nobody noticed: %s %s %+v", v.State, v.Reason, v.Lag)
		}
	}
	for _, seq := range []int64{7, 2} {
		p := z.pair(seq)
		if p.State != block.HealthStalled || p.Lag.Now != 2*time.Minute || p.Lag.Hour.Worst < 119*time.Second ||
			p.Lag.Burn1h < 50 {
			t.Errorf("pair %d: %s %+v", seq, p.State, p.Lag)
		}
	}
	events, err := z.DREvents(t.Context(), everybody, 0, 100)
	if err != nil {
		t.Fatal(err)
	}
	told := map[string]int{}
	for _, e := range events {
		if e.To == block.HealthStalled {
			told[e.Kind]++
		}
	}
	if told["pair"] != 2 || told["volume"] != 2 {
		t.Errorf("events: %+v", events)
	}
}

// TestIdleVolumeIsNoAlarm: nothing is written for an hour, heartbeats say so,
// and the volume is as good as new all the time.
func TestIdleVolumeIsNoAlarm(t *testing.T) {
	z := newHealthZone(t)
	z.look()
	for range 720 {
		z.clock.pass(5 * time.Second)
		a := replication.Advance{SourceZone: "b", Volume: ownVolume, Protection: 7, At: z.clock.now(), UpTo: z.clock.now(),
			Span: 5 * time.Second}
		z.ObserveSource(a)
		z.links = []replication.LinkStatus{{Volume: ownVolume, Protection: 7, ReplicatedTo: a.UpTo, UnreplicatedAt: a.At}}
	}
	v := z.of(ownVolume)
	if v.State != block.HealthOK || v.Lag.Hour.Worst > 6*time.Second || v.Lag.Hour.Breach != 0 ||
		v.Lag.Day.P99 > 6*time.Second ||
		v.Unreplicated != 0 ||
		!v.Forecast.Holds {
		t.Errorf("%+v", v)
	}
}

// TestNoStatusWithoutEvidence: only a committed point makes a volume "ok",
// whatever a link's state says.
func TestNoStatusWithoutEvidence(t *testing.T) {
	z := newHealthZone(t)
	z.update(func(tx *catalog.Tx) error {
		return tx.PutLink(catalog.Link{Volume: ownVolume, Protection: 7, State: catalog.LinkCurrent, Current: z.clock.now()})
	})
	if v := z.of(ownVolume); v.State == block.HealthOK {
		t.Errorf("%+v", v)
	}
	z.clock.pass(10 * time.Minute)
	if v := z.of(ownVolume); v.State != block.HealthStalled {
		t.Errorf("%+v", v)
	}
}

// TestForecastIsSaidBefore: what changes is twice what the link carries, and the
// pair says so while it is within its target.
func TestForecastIsSaidBefore(t *testing.T) {
	z := newHealthZone(t)
	z.look()
	for range 20 {
		z.clock.pass(time.Second)
		z.ObserveSource(replication.Advance{SourceZone: "b", Volume: ownVolume, Protection: 7, At: z.clock.now(),
			UpTo: z.clock.now().Add(-time.Second), Bytes: 1 << 20, Span: time.Second, Took: 2 * time.Second})
		z.links = []replication.LinkStatus{{Volume: ownVolume, Protection: 7, ReplicatedTo: z.clock.now().Add(-time.Second)}}
	}
	v := z.of(ownVolume)
	if v.State != block.HealthCannotHold || v.Lag.Now > v.Target || v.Forecast.BreachIn != 28*time.Second ||
		v.Advice == "" {
		t.Errorf("%s, %s, %+v", v.State, v.Reason, v.Forecast)
	}
	if p := z.pair(7); p.State != block.HealthCannotHold || p.Advice == "" {
		t.Errorf("%+v", p)
	}
}

// TestRoomIsSaidBeforeItIsUsedUp by what the destination tells of its store.
func TestRoomIsSaidBeforeItIsUsedUp(t *testing.T) {
	z := newHealthZone(t)
	room := DocumentRoom{Backend: "abak", Total: 100 << 30, Free: 50 << 30, Fills: 1 << 20, Known: true}
	z.hear("a", room)
	if p := z.pair(7); p.State != block.HealthOK || p.Room.FullIn != 50*1024*time.Second {
		t.Errorf("%+v", p)
	}
	z.clock.pass(2 * time.Second)
	room.Fills = 100 << 20
	z.hear("a", room)
	if p := z.pair(7); p.State != block.HealthNoRoom || !strings.Contains(p.Advice, "abak") {
		t.Errorf("%+v", p)
	}
}

// TestRecoveredVolumeWithoutProtectionIsAnAlarm: what was recovered here and is
// replicated by nobody says so.
func TestRecoveredVolumeWithoutProtectionIsAnAlarm(t *testing.T) {
	z := newHealthZone(t)
	id := block.VolumeID(block.NewID())
	z.update(func(tx *catalog.Tx) error {
		return tx.InsertVolume(block.Volume{ID: id, Project: "p", Backend: "b", Size: 1, Epoch: 2,
			Status: block.VolumeAvailable})
	})
	z.clock.pass(2 * unlinkedGrace)
	if v := z.of(id); v.State != block.HealthUnprotected || !strings.Contains(v.Advice, "protection") {
		t.Errorf("%+v", v)
	}
}

// TestUnlinkedVolumeOfProtectedTypeIsAnAlarm, but not in its first minute.
func TestUnlinkedVolumeOfProtectedTypeIsAnAlarm(t *testing.T) {
	z := newHealthZone(t)
	id := block.VolumeID(block.NewID())
	z.update(func(tx *catalog.Tx) error {
		return tx.InsertVolume(block.Volume{ID: id, Project: "p", TypeID: healthType, Backend: "b", Size: 1, Epoch: 1,
			Status: block.VolumeAvailable})
	})
	h, err := z.Health(t.Context(), everybody)
	if err != nil || len(h.Volumes) != 2 {
		t.Errorf("%+v, %v", h, err)
	}
	z.clock.pass(2 * unlinkedGrace)
	if v := z.of(id); v.State != block.HealthUnprotected || v.Protection != 7 {
		t.Errorf("%+v", v)
	}
}

// TestFiguresSurviveRestart: the hour is not forgotten, and the time of the
// restart counts.
func TestFiguresSurviveRestart(t *testing.T) {
	z := newHealthZone(t)
	z.look()
	z.clock.pass(10 * time.Minute)
	z.look()
	z.start()
	z.clock.pass(10 * time.Minute)
	z.look()
	v := z.of(theirVolume)
	if v.Lag.Now != 20*time.Minute || v.Lag.Hour.Worst < 20*time.Minute || v.Lag.Hour.Known < 20*time.Minute {
		t.Errorf("%+v", v.Lag)
	}
}

// TestClocksApartAreTakenIntoAccount: zone a's clock is an hour ahead, so that
// its points come from the future; they count from when they are on this clock.
func TestClocksApartAreTakenIntoAccount(t *testing.T) {
	z := newHealthZone(t)
	at := z.clock.now()
	z.clockAnswer("a", at, at.Add(10*time.Millisecond), at.Add(time.Hour))
	z.update(func(tx *catalog.Tx) error { return tx.TouchReplica("replica", at.Add(time.Hour)) })
	z.look()
	z.clock.pass(2 * time.Second)
	z.look()
	if v := z.of(theirVolume); v.Lag.Now < 1900*time.Millisecond || v.Lag.Now > 2100*time.Millisecond {
		t.Errorf("%s behind", v.Lag.Now)
	}
	if p := z.pair(2); !p.Clock.Apart() {
		t.Errorf("%+v", p.Clock)
	}
	events, err := z.DREvents(t.Context(), everybody, 0, 100)
	if err != nil || len(events) != 1 || events[0].Kind != "clock" {
		t.Errorf("%+v, %v", events, err)
	}
}

// TestClockOfZoneThatOnlySpeaks: zone a can't be asked, and its documents are
// from the future; so its clock is ahead for certain.
func TestClockOfZoneThatOnlySpeaks(t *testing.T) {
	z := newHealthZone(t)
	z.clock.pass(-time.Minute) // zone a's is a minute ahead
	d := Document{Zone: "a", At: z.clock.now().Add(time.Minute)}
	z.clock.pass(10 * time.Minute)
	d.At = d.At.Add(10 * time.Minute)
	if _, err := z.ExchangeDocument(t.Context(), "a", d); err != nil {
		t.Fatal(err)
	}
	if o := z.clockOf("a"); !o.Apart() || o.By < 57*time.Second || o.By > 63*time.Second {
		t.Errorf("%+v", o)
	}
	at := z.clock.now()
	z.clockAnswer("a", at, at.Add(time.Millisecond), at.Add(time.Minute)) // it answers
	if _, err := z.ExchangeDocument(t.Context(), "a", d); err != nil {
		t.Fatal(err)
	}
	if o := z.clockOf("a"); o.Within > time.Millisecond {
		t.Errorf("what is less exact counts: %+v", o)
	}
}

// TestHealthOfOthersIsNotShown to tenants, nor are pairs.
func TestHealthOfOthersIsNotShown(t *testing.T) {
	z := newHealthZone(t)
	z.update(func(tx *catalog.Tx) error {
		return tx.InsertDREvents(
			[]block.DREvent{{Kind: "pair"}, {Kind: "volume", Project: "p"}, {Kind: "volume", Project: "q"}},
		)
	})
	for project, want := range map[block.ProjectID]block.VolumeID{"p": ownVolume, "q": theirVolume, "r": "", "": ""} {
		c := block.Caller{Project: project, Roles: []string{"member"}}
		h, err := z.Health(t.Context(), c)
		if err != nil || len(h.Pairs) != 0 || want == "" && len(h.Volumes) != 0 ||
			want != "" && (len(h.Volumes) != 1 || h.Volumes[0].Volume != want) {
			t.Errorf("%q sees %+v, %v", project, h, err)
		}
		events, err := z.DREvents(t.Context(), c, 0, 100)
		if err != nil || want == "" && len(events) != 0 || want != "" && (len(events) != 1 || events[0].Project != project) {
			t.Errorf("%q sees %+v, %v", project, events, err)
		}
	}
}

// TestRTOsAreKeptAndPredict: each recovery is kept once, and a prediction says
// on what it rests.
func TestRTOsAreKeptAndPredict(t *testing.T) {
	z := newHealthZone(t)
	if v := z.of(theirVolume); v.RTO == nil || v.RTO.Measured != 0 ||
		!strings.Contains(v.RTO.Rests, "No recovery by clone") {
		t.Errorf("%+v", v.RTO)
	}
	z.update(func(tx *catalog.Tx) error {
		for i := range int64(3) {
			made := block.VolumeID(block.NewID())
			j := block.DRJob{Rowkey: i + 1, Request: block.DRRequest{Kind: block.DRRecovery}, Status: block.DRSuccess,
				NewVolume: made, Start: tx.Now, End: tx.Now.Add(time.Duration(i+1) * time.Second)}
			if err := tx.InsertDRJob(j); err != nil {
				return err
			}
		}
		return errors.Join(tx.InsertDRJob(block.DRJob{Rowkey: 9, Request: block.DRRequest{Kind: block.DRRecovery},
			Status: block.DRFail, Start: tx.Now}),
			tx.InsertRTO(block.RTO{Kind: "drill", Rowkey: 1, At: tx.Now, Way: "clone", Took: time.Second}),
			tx.PutFailover(block.Failover{ID: "f", Volume: ownVolume, Phase: block.FailoverDone, Started: tx.Now,
				Ended: tx.Now.Add(3 * time.Second)}),
			tx.PutFailover(block.Failover{ID: "g", Volume: ownVolume, Phase: block.FailoverBack, Started: tx.Now}))
	})
	for range 2 {
		if err := z.keepRTOs(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	all, err := z.RTOs(t.Context(), everybody, 100)
	if err != nil || len(all) != 5 {
		t.Errorf("%+v, %v", all, err)
	}
	z.clock.pass(2 * time.Second)
	if v := z.of(ownVolume); v.RTO.Way != waySwitch || v.RTO.Expected != 3*time.Second {
		t.Errorf("of a failover: %+v", v.RTO)
	}
	if v := z.of(theirVolume); v.RTO.Measured != 1 || v.RTO.Expected != time.Second || v.RTO.Rests == "" {
		t.Errorf("%+v", v.RTO)
	}
	copies := []block.RTO{
		{Way: "copy", Bytes: 1 << 20, Took: time.Second},
		{Way: "copy", Bytes: 1 << 21, Took: 2 * time.Second},
	}
	if f := predictRTO(copies, "copy", 1<<30); f.Expected != 1024*time.Second || f.Measured != 2 {
		t.Errorf("%+v", f)
	}
	if _, err := z.RTOs(t.Context(), block.Caller{Project: "p"}, 1); !block.Is(err, block.Forbidden) {
		t.Error(err)
	}
}

// TestVolumeThatNothingReplicatesMakesItsPairInactive in the kvol API.
func TestVolumeThatNothingReplicatesMakesItsPairInactive(t *testing.T) {
	z := newHealthZone(t)
	status := func() string {
		t.Helper()
		pairs, _, err := z.Backups(t.Context(), "b", healthType, "")
		if err != nil || len(pairs) != 1 {
			t.Fatal(pairs, err)
		}
		return pairs[0].Status
	}
	if got := status(); got != PairActive {
		t.Error(got)
	}
	z.update(func(tx *catalog.Tx) error {
		return tx.InsertVolume(block.Volume{ID: block.VolumeID(block.NewID()), Project: "p", TypeID: healthType, Backend: "b",
			Size: 1, Epoch: 1, Status: block.VolumeAvailable})
	})
	if got := status(); got != PairActive {
		t.Errorf("a new volume: %s", got)
	}
	z.clock.pass(2 * unlinkedGrace)
	z.links = []replication.LinkStatus{{Volume: ownVolume, Protection: 7, ReplicatedTo: z.clock.now()}}
	if got := status(); got != PairInactive {
		t.Error(got)
	}
}

// TestStalePrimaryIsNotLate: a volume that lives on in another zone is replicated
// to none of its backup zones any more, and that is no alarm.
func TestStalePrimaryIsNotLate(t *testing.T) {
	z := newHealthZone(t)
	z.update(func(tx *catalog.Tx) error {
		v, err := tx.Volume(ownVolume)
		v.RecoveredTo = &block.Recovered{Zone: "c", Volume: "new", Epoch: 2}
		return errors.Join(err, tx.UpdateVolume(v))
	})
	z.clock.pass(time.Hour)
	if v := z.of(ownVolume); v.State != block.HealthStale || v.Reason == "" || v.Advice == "" {
		t.Errorf("%s, %s", v.State, v.Reason)
	}
}
