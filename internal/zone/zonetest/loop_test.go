package zonetest_test

import (
	"context"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"testing"
	"time"

	"kvol/internal/block"
	"kvol/internal/client"
	"kvol/internal/client/nbd"
	"kvol/internal/replication"
	"kvol/internal/zone/zonetest"
)

var (
	seeds = flag.Int("seeds", 6, "how many seeds TestLoop plays")
	first = flag.Uint64("seed", 1, "the first seed of TestLoop")
)

// TestLoop plays the life of a volume in three zones with faults drawn from a
// seed: links that are cut, zones that are killed while it is written to and
// replicated, at last the loss of its zone, recovery elsewhere, and the return
// of the lost zone. The invariants: nothing acknowledged is lost in its own
// zone; what is recovered is a prefix of the writes with the root hash that was
// reported; the returned zone doesn't serve the volume for writing; nothing is
// left in a passing status.
func TestLoop(t *testing.T) {
	for seed := *first; seed < *first+uint64(*seeds); seed++ {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			t.Parallel()
			play(t, seed)
		})
	}
}

// loop is one run.
type loop struct {
	t      *testing.T
	c      *zonetest.Cloud
	rnd    *rand.Rand
	w      *zonetest.Writer
	volume string
	lost   map[int]bool // writes of which nobody knows whether they happened
	points []string     // snapshots that were taken
}

const (
	source = "mitaka1"
	blocks = 256 // that are written to, from the volume's beginning
)

func play(t *testing.T, seed uint64) {
	l := &loop{t: t, c: zonetest.New(t), rnd: rand.New(rand.NewPCG(seed, 5)), w: zonetest.NewWriter(seed, blocks),
		lost: map[int]bool{}}
	s := l.c.Session(source, zonetest.Alice)
	v, err := s.CreateVolume(t.Context(), client.NewVolume{Name: "loop", Size: 1})
	if err != nil {
		t.Fatal(err)
	}
	l.volume = v.ID
	if _, err := s.WaitVolume(t.Context(), v.ID, nil, "available"); err != nil {
		t.Fatal(err)
	}
	for range 6 {
		l.act()
	}
	for _, other := range []string{"kilo1", "kilo2"} {
		l.c.Mend(source, other)
		if !l.c.Running(other) {
			l.c.Start(other)
		}
	}
	l.c.Mend("kilo1", "kilo2")
	l.write(40)
	l.checkOwnZone()
	to := []string{"kilo1", "kilo2"}[l.rnd.IntN(2)]
	l.awaitPoint(to)
	l.write(l.rnd.IntN(60))
	l.c.Kill(source)
	l.recover(to)
	l.c.Start(source)
	l.checkStale()
	l.checkSettled()
}

// act does one thing, most of them bad.
func (l *loop) act() {
	other := []string{"kilo1", "kilo2"}[l.rnd.IntN(2)]
	switch l.rnd.IntN(6) {
	case 0:
		l.c.Cut(source, other)
	case 1:
		l.c.Mend(source, other)
	case 2:
		if l.c.Running(other) {
			l.c.Kill(other)
		} else {
			l.c.Start(other)
		}
	case 3: // killed in the middle of writing
		killed := make(chan struct{})
		go func() {
			defer close(killed)
			goal := l.w.Acknowledged() + 10 + l.rnd.IntN(30)
			_ = client.Poll(l.t.Context(), time.Millisecond, func() (bool, error) { return l.w.Acknowledged() >= goal, nil })
			l.c.Kill(source)
		}()
		l.write(1 << 20)
		<-killed
		l.c.Start(source)
		l.checkOwnZone()
		return
	case 4:
		l.snapshot()
	}
	l.write(20 + l.rnd.IntN(60))
}

