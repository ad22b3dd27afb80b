package logstore

import (
	"bytes"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"kvol/internal/block"
	"kvol/internal/driver"
	"kvol/internal/vfs"
)

// filledStore writes blocks of a volume one after the other, each full of its own
// number and flushed, and returns the store as it is then, with no index.
func filledStore(t *testing.T, mem *vfs.Mem, blocks int64) (*Store, driver.Device) {
	t.Helper()
	s, err := Open(t.Context(), replayOptions(mem))
	must(t, err)
	must(t, s.pool.wait(readyTarget))
	must(t, s.CreateVolume(t.Context(), "v", crashSize))
	d, err := s.OpenVolume(t.Context(), "v")
	must(t, err)
	writeNumbered(t, d, 0, blocks)
	return s, d
}

func writeNumbered(t *testing.T, d driver.Device, from, to int64) {
	t.Helper()
	for i := from; i < to; i++ {
		_, err := d.WriteAt(bytes.Repeat([]byte{byte(i + 1)}, blockSize), i*blockSize)
		must(t, err)
		must(t, d.Flush())
	}
}

// replayOptions are of a store whose index has nothing before it is closed.
func replayOptions(fsys vfs.FS) Options {
	o := crashOptions(fsys, nil)
	o.idle, o.indexEvery, o.CacheBytes = true, defaultIndexEvery, 0
	return o
}

// hasNumbered sees that the first blocks have their numbers.
func hasNumbered(t *testing.T, s *Store, blocks int64) {
	t.Helper()
	d, err := s.OpenVolume(t.Context(), "v")
	must(t, err)
	defer d.Close()
	p := make([]byte, blockSize)
	for i := range blocks {
		_, err := d.ReadAt(p, i*blockSize)
		must(t, err)
		if !bytes.Equal(p, bytes.Repeat([]byte{byte(i + 1)}, blockSize)) {
			t.Fatalf("block %d begins with %x", i, p[:4])
		}
	}
}

// ofLog tells a file of the log.
func ofLog(name string) bool { return strings.Contains(name, segmentDir+"/") }

// TestUnreadableIsNotTheEnd lets each read of the log fail once while a killed
// store is opened: it is refused, or has everything; and has it the next time.
// Where the log was never written, nothing need be read.
func TestUnreadableIsNotTheEnd(t *testing.T) {
	mem := vfs.NewMem(1<<30, nil)
	s, _ := filledStore(t, mem, 10)
	endChecked(t, s)
	for at := int32(1); ; at++ {
		img := mem.Kill()
		var reads atomic.Int32
		img.Hook = func(op vfs.Op, name string) error {
			if op == vfs.OpRead && ofLog(name) && reads.Add(1) == at {
				return syscall.EIO
			}
			return nil
		}
		s, err := Open(t.Context(), replayOptions(img))
		met := reads.Load() >= at
		if err != nil {
			if !met || !block.Is(err, block.Unavailable) {
				t.Fatalf("read %d failed: %v, want Unavailable", at, err)
			}
			s, err = Open(t.Context(), replayOptions(img))
		}
		must(t, err)
		hasNumbered(t, s, 10)
		endChecked(t, s)
		if !met {
			t.Logf("%d reads", at-1)
			return
		}
	}
}

// TestNamesOfTheKilled kills a process that has made a segment but not synced
// its name. The next one uses the segment: its name then survives a power cut.
func TestNamesOfTheKilled(t *testing.T) {
	mem := vfs.NewMem(1<<30, nil)
	images := make(chan *vfs.Mem, 1)
	mem.Hook = func(op vfs.Op, name string) error {
		if names, _ := mem.List(name); op == vfs.OpSyncDir && path.Base(name) == segmentDir && len(names) > 0 {
			select {
			case images <- mem.Kill():
			default:
			}
		}
		return nil
	}
	first, err := Open(t.Context(), replayOptions(mem))
	must(t, err)
	endChecked(t, first)
	img, hold := <-images, make(chan struct{})
	img.Hook = func(op vfs.Op, name string) error {
		if op == vfs.OpCreate && ofLog(name) {
			<-hold // no sync that a new segment needs
		}
		return nil
	}
	s, err := Open(t.Context(), replayOptions(img))
	must(t, err)
	used := segmentName("s", s.log.now().segment)
	for seed := range uint64(20) {
		cut := img.Crash(rand.New(rand.NewPCG(seed, 1)))
		names, err := cut.List(path.Dir(used))
		must(t, err)
		if !slices.Contains(names, path.Base(used)) {
			t.Fatalf("power cut %d: the log is in %s; there is %v", seed, used, names)
		}
	}
	close(hold)
	endChecked(t, s)
}

