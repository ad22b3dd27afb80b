package ceph_test

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"kvol/internal/block"
	"kvol/internal/client"
	"kvol/internal/driver"
	"kvol/internal/driver/logstore"
	"kvol/internal/driver/rbd"
	"kvol/internal/zone"
	"kvol/internal/zone/zonetest"
	"kvol/test/ceph"
	"kvol/test/postgres"
)

// patience is how long a machine with much else to do may take for what takes
// some seconds.
const patience = 10 * time.Minute

// store opens an empty store on a cluster: a namespace of its own.
func store(t *testing.T, c *ceph.Cluster, o rbd.Options) driver.Driver {
	t.Helper()
	o.Conf, o.Namespace = c.Conf(), block.NewID()
	c.Run(t, "rbd", "namespace", "create", "rbd/"+o.Namespace)
	return opened(t, o)
}

func opened(t *testing.T, o rbd.Options) driver.Driver {
	t.Helper()
	d, err := rbd.Open(t.Context(), o)
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
	a, b := ceph.StartTwo(t)
	t.Run("Native", func(t *testing.T) {
		c := zonetest.NewOn(t, map[string]driver.Driver{"mitaka1": lendingStore(t, a), "kilo1": lendingStore(t, b)})
		native(t, c, map[string]*ceph.Cluster{"mitaka1": a, "kilo1": b})
	})
	t.Run("Mirror", func(t *testing.T) { mirrored(t, a, b) })
	t.Run("Moves", func(t *testing.T) { moves(t, a) })
	t.Run("Faults", func(t *testing.T) {
		o := rbd.Options{IOTimeout: 15 * time.Second}
		faults(t, zonetest.NewOn(t, map[string]driver.Driver{"mitaka1": store(t, a, o), "kilo1": store(t, b, o)}), a, b)
	})
	t.Run("Storm", func(t *testing.T) { storming(t, a, b) })
	t.Run("Journey", func(t *testing.T) { journey(t, a, b) })
}

// journey takes a volume through zones of which two lie on Ceph and one on the
// embedded engine, and one writes its catalog to PostgreSQL: planned failovers
// from Ceph to Ceph, from there to the embedded store and back to Ceph, each
// after a drill and a reading of the replica, each with all that was written.
// Then zones die at once, with their clusters, and the volume is recovered on
// Ceph from Ceph, fails back with nothing sent but what is new, and is recovered
// on the embedded store from Ceph, and on Ceph from there.
func journey(t *testing.T, a, b *ceph.Cluster) {
	database := postgres.Start(t).Database(t)
	c := zonetest.NewOn(t, map[string]driver.Driver{"mitaka1": store(t, a, rbd.Options{}),
		"kilo1": store(t, b, rbd.Options{}), "kilo2": embedded(t)})
	c.Configure("kilo1", func(cfg *zone.Config) { cfg.Catalog.URL = database })
	const blocks = 64
	j := zonetest.NewJourney(t, c, "mitaka1", blocks, 1)
	j.WriteHere(0, blocks)
	for i, to := range []string{"kilo1", "kilo2", "mitaka1"} {
		j.AwaitReplica(to)
		examine(t, c, j, to)
		j.WriteHere(5*i, 7)
		j.Failover(to)
		j.Check()
	}
	j.AwaitReplica("kilo1")
	c.Kill("mitaka1")
	a.Kill(t)
	j.Recover("kilo1")
	j.Check()
	failback(t, c, j, func() { a.Restart(t) })
	j.WriteHere(40, 9)
	j.AwaitReplica("kilo2")
	c.Kill("mitaka1")
	a.Kill(t)
	j.Recover("kilo2")
	j.Check()
	a.Restart(t)
	c.Start("mitaka1") // or it might have taken over what comes next, for all that anybody knows
	j.WriteHere(30, 9)
	j.AwaitReplica("kilo1")
	c.Kill("kilo2")
	j.Recover("kilo1")
	j.Check()
}

// examine has a zone prove that its replica of a volume is what was written: the
// point is listed, a drill serves it, and the replica as it lies in the store is
// read, all with the same root hash.
func examine(t *testing.T, c *zonetest.Cloud, j *zonetest.Journey, to string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	replicas, err := c.Session(to, zonetest.Admin).ReplicasOf(ctx, j.Zone, j.Volume)
	if err != nil || len(replicas) != 1 || len(replicas[0].Points) == 0 ||
		replicas[0].Points[len(replicas[0].Points)-1].Root != j.Root() {
		t.Fatalf("in %s is listed %+v, %v", to, replicas, err)
	}
	s := c.Session(to, zonetest.Alice)
	op, err := s.StartDrill(ctx, client.Drill{Scope: client.RecoveryScope{Zone: j.Zone, Volumes: []string{j.Volume}},
		Probes: []client.DrillProbe{{Kind: "verify"}}, WatchSeconds: 1})
	if err == nil {
		op, err = s.WaitDurable(ctx, op.ID, nil)
	}
	if err != nil {
		t.Fatalf("a drill in %s: %v; %+v", to, err, op)
	}
	r, err := s.DrillReport(ctx, op.ID)
	if err != nil || r.Verdict != "pass" || r.ClonesLeft != 0 || len(r.Volumes) != 1 || r.Volumes[0].Root != j.Root() {
		t.Errorf("a drill in %s: %+v, %v", to, r, err)
	}
	op, err = s.Verify(ctx, client.Verify{Zone: j.Zone, Volume: j.Volume})
	if err == nil {
		op, err = s.WaitDurable(ctx, op.ID, nil)
	}
	if err != nil || op.Status != "succeeded" {
		t.Errorf("the replica in %s is read: %+v, %v", to, op, err)
	}
}

// failback takes a volume home that was recovered when its zone died, after that
// came back: what travels is what was written since, not the volume.
func failback(t *testing.T, c *zonetest.Cloud, j *zonetest.Journey, revive func()) {
	t.Helper()
	const home, written = "mitaka1", 9
	j.WriteHere(20, written)
	revive()
	c.Start(home)
	link := j.AwaitReplica(home)
	if most := int64(2 * written * zonetest.BlockSize); link.WholeReason != "" || link.BytesSent > most {
		t.Errorf("%d bytes went back for %d that were written: %+v", link.BytesSent, most/2, link)
	}
	j.Failover(home)
	j.Check()
}