// open attaches nothing: it asks for a connection and dials it.
func (l *loop) open(zoneName, volume string) *nbd.Conn {
	l.t.Helper()
	s := l.c.Session(zoneName, zonetest.Alice)
	info, err := s.Connect(l.t.Context(), volume, map[string]any{"host": "loop"})
	if err != nil {
		l.t.Fatal(err)
	}
	var conn *nbd.Conn
	err = client.Poll(l.t.Context(), 10*time.Millisecond, func() (bool, error) {
		// Until a backup zone has said that it did not recover the volume, its
		// export waits.
		conn, err = nbd.Dial(l.t.Context(), info.NBDURL(), nbd.Options{})
		return err == nil, nil
	})
	if err != nil {
		l.t.Fatalf("open volume %s in %s: %v", volume, zoneName, err)
	}
	return conn
}

// write writes n blocks in the source zone. A connection that breaks under it
// is what the kill is for.
func (l *loop) write(n int) {
	l.t.Helper()
	l.anyBackup()
	c := l.open(source, l.volume)
	defer c.Close()
	if err := l.w.Write(l.t.Context(), c, n); err != nil {
		l.lost = l.w.Unacknowledged(l.lost)
		if errors.Is(err, context.Canceled) {
			l.t.Fatal(err)
		}
	}
}

// anyBackup makes sure that one backup zone can be asked, without which a
// restarted source rightly keeps the export closed.
func (l *loop) anyBackup() {
	if l.c.Running("kilo1") || l.c.Running("kilo2") {
		if !l.c.Running("kilo1") {
			l.c.Mend(source, "kilo2")
		}
		if !l.c.Running("kilo2") {
			l.c.Mend(source, "kilo1")
		}
		return
	}
	l.c.Start("kilo1")
	l.c.Mend(source, "kilo1")
}

func (l *loop) snapshot() {
	s := l.c.Session(source, zonetest.Alice)
	snap, err := s.CreateSnapshot(l.t.Context(), client.NewSnapshot{VolumeID: l.volume, Force: true})
	if err != nil {
		l.t.Fatal(err)
	}
	if _, err := s.WaitSnapshot(l.t.Context(), snap.ID, "available"); err != nil {
		l.t.Fatal(err)
	}
	l.points = append(l.points, snap.ID)
}

// read reads the first bytes of a volume: at most all of it.
func (l *loop) read(zoneName, volume string, bytes int64) (content []byte, readOnly bool) {
	l.t.Helper()
	c := l.open(zoneName, volume)
	defer c.Close()
	content = make([]byte, min(bytes, c.Size()))
	const piece = 16 << 20
	for off := 0; off < len(content); off += piece {
		if _, err := c.ReadAt(content[off:min(off+piece, len(content))], int64(off)); err != nil {
			l.t.Fatal(err)
		}
	}
	return content, c.ReadOnly()
}

// checkOwnZone: whatever was killed, the volume's own zone has every
// acknowledged write.
func (l *loop) checkOwnZone() {
	l.t.Helper()
	l.anyBackup()
	content, _ := l.read(source, l.volume, blocks*zonetest.BlockSize)
	kept, err := l.w.Prefix(content, l.lost)
	if err != nil || kept < l.w.Acknowledged() {
		l.t.Fatalf("%s has %d of %d acknowledged writes: %v", source, kept, l.w.Acknowledged(), err)
	}
}

// awaitPoint waits until a zone has a replica of the volume with everything
// that was acknowledged before the call, and every snapshot as a point.
func (l *loop) awaitPoint(zoneName string) {
	l.t.Helper()
	now := time.Now()
	s := l.c.Session(zoneName, zonetest.Admin)
	var last []client.Replica
	ctx, cancel := context.WithTimeout(l.t.Context(), 5*time.Minute)
	defer cancel()
	err := client.Poll(ctx, 10*time.Millisecond, func() (bool, error) {
		replicas, err := s.ReplicasOf(ctx, source, l.volume)
		if client.IsStatus(err, http.StatusNotFound) {
			return false, nil
		}
		last = replicas
		for _, r := range replicas {
			if r.ReplicatedUpTo.After(now) && l.hasAll(r.Points) {
				return true, nil
			}
		}
		return false, err
	})
	if err != nil {
		links, linkErr := l.c.Session(source, zonetest.Admin).Links(l.t.Context())
		l.t.Fatalf("no whole replica in %s: %v; %+v; the source says %+v, %v", zoneName, err, last, links, linkErr)
	}
}