// TestFailedSyncOverRestart lets a sync of the log fail, after which the kernel
// takes what it did not write as written. The next process finds the records in
// memory; what it builds on them survives a power cut, at any operation while it
// opens and afterwards.
func TestFailedSyncOverRestart(t *testing.T) {
	mem := vfs.NewMem(1<<30, nil)
	var fails atomic.Bool
	mem.Hook = func(op vfs.Op, name string) error {
		if op == vfs.OpSync && ofLog(name) && fails.Load() {
			return syscall.EIO
		}
		return nil
	}
	s, d := filledStore(t, mem, 20) // into the second segment
	fails.Store(true)
	written := int64(20)
	for ; written < 50; written++ { // the sync that a new segment begins fails too
		if _, err := d.WriteAt(bytes.Repeat([]byte{byte(written + 1)}, blockSize), written*blockSize); err != nil {
			break
		}
	}
	if err := d.Flush(); !block.Is(err, block.Unavailable) {
		t.Fatalf("flush: %v", err)
	}
	img := mem.Kill()
	s.release()
	cuts := powerCutsOf(img)
	s, err := Open(t.Context(), replayOptions(img))
	must(t, err)
	during := cuts()
	hasNumbered(t, s, written)
	v, err := s.OpenVolume(t.Context(), "v")
	must(t, err)
	writeNumbered(t, v, written, 60)
	must(t, v.Close())
	for seed := range uint64(10) {
		seeOpens(t, img.Crash(rand.New(rand.NewPCG(seed, 7))), 60)
	}
	endChecked(t, s)
	for _, cut := range during {
		seeOpens(t, cut, 20)
	}
}

// powerCutsOf cuts the power before all that is written and synced, until it is
// asked for the images.
func powerCutsOf(mem *vfs.Mem) (end func() []*vfs.Mem) {
	rng := rand.New(rand.NewPCG(7, 7))
	var mu sync.Mutex // guards all below
	var images []*vfs.Mem
	ended := false
	mem.Hook = func(op vfs.Op, _ string) error {
		mu.Lock()
		defer mu.Unlock()
		if !ended && op != vfs.OpRead && op != vfs.OpOpen {
			images = append(images, mem.Crash(rng))
		}
		return nil
	}
	return func() []*vfs.Mem {
		mu.Lock()
		defer mu.Unlock()
		ended = true
		return images
	}
}

// seeOpens sees that a store opens with the first blocks that were written.
func seeOpens(t *testing.T, img *vfs.Mem, blocks int64) {
	t.Helper()
	s, err := Open(t.Context(), replayOptions(img))
	must(t, err)
	hasNumbered(t, s, blocks)
	endChecked(t, s)
}

