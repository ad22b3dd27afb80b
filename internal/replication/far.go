package replication

import (
	"context"
	"errors"
	"iter"
	"sync"

	"kvol/internal/block"
	"kvol/internal/driver"
)

// way is where a step is read from.
type way struct {
	changes iter.Seq2[driver.Piece, error]
	target  *later
	base    *later    // nil for a whole copy
	know    *recalled // nil where nothing is remembered
	depth   int
}

// deltaFar is Delta for a store that is far away. It gets ready, and reads ahead,
// while the other end makes itself ready. What nobody needs is not opened: the base,
// if all of it is remembered, and the target point, if what changed comes with its
// bytes.
func (s store) deltaFar(
	ctx context.Context,
	step block.Step,
	sum Sum,
	begin Begin,
	depth int,
	emit func(Run) error,
) (_ Sum, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	know, known := s.recall.begin(s.name, step.Base.ID)
	if step.Base.ID == "" && step.Target.Size > recallWhole {
		know = nil
	}
	changes, filled := s.pieces(ctx, step)
	w := way{changes: changes, know: know, depth: depth, target: &later{driver: s.driver, ref: s.ref(step.Target)}}
	if step.Base.ID != "" {
		w.base = &later{driver: s.driver, ref: s.ref(step.Base)}
	}
	var opening sync.WaitGroup
	if !filled {
		opening.Go(func() { _, _ = w.target.get(ctx) }) // who needs it hears of an error
	}
	if w.base != nil && !known {
		opening.Go(func() { _, _ = w.base.get(ctx) })
	}
	defer func() {
		opening.Wait()
		err = errors.Join(err, w.target.close(), w.base.close())
	}()
	var from int64
	var refused error
	ready := make(chan struct{})
	go func() { // ends before this function does
		defer close(ready)
		if from, refused = begin(); refused != nil {
			cancel()
		}
	}()
	sum, err = deltaAhead(ctx, w, sum, func(r Run) error {
		if <-ready; refused != nil {
			return refused
		}
		err := s.onward(step, from, emit)(r)
		if err != nil {
			cancel() // what is read ahead is for nobody
		}
		return err
	})
	if <-ready; refused != nil {
		return sum, refused
	}
	if err == nil {
		know.done(step.Target.ID)
	}
	return sum, err
}

// pieces are what differs between a step's points, in order; filled says that most
// of it comes with its bytes.
func (s store) pieces(ctx context.Context, step block.Step) (all iter.Seq2[driver.Piece, error], filled bool) {
	if d, ok := driver.As[driver.DiffReader](s.driver); ok {
		if all := d.ReadDiff(ctx, s.ref(step.Base), s.ref(step.Target), step.Target.Size); all != nil {
			return all, true
		}
	}
	return func(yield func(driver.Piece, error) bool) {
		for e, err := range s.changes(ctx, step) {
			if !yield(driver.Piece{Extent: e}, err) {
				return
			}
		}
	}, false
}
