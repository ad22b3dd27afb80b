package logstore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"path"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"kvol/internal/block"
	"kvol/internal/driver"
	"kvol/internal/vfs"
)

// TestCheckWhileUsed examines and scrubs a store over and over while volumes
// are written, snapshots made and dropped, clones made and deleted, and
// segments compacted and reused. Nothing is damaged, so nothing may be found.
func TestCheckWhileUsed(t *testing.T) {
	ctx, stop := context.WithCancel(context.Background())
	o := crashOptions(vfs.NewMem(1<<30, nil), nil)
	o.MaxBytes = 600 * crashSegment // three times what the volumes hold
	s := openTest(t, o)
	var busy sync.WaitGroup
	defer busy.Wait()
	defer stop()
	for n := range 3 {
		id := block.VolumeID(fmt.Sprintf("v%d", n))
		must(t, s.CreateVolume(ctx, id, crashSize))
		busy.Go(func() { useHard(ctx, t, s, id, uint64(n)) })
	}
	passes, records := 30, uint64(3000)
	if testing.Short() {
		passes, records = 6, 600
	}
	for i := 0; i < passes || s.Status().Sequence < records; i++ {
		var err error
		tell := Watch{Found: func(d Damage) { t.Errorf("pass %d found %v", i, d) }}
		if i%3 == 2 {
			_, err = s.Scrub(ctx, tell)
		} else {
			_, err = s.Examine(ctx, tell)
		}
		must(t, err)
	}
}

// useHard does all that moves data around, until ctx ends.
func useHard(ctx context.Context, t *testing.T, s *Store, id block.VolumeID, seed uint64) {
	rnd := rand.New(rand.NewPCG(seed, 77))
	d, err := s.OpenVolume(context.WithoutCancel(ctx), id)
	if err != nil {
		t.Error(err)
		return
	}
	defer d.Close()
	for i := 0; ctx.Err() == nil; i++ {
		off := rnd.Int64N(crashSize/blockSize-8) * blockSize
		var err error
		switch rnd.IntN(24) {
		case 0:
			err = s.CreateSnapshot(ctx, driver.SnapshotRef{Volume: id, Name: block.PointID(fmt.Sprint(i))})
		case 1, 2:
			if all, lerr := s.Snapshots(ctx, id); lerr == nil && len(all) > 0 {
				err = s.DeleteSnapshot(ctx, driver.SnapshotRef{Volume: id, Name: all[rnd.IntN(len(all))].Name})
			}
		case 3:
			if all, lerr := s.Snapshots(ctx, id); lerr == nil && len(all) > 0 {
				clone := block.VolumeID(fmt.Sprintf("%s-%d", id, i))
				from := driver.SnapshotRef{Volume: id, Name: all[0].Name}
				if err = s.CloneSnapshot(ctx, clone, from, crashSize); err == nil {
					err = s.DeleteVolume(ctx, clone)
				}
			}
		case 4:
			err = d.Zero(off, 8*blockSize)
		default:
			_, err = d.WriteAt(randomBytes(rnd, (1+rnd.IntN(8))*blockSize), off)
		}
		if err != nil && ctx.Err() == nil && !block.Is(err, block.NoSpace) {
			t.Errorf("step %d: %v", i, err)
			return
		}
	}
}

// indexed makes a store whose index is in tables on the disk, and returns how
// it was written.
func indexed(t *testing.T, mem *vfs.Mem) (s *Store, tables []string) {
	t.Helper()
	ctx := context.Background()
	s, err := Open(ctx, crashOptions(mem, nil))
	must(t, err)
	must(t, s.CreateVolume(ctx, "v", 64<<20))
	d, err := s.OpenVolume(ctx, "v")
	must(t, err)
	rnd := rand.New(rand.NewPCG(5, 5))
	for range 600 {
		_, err := d.WriteAt(randomBytes(rnd, blockSize), rnd.Int64N(64<<20/blockSize)*blockSize)
		must(t, err)
	}
	must(t, d.Close())
	must(t, s.flushIndex())
	// No table is being written any more once all are one level.
	must(t, s.db.Compact(ctx, []byte{0}, []byte{0xff}, false))
	return s, tablesOf(t, mem)
}

