package logstore

import (
	"context"
	"errors"
	"io/fs"
	"testing"

	"kvol/internal/block"
	"kvol/internal/driver"
	"kvol/internal/vfs"
)

// roomStore is a store in a small file system of its own: nothing but that
// bounds it.
func roomStore(t *testing.T, mem *vfs.Mem) (*Store, Options) {
	o := Options{FS: mem, Dir: "s", SegmentSize: crashSegment, CacheBytes: 1 << 20, Log: quiet(), idle: true}
	return openTest(t, o), o
}

// takeRoom lets somebody else have all of a file system but so much, and
// returns how it ends.
func takeRoom(t *testing.T, mem *vfs.Mem, leave int64) (end func()) {
	space, err := mem.Space("")
	must(t, err)
	f, err := mem.Create("other")
	must(t, err)
	_, err = f.WriteAt([]byte{1}, space.Free-leave-1)
	must(t, err)
	return func() { must(t, mem.Remove("other")) }
}

// TestMarginFollowsTheIndex: what is left to the index grows with it, and is at
// least some segments and some memory tables.
func TestMarginFollowsTheIndex(t *testing.T) {
	const segment = 1 << 20
	mem := vfs.NewMem(100<<20, nil)
	p := newPool(mem, "s", segment, 0, newHandles(mem, "s"), nil)
	var index, passing int64
	p.index = func() (int64, int64) { return index, passing }
	for i, c := range []struct{ index, passing, memTable, taken, margin, grows int64 }{
		{0, 0, 1 << 10, 0, 4 << 20, 95 << 20},
		{0, 0, 1 << 20, 0, 16 << 20, 83 << 20},
		{32 << 20, 0, 1 << 20, 0, 32 << 20, 67 << 20},
		{32 << 20, 3 << 20, 1 << 20, 70 << 20, 32 << 20, 0},
		{32 << 20, 0, 1 << 20, 70 << 20, 32 << 20, -2 << 20},
		{32 << 20, 0, 1 << 20, 90 << 20, 32 << 20, -22 << 20},
		{32 << 20, 40 << 20, 1 << 20, 90 << 20, 32 << 20, -6 << 20},
	} {
		end := func() {}
		if c.taken > 0 {
			end = takeRoom(t, mem, 100<<20-c.taken)
		}
		index, passing, p.memTable, p.ready = c.index, c.passing, c.memTable, []uint32{1, 2, 3, 4}
		must(t, p.look())
		m := p.marginNow()
		if got := m.grows(100<<20-c.taken, segment); m.size != c.margin || got != c.grows {
			t.Errorf("case %d: a margin of %d, the log grows by %d", i, m.size, got)
		}
		scarce := c.grows < -c.margin/2
		if p.hasNow(forWriting) != (c.grows >= 0) || p.hasNow(forTrimming) == scarce ||
			!p.hasNow(forMoving) || !p.hasNow(forDeleting) {
			t.Errorf("case %d: writing, trimming, moving and deleting may: %v %v %v %v", i, p.hasNow(forWriting),
				p.hasNow(forTrimming), p.hasNow(forMoving), p.hasNow(forDeleting))
		}
		end()
	}
}

// TestNoWritesIntoTheIndexsRoom: where the file system has no room for the index
// to grow, writers are refused though segments are ready; deleting and trimming
// work, and with the room everything does.
func TestNoWritesIntoTheIndexsRoom(t *testing.T) {
	ctx := context.Background()
	mem := vfs.NewMem(16<<20, nil)
	s, _ := roomStore(t, mem)
	d := openVolume(t, s, "v", 256)
	defer d.Close()
	p := make([]byte, blockSize)
	p[0] = 1
	for i := range int64(64) {
		_, err := d.WriteAt(p, i*blockSize)
		must(t, err)
	}
	ref := driver.SnapshotRef{Volume: "v", Name: "s"}
	must(t, s.CreateSnapshot(ctx, ref))
	must(t, s.pool.wait(readyTarget))
	const lack = 2 * crashSegment
	end := takeRoom(t, mem, marginTables*s.memTable-lack)
	must(t, s.pool.look())
	if _, err := d.WriteAt(p, 0); !block.Is(err, block.NoSpace) {
		t.Errorf("writing where the index can't grow: %v", err)
	}
	if st := s.Status(); st.Level != LevelFull || st.EmptySegments < readyTarget ||
		st.Free != int64(st.EmptySegments-1)*crashSegment-lack {
		t.Errorf("level %s, %d segments ready, %d bytes free", st.Level, st.EmptySegments, st.Free)
	}
	must(t, d.Zero(0, blockSize))
	must(t, s.DeleteSnapshot(ctx, ref))
	end()
	must(t, s.pool.look())
	_, err := d.WriteAt(p, 0)
	must(t, err)
	if l := s.Status().Level; l != LevelOK {
		t.Errorf("with room again: level %s", l)
	}
}