func (l *loop) hasAll(points []client.Point) bool {
	for _, id := range l.points {
		if !slices.ContainsFunc(points, func(p client.Point) bool { return p.ID == id }) {
			return false
		}
	}
	return true
}

// recover recovers the volume and compares it with the writes and with the
// point that was reported.
func (l *loop) recover(to string) {
	l.t.Helper()
	asked := []string{"kilo1", "kilo2"}[l.rnd.IntN(2)] // any zone answers for all
	k := l.c.Kvol(asked)
	rowkey, err := k.Recovery(l.t.Context(), client.Elsewhere{SrcZone: source, SrcType: zonetest.TypeID(source),
		Volume: l.volume, DstZone: to, DstProject: l.c.Projects[zonetest.Alice], DstType: zonetest.TypeID(to)})
	if err != nil {
		l.t.Fatal(err)
	}
	job, err := k.Wait(l.t.Context(), "recovery", rowkey, nil)
	if err != nil {
		l.t.Fatal(err)
	}
	op, err := l.c.Session(to, zonetest.Admin).Operation(l.t.Context(), "recovery", rowkey)
	if err != nil {
		l.t.Fatal(err)
	}
	content, readOnly := l.read(to, *job.NewVolumeID, block.GiB)
	if readOnly {
		l.t.Error("the recovered volume is read-only")
	}
	kept, err := l.w.Prefix(content, l.lost)
	if err != nil {
		l.t.Fatalf("what was recovered is no prefix of the writes: %v", err)
	}
	var sum replication.Sum
	sum.Add(0, content)
	root := sum.Root(int64(len(content)))
	if got := hex.EncodeToString(root[:]); op.Point == nil || got != op.Point.Root {
		l.t.Fatalf("recovered bytes have root %s, reported was %+v", got, op.Point)
	}
	l.t.Logf("recovered the first %d of %d acknowledged writes", kept, l.w.Acknowledged())
}

// checkStale: the returned zone knows that its volume lives elsewhere, keeps
// it for reading, and takes no write.
func (l *loop) checkStale() {
	l.t.Helper()
	s := l.c.Session(source, zonetest.Alice)
	var status string
	err := client.Poll(l.t.Context(), 10*time.Millisecond, func() (bool, error) {
		v, err := s.Volume(l.t.Context(), l.volume)
		if err == nil && v.ReplicationStatus != nil {
			status = *v.ReplicationStatus
		}
		return status == block.FailedOver, err
	})
	if err != nil {
		l.t.Fatalf("the returned zone says replication status %q: %v", status, err)
	}
	c := l.open(source, l.volume)
	defer c.Close()
	if _, err := c.WriteAt(make([]byte, zonetest.BlockSize), 0); err == nil || !c.ReadOnly() {
		l.t.Fatalf("the stale primary takes writes (read-only %v, %v)", c.ReadOnly(), err)
	}
	l.checkOwnZone()
}

// checkSettled: nothing is left in a passing status anywhere.
func (l *loop) checkSettled() {
	l.t.Helper()
	for _, name := range zonetest.Names {
		s := l.c.Session(name, zonetest.Admin)
		volumes, err := s.Volumes(l.t.Context(), true)
		if err != nil {
			l.t.Fatal(err)
		}
		for _, v := range volumes {
			if block.VolumeStatus(v.Status).Passing() {
				l.t.Errorf("volume %s in %s is still %s", v.ID, name, v.Status)
			}
		}
	}
}
