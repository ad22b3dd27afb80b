package logstore

import (
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"kvol/internal/block"
	"kvol/internal/vfs"
)

// TestFailedReuseKeepsSegments lets renaming a segment, or syncing the names of
// some, fail again and again: no segment is lost to the account, and the disk
// being well again, a store is written that has no room but what is reused.
func TestFailedReuseKeepsSegments(t *testing.T) {
	for name, failing := range map[string]vfs.Op{"rename": vfs.OpRename, "sync": vfs.OpSyncDir} {
		t.Run(name, func(t *testing.T) {
			const segments, volume = 24, 100
			var bad atomic.Int32
			mem := vfs.NewMem(1<<30, nil)
			mem.Hook = func(op vfs.Op, file string) error {
				if op == failing && strings.Contains(file, segmentDir) && bad.Add(-1) >= 0 {
					return syscall.EIO
				}
				return nil
			}
			o := crashOptions(mem, nil)
			o.MaxBytes = segments * crashSegment
			s, err := Open(t.Context(), o)
			must(t, err)
			defer endChecked(t, s)
			d := openVolume(t, s, "v", volume)
			defer d.Close()
			p := make([]byte, blockSize)
			fill := func(blocks int) (failures int) {
				for i := range blocks {
					le.PutUint64(p, uint64(i+1))
					if _, err := d.WriteAt(p, int64(i%volume)*blockSize); err != nil {
						failures++
					}
				}
				return failures
			}
			for range 2 * segments {
				bad.Store(1)
				fill(4 * perSegment)
			}
			bad.Store(0)
			// Whoever waits for a segment may still be told of the last failure.
			for err := s.pool.wait(readyTarget); block.Is(err, block.Unavailable); err = s.pool.wait(readyTarget) {
				s.pool.retry()
			}
			if n := fill(4 * segments * perSegment); n > 0 {
				t.Errorf("%d writes failed after the disk was well again; %+v", n, s.Status())
			}
			s.stopTasks()
			names, err := mem.List("s/" + segmentDir)
			must(t, err)
			if all, _ := s.pool.counts(); all != len(names) {
				t.Errorf("%d segments are known, %d are there", all, len(names))
			}
		})
	}
}