// TestEmptySegmentsGoToTheIndex: segments that are kept for reuse are given back
// to the file system when the index needs their room, and writing goes on.
func TestEmptySegmentsGoToTheIndex(t *testing.T) {
	ctx := context.Background()
	mem := vfs.NewMem(16<<20, nil)
	s, _ := roomStore(t, mem)
	d := openVolume(t, s, "v", 8)
	defer d.Close()
	other := openVolume(t, s, "w", 50*perSegment)
	p := make([]byte, blockSize)
	p[0] = 1
	for i := range int64(50 * perSegment) {
		_, err := other.WriteAt(p, i*blockSize)
		must(t, err)
	}
	must(t, other.Close())
	must(t, s.DeleteVolume(ctx, "w"))
	must(t, s.sweepAll(ctx))
	s.reclaiming.Lock()
	err := s.takeCensus()
	s.reclaiming.Unlock()
	must(t, err)
	_, empty := s.pool.counts()
	if empty < 40 {
		t.Fatalf("only %d segments are empty", empty)
	}
	const lack = 8 * crashSegment
	defer takeRoom(t, mem, marginTables*s.memTable-lack)()
	must(t, s.pool.look())
	_, err = d.WriteAt(p, 0)
	must(t, err)
	space, err := mem.Space("")
	must(t, err)
	if _, left := s.pool.counts(); space.Free < marginTables*s.memTable || left < 30 {
		t.Errorf("%d bytes are left to the index, and of %d empty segments %d", space.Free, empty, left)
	}
}

// TestFullStoreOpens: where a process ended and there is not a byte left in the
// file system, the emergency file is enough to open the store and to delete; it
// is made again when there is room.
func TestFullStoreOpens(t *testing.T) {
	ctx := context.Background()
	mem := vfs.NewMem(16<<20, nil)
	s, o := roomStore(t, mem)
	d := openVolume(t, s, "v", 1024)
	e := openVolume(t, s, "w", 8)
	p := make([]byte, blockSize)
	p[0] = 1
	_, err := e.WriteAt(p, 0)
	must(t, err)
	for i := range int64(1024) {
		_, err := d.WriteAt(p, i*389%1024*blockSize)
		must(t, err)
	}
	must(t, s.keepEmergency(ctx))
	takeRoom(t, mem, 0)
	image := mem.Kill()
	s.release()

	o.FS = image
	s, err = Open(ctx, o)
	must(t, err)
	if _, err := image.Open(emergencyName("s")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the emergency file is still there: %v", err)
	}
	must(t, s.keepEmergency(ctx))
	if n := fileSize(image, emergencyName("s")); n != -1 {
		t.Errorf("without room an emergency file of %d bytes was made", n)
	}
	if e, err = s.OpenVolume(ctx, "w"); err != nil {
		t.Fatal(err)
	}
	if _, err := e.WriteAt(p, blockSize); !block.Is(err, block.NoSpace) {
		t.Errorf("writing into a file system that is full: %v", err)
	}
	must(t, s.DeleteVolume(ctx, "v"))
	must(t, s.sweepAll(ctx))
	must(t, s.reclaimWhenDue(ctx))
	_, err = e.WriteAt(p, blockSize)
	must(t, err)
	got := make([]byte, 2*blockSize)
	_, err = e.ReadAt(got, 0)
	must(t, err)
	if got[0] != 1 || got[blockSize] != 1 {
		t.Error("what was written reads as something else")
	}
	must(t, e.Close())
	must(t, image.Remove("other"))
	must(t, s.keepEmergency(ctx))
	if n := fileSize(image, emergencyName("s")); n != emergencySize(s.memTable) {
		t.Errorf("with room again the emergency file has %d bytes", n)
	}
	must(t, s.Check(ctx))
	must(t, s.Close())
}
