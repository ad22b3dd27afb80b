package ceph_test

import (
	"context"
	"net/http"
	"testing"
	"time"

	"kvol/internal/block"
	"kvol/internal/client"
	"kvol/internal/zone/zonetest"
)

// mirroredGroup has rbd-mirror carry two volumes of a group. A drill serves both as of
// one instant; they move to the other zone without loss while all zones live, and come
// home with what was written there.
func mirroredGroup(t *testing.T, c *zonetest.Cloud) {
	const blocks = 16
	var all []*zonetest.Journey
	for seed := range uint64(2) {
		j := zonetest.NewJourney(t, c, "mitaka1", blocks, 20+seed)
		j.WriteHere(0, blocks)
		all = append(all, j)
	}
	group := c.Grouped(t, "mitaka1", all)
	all[0].WriteHere(3, 4) // for one, both are cut
	oneInstant(t, c, group, all)
	for _, j := range all {
		l := j.AwaitReplica("kilo1")
		if l.Transport != string(block.TransportMirror) || l.BytesSent > blocks*zonetest.BlockSize/2 {
			t.Errorf("rbd-mirror did not carry volume %s: %+v", j.Volume, l)
		}
	}
	drilledTogether(t, c, group, all)
	movedTogether(t, c, group, all)
	for _, j := range all {
		j.WriteHere(8, 2)
		j.Failover("mitaka1")
		j.Check()
	}
}

// oneInstant waits until kilo1 can recover a group as of an instant at which its volumes
// were what they are.
func oneInstant(t *testing.T, c *zonetest.Cloud, group string, all []*zonetest.Journey) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var f client.Forecast
	err := client.Poll(ctx, 50*time.Millisecond, func() (bool, error) {
		var err error
		_, f, err = c.Session("kilo1", zonetest.Alice).Recover(ctx,
			client.Recovery{Scope: client.RecoveryScope{Group: group}, DryRun: true})
		if client.IsStatus(err, http.StatusNotFound) || client.IsStatus(err, http.StatusServiceUnavailable) {
			return false, nil // the zone has not heard of the group, or not of all of it
		}
		if err != nil || len(f.Groups) != 1 || f.Groups[0].Cut == nil {
			return false, err
		}
		same := 0
		for _, j := range all {
			for _, v := range f.Volumes {
				if v.Source == j.Volume && v.Point != nil && v.Point.Cut != nil && v.Point.Cut.ID == f.Groups[0].Cut.ID &&
					v.Point.Root == j.Root() {
					same++
				}
			}
		}
		return same == len(all), nil
	})
	if err != nil {
		t.Fatalf("%v; %+v", err, f)
	}
}

func drilledTogether(t *testing.T, c *zonetest.Cloud, group string, all []*zonetest.Journey) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	s := c.Session("kilo1", zonetest.Alice)
	op, err := s.StartDrill(ctx, client.Drill{Scope: client.RecoveryScope{Group: group},
		Probes: []client.DrillProbe{{Kind: "verify"}}, WatchSeconds: 1})
	if err == nil {
		op, err = s.WaitDurable(ctx, op.ID, nil)
	}
	if err != nil {
		t.Fatalf("a drill of the group: %v; %+v", err, op)
	}
	r, err := s.DrillReport(ctx, op.ID)
	if err != nil || r.Verdict != "pass" || !r.OneInstant || r.ClonesMade != len(all) || r.ClonesLeft != 0 {
		t.Errorf("a drill of the group: %+v, %v", r, err)
	}
}

// movedTogether moves a group to kilo1 as a stock client does, and wants all that was
// written to it to be there.
func movedTogether(t *testing.T, c *zonetest.Cloud, group string, all []*zonetest.Journey) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	s := c.Session("mitaka1", zonetest.Alice)
	zonetest.Stock(t, s, "POST", "groups/"+group+"/action",
		`{"failover_replication":{"secondary_backend_id":"kilo1"}}`, http.StatusAccepted, nil)
	moves, err := s.Failovers(ctx)
	if err != nil || len(moves) != len(all) {
		t.Fatalf("%+v, %v", moves, err)
	}
	for _, f := range moves {
		if f, err = s.WaitFailover(ctx, f.ID, nil); err != nil {
			t.Fatalf("%v: %+v", err, f)
		}
		for _, j := range all {
			if j.Volume == f.VolumeID {
				j.Zone, j.Volume = "kilo1", f.NewVolume
				j.Check()
				break
			}
		}
	}
}
