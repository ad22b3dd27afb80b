package ceph_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"kvol/internal/block"
	"kvol/internal/client"
	"kvol/internal/driver"
	"kvol/internal/driver/rbd"
	"kvol/internal/zone"
	"kvol/internal/zone/zonetest"
	"kvol/test/ceph"
	"kvol/test/port"
)

const (
	benchSize   = int64(block.GiB)
	benchRounds = 5
)

// TestBench prints what replication from cluster to cluster costs against
// Ceph's own tools, and how long a recovery takes against the promotion of a
// mirrored image, in the same run.
func TestBench(t *testing.T) {
	if os.Getenv("KVOL_BENCH_CEPH") == "" {
		t.Skip("make bench-ceph sets KVOL_BENCH_CEPH")
	}
	a, b := ceph.StartTwo(t)
	stores := map[string]driver.Driver{"mitaka1": store(t, a, rbd.Options{}), "kilo1": store(t, b, rbd.Options{})}
	c := zonetest.NewOn(t, stores, unlinked(t), func(cfg *zone.Config) {
		for i, p := range cfg.Protections {
			cfg.Protections[i].Disabled = cfg.Zone != "mitaka1" || p.Destination != "kilo1"
			cfg.Protections[i].Interval = time.Hour // points are cut when a snapshot is made
		}
	})
	p := newPeer(t, a, b)
	o := newOurs(t, c)
	for _, piece := range []int64{64 << 10, 4 << 10} {
		var times, sizes []float64
		for round := range benchRounds {
			seed := uint64(round) + uint64(piece)
			change(t, o.open, piece, seed)
			change(t, p.open, piece, seed)
			var theirTime time.Duration
			var theirBytes int64
			theirs := func() {
				calm(t)
				theirTime, theirBytes = p.send()
			}
			if round%2 == 0 {
				theirs()
			}
			calm(t)
			before := processorTime(t)
			ourTime, ourBytes := o.send()
			own := processorTime(t) - before
			if round%2 == 1 {
				theirs()
			}
			times = append(times, ourTime.Seconds()/theirTime.Seconds())
			sizes = append(sizes, float64(ourBytes)/float64(theirBytes))
			t.Logf("1 GiB of which 10 %% changed in pieces of %d KiB: %s and %d MiB, export-diff | import-diff %s and %d MiB; "+
				"both zones took %s of a processor, without the programs that they start", piece>>10,
				ourTime.Round(time.Millisecond), ourBytes>>20, theirTime.Round(time.Millisecond), theirBytes>>20,
				own.Round(time.Millisecond))
		}
		slices.Sort(times)
		slices.Sort(sizes)
		t.Logf("RATIO replication, pieces of %d KiB: time %.2f, bytes %.2f of export-diff | import-diff (aim 0.5, at most 1)",
			piece>>10, times[benchRounds/2], sizes[benchRounds/2])
	}
	p.mirror()
	c.Kill("mitaka1")
	a.Kill(t)
	theirs := p.promote()
	began := time.Now()
	o.j.Recover("kilo1")
	conn := c.Open("kilo1", o.j.Volume)
	if _, err := conn.WriteAt([]byte("x"), 0); err != nil {
		t.Fatal(err)
	}
	ours := time.Since(began)
	conn.Close()
	t.Logf("RATIO recovery until the first write: %s, a forced promotion by rbd-mirror %s: %.2f (aim 0.5, at most 1)",
		ours.Round(time.Millisecond), theirs.Round(time.Millisecond), ours.Seconds()/theirs.Seconds())
}

// unlinked has the zones reach each other without the tests' network between them,
// which can be cut, and costs what a network doesn't.
func unlinked(t *testing.T) func(*zone.Config) {
	addresses := map[block.Zone]string{}
	for _, name := range zonetest.Names {
		addresses[block.Zone(name)] = port.Address(t)
	}
	return func(cfg *zone.Config) {
		cfg.Peer.Listen = addresses[cfg.Zone]
		for i, other := range cfg.Peers {
			cfg.Peers[i].URL = "https://" + addresses[other.Zone]
		}
	}
}

