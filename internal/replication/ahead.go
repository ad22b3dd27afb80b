package replication

import (
	"context"
	"iter"
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
	extents []driver.Extent
}

// fits reports whether an extent belongs to a span.
func (s span) fits(e driver.Extent) bool {
	return !e.Zero && len(s.extents) > 0 && !s.extents[0].Zero && e.Off-s.End() <= spanGap && e.End()-s.Off <= spanMost
}

// spans groups extents of data. One of zeros, which may be long, is a span alone.
func spans(all iter.Seq2[driver.Extent, error]) iter.Seq2[span, error] {
	return func(yield func(span, error) bool) {
		var now span
		for e, err := range all {
			if err != nil {
				yield(span{}, err)
				return
			}
			if now.fits(e) {
				now.extents, now.Len = append(now.extents, e), e.End()-now.Off
				continue
			}
			if len(now.extents) > 0 && !yield(now, nil) {
				return
			}
			now = span{block.Range{Off: e.Off, Len: e.Len}, []driver.Extent{e}}
		}
		if len(now.extents) > 0 {
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

// read reads a span at the target point, and at the base what is not known of it.
func (f *fetch) read(ctx context.Context, w way) {
	defer close(f.done)
	if f.err = f.compare(ctx, w); f.err != nil {
		return
	}
	var p []byte
	if !f.extents[0].Zero {
		p = make([]byte, f.Len)
		if _, f.err = w.target.ReadAt(p, f.Off); f.err != nil {
			return
		}
	}
	for _, e := range f.extents {
		run := Run{Off: e.Off, Len: e.Len}
		if !e.Zero {
			if data := p[e.Off-f.Off:][:e.Len]; !driver.IsZero(data) {
				run.Data = data
			}
		}
		if run.Data != nil {
			w.know.add(&f.plus, e.Off, run.Data)
		} else {
			w.know.zero(e.Off, e.Len)
		}
		f.runs = append(f.runs, run)
	}
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
	case f.extents[0].Zero:
		return eachData(ctx, base, f.Off, f.Len, f.less.Add)
	}
	before, err := readSpan(base, f.Range)
	for _, e := range f.extents {
		f.less.Add(e.Off, before.at(e.Off, e.Len))
	}
	return err
}

// recall is compare by what is remembered, if all of it is.
func (f *fetch) recall(know *recalled) bool {
	var less Sum
	for _, e := range f.extents {
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

// way is where a step is read from.
type way struct {
	target driver.Reader
	base   *later    // nil for a whole copy
	know   *recalled // nil where nothing is remembered
	depth  int
}

// deltaAhead is Delta for a store that is far away: it reads several spans at once
// and hands their runs on in order.
func deltaAhead(ctx context.Context, all iter.Seq2[driver.Extent, error], w way, sum Sum, each func(Run) error) (
	Sum, error,
) {
	ctx, cancel := context.WithCancel(ctx)
	queue, room := make(chan *fetch, w.depth), semaphore.NewWeighted(aheadMost)
	var workers sync.WaitGroup
	defer workers.Wait() // before the readers are closed
	defer cancel()
	workers.Go(func() {
		defer close(queue)
		for s, err := range spans(all) {
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
