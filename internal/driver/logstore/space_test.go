package logstore

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"kvol/internal/block"
	"kvol/internal/driver"
	"kvol/internal/vfs"
)

// smallStore is a store of so many tiny segments in memory.
func smallStore(t testing.TB, segments int64, o Options) (*Store, *vfs.Mem) {
	mem := vfs.NewMem(1<<30, nil)
	o.FS, o.Dir, o.SegmentSize, o.MaxBytes = mem, "s", crashSegment, segments*crashSegment
	if o.CacheBytes == 0 {
		o.CacheBytes = 4 << 20
	}
	return openTest(t, o), mem
}

func openVolume(t testing.TB, s *Store, id block.VolumeID, blocks int64) driver.Device {
	ctx := context.Background()
	must(t, s.CreateVolume(ctx, id, blocks*blockSize))
	d, err := s.OpenVolume(ctx, id)
	must(t, err)
	return d
}

const perSegment = (crashSegment - segmentHeader) / (headerSize + 4 + blockSize) // records of one block

// TestEmptiedStoreIsAsSmallAsNew fills a store, deletes everything, and finds
// the segments of a new one and hardly an index.
func TestEmptiedStoreIsAsSmallAsNew(t *testing.T) {
	ctx := context.Background()
	s, _ := smallStore(t, 400, Options{})
	must(t, s.pool.wait(readyTarget))
	fresh := s.Status()
	for round := range 2 {
		a, b := block.VolumeID(fmt.Sprint("a", round)), block.VolumeID(fmt.Sprint("b", round))
		d := openVolume(t, s, a, 100*perSegment)
		p := randomBytes(rand.New(rand.NewPCG(1, 1)), blockSize)
		for i := range int64(100 * perSegment) {
			_, err := d.WriteAt(p, i*blockSize)
			must(t, err)
			if i == 40*perSegment {
				must(t, s.CreateSnapshot(ctx, driver.SnapshotRef{Volume: a, Name: "s"}))
				must(t, s.CloneSnapshot(ctx, b, driver.SnapshotRef{Volume: a, Name: "s"}, 100*perSegment*blockSize))
			}
		}
		if full := s.Status(); full.Segments < 90 {
			t.Fatalf("only %d segments were filled", full.Segments)
		}
		must(t, d.Close())
		must(t, s.DeleteVolume(ctx, a))
		must(t, s.DeleteVolume(ctx, b))
		must(t, s.sweepAll(ctx))
		must(t, s.reclaimWhenDue(ctx))
		must(t, s.pool.wait(readyTarget))
		// The segment in which the log ends is there in both.
		if st := s.Status(); st.Segments > fresh.Segments+1 || st.LiveBytes != 0 || st.GarbageBytes != 0 {
			t.Errorf("round %d: %d segments, %d bytes live, %d garbage; a new store has %d segments", round, st.Segments,
				st.LiveBytes, st.GarbageBytes, fresh.Segments)
		}
	}
}

// TestRefusesOnlyWhenLiveDataLeavesNoRoom fills a store with live data until it
// refuses, and finds no more kept back than the reserve; overwrites are refused
// then, trimming works, and writing goes on when it made room.
func TestRefusesOnlyWhenLiveDataLeavesNoRoom(t *testing.T) {
	const segments = 64
	s, _ := smallStore(t, segments, Options{})
	d := openVolume(t, s, "v", segments*perSegment)
	defer d.Close()
	p := randomBytes(rand.New(rand.NewPCG(1, 1)), blockSize)
	n, err := int64(0), error(nil)
	for ; err == nil; n++ {
		_, err = d.WriteAt(p, n*blockSize)
	}
	kept := segments - n/perSegment
	if !block.Is(err, block.NoSpace) || kept > int64(forWriting)+1 {
		t.Errorf("after %d blocks, %d segments short of all: %v", n, kept, err)
	}
	if _, err := d.WriteAt(p, 0); !block.Is(err, block.NoSpace) {
		t.Errorf("overwriting in a full store: %v", err)
	}
	must(t, d.Zero(0, 16*perSegment*blockSize))
	s.tidyUp()
	for i := range int64(8 * perSegment) {
		if _, err := d.WriteAt(p, i*blockSize); err != nil {
			t.Fatalf("write %d after trimming twice as much: %v", i, err)
		}
	}
}

