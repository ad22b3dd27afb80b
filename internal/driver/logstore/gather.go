package logstore

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"
)

const (
	// joinGap is how many bytes between two blocks are read along rather than
	// reading twice: a record's header and a few blocks of others.
	joinGap = 4 * blockSize
	// joinMax bounds one read that needs a buffer, in bytes.
	joinMax = 256 << 10
	// helpMost is how many goroutines help with one request, and helpEach for
	// how many operations there is one more.
	helpMost, helpEach = 7, 12
)

// wanted is a block that is to be read, and where it goes: how many blocks from
// the beginning.
type wanted struct {
	cell
	index int
}

// place orders blocks as they lie in the log.
func (c cell) place() uint64 { return uint64(c.segment)<<32 | uint64(c.off) }

// gather is how the blocks of one request are read: as they lie in the log and
// not as they lie in the volume, with as few operations as can be, and where
// random writes scattered them so that it takes many, several at a time.
type gather struct {
	blocks []wanted // those that hold data, by place
	groups []group

	turn   atomic.Int32 // the next group that nobody reads yet
	mu     sync.Mutex   // guards failed
	failed error
}

// group is what one operation reads of a gather's blocks.
type group struct {
	from, to int
	// direct says that the blocks belong one after the other where they go,
	// without anything between them.
	direct bool
}

var (
	gathers     = sync.Pool{New: func() any { return &gather{} }}
	joinBuffers = sync.Pool{New: func() any { return new([joinMax]byte) }}
)

// plan begins with cells whose blocks go to p one after the other. Zeros are
// filled in at once.
func (g *gather) plan(c []cell, p []byte) {
	g.blocks, g.groups, g.failed = g.blocks[:0], g.groups[:0], nil
	g.turn.Store(0)
	sorted := true
	for i := range c {
		if c[i].zero() {
			clear(p[i*blockSize : (i+1)*blockSize])
			continue
		}
		w := wanted{c[i], i}
		if n := len(g.blocks); n > 0 && g.blocks[n-1].place() > w.place() {
			sorted = false
		}
		g.blocks = append(g.blocks, w)
	}
	if !sorted {
		slices.SortFunc(g.blocks, func(a, b wanted) int { return cmp.Compare(a.place(), b.place()) })
	}
	for from := 0; from < len(g.blocks); {
		n, direct := join(g.blocks[from:])
		g.groups = append(g.groups, group{from, from + n, direct})
		from += n
	}
}

// join tells how many of the first blocks one operation reads, and whether they
// are direct.
func join(w []wanted) (n int, direct bool) {
	direct = true
	for n = 1; n < len(w); n++ {
		prev, this := &w[n-1], &w[n]
		if this.segment != prev.segment || this.off < prev.off+blockSize {
			break
		}
		gap := this.off - prev.off - blockSize
		neighbours := gap == 0 && this.index == prev.index+1
		if direct && neighbours {
			continue
		}
		if gap > joinGap || this.off+blockSize-w[0].off > joinMax {
			break
		}
		direct = false
	}
	return n, direct
}

// each calls f for every group, at once for several where there are many, until
// one fails.
func (g *gather) each(f func([]wanted, bool) error) error {
	var helpers sync.WaitGroup
	for range min(helpMost, len(g.groups)/helpEach) {
		helpers.Go(func() { g.work(f) })
	}
	g.work(f)
	helpers.Wait()
	return g.failed
}

func (g *gather) work(f func([]wanted, bool) error) {
	for {
		i := int(g.turn.Add(1)) - 1
		if i >= len(g.groups) {
			return
		}
		n := g.groups[i]
		if err := f(g.blocks[n.from:n.to], n.direct); err != nil {
			g.turn.Store(int32(len(g.groups))) // nobody begins another
			g.mu.Lock()
			if g.failed == nil {
				g.failed = err
			}
			g.mu.Unlock()
			return
		}
	}
}

// readGroup reads what one operation reads.
func (s *Store) readGroup(w []wanted, direct bool, p []byte) error {
	first := &w[0]
	if direct {
		p = p[first.index*blockSize:][:len(w)*blockSize]
		if err := s.pread(first.segment, p, int64(first.off)); err != nil {
			return err
		}
		for i := range w {
			if err := s.verify(w[i].cell, p[i*blockSize:(i+1)*blockSize]); err != nil {
				return err
			}
		}
		return nil
	}
	buf := joinBuffers.Get().(*[joinMax]byte)
	defer joinBuffers.Put(buf)
	whole := buf[:w[len(w)-1].off-first.off+blockSize]
	if err := s.pread(first.segment, whole, int64(first.off)); err != nil {
		return err
	}
	for i := range w {
		at := w[i].off - first.off
		if err := s.verify(w[i].cell, whole[at:at+blockSize]); err != nil {
			return err
		}
		copy(p[w[i].index*blockSize:(w[i].index+1)*blockSize], whole[at:])
	}
	return nil
}