// processorTime is what this process, which both zones are in, has taken.
func processorTime(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// calm waits until the machine has little to do, so that neither side meets what the
// clusters have to do after what was before.
func calm(t *testing.T) {
	t.Helper()
	for range 60 {
		all, idle := ticks(t)
		time.Sleep(500 * time.Millisecond) // which is what is measured
		if more, rest := ticks(t); (rest-idle)*10 >= (more-all)*9 {
			return
		}
	}
	t.Log("the machine has something to do all the time")
}

// ticks are those of all processors so far, and those of them without work (proc(5),
// /proc/stat: user, nice, system, idle, iowait, irq, softirq, steal).
func ticks(t *testing.T) (all, idle int64) {
	t.Helper()
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		t.Fatal(err)
	}
	first, _, _ := strings.Cut(string(text), "\n")
	for i, field := range strings.Fields(first)[1:9] {
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		if all += n; i == 3 || i == 4 {
			idle += n
		}
	}
	return all, idle
}

// change writes a tenth of a volume, in pieces at random places.
func change(t *testing.T, open func() writeCloser, piece int64, seed uint64) {
	t.Helper()
	w := open()
	rnd := rand.New(rand.NewPCG(seed, 5))
	p := make([]byte, piece)
	for range benchSize / 10 / piece {
		scribble(p, rnd)
		if _, err := w.WriteAt(p, rnd.Int64N(benchSize/piece)*piece); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}

// fill writes all of a volume.
func fill(t *testing.T, open func() writeCloser) {
	t.Helper()
	w := open()
	rnd := rand.New(rand.NewPCG(1, 5))
	p := make([]byte, 1<<20)
	for off := int64(0); off < benchSize; off += int64(len(p)) {
		scribble(p, rnd)
		if _, err := w.WriteAt(p, off); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}

func scribble(p []byte, rnd *rand.Rand) {
	for i := 0; i+8 <= len(p); i += 8 {
		n := rnd.Uint64()
		for k := range 8 {
			p[i+k] = byte(n >> (8 * k))
		}
	}
}

type writeCloser interface {
	io.WriterAt
	io.Closer
}

// ours is a volume that kvol replicates.
type ours struct {
	t     *testing.T
	c     *zonetest.Cloud
	j     *zonetest.Journey
	admin *client.Session // to log in costs a processor for a while, and is not what is measured
	alice *client.Session
}

func newOurs(t *testing.T, c *zonetest.Cloud) *ours {
	t.Helper()
	o := &ours{t, c, zonetest.NewJourney(t, c, "mitaka1", 0, 1), c.Session("mitaka1", zonetest.Admin),
		c.Session("mitaka1", zonetest.Alice)}
	fill(t, o.open)
	o.send()
	return o
}

func (o *ours) open() writeCloser { return o.c.Open("mitaka1", o.j.Volume) }

// link is the volume's way to the other zone.
func (o *ours) link(ctx context.Context) (l client.Link, err error) {
	links, err := o.admin.Links(ctx)
	for _, l := range links {
		if l.VolumeID == o.j.Volume {
			return l, err
		}
	}
	return l, err
}

// send has a moment of the volume named, and waits until the other zone has it.
func (o *ours) send() (took time.Duration, sent int64) {
	o.t.Helper()
	ctx := o.t.Context()
	before, err := o.link(ctx)
	if err != nil {
		o.t.Fatal(err)
	}
	began := time.Now()
	if _, err := o.alice.CreateSnapshot(ctx, client.NewSnapshot{VolumeID: o.j.Volume, Name: "s"}); err != nil {
		o.t.Fatal(err)
	}
	err = client.Poll(ctx, 20*time.Millisecond, func() (bool, error) {
		l, err := o.link(ctx)
		sent = l.BytesSent - before.BytesSent
		return l.Confirmed != nil && (before.Confirmed == nil || l.Confirmed.Root != before.Confirmed.Root), err
	})
	if err != nil {
		o.t.Fatal(err)
	}
	return time.Since(began), sent
}

// peer is an image that Ceph's own tools replicate.
type peer struct {
	t     *testing.T
	a, b  *ceph.Cluster
	d     driver.Driver
	id    block.VolumeID
	image string // with its pool
	last  string // the snapshot that both clusters have
}

func newPeer(t *testing.T, a, b *ceph.Cluster) *peer {
	t.Helper()
	p := &peer{t: t, a: a, b: b, id: block.VolumeID(block.NewID())}
	pool := "peer"
	for _, k := range []*ceph.Cluster{a, b} {
		k.Run(t, "ceph", "osd", "pool", "create", pool, "8", "8", "replicated")
		k.Run(t, "rbd", "pool", "init", pool)
	}
	p.d = opened(t, rbd.Options{Conf: a.Conf(), Pool: pool})
	if err := p.d.CreateVolume(t.Context(), p.id, benchSize); err != nil {
		t.Fatal(err)
	}
	p.image = pool + "/kvol-" + string(p.id)
	fill(t, p.open)
	b.Run(t, "rbd", "create", "--size", "1G", p.image)
	p.send()
	return p
}

func (p *peer) open() writeCloser {
	dev, err := p.d.OpenVolume(p.t.Context(), p.id)
	if err != nil {
		p.t.Fatal(err)
	}
	return dev
}

// send names a moment and sends what is new.
func (p *peer) send() (took time.Duration, sent int64) {
	p.t.Helper()
	began, name := time.Now(), "s"+block.NewID()[:8]
	p.a.Run(p.t, "rbd", "snap", "create", "--no-progress", p.image+"@"+name)
	args := []string{"-c", p.a.Conf(), "export-diff", "--no-progress"}
	if p.last != "" {
		args = append(args, "--from-snap", p.last)
	}
	from := exec.CommandContext(p.t.Context(), "rbd", append(args, p.image+"@"+name, "-")...)
	to := exec.CommandContext(p.t.Context(), "rbd", "-c", p.b.Conf(), "import-diff", "--no-progress", "-", p.image)
	out, err := from.StdoutPipe()
	if err != nil {
		p.t.Fatal(err)
	}
	in, err := to.StdinPipe()
	if err != nil {
		p.t.Fatal(err)
	}
	if err := from.Start(); err != nil {
		p.t.Fatal(err)
	}
	if err := to.Start(); err != nil {
		p.t.Fatal(err)
	}
	if sent, err = io.Copy(in, out); err != nil {
		p.t.Fatal(err)
	}
	in.Close()
	for _, cmd := range []*exec.Cmd{from, to} {
		if err := cmd.Wait(); err != nil {
			p.t.Fatal(err)
		}
	}
	p.last = name
	return time.Since(began), sent
}

// mirror has rbd-mirror mirror an image like ours, and waits until it has it.
func (p *peer) mirror() {
	p.t.Helper()
	t := p.t
	for _, k := range []*ceph.Cluster{p.a, p.b} {
		k.Run(t, "rbd", "mirror", "pool", "enable", "peer", "image")
	}
	token := filepath.Join(t.TempDir(), "token")
	text := p.a.Run(t, "rbd", "mirror", "pool", "peer", "bootstrap", "create", "--site-name", "a", "peer")
	if err := os.WriteFile(token, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	p.b.Run(t, "rbd", "mirror", "pool", "peer", "bootstrap", "import", "--site-name", "b", "--direction", "rx-only",
		"peer", token)
	p.b.Mirror(t)
	p.a.Run(t, "rbd", "create", "--size", "1G", "peer/mirrored")
	p.a.Run(t, "rbd", "bench", "--io-type", "write", "--io-size", "1M", "--io-total", "64M", "peer/mirrored")
	p.a.Run(t, "rbd", "mirror", "image", "enable", "peer/mirrored", "snapshot")
	p.a.Run(t, "rbd", "mirror", "image", "snapshot", "peer/mirrored")
	err := client.Poll(t.Context(), 100*time.Millisecond, func() (bool, error) {
		cmd := exec.CommandContext(t.Context(), "rbd", "-c", p.b.Conf(), "snap", "ls", "--all", "--format", "json",
			"peer/mirrored")
		out, err := cmd.Output()
		if err != nil {
			return false, nil // it is not there yet
		}
		var snaps []struct {
			Namespace struct {
				Complete bool `json:"complete"`
			} `json:"namespace"`
		}
		if err := json.Unmarshal(out, &snaps); err != nil {
			return false, err
		}
		return len(snaps) > 0 && snaps[len(snaps)-1].Namespace.Complete, nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// promote makes the mirrored image the primary one by force, and writes to it.
func (p *peer) promote() time.Duration {
	p.t.Helper()
	began := time.Now()
	p.b.Run(p.t, "rbd", "mirror", "image", "promote", "--force", "peer/mirrored")
	cmd := exec.CommandContext(p.t.Context(), "qemu-io", "-f", "raw", "-c", "write 0 512", "-c", "flush",
		"rbd:peer/mirrored:conf="+p.b.Conf())
	if out, err := cmd.CombinedOutput(); err != nil || !bytes.Contains(out, []byte("wrote")) ||
		strings.Contains(string(out), "failed") {
		p.t.Fatalf("the promoted image takes no write: %v\n%s", err, out)
	}
	return time.Since(began)
}
