package control

import (
	"strings"
	"testing"
	"time"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/driver"
	"kvol/internal/replication"
)

var (
	keepOwner = block.Caller{Project: "q", User: "owner", Roles: []string{"member"}}
	keepAdmin = block.Caller{Project: "ops", User: "root", Roles: []string{"admin"}}
)

func (z *healthZone) keeps() []block.Keep {
	z.t.Helper()
	all, err := z.Keeps(z.t.Context(), keepAdmin)
	if err != nil {
		z.t.Fatal(err)
	}
	return all
}

func (z *healthZone) keep(req KeepRequest) block.Keep {
	z.t.Helper()
	req.Zone, req.Volume, req.Point = "a", theirVolume, "newest"
	k, err := z.KeepPoint(z.t.Context(), keepOwner, req)
	if err != nil {
		z.t.Fatal(err)
	}
	return k
}

// run lets the zone run for a time, of which its machine's clock tells the truth.
func (z *healthZone) run(d time.Duration) {
	z.t.Helper()
	for ; d > 0; d -= holdTick {
		z.clock.pass(holdTick)
		if err := z.EndHolds(z.t.Context(), holdTick); err != nil {
			z.t.Fatal(err)
		}
	}
}

// TestHoldsAreNotShortened: not by who asked for one, not by an administrator,
// and not by the machine's clock.
func TestHoldsAreNotShortened(t *testing.T) {
	z, ctx := newHealthZone(t), t.Context()
	const lasts = 6 * time.Hour
	began := z.clock.now()
	k := z.keep(KeepRequest{For: lasts})
	if k.Kind != block.KeepHold || !k.Until.Equal(began.Add(lasts)) {
		t.Fatalf("%+v", k)
	}
	for _, c := range []block.Caller{keepOwner, keepAdmin} {
		if err := z.ReleaseKeep(ctx, c, k.ID); !block.Is(err, block.Conflict) {
			t.Errorf("%s takes a hold off: %v", c.User, err)
		}
		if _, err := z.ChangeKeep(ctx, c, k.ID, nil, began.Add(lasts/2), 0); !block.Is(err, block.Conflict) {
			t.Errorf("%s makes a hold shorter: %v", c.User, err)
		}
		if _, err := z.ChangeKeep(ctx, c, k.ID, nil, time.Time{}, time.Hour); !block.Is(err, block.Conflict) {
			t.Errorf("%s makes a hold shorter by its length: %v", c.User, err)
		}
	}
	for _, jump := range []time.Duration{20 * 365 * 24 * time.Hour, -40 * 365 * 24 * time.Hour, 0} {
		at := z.clock.now()
		z.clock.pass(jump)
		if err := z.EndHolds(ctx, jump); err != nil {
			t.Fatal(err)
		}
		z.start() // a restart forgets nothing
		if err := z.EndHolds(ctx, z.clock.now().Sub(at)); err != nil {
			t.Fatal(err)
		}
		if len(z.keeps()) != 1 {
			t.Fatalf("the clock was set by %s, and the hold is over", jump)
		}
		z.clock.pass(-jump)
	}
	if _, err := z.ChangeKeep(ctx, keepOwner, k.ID, nil, time.Time{}, 2*lasts); err != nil {
		t.Fatal(err)
	}
	z.run(2*lasts - 10*time.Minute)
	if len(z.keeps()) != 1 {
		t.Fatal("the hold was over before its time")
	}
	z.run(time.Hour)
	if len(z.keeps()) != 0 {
		t.Fatal("the hold is not over")
	}
}

// TestAPinnedPointStays: retention, the deletion of its volume, and the end of
// its protection leave a point that is kept, and the replica with it.
func TestAPinnedPointStays(t *testing.T) {
	z, ctx := newHealthZone(t), t.Context()
	z.well()
	d, err := z.set.Of("bak")
	if err != nil {
		t.Fatal(err)
	}
	if err := d.CreateSnapshot(ctx, driver.SnapshotRef{Volume: "replica", Name: "point"}); err != nil {
		t.Fatal(err)
	}
	name := "before the upgrade"
	k := z.keep(KeepRequest{Name: name})
	z.update(func(tx *catalog.Tx) error {
		r, err := tx.Replica("replica")
		if err != nil {
			return err
		}
		r.Newest = block.Point{ID: "newer", Volume: theirVolume, Epoch: 1, Sequence: 2, At: z.clock.now(), Size: 4096}
		r.DeletedAt = z.clock.now()
		return first(tx.InsertPoint("replica", r.Newest, block.RootHash{}), tx.UpdateReplica(r))
	})
	policies := []block.Protection{{Seq: 2, SourceZone: "a", Destination: "b", Enabled: true}}
	receiver := replication.NewReceiver(replication.ReceiverConfig{Catalog: z.catalog, Backends: z.set, Zone: "b",
		Now: z.clock.now, AfterDelete: -1, Protections: func() []block.Protection { return policies }})
	kept := func() (found bool) {
		t.Helper()
		if err := receiver.Tidy(ctx); err != nil {
			t.Fatal(err)
		}
		all, err := d.Snapshots(ctx, "replica")
		if err == nil && len(all) == 1 && all[0].Name == "point" {
			found = true
		} else if err != nil && !block.Is(err, block.NotFound) {
			t.Fatal(err)
		}
		z.update(func(tx *catalog.Tx) error {
			_, _, err := tx.Point("replica", "point")
			if (err == nil) != found {
				t.Errorf("the catalog says %v of the point, and in the store it is %v", err, found)
			}
			return nil
		})
		return found
	}
	for range 3 {
		z.clock.pass(1000 * time.Hour)
		if !kept() {
			t.Fatal("a pinned point is gone")
		}
		policies = nil // not protected any more
	}
	again := "still"
	if _, err := z.ChangeKeep(ctx, keepOwner, k.ID, &again, time.Time{}, 0); err != nil {
		t.Fatal(err)
	}
	if err := z.ReleaseKeep(ctx, keepOwner, k.ID); err != nil {
		t.Fatal(err)
	}
	if kept() {
		t.Error("nothing keeps the point, and it is there")
	}
}

