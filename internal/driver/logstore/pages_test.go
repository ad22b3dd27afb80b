package logstore

import (
	"context"
	"math/rand/v2"
	"path"
	"sync"
	"testing"

	"kvol/internal/driver"
	"kvol/internal/vfs"
)

// wholePages notes writes to segments that leave a page, which nobody touched
// before, to be read by the kernel first.
type wholePages struct {
	mu      sync.Mutex // guards all below
	touched map[string]map[int64]bool
	partial []vfs.Event
}

func (w *wholePages) note(e vfs.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if e.Op == vfs.OpRename || e.Op == vfs.OpCreate {
		delete(w.touched, e.Name) // an old segment under a new name is in no memory
		return
	}
	filling := e.N == zeroChunk && e.Off%zeroChunk == 0 // as if it were of long ago
	if e.Op != vfs.OpWrite || filling || path.Base(path.Dir(e.Name)) != segmentDir {
		return
	}
	pages := w.touched[e.Name]
	if pages == nil {
		pages = map[int64]bool{}
		w.touched[e.Name] = pages
	}
	first, last := e.Off/pageSize, (e.Off+e.N-1)/pageSize
	if e.Off%pageSize != 0 && !pages[first] || (e.Off+e.N)%pageSize != 0 && !pages[last] {
		w.partial = append(w.partial, e)
	}
	for i := first; i <= last; i++ {
		pages[i] = true
	}
}

// partialPages writes requests of all sizes, over and over, and tells whether
// some write to the log touched a part of a page that is not in memory: the
// kernel would read it where a segment is used again.
func partialPages(t *testing.T, hooks *testHooks) bool {
	ctx := context.Background()
	rnd := rand.New(rand.NewPCG(8, 9))
	pages := &wholePages{touched: map[string]map[int64]bool{}}
	s, err := Open(ctx, Options{FS: vfs.Watched{FS: vfs.NewMem(1<<30, rnd), Note: pages.note}, Dir: "s",
		SegmentSize: 4 << 20, CacheBytes: 16 << 20, MaxBytes: 96 << 20, hooks: hooks})
	must(t, err)
	defer endChecked(t, s)
	must(t, s.CreateVolume(ctx, "v", 32<<20))
	d, err := s.OpenVolume(ctx, "v")
	must(t, err)
	defer d.Close()
	random := func(blocks int) driver.Part {
		return driver.Part{Off: rnd.Int64N(32<<20/blockSize-int64(blocks)) * blockSize,
			Data: randomBytes(rnd, blocks*blockSize)}
	}
	for i := range 300 {
		n := 1 + rnd.IntN(4)
		if i%3 == 0 {
			n = 17 + rnd.IntN(240) // more than goes in one write
		}
		p := random(n)
		_, err := d.WriteAt(p.Data, p.Off)
		must(t, err)
		_, err = driver.WriteMany(d, []driver.Part{random(1), random(1), random(2)})
		must(t, err)
	}
	must(t, d.Flush())
	return len(pages.found()) > 0
}

// found are the writes that would have made the kernel read.
func (w *wholePages) found() []vfs.Event {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.partial
}
