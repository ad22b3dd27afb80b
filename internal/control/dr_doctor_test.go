package control

import (
	"slices"
	"strings"
	"testing"
	"time"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/driver"
	"kvol/internal/driver/mem"
)

func (z *healthZone) findings(c block.Caller) []block.Finding {
	z.t.Helper()
	f, err := z.Doctor(z.t.Context(), c)
	if err != nil {
		z.t.Fatal(err)
	}
	return f.All
}

func kindsOf(all []block.Finding) (kinds []block.FindingKind) {
	for _, f := range all {
		if f.Text == "" || f.Advice == "" {
			kinds = append(kinds, "a finding that says nothing")
		}
		kinds = append(kinds, f.Kind)
	}
	return kinds
}

// well makes the store have what the catalog speaks of, with the other zone
// heard of and points that are recent.
func (z *healthZone) well() {
	z.t.Helper()
	d, err := z.set.Of("b")
	if err != nil {
		z.t.Fatal(err)
	}
	for _, id := range []block.VolumeID{ownVolume, "replica"} {
		if err := d.CreateVolume(z.t.Context(), id, 1<<20); err != nil {
			z.t.Fatal(err)
		}
	}
}

// TestPinsOfHoldersThatAreGone: which pins are leaked, and which are not though
// they look like it.
func TestPinsOfHoldersThatAreGone(t *testing.T) {
	z := newHealthZone(t)
	z.well()
	pins := []struct {
		volume block.VolumeID
		name   block.PointID
		holder string
		leaked bool
	}{
		{ownVolume, "point", "replication/7", false},
		{ownVolume, "older", "replication/7", false}, // its pair was seen to a moment ago
		{ownVolume, "a", "replication/99", true},
		{ownVolume, "b", "failover/none", true},
		{ownVolume, "c", "failover/over", true},
		{ownVolume, "d", "failover/under-way", false},
		{ownVolume, "e", block.OriginHolder, true},
		{ownVolume, "f", "backup/none", true},
		{ownVolume, "g", "somebody/else", false},
		{"replica", "point", "recovery/1", false},
		{"replica", "point", "recovery/2", true},
		{"replica", "point", "recovery/3", true},
		{"nowhere", "h", "somebody/else", true},
	}
	z.update(func(tx *catalog.Tx) error {
		for _, p := range pins {
			if err := tx.Pin(p.volume, p.name, p.holder); err != nil {
				return err
			}
		}
		job := func(rowkey int64, ended time.Time) error {
			return tx.InsertDRJob(block.DRJob{Rowkey: rowkey, Request: block.DRRequest{Kind: block.DRRecovery}, Start: tx.Now,
				End: ended})
		}
		return first(
			tx.PutFailover(block.Failover{ID: "over", Volume: ownVolume, Phase: block.FailoverBack, Started: tx.Now}),
			tx.PutFailover(block.Failover{ID: "under-way", Volume: ownVolume, Phase: block.FailoverDraining, Started: tx.Now}),
			job(1, time.Time{}),
			job(2, tx.Now),
		)
	})
	found := func() (names []string) {
		for _, f := range z.findings(everybody) {
			if f.Kind == block.FindLeakedPin {
				names = append(names, string(f.Volume)+" "+string(f.Point)+" "+f.Holder)
			}
		}
		return names
	}
	got := found()
	for _, p := range pins {
		if n := string(p.volume) + " " + string(p.name) + " " + p.holder; slices.Contains(got, n) != p.leaked {
			t.Errorf("%s: leaked is %v", n, !p.leaked)
		}
	}
	z.clock.pass(2 * pairPatience)
	if !slices.Contains(found(), string(ownVolume)+" older replication/7") {
		t.Error("a pin of which the pair has a newer point, for long")
	}
	if _, err := z.Mend(t.Context(), everybody); err != nil {
		t.Fatal(err)
	}
	if left := found(); len(left) != 0 {
		t.Errorf("not mended: %v", left)
	}
	err := z.catalog.View(t.Context(), func(tx *catalog.Tx) error {
		all, err := tx.Pins(100)
		if len(all) != 4 {
			t.Errorf("left are %+v", all)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestCopyThatAMoveLeft on another store is deleted if the volume is where it
// should be, and never if it is not.
func TestCopyThatAMoveLeft(t *testing.T) {
	z := newHealthZone(t)
	z.well()
	other := mem.New(mem.Options{})
	t.Cleanup(func() {
		if err := other.Close(); err != nil {
			t.Error(err)
		}
	})
	mine, err := z.set.Of("b")
	if err != nil {
		t.Fatal(err)
	}
	z.set, err = driver.NewSet(map[string]driver.Driver{"s": mine, "o": other}, []block.Backend{{Name: "b", Store: "s"},
		{Name: "bak", Store: "s"}, {Name: "c", Store: "o"}})
	if err != nil {
		t.Fatal(err)
	}
	z.start()
	misplaced := block.VolumeID(block.NewID())
	z.update(func(tx *catalog.Tx) error {
		return tx.InsertVolume(block.Volume{ID: misplaced, Project: "p", Backend: "b", Size: 1, Epoch: 1,
			Status: block.VolumeAvailable})
	})
	for _, id := range []block.VolumeID{ownVolume, misplaced} {
		if err := other.CreateVolume(t.Context(), id, 1<<20); err != nil {
			t.Fatal(err)
		}
	}
	mended, err := z.Mend(t.Context(), everybody)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range mended.All {
		if f.Kind == block.FindTemporary && f.Mended != (f.Volume == ownVolume) {
			t.Errorf("%+v", f)
		}
	}
	err = z.catalog.View(t.Context(), func(tx *catalog.Tx) error {
		live, err := tx.LiveSubjects()
		if !live[moveEnd(ownVolume)] || live[moveEnd(misplaced)] {
			t.Errorf("jobs: %v", live)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestDoctorTellsTenantsOfTheirOwn and of nothing in the stores, and mends for
// nobody but administrators.
func TestDoctorTellsTenantsOfTheirOwn(t *testing.T) {
	z := newHealthZone(t)
	z.well()
	id := block.VolumeID(block.NewID())
	z.update(func(tx *catalog.Tx) error {
		return first(tx.Pin(ownVolume, "a", "failover/none"),
			tx.InsertVolume(block.Volume{ID: id, Project: "p", TypeID: healthType, Backend: "b", Size: 1, Epoch: 1,
				Status: block.VolumeAvailable}))
	})
	z.clock.pass(2 * unlinkedGrace)
	want := []block.FindingKind{block.FindUnprotected, block.FindNoRecentPoint, block.FindNoRecentPoint,
		block.FindPeerSilent, block.FindLeakedPin}
	if got := kindsOf(z.findings(everybody)); !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	for project, n := range map[block.ProjectID]int{"p": 1, "q": 0, "": 0} {
		c := block.Caller{Project: project, Roles: []string{"member"}}
		if got := z.findings(c); len(got) != n || n == 1 && got[0].Volume != id {
			t.Errorf("%q is told %+v", project, got)
		}
		if _, err := z.Mend(t.Context(), c); !block.Is(err, block.Forbidden) {
			t.Errorf("%q may mend: %v", project, err)
		}
	}
}

// TestUnfinishedComparisonIsTakenUp: what only a stale volume has was never
// found out, since the job ended; a doctor begins it again, once.
func TestUnfinishedComparisonIsTakenUp(t *testing.T) {
	z := newHealthZone(t)
	z.well()
	z.update(func(tx *catalog.Tx) error {
		v, err := tx.Volume(ownVolume)
		if err != nil {
			return err
		}
		v.RecoveredTo = &block.Recovered{Zone: "a", Volume: "new", Epoch: 2}
		return first(tx.UpdateVolume(v), tx.PutStale(block.StalePrimary{Volume: v.ID, Undo: "u",
			State: block.StaleComparing, At: tx.Now}))
	})
	for i := range 2 {
		f, err := z.Mend(t.Context(), everybody)
		if err != nil {
			t.Fatal(err)
		}
		at := slices.IndexFunc(f.All, func(f block.Finding) bool { return f.Kind == block.FindStalePrimary })
		if at < 0 || f.All[at].Mended != (i == 0) || !strings.Contains(f.All[at].Text, "zone a as volume new") {
			t.Errorf("%+v", f.All)
		}
	}
	err := z.catalog.View(t.Context(), func(tx *catalog.Tx) error {
		jobs, err := tx.JobsOf(string(ownVolume))
		if len(jobs) != 1 || jobs[0].Kind != jobUndo {
			t.Errorf("%+v", jobs)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
