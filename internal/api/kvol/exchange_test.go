package kvol_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"kvol/internal/block"
	"kvol/internal/control"
)

// copyHas reports whether a zone's copy of another one's document has a job.
func (z *zone) copyHas(of block.Zone, rowkey int64) bool {
	z.t.Helper()
	d, _, _, err := z.service.PeerCopy(context.Background(), of)
	z.ok(err)
	return slices.ContainsFunc(d.Jobs, func(j block.DRJob) bool { return j.Rowkey == rowkey })
}

// TestToldSoon: what a zone starts is known to the others without their asking.
func TestToldSoon(t *testing.T) {
	w := newWorld(t)
	k, other := w.zones["kilo1"], w.zones["kilo2"]
	k.addReplica("now")
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() {
		if err := k.service.RunPeers(ctx); err != nil {
			t.Error(err)
		}
	})
	<-other.heard // the first one, which every zone tells when it starts
	w.clock.Add(time.Second.Microseconds())
	rowkey := k.begin("recovery", nil)
	for !other.copyHas("kilo1", rowkey) {
		<-other.heard
	}
}

// TestOlderDocument: of two documents the one that was written later counts,
// in whichever order they come.
func TestOlderDocument(t *testing.T) {
	w := newLastingWorld(t)
	k, ctx := w.zones["kilo1"], context.Background()
	late := control.Document{Zone: "mitaka1", Region: "late", At: epoch.Add(2 * time.Second)}
	early := control.Document{Zone: "mitaka1", Region: "early", At: epoch.Add(time.Second)}
	for _, d := range []control.Document{early, late, early} {
		if _, err := k.service.ExchangeDocument(ctx, "mitaka1", d); err != nil {
			t.Fatal(err)
		}
	}
	w.restart(k)
	d, _, ok, err := k.service.PeerCopy(ctx, "mitaka1")
	if err != nil || !ok || d.Region != "late" {
		t.Errorf("%+v, %v", d, err)
	}
	back := control.Document{Zone: "mitaka1", Region: "back", At: epoch.Add(-time.Hour)} // its clock was set
	if _, err := k.service.ExchangeDocument(ctx, "mitaka1", back); err != nil {
		t.Fatal(err)
	}
	if d, _, _, err := k.service.PeerCopy(ctx, "mitaka1"); err != nil || d.Region != "back" {
		t.Errorf("%+v, %v", d, err)
	}
	if _, err := k.service.ExchangeDocument(ctx, "kilo2", late); !block.Is(err, block.Forbidden) {
		t.Errorf("a zone speaks for another: %v", err)
	}
}

// TestOwnIndex: each zone's rowkeys are of its own class.
func TestOwnIndex(t *testing.T) {
	w := newWorld(t)
	k := w.zones["kilo1"]
	k.addReplica("now")
	seen := map[int64]bool{}
	for range 5 {
		for _, call := range []string{"create", "recovery"} {
			rowkey := k.begin(call, nil)
			if rowkey%64 != 24 || call == "create" && seen[rowkey] {
				t.Errorf("%s: %d", call, rowkey)
			}
			seen[rowkey] = true
		}
	}
}

// TestNewestFirst: lists hold the newest of all zones.
func TestNewestFirst(t *testing.T) {
	w := newWorld(t)
	k := w.zones["kilo1"]
	k.addReplica("now")
	var all []int64
	for range 7 {
		w.clock.Add(time.Second.Microseconds())
		all = append(all, k.begin("recovery", nil))
	}
	for limit, want := range map[int]int{1: 1, 5: 5, 1000: 7} {
		jobs, fresh, err := w.zones["kilo2"].service.DRJobs(context.Background(), block.DRRecovery, 0, limit)
		if err != nil || fresh.Copy || len(jobs) != want || jobs[0].Rowkey != all[6] {
			t.Errorf("limit %d: %+v, %v", limit, jobs, err)
		}
		if !slices.IsSortedFunc(jobs, func(a, b block.DRJob) int { return b.Start.Compare(a.Start) }) {
			t.Errorf("limit %d is out of order", limit)
		}
	}
}
