package zonetest_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/client"
	"kvol/internal/driver"
	"kvol/internal/zone"
	"kvol/internal/zone/zonetest"
)

// find asks a zone's doctor until it tells of a kind, or no more of it.
func find(t *testing.T, c *zonetest.Cloud, name, kind string, there bool) client.Finding {
	t.Helper()
	s := c.Session(name, zonetest.Admin)
	var last client.Doctor
	var found client.Finding
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute) // pauses after errors are a minute
	defer cancel()
	err := client.Poll(ctx, 20*time.Millisecond, func() (bool, error) {
		d, err := s.Doctor(ctx, false)
		if err == nil {
			last = d
		}
		i := slices.IndexFunc(d.Findings, func(f client.Finding) bool { return f.Kind == kind })
		if i >= 0 {
			found = d.Findings[i]
		}
		return i >= 0 == there, err
	})
	if err != nil {
		t.Fatalf("%s in %s is %v: %v; %+v", kind, name, !there, err, last)
	}
	if there && (found.Text == "" || found.Advice == "") {
		t.Errorf("%s explains nothing: %+v", kind, found)
	}
	return found
}

// fix mends and returns what was mended.
func fix(t *testing.T, c *zonetest.Cloud, name string) (kinds []string) {
	t.Helper()
	d, err := c.Session(name, zonetest.Admin).Doctor(t.Context(), true)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range d.Findings {
		if f.Mended {
			kinds = append(kinds, f.Kind)
		}
	}
	slices.Sort(kinds)
	return slices.Compact(kinds)
}