// TestOthersKeeps: pins and holds of another project are nowhere, and there are
// only so many.
func TestOthersKeeps(t *testing.T) {
	z, ctx := newHealthZone(t), t.Context()
	mallory := block.Caller{Project: "m", User: "mallory", Roles: []string{"member"}}
	reader := block.Caller{Project: "q", User: "reader", Roles: []string{"reader"}}
	req := KeepRequest{Zone: "a", Volume: theirVolume, Point: "newest"}
	k := z.keep(KeepRequest{})
	asks := map[string]func(block.Caller, string, block.VolumeID) error{
		"keep": func(c block.Caller, _ string, v block.VolumeID) error {
			req := req
			req.Volume = v
			_, err := z.KeepPoint(ctx, c, req)
			return err
		},
		"change": func(c block.Caller, id string, _ block.VolumeID) error {
			_, err := z.ChangeKeep(ctx, c, id, nil, time.Time{}, time.Hour)
			return err
		},
		"release": func(c block.Caller, id string, _ block.VolumeID) error { return z.ReleaseKeep(ctx, c, id) },
	}
	for name, ask := range asks {
		none := block.NewID()
		got, want := ask(mallory, k.ID, theirVolume), ask(mallory, none, block.VolumeID(none))
		sentence, _ := block.UserMessage(got)
		missing, _ := block.UserMessage(want)
		sentence = strings.NewReplacer(k.ID, none, string(theirVolume), none).Replace(sentence)
		if !block.Is(got, block.NotFound) || sentence != missing {
			t.Errorf("%s: %v for another's, %v for nobody's", name, got, want)
		}
		if err := ask(reader, k.ID, theirVolume); !block.Is(err, block.Forbidden) {
			t.Errorf("%s by a reader: %v", name, err)
		}
	}
	if all, err := z.Keeps(ctx, mallory); err != nil || len(all) != 0 {
		t.Errorf("%v, %v", all, err)
	}
	if all, err := z.Keeps(ctx, keepOwner); err != nil || len(all) != 1 || all[0].ID != k.ID {
		t.Errorf("%v, %v", all, err)
	}
	for range MaxKeeps - 1 {
		z.keep(KeepRequest{})
	}
	if _, err := z.KeepPoint(ctx, keepOwner, req); !block.Is(err, block.OverLimit) {
		t.Errorf("one more than there may be: %v", err)
	}
	req.For = maxHold + time.Second
	if _, err := z.KeepPoint(ctx, keepOwner, req); !block.Is(err, block.Invalid) {
		t.Errorf("a hold for longer than any may last: %v", err)
	}
}

// TestLastCleanIsBeforeTheSuspicion: of one volume, and of a group as of one
// instant.
func TestLastCleanIsBeforeTheSuspicion(t *testing.T) {
	start := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	member := func(suspect int) candidate {
		c := candidate{}
		for n := range 5 {
			p := block.Point{ID: block.PointID(string(rune('a' + n))), At: start.Add(time.Duration(n) * time.Minute),
				Cut: &block.GroupCut{ID: string(rune('A' + n)), Members: 3, Of: 3}}
			c.points, c.Newest = append(c.points, p), p
		}
		if suspect >= 0 {
			c.suspect = &block.Suspicion{Since: c.points[suspect].At}
		}
		return c
	}
	last := block.PointChoice{LastClean: true}
	for suspect, want := range map[int]block.PointID{-1: "e", 4: "d", 2: "b", 1: "a", 0: ""} {
		p, err := choosePoint(member(suspect), last)
		if p.ID != want || (want == "") != block.Is(err, block.NotFound) {
			t.Errorf("suspect since %d: %s, %v", suspect, p.ID, err)
		}
	}
	group := []candidate{member(-1), member(3), member(2)}
	for i := range group {
		group[i].Source = block.VolumeID(block.NewID())
	}
	if points, ok := chooseInstant(group, last); !ok || points[0].ID != "b" || points[2].ID != "b" {
		t.Errorf("%v", points)
	}
	if points, ok := chooseInstant(group, block.PointChoice{}); !ok || points[0].ID != "e" {
		t.Errorf("%v", points)
	}
}
