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
	// Delta emits the runs that lead from a step's base to its target, from the
	// offset on that begin returns, in order, and returns the target's sum, given the
	// base's. What lies before the offset goes into the sum all the same. begin is
	// called once, before emit; the Source may get ready meanwhile. The runs' data
	// belongs to the Source again when emit returns.
	Delta(ctx context.Context, s block.Step, sum Sum, begin Begin, emit func(Run) error) (Sum, error)
}

// Begin makes the other end ready for a step and returns the offset from which on it
// wants the step's runs: Target's.
type Begin func() (offset int64, err error)

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
	begin Begin,
	emit func(Run) error,
) (_ Sum, err error) {
	if depth := depthOf(s.driver); depth > 1 {
		return s.deltaFar(ctx, step, sum, begin, depth, emit)
	}
	from, err := begin()
	if err != nil {
		return sum, err
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
	begin := func() (int64, error) { return dst.Begin(ctx, s) }
	sum, err := src.Delta(ctx, s, sum, begin, func(r Run) error { return dst.Write(ctx, r) })
	if err != nil {
		return block.Point{}, sum, err
	}
	p, err := dst.Commit(ctx, Commit{Root: sum.Root(s.Target.Size), Entry: entry})
	if err != nil {
		p = s.Target
	}
	return p, sum, err
}
