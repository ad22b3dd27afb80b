package replication

import (
	"context"
	"errors"
	"iter"

	"kvol/internal/block"
	"kvol/internal/driver"
)

// maxRun is the most data that one run carries, in bytes.
const maxRun = 1 << 20

// Source is the end that has the volume.
type Source interface {
	// Delta emits the runs that lead from a step's base to its target, from an
	// offset on, in order, and returns the target's sum, given the base's. What
	// lies before the offset goes into the sum all the same. The runs' data
	// belongs to the Source again when emit returns.
	Delta(ctx context.Context, s block.Step, sum Sum, from int64, emit func(Run) error) (Sum, error)
}

// store is the Source of a volume in a driver.
type store struct {
	driver driver.Driver
	volume block.VolumeID
	// recall is asked what the store's blocks were before it is, where that is far
	// away, and remembers them under name; nil for no memory.
	recall *recall
	name   string
}

func (s store) ref(p block.Point) driver.SnapshotRef {
	if p.ID == "" {
		return driver.SnapshotRef{}
	}
	return driver.SnapshotRef{Volume: s.volume, Name: p.ID}
}

// Delta implements Source: it reads the changed blocks at the target point and
// what they were at the base.
func (s store) Delta(
	ctx context.Context,
	step block.Step,
	sum Sum,
	from int64,
	emit func(Run) error,
) (_ Sum, err error) {
	if depth := depthOf(s.driver); depth > 1 {
		return s.deltaFar(ctx, step, sum, from, depth, emit)
	}
	target, err := s.driver.OpenSnapshot(ctx, s.ref(step.Target))
	if err != nil {
		return sum, err
	}
	defer func() { err = errors.Join(err, target.Close()) }()
	var base driver.Reader
	if step.Base.ID != "" {
		if base, err = s.driver.OpenSnapshot(ctx, s.ref(step.Base)); err != nil {
			return sum, err
		}
		defer func() { err = errors.Join(err, base.Close()) }()
	}
	each := s.onward(step, from, emit)
	buf := make([]byte, min(maxRun, target.Size()))
	for e, err := range s.changes(ctx, step) {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return sum, err
		}
		run := Run{Off: e.Off, Len: e.Len}
		if base != nil {
			if err := eachData(ctx, base, e.Off, e.Len, sum.Sub); err != nil {
				return sum, err
			}
		}
		if !e.Zero {
			p := buf[:e.Len]
			if _, err := target.ReadAt(p, e.Off); err != nil {
				return sum, err
			}
			if !driver.IsZero(p) {
				run.Data = p
				sum.Add(e.Off, p)
			}
		}
		if err := each(run); err != nil {
			return sum, err
		}
	}
	return sum, nil
}

// changes are what differs between a step's points, in runs.
func (s store) changes(ctx context.Context, step block.Step) iter.Seq2[driver.Extent, error] {
	return joined(driver.Diff(ctx, s.driver, s.ref(step.Base), s.ref(step.Target)))
}

// onward emits what the target lacks: it has what lies before from, and begins as
// zeros.
func (s store) onward(step block.Step, from int64, emit func(Run) error) func(Run) error {
	return func(run Run) error {
		if run.End() <= from || (run.Data == nil && step.Base.ID == "") {
			return nil
		}
		return emit(run.after(from))
	}
}

// deltaFar is Delta for a store that is far away. The base is opened only if
// something of it is not remembered.
func (s store) deltaFar(
	ctx context.Context,
	step block.Step,
	sum Sum,
	from int64,
	depth int,
	emit func(Run) error,
) (_ Sum, err error) {
	know, known := s.recall.begin(s.name, step.Base.ID)
	if step.Base.ID == "" && step.Target.Size > recallWhole {
		know = nil
	}
	w := way{know: know, depth: depth}
	if step.Base.ID != "" {
		w.base = &later{driver: s.driver, ref: s.ref(step.Base)}
	}
	err = atOnce(depth, func() (err error) {
		w.target, err = s.driver.OpenSnapshot(ctx, s.ref(step.Target))
		return err
	}, func() (err error) {
		if w.base != nil && !known {
			_, err = w.base.get(ctx)
		}
		return err
	})
	defer func() {
		if w.target != nil {
			err = errors.Join(err, w.target.Close())
		}
		err = errors.Join(err, w.base.close())
	}()
	if err != nil {
		return sum, err
	}
	sum, err = deltaAhead(ctx, s.changes(ctx, step), w, sum, s.onward(step, from, emit))
	if err == nil {
		know.done(step.Target.ID)
	}
	return sum, err
}

// after is the part of a run that lies at or after an offset.
func (r Run) after(off int64) Run {
	cut := max(0, off-r.Off)
	if r.Data != nil {
		r.Data = r.Data[cut:]
	}
	return Run{Off: r.Off + cut, Len: r.Len - cut, Data: r.Data}
}

// joined joins neighbouring extents of one kind, data up to maxRun bytes, and
// splits longer ones.
func joined(all iter.Seq2[driver.Extent, error]) iter.Seq2[driver.Extent, error] {
	return func(yield func(driver.Extent, error) bool) {
		var now driver.Extent
		flush := func() bool {
			for now.Len > 0 {
				e := now
				if !e.Zero {
					e.Len = min(e.Len, maxRun)
				}
				now.Off, now.Len = e.End(), now.Len-e.Len
				if !yield(e, nil) {
					return false
				}
			}
			return true
		}
		for e, err := range all {
			if err != nil {
				yield(driver.Extent{}, err)
				return
			}
			if now.Len > 0 && e.Off == now.End() && e.Zero == now.Zero && (e.Zero || now.Len+e.Len <= maxRun) {
				now.Len += e.Len
				continue
			}
			if !flush() {
				return
			}
			now = e
		}
		flush()
	}
}

// Send takes one step: it makes dst ready, moves the difference and has it
// committed. sum is the base's; entry travels along. It returns the committed
// point and its sum. Where only the answer to the commit is missing, it returns
// the step's target and its sum with the error.
func Send(ctx context.Context, src Source, dst Target, s block.Step, sum Sum, entry block.Entry) (
	block.Point, Sum, error,
) {
	from, err := dst.Begin(ctx, s)
	if err != nil {
		return block.Point{}, sum, err
	}
	sum, err = src.Delta(ctx, s, sum, from, func(r Run) error { return dst.Write(ctx, r) })
	if err != nil {
		return block.Point{}, sum, err
	}
	p, err := dst.Commit(ctx, Commit{Root: sum.Root(s.Target.Size), Entry: entry})
	if err != nil {
		p = s.Target
	}
	return p, sum, err
}
