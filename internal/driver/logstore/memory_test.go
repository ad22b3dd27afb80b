package logstore

import (
	"context"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"

	"kvol/internal/block"
	"kvol/internal/vfs"
)

// TestMemoryIsBounded writes and reads at random all over 16 TiB: what the store
// keeps in memory stays within the setting, beside what is known of segments.
func TestMemoryIsBounded(t *testing.T) {
	if testing.Short() {
		t.Skip("one goroutine, and many writes")
	}
	const size, cache = int64(16) << 40, 2 << 20
	s := openTest(t, Options{FS: vfs.NewMem(1<<30, nil), Dir: "s", SegmentSize: 1 << 20, CacheBytes: cache})
	d := openVolume(t, s, "v", size/blockSize)
	defer d.Close()
	rng := rand.New(rand.NewPCG(2, 2))
	p := make([]byte, blockSize)
	var most Memory
	for i := range 30000 {
		_, err := d.WriteAt(p, rng.Int64N(size/blockSize)*blockSize)
		must(t, err)
		if i%8 == 0 {
			_, err := d.ReadAt(p, rng.Int64N(size/blockSize)*blockSize)
			must(t, err)
		}
		if i%64 == 0 {
			m := s.Status().Memory
			most = Memory{Index: max(most.Index, m.Index), Leaves: max(most.Leaves, m.Leaves),
				Places: max(most.Places, m.Places), Nouns: max(most.Nouns, m.Nouns), Bound: m.Bound}
		}
	}
	if sum := most.Index + most.Leaves + most.Places; sum > most.Bound || most.Bound != cache {
		t.Errorf("%d bytes in memory at most, the bound is %d: %+v", sum, most.Bound, most)
	}
	if most.Places < memoryShare(cache, placesShare)*3/4 || most.Leaves == 0 || most.Index < s.memTable {
		t.Errorf("the memory was not used, so that nothing was tested: %+v", most)
	}
	if limit := int64(maxRecent*recentCost + 1000*segmentCost); most.Nouns > limit {
		t.Errorf("%d bytes of nouns, limit %d", most.Nouns, limit)
	}
}

// TestIndexMemoryIsBoundedWhileTablesWait holds back the writing of the index's
// tables: writers then stop at the bound, and go on when it goes on.
func TestIndexMemoryIsBoundedWhileTablesWait(t *testing.T) {
	mem := vfs.NewMem(1<<30, nil)
	held := make(chan struct{})
	var holding atomic.Bool
	mem.Hook = func(op vfs.Op, name string) error {
		if holding.Load() && op == vfs.OpCreate && strings.HasSuffix(name, ".sst") {
			<-held
		}
		return nil
	}
	s := openTest(t, Options{FS: mem, Dir: "s", SegmentSize: 1 << 20, CacheBytes: 1 << 20})
	d := openVolume(t, s, "v", 1<<30)
	defer d.Close()
	holding.Store(true)
	writes := 60000
	if testing.Short() {
		writes = 8000
	}
	stopped, done := make(chan int, 1), make(chan error, 1)
	go func() {
		rng := rand.New(rand.NewPCG(3, 3))
		p := make([]byte, blockSize)
		for i := range writes {
			s.mu.Lock()
			behind := s.tooMuch()
			s.mu.Unlock()
			if behind && len(stopped) == 0 {
				stopped <- i
			}
			if _, err := d.WriteAt(p, rng.Int64N(1<<30)*blockSize); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	select {
	case <-stopped:
	case err := <-done:
		t.Fatalf("nobody had to wait for the index: %v", err)
	}
	if m := s.Status().Memory.Index; m > (memTables+2)*s.memTable {
		t.Errorf("the index has %d bytes in memory, which is more than %d tables of %d", m, memTables+2, s.memTable)
	}
	close(held)
	must(t, <-done)
}

// TestMemoryOfManyVolumes: a volume costs some hundred bytes in memory, which
// are counted.
func TestMemoryOfManyVolumes(t *testing.T) {
	s := openTest(t, Options{FS: vfs.NewMem(1<<30, nil), Dir: "s", SegmentSize: 1 << 20, CacheBytes: 1 << 20})
	before := s.Status().Memory.Nouns
	const volumes = 2000
	for i := range volumes {
		must(t, s.CreateVolume(context.Background(), block.VolumeID(rune('a'+i)), 1<<40))
	}
	if n := s.Status().Memory.Nouns - before; n < volumes*2*nounCost {
		t.Errorf("%d bytes for %d volumes and as many branches", n, volumes)
	}
}
