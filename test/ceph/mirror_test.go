package ceph_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"kvol/internal/block"
	"kvol/internal/client"
	"kvol/internal/driver"
	"kvol/internal/driver/rbd"
	"kvol/internal/zone"
	"kvol/internal/zone/zonetest"
	"kvol/test/ceph"
)

// mirroredPair opens stores on two clusters of which each mirrors the namespace to
// the other one.
func mirroredPair(t *testing.T, a, b *ceph.Cluster) (spec string, stores map[string]driver.Driver) {
	t.Helper()
	namespace := block.NewID()
	spec = "rbd/" + namespace
	for _, c := range []*ceph.Cluster{a, b} {
		c.Run(t, "rbd", "namespace", "create", spec)
		c.Run(t, "rbd", "mirror", "pool", "enable", "rbd", "image")
		c.Run(t, "rbd", "mirror", "pool", "enable", spec, "image")
	}
	token := filepath.Join(t.TempDir(), "token")
	text := a.Run(t, "rbd", "mirror", "pool", "peer", "bootstrap", "create", "--site-name", "mitaka1", "rbd")
	if err := os.WriteFile(token, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	b.Run(t, "rbd", "mirror", "pool", "peer", "bootstrap", "import", "--site-name", "kilo1", "--direction", "rx-tx", "rbd",
		token)
	b.Mirror(t)
	stores = map[string]driver.Driver{}
	for zone, c := range map[string]*ceph.Cluster{"mitaka1": a, "kilo1": b} {
		d, err := rbd.Open(t.Context(), rbd.Options{Conf: c.Conf(), Namespace: namespace, Several: true})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := d.Close(); err != nil {
				t.Error(err)
			}
		})
		stores[zone] = d
	}
	return spec, stores
}

// may runs rbd on a cluster and tells whether it did what it was asked for.
func may(t *testing.T, c *ceph.Cluster, args ...string) bool {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "rbd", append([]string{"-c", c.Conf()}, args...)...).CombinedOutput()
	t.Logf("rbd %s: %v %s", strings.Join(args, " "), err, out)
	return err == nil
}

// promoted waits until an image can be promoted without force: rbd-mirror has
// seen that the other side was demoted.
func promoted(t *testing.T, c *ceph.Cluster, image string) bool {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	return client.Poll(ctx, time.Second, func() (bool, error) {
		return may(t, c, "mirror", "image", "promote", image), nil
	}) == nil
}

// mirrored has the bytes of points carried by rbd-mirror, and recovers the volume
// when its zone and cluster are lost. Then a person brings the lost side's image
// back by hand, as rbd lets him, though it never had what was written since: zones
// know better by the epoch.
func mirrored(t *testing.T, a, b *ceph.Cluster) {
	spec, stores := mirroredPair(t, a, b)
	c := zonetest.NewOn(t, stores, func(cfg *zone.Config) {
		if conf := map[block.Zone]string{"mitaka1": a.Conf(), "kilo1": b.Conf()}[cfg.Zone]; conf != "" {
			cfg.Stores[0] = zone.StoreConfig{Name: "main", Driver: "rbd", RBD: zone.RBDConfig{Conf: conf}}
		}
		cfg.VolumeTypes[0].ExtraSpecs["replication_enabled"] = "<is> True"
		for i, p := range cfg.Protections {
			if cfg.Zone == "mitaka1" && p.Destination == "kilo1" {
				cfg.Protections[i].Transport, cfg.Protections[i].Interval = string(block.TransportMirror), time.Second
			} else if p.Destination == "kilo2" {
				cfg.Protections[i].Disabled = true // the machine has enough to do
			}
		}
	})
	const blocks = 64
	j := zonetest.NewJourney(t, c, "mitaka1", blocks, 7)
	j.WriteHere(0, blocks)
	j.AwaitReplica("kilo1")
	j.WriteHere(5, 7)
	if l := j.AwaitReplica("kilo1"); l.Transport != string(block.TransportMirror) ||
		l.BytesSent > blocks*zonetest.BlockSize/2 {
		t.Fatalf("rbd-mirror did not carry it: %+v", l)
	}
	examine(t, c, j, "kilo1")
	mirroredGroup(t, c)
	old := *j
	image := spec + "/kvol-" + old.Volume
	mirrorKept(t, a, spec)
	c.Kill("mitaka1")
	a.Kill(t)
	j.Recover("kilo1")
	j.Check()
	j.WriteHere(40, 9) // what the lost side never gets
	a.Restart(t)
	staleSide(t, a, b, image)

	c.Start("mitaka1")
	s := c.Session("mitaka1", zonetest.Alice)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	err := client.Poll(ctx, 50*time.Millisecond, func() (bool, error) {
		stale, err := s.Stale(ctx)
		return slices.ContainsFunc(stale, func(v client.Stale) bool { return v.VolumeID == old.Volume }), err
	})
	if err != nil {
		t.Fatalf("the old zone does not see that its volume lives on in kilo1: %v", err)
	}
	before := newest(t, c, &old)
	refusesStale(t, c, &old)
	j.Check()
	j.Failover("mitaka1") // what stands on a replica goes by the stream
	j.Check()
	if after := newest(t, c, &old); after != before {
		t.Errorf("a stale side sent something: the replica had %+v, and has %+v", before, after)
	}
}

