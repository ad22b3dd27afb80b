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
	depth := depthOf(s.driver)
	target, base, err := s.open(ctx, step, depth)
	if err != nil {
		return sum, err
	}
	defer func() {
		err = errors.Join(err, target.Close())
		if base != nil {
			err = errors.Join(err, base.Close())
		}
	}()
	each := func(run Run) error {
		if run.End() <= from || (run.Data == nil && base == nil) {
			return nil // the target has it, or begins as zeros
		}
		return emit(run.after(from))
	}
	all := joined(driver.Diff(ctx, s.driver, s.ref(step.Base), s.ref(step.Target)))
	if depth > 1 {
		return deltaAhead(ctx, all, target, base, sum, depth, each)
	}
	buf := make([]byte, min(maxRun, target.Size()))
	for e, err := range all {
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

// open opens a step's two points; base is nil where there is none.
func (s store) open(ctx context.Context, step block.Step, depth int) (target, base driver.Reader, err error) {
	if step.Base.ID == "" {
		target, err = s.driver.OpenSnapshot(ctx, s.ref(step.Target))
		return target, nil, err
	}
	err = atOnce(depth, func() (err error) {
		target, err = s.driver.OpenSnapshot(ctx, s.ref(step.Target))
		return err
	}, func() (err error) {
		base, err = s.driver.OpenSnapshot(ctx, s.ref(step.Base))
		return err
	})
	if err == nil {
		return target, base, nil
	}
	for _, r := range []driver.Reader{target, base} {
		if r != nil {
			err = errors.Join(err, r.Close())
		}
	}
	return nil, nil, err
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
