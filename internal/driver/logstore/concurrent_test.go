package logstore

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"kvol/internal/block"
	"kvol/internal/driver"
	"kvol/internal/vfs"
)

// TestOneProcessAtATime: a second opening is a Conflict that says why.
func TestOneProcessAtATime(t *testing.T) {
	dir := t.TempDir()
	o := Options{Dir: dir, SegmentSize: crashSegment, CacheBytes: 1 << 20}
	openTest(t, o)
	o.Log = quiet()
	_, err := Open(context.Background(), o)
	if !block.Is(err, block.Conflict) || !bytes.Contains([]byte(err.Error()), []byte("open in another process")) {
		t.Fatalf("got %v", err)
	}
}

// TestManyAtOnce: writers of blocks and of parts of blocks, readers, snapshots,
// diffs and deletions at once; each writer has its own bytes and finds them.
func TestManyAtOnce(t *testing.T) {
	ctx := context.Background()
	s := openTest(t, Options{FS: vfs.NewMem(1<<30, nil), Dir: "s", SegmentSize: 256 << 10, CacheBytes: 1 << 20,
		MaxBytes: 24 << 20, indexEvery: 1 << 20})
	const writers, rounds, each = 4, 150, 700
	must(t, s.CreateVolume(ctx, "v", writers*leafBlocks*blockSize))
	d, err := s.OpenVolume(ctx, "v")
	must(t, err)
	defer d.Close()
	var wg sync.WaitGroup
	for w := range int64(writers) {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(w), 1))
			for range rounds {
				// The writers' parts share blocks: part w of each block is writer w's.
				off := rng.Int64N(64)*blockSize + w*(blockSize/writers)
				p := randomBytes(rng, each)
				if _, err := d.WriteAt(p, off); err != nil {
					t.Error(err)
					return
				}
				got := make([]byte, each)
				if _, err := d.ReadAt(got, off); err != nil || !bytes.Equal(got, p) {
					t.Errorf("writer %d at %d: %v, or other bytes than its own", w, off, err)
					return
				}
				if rng.IntN(16) == 0 {
					must(t, d.Flush())
				}
			}
		})
	}
	wg.Go(func() {
		before := driver.SnapshotRef{}
		for i := range 30 {
			ref := driver.SnapshotRef{Volume: "v", Name: block.PointID(fmt.Sprint("s", i))}
			if err := s.CreateSnapshot(ctx, ref); err != nil {
				t.Error(err)
				return
			}
			for _, err := range s.Diff(ctx, before, ref) {
				if err != nil {
					t.Error(err)
				}
			}
			if i%3 == 2 {
				if err := s.DeleteSnapshot(ctx, before); err != nil {
					t.Error(err)
				}
			}
			before = ref
		}
	})
	wg.Wait()
}

// oldRecordBack lays out a log in which an old record, written before a power
// cut and never flushed, lies just where the log goes on after, with the
// sequence that comes next. Only its generation tells it from a new one. It
// reports whether the record came back, be it that the log then ends in a
// generation that is too old to be opened.
func oldRecordBack(t *testing.T, hooks *testHooks) bool {
	ctx := context.Background()
	mem := vfs.NewMem(1<<30, nil)
	s, err := Open(ctx, crashOptions(mem, hooks))
	must(t, err)
	must(t, s.CreateVolume(ctx, "v", 64*blockSize))
	d, err := s.OpenVolume(ctx, "v")
	must(t, err)
	letSync := holdSyncs(s)
	at := s.log.now()
	ones := bytes.Repeat([]byte{1}, blockSize)
	for i := range int64(3) {
		_, err := d.WriteAt(ones, i*blockSize)
		must(t, err)
	}
	image := mem.Kill()
	letSync()
	endChecked(t, s)
	f, err := image.Open(segmentName("s", at.segment))
	must(t, err)
	_, err = f.WriteAt([]byte{2}, at.off+headerSize+4) // the first write is torn
	must(t, err)
	if s, err = Open(ctx, crashOptions(image, hooks)); err != nil {
		t.Fatal(err)
	}
	// The open record and one snapshot's take just the place of two writes.
	two := int64(2 * (headerSize + 4 + blockSize))
	name := bytes.Repeat([]byte{'n'}, int(two)-2*headerSize-2-2)
	must(t, s.CreateSnapshot(ctx, driver.SnapshotRef{Volume: "v", Name: block.PointID(name)}))
	if end := s.log.now(); end.off != at.off+two || end.seq != at.seq+2 {
		t.Fatalf("the log ends at %+v; it began at %+v", end, at)
	}
	again := image.Kill()
	endChecked(t, s)
	if s, err = Open(ctx, crashOptions(again, hooks)); block.Is(err, block.Corrupt) {
		return true
	}
	must(t, err)
	defer func() { endChecked(t, s) }()
	got, err := readAll(ctx, s)
	must(t, err)
	return len(got["v"].data) > 0
}