// TestLeftoversAreFoundAndMended: a pin, a cut and a link that nobody needs, and
// a snapshot and a volume that nobody knows, are in a zone after its start. The
// first two are let go of, and the other zone is told when it answers; what may
// be somebody's stays.
func TestLeftoversAreFoundAndMended(t *testing.T) {
	t.Parallel()
	c := zonetest.New(t)
	j := zonetest.NewJourney(t, c, source, 64, 1)
	j.WriteHere(0, 64)
	j.AwaitReplica("kilo1")
	if d, err := c.Session(source, zonetest.Admin).Doctor(t.Context(), false); err != nil || len(d.Findings) > 0 {
		t.Fatalf("of a zone that is well: %+v, %v", d, err)
	}
	volume, stray := block.VolumeID(j.Volume), block.VolumeID(block.NewID())
	at := func(name block.PointID) driver.SnapshotRef { return driver.SnapshotRef{Volume: volume, Name: name} }
	store, ctx := c.Store(source), t.Context()
	c.Stop(source)
	for _, name := range []block.PointID{"pinned", "cut", "unknown"} {
		if err := store.CreateSnapshot(ctx, at(name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := store.CreateVolume(ctx, stray, 1<<20); err != nil {
		t.Fatal(err)
	}
	c.Catalog(source, func(tx *catalog.Tx) error {
		if err := tx.Pin(volume, "pinned", "failover/gone"); err != nil {
			return err
		}
		if _, err := tx.ReleaseSnapshot(volume, "pinned"); err != nil {
			return err
		}
		lost := catalog.Link{Volume: block.VolumeID(block.NewID()), Protection: 2, State: catalog.LinkCurrent,
			Confirmed: block.Point{ID: "confirmed", Epoch: 1, Sequence: 1}}
		if err := tx.PutLink(lost); err != nil {
			return err
		}
		return tx.InsertCut(volume, "cut")
	})
	disable := func(disabled bool) {
		c.ConfigureResting(source, func(z *zone.Config) {
			for i := range z.Protections {
				z.Protections[i].Disabled = disabled
			}
		})
	}
	disable(true) // or the sender sees to cut and link itself
	c.Cut(source, "kilo1")
	c.Cut(source, "kilo2")
	c.Start(source)
	for _, kind := range []string{"leaked-pin", "leaked-cut", "leaked-link", "unknown-snapshot", "orphan-volume"} {
		find(t, c, source, kind, true)
	}
	if _, err := c.Session(source, zonetest.Alice).Doctor(ctx, true); err == nil {
		t.Error("a tenant may mend")
	}
	if got := fix(t, c, source); !slices.Contains(got, "leaked-pin") || !slices.Contains(got, "leaked-cut") ||
		!slices.Contains(
			got,
			"leaked-link",
		) || slices.Contains(got, "unknown-snapshot") || slices.Contains(got, "orphan-volume") {
		t.Errorf("mended: %v", got)
	}
	for _, kind := range []string{"leaked-pin", "leaked-cut"} {
		find(t, c, source, kind, false)
	}
	err := client.Poll(ctx, 10*time.Millisecond, func() (bool, error) { // jobs delete them
		all, err := store.Snapshots(ctx, volume)
		has := func(name block.PointID) bool {
			return slices.ContainsFunc(all, func(i driver.SnapshotInfo) bool { return i.Name == name })
		}
		if !has("unknown") {
			t.Error("a snapshot was deleted that may be somebody's")
		}
		return !has("pinned") && !has("cut"), err
	})
	if err != nil {
		t.Error(err)
	}
	find(t, c, source, "orphan-volume", true)
	calls, err := c.Session(source, zonetest.Admin).Audits(ctx, client.AuditQuery{})
	if err != nil ||
		!slices.ContainsFunc(calls, func(a client.Audit) bool { return a.Call == "doctor mends leaked-pin" }) {
		t.Errorf("the audit log: %+v, %v", calls, err)
	}
	c.Mend(source, "kilo1")
	c.Mend(source, "kilo2")
	find(t, c, source, "leaked-link", false)
	c.Stop(source)
	disable(false)
	c.Start(source)
	j.WriteHere(0, 8)
	j.AwaitReplica("kilo1")
	j.Check()
}

// TestDoctorSeesWhatZonesDo: a zone is cut off, its volume is recovered, it comes
// back, clocks go apart, and protections are taken out of the configuration.
func TestDoctorSeesWhatZonesDo(t *testing.T) {
	t.Parallel()
	c := zonetest.New(t)
	j := zonetest.NewJourney(t, c, source, 64, 2)
	j.WriteHere(0, 64)
	j.AwaitReplica("kilo1")
	c.SetClock("kilo2", time.Hour)
	here, there := find(t, c, source, "clocks-apart", true), find(t, c, "kilo2", "clocks-apart", true)
	if here.Peer != "kilo2" || !strings.Contains(here.Text, "ahead of") || !strings.Contains(there.Text, "behind") {
		t.Errorf("%s\n%s", here.Text, there.Text)
	}
	c.SetClock("kilo2", 0)
	find(t, c, source, "clocks-apart", false)

	c.Cut(source, "kilo1")
	c.Cut(source, "kilo2")
	for _, name := range zonetest.Names { // an hour goes by
		c.SetClock(name, time.Hour)
	}
	find(t, c, source, "peer-silent", true)
	find(t, c, "kilo1", "no-recent-point", true)
	if f := find(t, c, source, "no-recent-point", true); f.Mends == "" || !slices.Contains(fix(t, c, source), f.Kind) {
		t.Errorf("%+v", f)
	}
	lost := j.Volume
	j.Recover("kilo1")
	c.Mend(source, "kilo1")
	c.Mend(source, "kilo2")
	if f := find(t, c, source, "stale-primary", true); f.VolumeID != lost || !strings.Contains(f.Text, j.Volume) {
		t.Errorf("%+v", f)
	}
	find(t, c, source, "peer-silent", false)
	find(t, c, source, "no-recent-point", false)
	j.AwaitReplica("kilo2")

	c.Configure("kilo1", func(z *zone.Config) { z.Protections = nil })
	if f := find(t, c, "kilo2", "orphan-replica", true); f.SourceZone != "kilo1" || f.Mends != "" {
		t.Errorf("%+v", f)
	}
	c.SetClock("kilo1", time.Hour+10*time.Minute)
	if f := find(t, c, "kilo1", "unprotected", true); f.VolumeID != j.Volume {
		t.Errorf("%+v", f)
	}
	j.Check()
}
