package logstore

import (
	"bytes"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
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
func TestUnreadableIsNotTheEnd(t *testing.T) {
	mem := vfs.NewMem(1<<30, nil)
	s, _ := filledStore(t, mem, 10)
	s.release()
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
		if met {
			if !block.Is(err, block.Unavailable) {
				t.Fatalf("read %d failed: %v, want Unavailable", at, err)
			}
			s, err = Open(t.Context(), replayOptions(img))
		}
		must(t, err)
		hasNumbered(t, s, 10)
		must(t, s.Close())
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
	first.release()
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
	s.release()
}
