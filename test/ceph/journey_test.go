package ceph_test

import (
	"context"
	"path/filepath"
	"testing"

	"kvol/internal/block"
	"kvol/internal/driver"
	"kvol/internal/driver/logstore"
	"kvol/internal/driver/rbd"
	"kvol/internal/zone"
	"kvol/internal/zone/zonetest"
	"kvol/test/ceph"
	"kvol/test/postgres"
)

// store opens an empty store on a cluster.
func store(t *testing.T, c *ceph.Cluster) driver.Driver {
	t.Helper()
	namespace := block.NewID()
	c.Run(t, "rbd", "namespace", "create", "rbd/"+namespace)
	d, err := rbd.Open(t.Context(), rbd.Options{Conf: c.Conf(), Namespace: namespace})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

func embedded(t *testing.T) driver.Driver {
	t.Helper()
	d, err := logstore.Open(t.Context(), logstore.Options{Dir: filepath.Join(t.TempDir(), "store"), SegmentSize: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Check(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

// TestTwoClusters runs what needs two clusters on one pair of them.
func TestTwoClusters(t *testing.T) {
	a, b := ceph.Start(t), ceph.Start(t)
	t.Run("Mirror", func(t *testing.T) { mirrored(t, a, b) })
	t.Run("Journey", func(t *testing.T) { journey(t, a, b) })
}

// journey takes a volume through zones of which two lie on Ceph and one on
// the embedded engine, and one writes its catalog to PostgreSQL: planned failovers from Ceph to Ceph, from there to the
// embedded store and back to Ceph, each with all that was written; then the zone
// and its cluster die at once, and the volume is recovered in each of the
// others' kinds.
func journey(t *testing.T, a, b *ceph.Cluster) {
	database := postgres.Start(t).Database(t)
	c := zonetest.NewOn(t, map[string]driver.Driver{"mitaka1": store(t, a), "kilo1": store(t, b), "kilo2": embedded(t)})
	c.Configure("kilo1", func(cfg *zone.Config) { cfg.Catalog.URL = database })
	const blocks = 64
	j := zonetest.NewJourney(t, c, "mitaka1", blocks, 1)
	j.WriteHere(0, blocks)
	for i, to := range []string{"kilo1", "kilo2", "mitaka1"} {
		j.AwaitReplica(to)
		j.WriteHere(5*i, 7)
		j.Failover(to)
		j.Check()
	}
	j.WriteHere(40, 9)
	j.AwaitReplica("kilo1")
	c.Kill("mitaka1")
	a.Kill(t)
	j.Recover("kilo1")
	j.Check()
}
