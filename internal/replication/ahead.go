package replication

import (
	"context"
	"iter"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"kvol/internal/block"
	"kvol/internal/driver"
)

// Where a store is far away (driver.Distant), a step reads and writes several
// ranges at once, and reads what lies between two changes along with them rather
// than ask twice. What goes over the wire stays the same, in the same order.
const (
	spanMost  = maxRun   // of the range that is read at once, in bytes
	spanGap   = 64 << 10 // that are read along at most between two changes
	aheadMost = 16 << 20 // of memory that a step's ranges under way have at most, about
)

// depthOf is how many ranges of a store's volumes are dealt with at once.
func depthOf(d driver.Driver) int {
	if far, ok := driver.As[driver.Distant](d); ok {
		return far.Depth()
	}
	return 1
}

// atOnce does both where the store is far away, else one after the other until one
// fails.
func atOnce(depth int, one, other func() error) error {
	if depth > 1 {
		var g errgroup.Group
		g.Go(one)
		g.Go(other)
		return g.Wait()
	}
	if err := one(); err != nil {
		return err
	}
	return other()
}

// span is changes that lie so near to each other that they are read at once.
type span struct {
	block.Range
	pieces []driver.Piece
}

// fits reports whether a piece belongs to a span.
func (s span) fits(p driver.Piece) bool {
	return !p.Zero && len(s.pieces) > 0 && !s.pieces[0].Zero && p.Off-s.End() <= spanGap && p.End()-s.Off <= spanMost
}

// spans groups pieces of data. One of zeros, which may be long, is a span alone.
func spans(all iter.Seq2[driver.Piece, error]) iter.Seq2[span, error] {
	return func(yield func(span, error) bool) {
		var now span
		for p, err := range all {
			if err != nil {
				yield(span{}, err)
				return
			}
			if now.fits(p) {
				now.pieces, now.Len = append(now.pieces, p), p.End()-now.Off
				continue
			}
			if len(now.pieces) > 0 && !yield(now, nil) {
				return
			}
			now = span{block.Range{Off: p.Off, Len: p.Len}, []driver.Piece{p}}
		}
		if len(now.pieces) > 0 {
			yield(now, nil)
		}
	}
}

// fetch is a span that is being read.
type fetch struct {
	span
	done chan struct{} // closed when the rest can be read
	runs []Run
	plus Sum // of what is there at the target
	less Sum // of what was there at the base
	err  error
}

// weight is about how much memory it takes.
func (f *fetch) weight() int64 { return 2 * min(f.Len, spanMost) } // at both points

// read reads what a span lacks at the target point, and at the base what is not
// known of it.
func (f *fetch) read(ctx context.Context, w way) {
	defer close(f.done)
	if f.err = f.compare(ctx, w); f.err != nil {
		return
	}
	if f.err = f.fill(ctx, w.target); f.err != nil {
		return
	}
	for _, p := range f.pieces {
		run := Run{Off: p.Off, Len: p.Len}
		if p.Data != nil && !driver.IsZero(p.Data) {
			run.Data = p.Data
			w.know.add(&f.plus, p.Off, run.Data)
		} else {
			w.know.zero(p.Off, p.Len)
		}
		f.runs = append(f.runs, run)
	}
}

// fill reads the pieces that came without their bytes, all at once.
func (f *fetch) fill(ctx context.Context, target *later) error {
	lacks := func(p driver.Piece) bool { return !p.Zero && p.Data == nil }
	if !slices.ContainsFunc(f.pieces, lacks) {
		return nil
	}
	r, err := target.get(ctx)
	if err != nil {
		return err
	}
	all := make([]byte, f.Len)
	if _, err := r.ReadAt(all, f.Off); err != nil {
		return err
	}
	for i, p := range f.pieces {
		if lacks(p) {
			f.pieces[i].Data = all[p.Off-f.Off:][:p.Len]
		}
	}
	return nil
}

// compare sums what the base has where the extents are.
func (f *fetch) compare(ctx context.Context, w way) error {
	if w.base == nil || f.recall(w.know) {
		return nil
	}
	base, err := w.base.get(ctx)
	switch {
	case err != nil:
		return err
	case f.pieces[0].Zero:
		return eachData(ctx, base, f.Off, f.Len, f.less.Add)
	}
	before, err := readSpan(base, f.Range)
	for _, e := range f.pieces {
		f.less.Add(e.Off, before.at(e.Off, e.Len))
	}
	return err
}

// recall is compare by what is remembered, if all of it is.
func (f *fetch) recall(know *recalled) bool {
	var less Sum
	for _, e := range f.pieces {
		blocks, ok := know.before(e.Off, e.Len)
		if !ok {
			return false
		}
		for _, b := range blocks {
			less.add(b.term)
		}
	}
	f.less = less
	return true
}

// later is a point that is opened when somebody needs it. It is for many goroutines
// at once, but for close.
type later struct {
	driver driver.Driver
	ref    driver.SnapshotRef
	once   sync.Once
	r      driver.Reader
	err    error
}

func (l *later) get(ctx context.Context) (driver.Reader, error) {
	l.once.Do(func() { l.r, l.err = l.driver.OpenSnapshot(ctx, l.ref) })
	return l.r, l.err
}

// close closes it, if it was opened. A nil one was not.
func (l *later) close() error {
	if l == nil || l.r == nil {
		return nil
	}
	return l.r.Close()
}

// read is what a reader has in a range, up to its end.
type read struct {
	off int64
	p   []byte
}

func readSpan(r driver.Reader, at block.Range) (read, error) {
	n := min(at.Len, r.Size()-at.Off)
	if n <= 0 {
		return read{off: at.Off}, nil
	}
	p := make([]byte, n)
	_, err := r.ReadAt(p, at.Off)
	return read{at.Off, p}, err
}

// at is the part at off, which may be shorter than length.
func (r read) at(off, length int64) []byte {
	from := min(off-r.off, int64(len(r.p)))
	return r.p[from:min(from+length, int64(len(r.p)))]
}

// deltaAhead is Delta for a store that is far away: it reads several spans at once
// and hands their runs on in order.
func deltaAhead(ctx context.Context, w way, sum Sum, each func(Run) error) (Sum, error) {
	ctx, cancel := context.WithCancel(ctx)
	queue, room := make(chan *fetch, w.depth), semaphore.NewWeighted(aheadMost)
	var workers sync.WaitGroup
	defer workers.Wait() // before the readers are closed
	defer cancel()
	workers.Go(func() {
		defer close(queue)
		for s, err := range spans(w.changes) {
			f := &fetch{span: s, err: err, done: make(chan struct{})}
			if err == nil {
				err = room.Acquire(ctx, f.weight())
			}
			if err == nil {
				workers.Go(func() { f.read(ctx, w) })
			} else {
				f.err = err
				close(f.done)
			}
			select {
			case queue <- f:
			case <-ctx.Done():
				return
			}
			if err != nil {
				return
			}
		}
	})
	for f := range queue {
		<-f.done
		if f.err != nil {
			return sum, f.err
		}
		sum = sum.Plus(f.plus).Minus(f.less)
		for _, run := range f.runs {
			if err := each(run); err != nil {
				return sum, err
			}
		}
		room.Release(f.weight())
	}
	return sum, ctx.Err()
}