// tablesOf names the tables of the index that are on the disk.
func tablesOf(t *testing.T, mem *vfs.Mem) (tables []string) {
	t.Helper()
	names, err := mem.List("s/index")
	must(t, err)
	for _, name := range names {
		if strings.HasSuffix(name, ".sst") {
			tables = append(tables, path.Join("s/index", name))
		}
	}
	if len(tables) == 0 {
		t.Fatal("the index has no tables")
	}
	return tables
}

// flipBit changes one bit in the middle of a file.
func flipBit(t *testing.T, mem *vfs.Mem, name string) {
	t.Helper()
	f, err := mem.Open(name)
	if strings.HasSuffix(name, ".sst") && errors.Is(err, fs.ErrNotExist) {
		return // a compaction's old tables go in the background
	}
	must(t, err)
	defer f.Close()
	size, err := f.Size()
	must(t, err)
	p := make([]byte, 1)
	_, err = f.ReadAt(p, size/3)
	must(t, err)
	p[0] ^= 0x10
	_, err = f.WriteAt(p, size/3)
	must(t, err)
}

// TestDamagedTables flips a bit in the tables of the index: a scrub and a check
// of the open store find it on the disk, past what the store has in memory, and
// name the volume and its range. A store that is opened on such tables serves
// no wrong byte: it says that its index is damaged, at once or by the first
// read that meets it.
func TestDamagedTables(t *testing.T) {
	ctx := context.Background()
	mem := vfs.NewMem(1<<30, nil)
	s, tables := indexed(t, mem)
	for _, name := range tables {
		flipBit(t, mem, name)
	}
	for what, pass := range map[string]func(Watch) error{
		"scrub": func(w Watch) error { _, err := s.Scrub(ctx, w); return err },
		"check": func(w Watch) error { _, err := s.Examine(ctx, w); return err },
	} {
		var found []Damage
		err := pass(Watch{Found: func(d Damage) { found = append(found, d) }})
		if err != nil && !block.Is(err, block.Corrupt) {
			t.Errorf("%s: %v", what, err)
		}
		hit := false
		for _, d := range found {
			hit = hit || d.What == whatTable && d.Volume == "v" && d.Extent.Len > 0 && d.Extent.End() <= 64<<20 &&
				strings.Contains(d.Error(), "in the index (volume v, bytes ")
		}
		if !hit {
			t.Errorf("%s found %+v", what, found)
		}
	}
	if s.Status().Damaged == 0 {
		t.Error("no alarm stands")
	}
	s.release()

	s, err := Open(ctx, crashOptions(mem, nil))
	if err != nil {
		if message, ok := block.UserMessage(err); !block.Is(err, block.Corrupt) || !ok ||
			!strings.Contains(message, "index") {
			t.Errorf("opening: %v", err)
		}
		return
	}
	defer s.release()
	if err := s.Check(ctx); !block.Is(err, block.Corrupt) {
		t.Errorf("check after opening: %v", err)
	}
	d, err := s.OpenVolume(ctx, "v")
	must(t, err)
	defer d.Close()
	bad := 0
	p := make([]byte, blockSize)
	for off := int64(0); off < 64<<20; off += blockSize {
		if _, err := d.ReadAt(p, off); block.Is(err, block.Corrupt) {
			bad++
		} else if err != nil {
			t.Fatalf("read at %d: %v", off, err)
		}
	}
	if bad == 0 {
		t.Error("reads did not meet the damage")
	}
}

