package ceph_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"kvol/internal/client"
	"kvol/internal/client/nbd"
	"kvol/internal/zone/zonetest"
	"kvol/test/ceph"
)

// faults lets daemons of either cluster, and a zone, die and hang while a volume
// is replicated from one cluster to the other: requests to it end, the link says
// what is wrong, the zone whose store is another goes on, and when the daemon is
// back, all that was flushed is there, and what is written next arrives.
func faults(t *testing.T, c *zonetest.Cloud, a, b *ceph.Cluster) {
	const blocks = 16
	j := zonetest.NewJourney(t, c, "mitaka1", blocks, 2)
	j.WriteHere(0, blocks)
	j.AwaitReplica("kilo1")
	for n, f := range []struct {
		what  string
		begin func()
		end   func()
	}{
		{"the source's OSD is killed", func() { a.KillOne(t, "osd") }, func() { a.Restart(t) }},
		{"the backup's OSD hangs", func() { b.PauseOne(t, "osd") }, func() { b.Resume(t) }},
		{"the source's monitor hangs", func() { a.PauseOne(t, "mon") }, func() { a.Resume(t) }},
		{"the backup's monitor is killed", func() { b.KillOne(t, "mon") }, func() { b.Restart(t) }},
	} {
		conn := c.Open(j.Zone, j.Volume)
		f.begin()
		attempt(t, conn, j, n)
		if n < 2 { // without a monitor, who is connected goes on
			toldOf(t, c, j, f.what)
		}
		other := zonetest.NewJourney(t, c, "kilo2", 1, uint64(n)) // the zone whose store is another
		other.WriteHere(0, 1)
		f.end()
		rewrite(t, c, j, n)
		j.AwaitReplica("kilo1")
		j.Check()
	}
	for _, name := range []string{"mitaka1", "kilo1"} {
		conn := c.Open(j.Zone, j.Volume)
		j.Write(conn, 4, 2)
		c.Kill(name) // while that is on its way
		_ = conn.Close()
		c.Start(name)
		j.Check()
		j.AwaitReplica("kilo1")
	}
	j.Failover("kilo1")
	j.Check()
}

// attempt writes to a volume through a connection: it ends, well or not.
func attempt(t *testing.T, conn *nbd.Conn, j *zonetest.Journey, block int) {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		_, err := conn.WriteAt(j.Block(block), int64(block)*zonetest.BlockSize) // what is there already
		_ = conn.Close()                                                        // it may be broken
		done <- err
	}()
	select {
	case <-done:
	case <-time.After(patience):
		t.Fatal("a write to an ill cluster does not end")
	}
}

// toldOf waits until the volume's link says why it does not go on.
func toldOf(t *testing.T, c *zonetest.Cloud, j *zonetest.Journey, what string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	s, said := c.Session(j.Zone, zonetest.Admin), ""
	err := client.Poll(ctx, 20*time.Millisecond, func() (bool, error) {
		links, err := s.Links(ctx)
		for _, l := range links {
			if l.VolumeID == j.Volume && l.Destination == "kilo1" {
				said = l.LastError
			}
		}
		return strings.Contains(said, "storage cluster"), err
	})
	if err != nil {
		t.Fatalf("%s, and the link says %q: %v", what, said, err)
	}
}

// nbdHost is the connector of a host that takes exports.
var nbdHost = map[string]any{"host": "journey", "protocol": "nbd"}

// rewrite writes a block anew, as soon as the volume takes it.
func rewrite(t *testing.T, c *zonetest.Cloud, j *zonetest.Journey, block int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	err := client.Poll(ctx, 100*time.Millisecond, func() (bool, error) {
		info, err := c.Session(j.Zone, zonetest.Alice).Connect(ctx, j.Volume, nbdHost)
		if err != nil {
			return false, nil
		}
		conn, err := nbd.Dial(ctx, info.NBDURL(), nbd.Options{})
		if err != nil {
			return false, nil
		}
		defer conn.Close()
		_, err = conn.WriteAt(j.Block(block), int64(block)*zonetest.BlockSize)
		return err == nil, nil
	})
	if err != nil {
		t.Fatalf("the volume takes no writes any more: %v", err)
	}
	j.WriteHere(block, 1)
}
