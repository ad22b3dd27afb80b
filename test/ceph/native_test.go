package ceph_test

import (
	"bytes"
	"flag"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"kvol/internal/block"
	"kvol/internal/client"
	"kvol/internal/driver"
	"kvol/internal/driver/rbd"
	"kvol/internal/zone/zonetest"
	"kvol/test/ceph"
)

var flips = flag.Int("flips", 2, "how many planned failovers TestZones/Native makes")

// lendingStore opens an empty store whose images hosts use themselves: a pool of
// its own.
func lendingStore(t *testing.T, c *ceph.Cluster) driver.Driver {
	t.Helper()
	pool := "pool" + block.NewID()[:8]
	c.Run(t, "ceph", "osd", "pool", "create", pool, "8", "8", "replicated")
	c.Run(t, "rbd", "pool", "init", pool)
	return opened(t, rbd.Options{Conf: c.Conf(), Pool: pool, Hosts: &rbd.Hosts{User: "admin"}})
}

// writer is a host that writes and flushes one block after the other until it
// can't any more.
type writer struct {
	*machine
	blocks int
	done   atomic.Int64 // writes that were flushed; the n-th is of pattern(n) to block n % blocks
	ended  chan struct{}
	last   string // what it was told at the end; to be read when ended is closed
}

func pattern(n int64) byte { return byte(n%250 + 1) }

func (w *writer) run() {
	defer close(w.ended)
	for n := int64(0); ; n++ {
		ok, said := w.writes(int(n)%w.blocks, pattern(n))
		if !ok {
			w.last = said
			return
		}
		w.done.Store(n + 1)
	}
}

// wrote waits until it has written n times.
func (w *writer) wrote(n int64) {
	w.t.Helper()
	for w.done.Load() < n {
		select {
		case <-w.ended:
			w.t.Fatalf("the host can't write: %s", w.last)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// holds wants all that it flushed to be in a volume. The write that was under way
// when it was cut off may be there or not.
func (w *writer) holds(c *zonetest.Cloud, zone, volume string) {
	w.t.Helper()
	conn := c.Open(zone, volume)
	defer conn.Close()
	n := w.done.Load()
	got := make([]byte, zonetest.BlockSize)
	for b := range min(int64(w.blocks), n) {
		if _, err := conn.ReadAt(got, b*zonetest.BlockSize); err != nil {
			w.t.Fatal(err)
		}
		last := n - 1 - (n-1-b)%int64(w.blocks) // the last write to this block
		want := bytes.Repeat([]byte{pattern(last)}, zonetest.BlockSize)
		cut := bytes.Repeat([]byte{pattern(n)}, zonetest.BlockSize)
		if !bytes.Equal(got, want) && (b != n%int64(w.blocks) || !bytes.Equal(got, cut)) {
			w.t.Fatalf("of %d writes that were flushed, %d is lost in %s: block %d is %x...", n, last, zone, b, got[:4])
		}
	}
}

// native takes a volume to and fro between zones whose hosts use the images
// themselves, while one writes: all that it flushed is in the other zone, it is
// cut off with an error, who opens the image anew can't write, and a host of
// the other zone goes on.
func native(t *testing.T, c *zonetest.Cloud, clusters map[string]*ceph.Cluster) {
	const blocks = 16
	j := zonetest.NewJourney(t, c, "mitaka1", 0, 1)
	connector := map[string]any{"host": "h", "ip": "127.0.0.1"}
	connect := func() client.Connection {
		t.Helper()
		info, err := c.Session(j.Zone, zonetest.Alice).Connect(t.Context(), j.Volume, connector)
		if err != nil {
			t.Fatal(err)
		}
		return info
	}
	for range *flips {
		from, left := j.Zone, j.Volume
		to := map[string]string{"mitaka1": "kilo1", "kilo1": "mitaka1"}[from]
		info := connect()
		w := &writer{machine: newMachine(t, clusters[from], info), blocks: blocks, ended: make(chan struct{})}
		go w.run()
		w.wrote(2 * blocks)
		f := moved(t, c.Session(from, zonetest.Alice), left, to)
		<-w.ended
		if !strings.Contains(w.last, "shutdown") { // that the cluster refuses it: ESHUTDOWN
			t.Errorf("a host that was cut off is told %s", w.last)
		}
		if ok, said := w.writes(0, 99); ok {
			t.Errorf("a host that was cut off writes on: %s", said)
		}
		w.holds(c, to, f.NewVolume)
		comesLate(t, clusters[from], info, from)
		j.Zone, j.Volume = to, f.NewVolume
		next := newMachine(t, clusters[to], connect())
		if ok, said := next.writes(blocks+1, 7); !ok {
			t.Fatalf("a host can't go on in %s: %s", to, said)
		}
		next.kill()
		w.holds(c, to, f.NewVolume)
		w.kill()
	}
}

// comesLate has hosts open what was left behind of a volume, until one that writes
// to it is not told that it did. Who comes in the moment in which kvol names one
// of its own may be, and is cut off then.
func comesLate(t *testing.T, k *ceph.Cluster, info client.Connection, zone string) {
	t.Helper()
	for ctx, told := t.Context(), true; told; {
		if ctx.Err() != nil {
			t.Fatalf("what was left behind in %s is written to again and again", zone)
		}
		late, answered := newMachine(t, k, info), make(chan bool, 1)
		go func() {
			ok, _ := late.writes(0, 99)
			answered <- ok
		}()
		select {
		case told = <-answered: // told no, if it was cut off
		case <-time.After(5 * time.Second): // it waits for a lock that it does not get
			late.kill()
			told = <-answered
		}
		late.kill()
	}
}

// moved moves a volume to another zone as soon as that has a whole copy of it.
func moved(t *testing.T, s *client.Session, volume, to string) client.Failover {
	t.Helper()
	j, ctx := volume, t.Context()
	var f client.Failover
	err := client.Poll(ctx, 50*time.Millisecond, func() (bool, error) {
		var err error
		f, err = s.Failover(ctx, j, client.FailoverTo{Destination: to})
		if client.IsStatus(err, http.StatusServiceUnavailable) || client.IsStatus(err, http.StatusConflict) {
			return false, nil // it has no whole copy yet, or does not answer in time
		}
		return true, err
	})
	if err == nil {
		f, err = s.WaitFailover(ctx, f.ID, nil)
	}
	if err != nil {
		t.Fatalf("move volume %s to %s: %v; %+v", volume, to, err, f)
	}
	return f
}