// mirrorKept: the daemon that copies an image is a client of it, and not cut off when
// hosts are.
func mirrorKept(t *testing.T, c *ceph.Cluster, spec string) {
	t.Helper()
	_, namespace, _ := strings.Cut(spec, "/")
	d, err := rbd.Open(t.Context(), rbd.Options{Conf: c.Conf(), Namespace: namespace, Hosts: &rbd.Hosts{}})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	before := c.Run(t, "ceph", "osd", "blocklist", "ls")
	other := block.VolumeID(block.NewID())
	if err := d.CreateVolume(t.Context(), other, zonetest.BlockSize); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Mirror(t.Context(), other); err != nil {
		t.Fatal(err)
	}
	copied := func() (bool, error) {
		return strings.Contains(c.Run(t, "rbd", "status", spec+"/kvol-"+string(other)), "watcher="), nil
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	if err := client.Poll(ctx, 100*time.Millisecond, copied); err != nil {
		t.Fatal(err)
	}
	if who, err := d.Borrowers(t.Context(), other); err != nil || len(who) > 0 {
		t.Errorf("an rbd-mirror borrows nothing: %+v, %v", who, err)
	}
	if err := d.Withhold(t.Context(), other); err != nil {
		t.Fatal(err)
	}
	if after := c.Run(t, "ceph", "osd", "blocklist", "ls"); after != before {
		t.Errorf("who was cut off:\n%s\nbefore:\n%s", after, before)
	}
	if err := d.Unmirror(t.Context(), other); err != nil {
		t.Error(err)
	}
}

// staleSide shows what rbd itself has to say: with both sides demoted, the lost one
// can be promoted without force though it never had what was written to the other.
func staleSide(t *testing.T, a, b *ceph.Cluster, image string) {
	t.Helper()
	if !may(t, b, "mirror", "image", "promote", "--force", image) {
		t.Fatal("rbd promotes no copy by force")
	}
	b.Run(t, "rbd", "bench", "--io-type", "write", "--io-size", "4K", "--io-total", "64K", image)
	if !may(t, b, "mirror", "image", "demote", image) || !may(t, a, "mirror", "image", "demote", image) {
		t.Fatal("rbd demotes no side")
	}
	if !promoted(t, a, image) {
		t.Fatal("rbd knows of epochs now: what docs/ceph.md says of it is not so any more")
	}
}

// refusesStale tries to go on with a volume where it is stale, by the APIs.
func refusesStale(t *testing.T, c *zonetest.Cloud, old *zonetest.Journey) {
	t.Helper()
	conn := c.Open(old.Zone, old.Volume)
	defer conn.Close()
	if _, err := conn.WriteAt(make([]byte, zonetest.BlockSize), 0); err == nil {
		t.Error("a stale side takes writes")
	}
	s := c.Session(old.Zone, zonetest.Alice)
	if f, err := s.Failover(t.Context(), old.Volume, client.FailoverTo{Destination: "kilo1"}); err == nil {
		t.Errorf("a stale side is moved: %+v", f)
	} else {
		t.Log(err)
	}
	for _, f := range findings(t, c, "kilo1") {
		if f.Kind == "orphan-volume" && f.VolumeID == old.Volume {
			t.Errorf("the copy that rbd-mirror keeps is taken for somebody's: %+v", f)
		}
	}
}

// newest is the newest point of a volume's replica in kilo1.
func newest(t *testing.T, c *zonetest.Cloud, j *zonetest.Journey) string {
	t.Helper()
	replicas, err := c.Session("kilo1", zonetest.Admin).ReplicasOf(t.Context(), j.Zone, j.Volume)
	if err != nil || len(replicas) != 1 || len(replicas[0].Points) == 0 {
		t.Fatalf("%+v, %v", replicas, err)
	}
	return replicas[0].Points[len(replicas[0].Points)-1].ID
}

// findings are what a zone's doctor finds now.
func findings(t *testing.T, c *zonetest.Cloud, name string) []client.Finding {
	t.Helper()
	report, err := c.Session(name, zonetest.Admin).Doctor(t.Context(), false)
	if err != nil {
		t.Fatal(err)
	}
	return report.Findings
}