// TestOverwritesOfAlmostFullStore writes three times a store's size at random
// over a volume that takes 85 % of it: nothing may be refused, since there is
// always something to get back.
func TestOverwritesOfAlmostFullStore(t *testing.T) {
	if testing.Short() {
		t.Skip("TestOverwritingForEver is shorter")
	}
	const segments = 128
	s, _ := smallStore(t, segments, Options{})
	const blocks = segments * perSegment * 85 / 100
	d := openVolume(t, s, "v", blocks)
	defer d.Close()
	rng := rand.New(rand.NewPCG(4, 4))
	last := make([]byte, blocks)
	p := make([]byte, blockSize)
	for i := range 4 * blocks {
		b := i
		if i >= blocks {
			b = rng.IntN(blocks)
		}
		last[b]++
		le.PutUint64(p, uint64(b)<<8|uint64(last[b]))
		if _, err := d.WriteAt(p, int64(b)*blockSize); err != nil {
			t.Fatalf("write %d of %d: %v; %+v", i, 4*blocks, err, s.Status())
		}
	}
	for b := range blocks {
		_, err := d.ReadAt(p, int64(b)*blockSize)
		must(t, err)
		if le.Uint64(p) != uint64(b)<<8|uint64(last[b]) {
			t.Fatalf("block %d is wrong", b)
		}
	}
}

// TestWritersTakeTheRoundsRoom: a round that chose its segments while there was
// room for all goes on when writers took it. It frees some of them, and never
// runs out of room with all of them emptied in part.
func TestWritersTakeTheRoundsRoom(t *testing.T) {
	const segments = 64
	s, _ := smallStore(t, segments, Options{})
	const blocks = segments * perSegment * 85 / 100
	d := openVolume(t, s, "v", blocks)
	defer d.Close()
	p := make([]byte, blockSize)
	p[0] = 1
	s.reclaiming.Lock() // nobody else moves anything
	defer s.reclaiming.Unlock()
	for i := range int64(blocks) {
		_, err := d.WriteAt(p, (i*37)%blocks*blockSize)
		must(t, err)
	}
	rng := rand.New(rand.NewPCG(4, 4))
	for s.pool.count() >= int(forWriting) || s.pool.freeCount() > 0 || s.pool.roomToGrow() == nil {
		_, err := d.WriteAt(p, rng.Int64N(blocks)*blockSize)
		must(t, err)
	}
	var all []uint32
	s.mu.Lock()
	for id, u := range s.usage {
		if u.guess < u.data {
			all = append(all, id)
		}
	}
	s.mu.Unlock()
	empty, err := s.evacuate(t.Context(), all, 1<<20, false)
	if err != nil || len(empty) == 0 || len(empty) == len(all) {
		t.Fatalf("%d of %d segments became free; %v", len(empty), len(all), err)
	}
	must(t, s.setFree(empty))
	if err := s.pool.wait(forWriting); err != nil {
		t.Errorf("after the round: %v", err)
	}
}

