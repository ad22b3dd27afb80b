package logstore

import (
	"context"
	"io/fs"
	"math/rand/v2"
	"path"
	"sync/atomic"
	"syscall"
	"testing"

	"kvol/internal/vfs"
)

// badSector is a file system one file of which has a range that can't be read.
type badSector struct {
	vfs.FS
	name     string
	from, to int64
	gone     bool // the file can't be opened at all
	on       atomic.Bool
}

func (b *badSector) err(op string) error {
	return &fs.PathError{Op: op, Path: b.name, Err: syscall.EIO}
}

func (b *badSector) Open(name string) (vfs.File, error) {
	if name == b.name && b.gone && b.on.Load() {
		return nil, b.err("open")
	}
	f, err := b.FS.Open(name)
	return badSectorFile{f, name, b}, err
}

type badSectorFile struct {
	vfs.File
	name string
	disk *badSector
}

func (f badSectorFile) ReadAt(p []byte, off int64) (int, error) {
	d := f.disk
	if d.on.Load() && f.name == d.name && (d.gone || off < d.to && off+int64(len(p)) > d.from) {
		return 0, d.err("read")
	}
	return f.File.ReadAt(p, off)
}

// TestBadSector loses a sector with a record's header, and then a whole segment's
// file, in the middle of a store that is overwritten at random and has no room
// but what compaction gets back: writers notice nothing, before and after a
// restart. A scrub and a check go to their end. They find what lies behind the
// header, put back what of it can be read, and tell of the rest.
func TestBadSector(t *testing.T) {
	for name, gone := range map[string]bool{"header": false, "file": true} {
		t.Run(name, func(t *testing.T) { loseSector(t, gone) })
	}
}

func loseSector(t *testing.T, gone bool) {
	const segments, volume = 24, 15 * perSegment
	ctx := context.Background()
	mem := vfs.NewMem(1<<30, nil)
	disk := &badSector{FS: mem, gone: gone}
	o := Options{FS: disk, Dir: "s", SegmentSize: crashSegment, MaxBytes: segments * crashSegment, CacheBytes: 1 << 20,
		Log: quiet(), idle: true}
	s, err := Open(ctx, o)
	must(t, err)
	d := openVolume(t, s, "v", volume)
	content := map[int64]byte{}
	put := func(b int64) {
		t.Helper()
		content[b]++
		p := make([]byte, blockSize)
		le.PutUint64(p, uint64(b)<<8|uint64(content[b]))
		if _, err := d.WriteAt(p, b*blockSize); err != nil {
			t.Fatalf("writing block %d: %v; %+v", b, err, s.Status())
		}
	}
	for b := range int64(volume) {
		put(b)
	}
	const cold = 5 // a segment that is written once
	w, err := s.walkSegment(ctx, cold)
	must(t, err)
	s.handles.put(w.handle)
	records := w.records[len(w.records)/2:] // the others are overwritten, so that the segment is worth emptying
	disk.name, disk.from = segmentName("s", cold), int64(records[2].at)&^4095
	disk.to = disk.from + 4096
	lost, kept := map[int64]bool{}, map[int64]bool{}
	for _, r := range records {
		off := int64(r.dataAt())
		kept[int64(r.first)] = true
		if gone || off < disk.to && off+blockSize > disk.from {
			lost[int64(r.first)] = true
		}
	}
	disk.on.Store(true)
	if gone {
		s.handles.drop(cold)
	}
	rng := rand.New(rand.NewPCG(3, 3))
	overwrite := func() {
		for range 8 * volume {
			if b := rng.Int64N(volume); !kept[b] {
				put(b)
			}
		}
	}
	overwrite()
	must(t, d.Close())
	must(t, s.Close())
	s, err = Open(ctx, o)
	must(t, err)
	defer func() { disk.on.Store(false); endChecked(t, s) }()
	d, err = s.OpenVolume(ctx, "v")
	must(t, err)
	defer d.Close()
	overwrite()
	hidden := 0
	_, err = s.Scrub(ctx, Watch{Found: func(Damage) { hidden++ }})
	must(t, err)
	if hidden < len(lost) || !gone && hidden == len(lost) {
		t.Errorf("a scrub found %d blocks, %d are lost and some are hidden", hidden, len(lost))
	}
	mustBeLost(t, s, lost)
	_, err = s.Examine(ctx, Watch{})
	must(t, err)
	mustBeLost(t, s, lost)
	for b, version := range content {
		p := make([]byte, blockSize)
		_, err := d.ReadAt(p, b*blockSize)
		if lost[b] != (err != nil) || err == nil && le.Uint64(p) != uint64(b)<<8|uint64(version) {
			t.Errorf("block %d, lost: %v: %v", b, lost[b], err)
		}
	}
}

// mustBeLost compares what the store knows to be damaged with what is.
func mustBeLost(t *testing.T, s *Store, lost map[int64]bool) {
	t.Helper()
	found := map[int64]bool{}
	for _, d := range s.Damages() {
		for off := d.Extent.Off; off < d.Extent.End(); off += blockSize {
			if found[off/blockSize] = true; !lost[off/blockSize] {
				t.Errorf("this is not lost: %v", d)
			}
		}
	}
	if len(found) != len(lost) || len(lost) == 0 {
		t.Errorf("%d blocks are known as damaged, %d are lost", len(found), len(lost))
	}
}

// TestEvacuateUnreadIndex: segments stay as they are, and no round fails, where
// the part of the index that tells what is live in them can't be read.
func TestEvacuateUnreadIndex(t *testing.T) {
	mem := vfs.NewMem(1<<30, nil)
	s, _ := indexed(t, mem)
	must(t, s.Close())
	var fails atomic.Bool
	mem.Hook = func(op vfs.Op, name string) error {
		if op == vfs.OpRead && path.Ext(name) == ".sst" && fails.Load() {
			return syscall.EIO
		}
		return nil
	}
	o := crashOptions(mem, nil)
	o.idle = true
	s = openTest(t, o)
	var all []uint32
	s.mu.Lock()
	for id, u := range s.usage {
		if !u.free {
			all = append(all, id)
		}
	}
	s.mu.Unlock()
	fails.Store(true)
	empty, err := s.evacuate(t.Context(), all, 1<<20, false)
	fails.Store(false)
	if err != nil || len(all) < 10 || len(empty) > len(all)/2 || !s.someLeft(all) {
		t.Errorf("%d of %d segments are empty; %v", len(empty), len(all), err)
	}
	must(t, s.Check(t.Context()))
}
