package logstore

import (
	"context"
	"path"
	"sync/atomic"
	"testing"

	"kvol/internal/block"
	"kvol/internal/driver"
	"kvol/internal/vfs"
)

// TestSweepLeavesLaterMarksAlone takes a snapshot between the moment at which
// the sweeper listed the marks and its work: the epoch that begins with it must
// not be joined with the one that the snapshot sees. The same sweep without
// that bound shows what would happen.
func TestSweepLeavesLaterMarksAlone(t *testing.T) {
	for _, bounded := range []bool{true, false} {
		if kept := sweepAroundSnapshot(t, bounded); kept != bounded {
			t.Errorf("with the bound %v the snapshot kept its content: %v", bounded, kept)
		}
	}
}

func sweepAroundSnapshot(t *testing.T, bounded bool) (kept bool) {
	ctx := context.Background()
	s, err := Open(ctx, crashOptions(vfs.NewMem(1<<30, nil), nil))
	must(t, err)
	defer func() {
		must(t, s.Check(ctx))
		must(t, s.Close())
	}()
	must(t, s.CreateVolume(ctx, "v", crashSize))
	d, err := s.OpenVolume(ctx, "v")
	must(t, err)
	defer func() { must(t, d.Close()) }()
	fill := func(value byte) {
		p := make([]byte, blockSize)
		p[0] = value
		_, err := d.WriteAt(p, 0)
		must(t, err)
	}
	fill(1)
	must(t, s.CreateSnapshot(ctx, driver.SnapshotRef{Volume: "v", Name: "first"}))
	fill(2)
	s.mu.Lock()
	br := s.volumes["v"].branch
	br.soil(br.last(), head)
	s.dirty[br] = struct{}{}
	s.mu.Unlock()
	g, _ := s.nextGap()
	must(t, s.CreateSnapshot(ctx, driver.SnapshotRef{Volume: "v", Name: "later"}))
	fill(3)
	if !bounded {
		g.to = head
	}
	must(t, s.sweepGap(ctx, g))
	r, err := s.OpenSnapshot(ctx, driver.SnapshotRef{Volume: "v", Name: "later"})
	must(t, err)
	defer func() { must(t, r.Close()) }()
	got := make([]byte, blockSize)
	_, err = r.ReadAt(got, 0)
	must(t, err)
	return got[0] == 2
}

// TestSweepReadsUnlocked: what the sweeper needs of the index comes from the
// disk while others can use the store.
func TestSweepReadsUnlocked(t *testing.T) {
	const leaves = 200
	ctx := context.Background()
	mem := vfs.NewMem(1<<30, nil)
	o := Options{FS: mem, Dir: "s", SegmentSize: 1 << 20, CacheBytes: 16 << 20, Log: quiet(), idle: true}
	s := openTest(t, o)
	d := openVolume(t, s, "v", leaves*leafBlocks)
	p := make([]byte, blockSize)
	for _, name := range []block.PointID{"a", "b", "c"} {
		for i := range int64(leaves * 4) {
			p[0]++
			_, err := d.WriteAt(p, i*leafSize/4)
			must(t, err)
		}
		must(t, s.CreateSnapshot(ctx, driver.SnapshotRef{Volume: "v", Name: name}))
	}
	must(t, d.Close())
	must(t, s.db.Compact(ctx, []byte{0}, []byte{0xff}, false)) // nobody does later
	must(t, s.Close())
	var store atomic.Pointer[Store]
	var locked, unlocked atomic.Int32
	mem.Hook = func(op vfs.Op, name string) error {
		s := store.Load()
		if s == nil || op != vfs.OpRead || path.Ext(name) != ".sst" {
			return nil
		}
		if s.mu.TryLock() {
			s.mu.Unlock()
			unlocked.Add(1)
		} else {
			locked.Add(1)
		}
		return nil
	}
	s = openTest(t, o)
	must(t, s.DeleteSnapshot(ctx, driver.SnapshotRef{Volume: "v", Name: "b"}))
	store.Store(s)
	must(t, s.sweepAll(ctx))
	store.Store(nil)
	if locked.Load() > 0 || unlocked.Load() == 0 {
		t.Errorf("%d reads while the store was locked, %d while it was not", locked.Load(), unlocked.Load())
	}
}