// TestPaceFollowsTheRound: what writers may take grows with what the round did,
// and with the time of its last part.
func TestPaceFollowsTheRound(t *testing.T) {
	var p pace
	at := time.Unix(1000, 0)
	take := func(now time.Time) (n int64) {
		for p.allows(1, now) && n < 10000 {
			n++
		}
		return n
	}
	if n := take(at); n != 10000 {
		t.Errorf("without a round only %d were let through", n)
	}
	p.begin(800)
	steps := []int64{take(at)}
	p.reach(0.5)
	steps = append(steps, take(at))
	p.finish(at)
	steps = append(steps, take(at))
	p.end(at.Add(2 * time.Second)) // so the last part takes a second, on average
	p.begin(800)
	p.finish(at)
	steps = append(steps, take(at), take(at.Add(time.Second/2)), take(at.Add(time.Hour)), take(at.Add(2*time.Hour)))
	for i, want := range []int64{100, 350, 140, 590, 105, 105, 0} {
		if steps[i] < want-1 || steps[i] > want+1 {
			t.Errorf("step %d let %d through, want %d", i, steps[i], want)
		}
	}
	p.begin(-5)
	if n := take(at); n != 0 {
		t.Errorf("without room %d were let through", n)
	}
	p.end(at)
	if n := take(at); n != 10000 {
		t.Errorf("after the round only %d were let through", n)
	}
}

// TestWritersWaitForCompaction: a writer is held while a round has no room for
// it, and goes on with the round's end.
func TestWritersWaitForCompaction(t *testing.T) {
	s, _ := smallStore(t, 16, Options{})
	d := openVolume(t, s, "v", 8)
	defer d.Close()
	s.reclaiming.Lock() // so that no round ends that is not this one
	defer s.reclaiming.Unlock()
	s.pace.begin(0)
	before := s.pace.waits.Load()
	_, err := d.WriteAt(make([]byte, blockSize), 0)
	must(t, err)
	if s.pace.waits.Load() != before+1 {
		t.Error("the writer was not held up")
	}
	s.pace.end(time.Now())
	_, err = d.WriteAt(make([]byte, blockSize), 0)
	must(t, err)
	if s.pace.waits.Load() != before+1 || s.Status().Held != before+1 {
		t.Error("the writer was held up without a round, or the status does not tell")
	}
}

// logged keeps what a store logs.
type logged struct {
	mu  sync.Mutex // guards buf
	buf bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logged) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.buf.String(), text)
}

func (l *logged) has(text string) bool { return l.count(text) > 0 }

// TestLevelsOfAFillingStore fills a store and empties it again: the status and the log tell
// when room becomes low, critical, none, and when it is back.
func TestLevelsOfAFillingStore(t *testing.T) {
	ctx := context.Background()
	const segments = 100
	out := &logged{}
	o := Options{FS: vfs.NewMem(1<<30, nil), Dir: "s", SegmentSize: crashSegment, CacheBytes: 4 << 20,
		MaxBytes: segments * crashSegment, Log: slog.New(slog.NewTextHandler(out, nil))}
	s, err := Open(ctx, o)
	must(t, err)
	defer func() { must(t, s.Check(ctx)); must(t, s.Close()) }()
	d := openVolume(t, s, "v", segments*perSegment)
	p := randomBytes(rand.New(rand.NewPCG(1, 1)), blockSize)
	var seen []Level
	note := func() {
		s.watchLevel(ctx)
		if l := s.Status().Level; len(seen) == 0 || seen[len(seen)-1] != l {
			seen = append(seen, l)
		}
	}
	for n := int64(0); err == nil; n++ {
		if n%perSegment == 0 {
			note()
		}
		_, err = d.WriteAt(p, n*blockSize)
	}
	note()
	must(t, d.Close())
	must(t, s.DeleteVolume(ctx, "v"))
	must(t, s.sweepAll(ctx))
	must(t, s.reclaimWhenDue(ctx))
	must(t, s.pool.wait(readyTarget))
	note()
	if n := out.count("level=full"); n != 1 {
		t.Errorf("that the store is full is said %d times", n)
	}
	if got, want := fmt.Sprint(seen), "[ok low critical full ok]"; got != want {
		t.Errorf("levels %s, want %s", got, want)
	}
	for _, text := range []string{"level=WARN msg=\"the store has little room left\" level=low", "level=critical",
		"level=ERROR msg=\"the store is full\" level=full", "msg=\"the store has room again\" level=ok"} {
		if !out.has(text) {
			t.Errorf("the log lacks %s", text)
		}
	}
}