// TestAlarmEnds: an alarm stands over a restart for whoever is told of it, and
// ends by a pass that finds the place well, here since it was overwritten.
func TestAlarmEnds(t *testing.T) {
	ctx := context.Background()
	mem := vfs.NewMem(1<<30, nil)
	var told []Damage
	o := crashOptions(mem, nil)
	o.Alarm = func(d Damage) { told = append(told, d) }
	s := openTest(t, o)
	must(t, s.CreateVolume(ctx, "v", crashSize))
	d, err := s.OpenVolume(ctx, "v")
	must(t, err)
	p := randomBytes(rand.New(rand.NewPCG(1, 1)), blockSize)
	at := s.log.now()
	_, err = d.WriteAt(p, 0)
	must(t, err)
	f, err := mem.Open(segmentName("s", at.segment))
	must(t, err)
	_, err = f.WriteAt([]byte{p[9] ^ 1}, at.off+headerSize+4+9)
	must(t, err)
	for range 2 {
		if _, err := d.ReadAt(p, 0); !block.Is(err, block.Corrupt) {
			t.Fatalf("read: %v", err)
		}
	}
	if len(told) != 2 || told[1].Reason != "nobody is known who has a copy" { // found, then the reason, and no more
		t.Errorf("told %+v", told)
	}
	must(t, d.Close())
	must(t, s.Close())

	o.Known = told[1:]
	told = nil
	s = openTest(t, o)
	if got := s.Status().Damaged; got != 1 {
		t.Errorf("after a restart %d places are damaged", got)
	}
	if !block.Is(s.Check(ctx), block.Corrupt) || len(s.Damages()) != 1 || len(told) != 0 {
		t.Errorf("a check found %+v and told %+v", s.Damages(), told)
	}
	d, err = s.OpenVolume(ctx, "v")
	must(t, err)
	_, err = d.WriteAt(p, 0)
	must(t, err)
	must(t, d.Close())
	must(t, s.Check(ctx))
	if len(s.Damages()) != 0 || len(told) != 1 || told[0].State != Gone || told[0].Volume != "v" {
		t.Errorf("after it was overwritten: %+v, told %+v", s.Damages(), told)
	}
}

// TestScrubRate accounts what a scrub reads against a clock that only the
// scrub's own waiting moves: never more than the rate, and one run of blocks.
func TestScrubRate(t *testing.T) {
	const rate = 10 * blockSize // a second
	ctx := context.Background()
	var clock atomic.Int64 // nanoseconds; housekeeping looks at it too
	o := crashOptions(vfs.NewMem(1<<30, nil), nil)
	o.Now = func() time.Time { return time.Unix(1_000_000, clock.Load()) }
	o.wait = func(_ context.Context, d time.Duration) error {
		if d <= 0 || d > time.Second {
			t.Errorf("it waits %v", d)
		}
		clock.Add(int64(d))
		return nil
	}
	s := openTest(t, o)
	must(t, s.CreateVolume(ctx, "v", 64*blockSize))
	d, err := s.OpenVolume(ctx, "v")
	must(t, err)
	p := randomBytes(rand.New(rand.NewPCG(1, 1)), 4*blockSize)
	for i := range int64(16) {
		_, err := d.WriteAt(p, i*int64(len(p)))
		must(t, err)
	}
	must(t, d.Close())
	for what, pass := range map[string]func(Watch) error{
		"scrub": func(w Watch) error { _, err := s.Scrub(ctx, w); return err },
		"check": func(w Watch) error { _, err := s.Examine(ctx, w); return err },
	} {
		start, ticks, last := o.Now(), 0, o.Now()
		var end int64
		must(t, pass(Watch{Rate: rate, Progress: func(done, total int64) {
			if done > total || done < end {
				t.Errorf("%s: %d of %d after %d", what, done, total, end)
			}
			now := o.Now()
			if ticks, end = ticks+1, done; now.Before(last) {
				t.Error("the clock went back")
			}
			allowed := int64(now.Sub(start).Seconds()*rate) + 5*blockSize
			if last = now; done > allowed {
				t.Errorf("%s: %d bytes read after %v, %d are allowed", what, done, now.Sub(start), allowed)
			}
		}}))
		least := time.Duration(end/rate) * time.Second
		if took := o.Now().Sub(start); ticks == 0 || end == 0 || took < least-20*time.Millisecond {
			t.Errorf("%s: %d bytes in %d steps took %v", what, end, ticks, took)
		}
	}
	before := o.Now()
	_, err = s.Scrub(ctx, Watch{})
	must(t, err)
	if o.Now() != before {
		t.Error("a scrub without a rate waited")
	}
}

// TestScrubEnds: a scrub that waits for its turn ends with its context.
func TestScrubEnds(t *testing.T) {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	s, _ := indexed(t, vfs.NewMem(1<<30, nil))
	defer s.release()
	s.wait = func(ctx context.Context, _ time.Duration) error {
		stop()
		return sleep(ctx, time.Hour)
	}
	_, err := s.Scrub(ctx, Watch{Rate: 1})
	if !block.Is(err, block.Unavailable) {
		t.Errorf("a scrub that was cancelled: %v", err)
	}
	must(t, s.Check(context.Background()))
}
