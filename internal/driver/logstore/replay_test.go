package logstore

import (
	"bytes"
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
