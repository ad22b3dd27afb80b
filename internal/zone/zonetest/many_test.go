package zonetest_test

import (
	"context"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"kvol/internal/client"
	"kvol/internal/zone"
	"kvol/internal/zone/zonetest"
)

// manyVolumes is how many volumes TestManyVolumesInOneCall recovers.
func manyVolumes(t *testing.T) int {
	text := os.Getenv("KVOL_RECOVER_VOLUMES")
	if text == "" {
		return 100
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestManyVolumesInOneCall: all volumes of a dead zone in one call, each with
// its proof. It prints how long that took.
func TestManyVolumesInOneCall(t *testing.T) {
	n := manyVolumes(t)
	c := zonetest.NewWith(t, func(cfg *zone.Config) {
		var kept []zone.ProtectionConfig
		for _, p := range cfg.Protections {
			if p.Destination == to && cfg.Zone == source {
				p.Interval = time.Second
				kept = append(kept, p)
			}
		}
		cfg.Protections = kept
	})
	for _, name := range []string{source, to} {
		if err := c.Session(name, zonetest.Admin).SetQuotas(t.Context(), c.Projects[zonetest.Alice],
			map[string]int64{"volumes": -1, "gigabytes": -1}); err != nil {
			t.Fatal(err)
		}
	}
	s := c.Session(source, zonetest.Alice)
	written := protect(t, c, min(n, 2))
	var making sync.WaitGroup
	left := make(chan int)
	for range 8 {
		making.Go(func() {
			for range left {
				if _, err := s.CreateVolume(t.Context(), client.NewVolume{Size: 1}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for i := range n - len(written) {
		left <- i
	}
	close(left)
	making.Wait()
	there := c.Session(to, zonetest.Alice)
	if err := client.Poll(t.Context(), 200*time.Millisecond, func() (bool, error) {
		replicas, err := there.Replicas(t.Context())
		whole := 0
		for _, r := range replicas {
			if !r.ReplicatedUpTo.IsZero() {
				whole++
			}
		}
		return whole >= n, err
	}); err != nil {
		t.Fatal(err)
	}
	c.Kill(source)
	begun := time.Now()
	op, _, err := there.Recover(t.Context(), client.Recovery{Scope: client.RecoveryScope{Zone: source}, AcceptLoss: true})
	if err != nil {
		t.Fatal(err)
	}
	accepted := time.Since(begun)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	d, err := there.WaitDurable(ctx, op.ID, nil)
	if err != nil || len(d.Steps) != n {
		t.Fatalf("%d steps, %v", len(d.Steps), err)
	}
	for _, step := range d.Steps {
		if step.Status != "succeeded" {
			t.Fatalf("%+v", step)
		}
	}
	recovered(t, c, there, op.ID, written)
	t.Logf("%d volumes: the call returned after %s, all could be used %s after it was begun, and were proven after %s", n,
		accepted.Round(time.Millisecond), d.ServedAt.Sub(*d.CreatedAt).Round(time.Millisecond),
		d.EndedAt.Sub(*d.CreatedAt).Round(time.Millisecond))
}