// TestRotIsNotTheEnd changes bytes of what was flushed, record by record, in
// headers and in data, and the header of a segment: the store is refused
// while anything tells that it was on the disk, and is whole when it is put
// back. Of the last record nothing tells.
func TestRotIsNotTheEnd(t *testing.T) {
	mem := vfs.NewMem(1<<30, nil)
	s, d := filledStore(t, mem, 0)
	const records = 40
	var at []position
	for i := range int64(records) {
		before := s.log.now()
		writeNumbered(t, d, i, i+1)
		if now := s.log.now(); now.segment != before.segment {
			before.segment, before.off = now.segment, segmentHeader
		}
		at = append(at, before)
	}
	killed := mem.Kill()
	endChecked(t, s)
	if at[0].segment == at[records-1].segment {
		t.Fatal("one segment")
	}
	rotten := func(segment uint32, off int64) (open error) {
		img := killed.Kill()
		f := openFile(t, img, segmentName("s", segment))
		flipByte(t, f, off)
		s, err := Open(t.Context(), replayOptions(img))
		if err == nil {
			hasNumbered(t, s, records-1)
			endChecked(t, s)
			return nil
		}
		flipByte(t, f, off)
		seeOpens(t, img, records)
		return err
	}
	for i, p := range at {
		for _, off := range []int64{1, 9, 60, headerSize + 1, headerSize + 4 + blockSize/2} {
			if err := rotten(p.segment, p.off+off); i < records-1 && !block.Is(err, block.Corrupt) {
				t.Errorf("record %d, byte %d: %v, want Corrupt", i, off, err)
			} else if i == records-1 && err != nil {
				t.Errorf("the last record, byte %d: %v", off, err)
			}
		}
	}
	if err := rotten(at[records-1].segment, 9); !block.Is(err, block.Corrupt) {
		t.Errorf("the header of the last segment: %v, want Corrupt", err)
	}
}

// TestRotBeforeWritesTogether: writes that go into the log together tell what was
// synced too.
func TestRotBeforeWritesTogether(t *testing.T) {
	mem := vfs.NewMem(1<<30, nil)
	s, d := filledStore(t, mem, 4)
	end := s.log.now()
	writeNumbered(t, d, 4, 5)
	p := bytes.Repeat([]byte{6}, blockSize)
	_, err := driver.WriteMany(d, []driver.Part{{Data: p, Off: 5 * blockSize}, {Data: p, Off: 6 * blockSize}})
	must(t, err)
	img := mem.Kill()
	endChecked(t, s)
	flipByte(t, openFile(t, img, segmentName("s", end.segment)), end.off+100)
	if _, err := Open(t.Context(), replayOptions(img)); !block.Is(err, block.Corrupt) {
		t.Errorf("opened: %v, want Corrupt", err)
	}
}

func flipByte(t *testing.T, f vfs.File, off int64) {
	t.Helper()
	p := make([]byte, 1)
	_, err := f.ReadAt(p, off)
	must(t, err)
	p[0] ^= 0x55
	_, err = f.WriteAt(p, off)
	must(t, err)
	must(t, f.Sync())
}

// TestLostGeneration takes the first record of a generation, which no later one
// tells of: the superblock does.
func TestLostGeneration(t *testing.T) {
	mem := vfs.NewMem(1<<30, nil)
	s, _ := filledStore(t, mem, 5)
	img := mem.Kill()
	endChecked(t, s)
	end := s.log.now()
	s, err := Open(t.Context(), replayOptions(img))
	must(t, err)
	killed := img.Kill()
	endChecked(t, s)
	flipByte(t, openFile(t, killed, segmentName("s", end.segment)), end.off+9)
	if _, err := Open(t.Context(), replayOptions(killed)); !block.Is(err, block.Corrupt) {
		t.Fatalf("opened: %v, want Corrupt", err)
	}
	flipByte(t, openFile(t, killed, segmentName("s", end.segment)), end.off+9)
	seeOpens(t, killed, 5)
}

// TestTornIsTheEnd tears records that were not synced, while later ones are
// whole, after some that were: the log ends there, and the store opens.
func TestTornIsTheEnd(t *testing.T) {
	const flushed, more = 5, 6
	mem := vfs.NewMem(1<<30, nil)
	s, d := filledStore(t, mem, flushed)
	letSync := holdSyncs(s)
	begun := s.log.now()
	for i := range int64(more) {
		_, err := d.WriteAt(bytes.Repeat([]byte{byte(flushed + i + 1)}, blockSize), (flushed+i)*blockSize)
		must(t, err)
	}
	killed := mem.Kill()
	letSync()
	endChecked(t, s)
	for torn := range int64(more) {
		img := killed.Kill()
		flipByte(t, openFile(t, img, segmentName("s", begun.segment)), begun.off+torn*(headerSize+4+blockSize)+100)
		seeOpens(t, img, flushed+torn)
	}
}
