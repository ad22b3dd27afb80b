package catalog

import (
	"context"
	"reflect"
	"slices"
	"testing"
	"time"

	"kvol/internal/block"
)

func openForReplication(t *testing.T, now *time.Time) *Catalog {
	c, err := Open(t.Context(), optionsAt(t, func() time.Time { return *now }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// change runs fn in an Update that must succeed.
func change(t *testing.T, c *Catalog, fn func(*Tx) error) {
	t.Helper()
	if err := c.Update(context.Background(), fn); err != nil {
		t.Fatal(err)
	}
}

func TestReplicasAndPoints(t *testing.T) {
	now := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	c := openForReplication(t, &now)
	name := "data"
	rep := block.Replica{ID: "r", SourceZone: "a", Source: "v", Protection: 3, Backend: "bak", Epoch: 4,
		Entry: block.Entry{TypeName: "gold", Volume: block.Volume{ID: "v", Name: &name}}}
	point := block.Point{ID: "p1", Volume: "v", Epoch: 4, Sequence: 7, At: now, Size: 8192, Root: block.RootHash{1},
		Parent: "p0", Name: "p1"}
	sum := block.RootHash{9, 8, 7}
	change(t, c, func(tx *Tx) error {
		if err := tx.InsertReplica(rep); err != nil {
			return err
		}
		second := block.Replica{ID: "other", SourceZone: "a", Source: "v", Protection: 3}
		if err := tx.InsertReplica(second); !block.Is(err, block.Conflict) {
			t.Errorf("a second replica: %v", err)
		}
		return nil
	})
	rep.CreatedAt, rep.UpdatedAt = now, now
	now = now.Add(time.Minute)
	change(t, c, func(tx *Tx) error {
		got, err := tx.ReplicaOf("a", "v", 3)
		if err != nil || !reflect.DeepEqual(got, rep) {
			t.Errorf("%+v instead of %+v: %v", got, rep, err)
		}
		rep.Newest, rep.Current, rep.Pending = point, now, &block.Step{Base: point, Epoch: 4}
		rep.UpdatedAt = now
		if err := tx.InsertPoint("r", point, sum); err != nil {
			return err
		}
		if err := tx.InsertPoint("r", point, sum); !block.Is(err, block.Conflict) {
			t.Errorf("a point that came twice: %v", err)
		}
		older := point
		older.ID, older.Sequence, older.Parent, older.Name = "p0", 6, "", ""
		if err := tx.InsertPoint("r", older, sum); err != nil {
			return err
		}
		if err := tx.SetStepProgress("r", Progress{Offset: Rewind, Sum: sum}); err != nil {
			return err
		}
		return tx.UpdateReplica(rep)
	})
	change(t, c, func(tx *Tx) error {
		got, err := tx.Replica("r")
		if err != nil || !reflect.DeepEqual(got, rep) {
			t.Errorf("%+v instead of %+v: %v", got, rep, err)
		}
		p, s, err := tx.Point("r", "p1")
		if err != nil || p != point || s != sum {
			t.Errorf("%+v %s: %v", p, s, err)
		}
		all, err := tx.Points("r")
		if err != nil || len(all) != 2 || all[0].ID != "p0" || all[1] != point {
			t.Errorf("%+v: %v", all, err)
		}
		if g, err := tx.StepProgress("r"); err != nil || g != (Progress{Offset: Rewind, Sum: sum}) {
			t.Errorf("%+v: %v", g, err)
		}
		if err := tx.SetPointName("r", "p1", ""); err != nil {
			return err
		}
		if p, _, err = tx.Point("r", "p1"); err != nil || p.Name != "" {
			t.Errorf("%+v: %v", p, err)
		}
		return nil
	})
}

func TestReplicaGone(t *testing.T) {
	now := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	c := openForReplication(t, &now)
	rep := block.Replica{ID: "r", SourceZone: "a", Source: "v", Protection: 3, Backend: "bak", Epoch: 4}
	change(t, c, func(tx *Tx) error {
		if err := tx.InsertReplica(rep); err != nil {
			return err
		}
		if err := tx.InsertPoint("r", block.Point{ID: "p1", At: now}, block.RootHash{}); err != nil {
			return err
		}
		if err := tx.DeleteReplica("r"); err != nil {
			return err
		}
		for _, err := range []error{tx.UpdateReplica(rep), tx.TouchReplica("r", now), tx.SetPointName("r", "p1", "x"),
			tx.SetStepProgress("r", Progress{})} {
			if !block.Is(err, block.NotFound) {
				t.Errorf("of a replica that is gone: %v", err)
			}
		}
		_, _, err := tx.Point("r", "p1")
		if _, e := tx.Replica("r"); !block.Is(err, block.NotFound) || !block.Is(e, block.NotFound) {
			t.Error(err, e)
		}
		return nil
	})
}

func TestRaiseEpoch(t *testing.T) {
	now := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	c := openForReplication(t, &now)
	change(t, c, func(tx *Tx) error {
		for _, r := range []block.Replica{{ID: "r1", SourceZone: "a", Source: "v", Protection: 1, Epoch: 2},
			{ID: "r2", SourceZone: "a", Source: "v", Protection: 2, Epoch: 5},
			{ID: "r3", SourceZone: "a", Source: "w", Protection: 1, Epoch: 1}} {
			if err := tx.InsertReplica(r); err != nil {
				return err
			}
		}
		if _, found, err := tx.Fence("a", "v"); found || err != nil {
			t.Error("a fence before any recovery", err)
		}
		for _, want := range []uint64{64 + 3, 128 + 3} {
			epoch, err := tx.RaiseEpoch("r1", block.Recovered{Zone: "b", Volume: "new"}, 3)
			if err != nil || epoch != want {
				t.Errorf("epoch %d instead of %d: %v", epoch, want, err)
			}
		}
		for id, want := range map[block.VolumeID]uint64{"r1": 131, "r2": 131, "r3": 1} {
			if r, err := tx.Replica(id); err != nil || r.Epoch != want {
				t.Errorf("%s is at %d: %v", id, r.Epoch, err)
			}
		}
		want := block.Fence{SourceZone: "a", Source: "v",
			Recovered: block.Recovered{Zone: "b", Volume: "new", Epoch: 131, At: now}}
		for _, zone := range []block.Zone{"a", ""} {
			if all, err := tx.FencesFor(zone); err != nil || len(all) != 1 || all[0] != want {
				t.Errorf("%+v: %v", all, err)
			}
		}
		if all, err := tx.FencesFor("c"); len(all) != 0 || err != nil {
			t.Error(all, err)
		}
		if _, err := tx.RaiseEpoch("r9", block.Recovered{}, 0); !block.Is(err, block.NotFound) {
			t.Error(err)
		}
		return nil
	})
}

func TestLinks(t *testing.T) {
	now := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	c := openForReplication(t, &now)
	target := block.Point{ID: "t", Volume: "v1", At: now}
	link := Link{Volume: "v1", Protection: 1, State: LinkCurrent, Confirmed: block.Point{ID: "p", At: now, Size: 4096},
		Sum: block.RootHash{5}, Changes: 1<<63 + 5, Target: &target, TargetChanges: 1<<64 - 1, Current: now,
		EntryHash: "e", Error: "x", BytesSent: 77}
	change(t, c, func(tx *Tx) error {
		if err := tx.UpsertType(block.VolumeType{ID: "gold", Name: "gold"}); err != nil {
			return err
		}
		for id, status := range map[block.VolumeID]block.VolumeStatus{"v1": block.VolumeAvailable, "v2": block.VolumeInUse,
			"v3": block.VolumeCreating} {
			v := block.Volume{ID: id, Project: "p", Size: 1, Status: status, TypeID: "gold", Backend: "b"}
			if err := tx.InsertVolume(v); err != nil {
				return err
			}
		}
		if all, err := tx.Unlinked("gold", 1, 10); err != nil || !slices.Equal(all, []Held{{"v1", "b"}, {"v2", "b"}}) {
			t.Errorf("%v: %v", all, err)
		}
		if err := tx.PutLink(link); err != nil {
			return err
		}
		if all, err := tx.Unlinked("gold", 1, 10); err != nil || !slices.Equal(all, []Held{{"v2", "b"}}) {
			t.Errorf("%v: %v", all, err)
		}
		if all, err := tx.LinkedHeld(); err != nil || !slices.Equal(all, []Held{{"v1", "b"}}) {
			t.Errorf("volumes with links: %v, %v", all, err)
		}
		link.CreatedAt, link.UpdatedAt = now, now
		if got, err := tx.Link("v1", 1); err != nil || !reflect.DeepEqual(got, link) {
			t.Errorf("%+v instead of %+v: %v", got, link, err)
		}
		if err := tx.PutLink(Link{Volume: "v1", Protection: 2}); err != nil {
			return err
		}
		return tx.InsertCut("v1", "t")
	})
	change(t, c, func(tx *Tx) error {
		if cuts, err := tx.Cuts("v1"); err != nil || len(cuts) != 1 {
			t.Error(cuts, err)
		}
		if err := tx.VolumeGone("v1"); err != nil {
			return err
		}
		if err := tx.PutLink(link); err != nil { // by a visit that did not know yet
			return err
		}
		links, err := tx.LinksOf("v1")
		if err != nil || len(links) != 2 || !links[0].Gone || !links[1].Gone {
			t.Errorf("%+v: %v", links, err)
		}
		if cuts, err := tx.Cuts("v1"); err != nil || len(cuts) != 0 {
			t.Error(cuts, err)
		}
		if err := tx.DeleteLink("v1", 1); err != nil {
			return err
		}
		if all, err := tx.Links(); err != nil || len(all) != 1 {
			t.Error(all, err)
		}
		if _, err := tx.Link("v1", 1); !block.Is(err, block.NotFound) {
			t.Error(err)
		}
		return nil
	})
}

func TestPinnedPoints(t *testing.T) {
	now := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	c := openForReplication(t, &now)
	change(t, c, func(tx *Tx) error {
		for _, pin := range [][2]string{{"p1", "x"}, {"p1", "y"}, {"p2", "x"}} {
			if err := tx.Pin("v", block.PointID(pin[0]), pin[1]); err != nil {
				return err
			}
		}
		if all, err := tx.PinnedPoints("v"); err != nil || len(all) != 2 || !all["p1"] || !all["p2"] {
			t.Error(all, err)
		}
		if mine, err := tx.PinnedBy("v", "y"); err != nil || !slices.Equal(mine, []block.PointID{"p1"}) {
			t.Error(mine, err)
		}
		return nil
	})
}
