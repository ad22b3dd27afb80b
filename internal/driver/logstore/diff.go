package logstore

import (
	"context"
	"encoding/binary"
	"iter"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"kvol/internal/block"
	"kvol/internal/driver"
)

// Diff is driver.Differ's. It costs time in proportion to the leaves that
// changed between the two snapshots, and 4 bytes of memory for each.
func (s *Store) Diff(ctx context.Context, from, to driver.SnapshotRef) iter.Seq2[driver.Extent, error] {
	return func(yield func(driver.Extent, error) bool) {
		if err := s.usable(ctx); err != nil {
			yield(driver.Extent{}, err)
			return
		}
		if from.Zero() {
			s.diffAll(ctx, to, yield)
			return
		}
		if err := s.diff(ctx, from, to, yield); err != nil {
			yield(driver.Extent{}, err)
		}
	}
}

// hold opens a snapshot so that it stays while a diff is read.
func (s *Store) hold(ctx context.Context, ref driver.SnapshotRef) (*reader, error) {
	r, err := s.OpenSnapshot(ctx, ref)
	if err != nil {
		return nil, err
	}
	return r.(*reader), nil
}

// diffAll yields what is allocated.
func (s *Store) diffAll(ctx context.Context, ref driver.SnapshotRef, yield func(driver.Extent, error) bool) {
	r, err := s.hold(ctx, ref)
	if err != nil {
		yield(driver.Extent{}, err)
		return
	}
	defer r.Close()
	for e, err := range r.Extents(0, r.Size()) {
		if err == nil {
			err = s.usable(ctx)
		}
		if err == nil && e.Zero {
			continue
		}
		if !yield(e, err) || err != nil {
			return
		}
	}
}

// span is a range of epochs of a branch.
type span struct {
	br       *branch
	from, to uint64 // [from, to)
}

// spans lists where the changes from one mark to a later one of the same
// history lie.
func spans(from, to *snapshot) ([]span, bool) {
	var out []span
	bound := to.at
	for br := to.branch; br != nil; bound, br = br.parentAt, br.parent {
		if br == from.branch {
			return append(out, span{br, from.at, bound}), from.at <= bound
		}
		out = append(out, span{br, 0, bound})
	}
	return nil, false
}

func (s *Store) diff(ctx context.Context, from, to driver.SnapshotRef, yield func(driver.Extent, error) bool) error {
	if from.Volume != to.Volume {
		return block.Errorf(block.Invalid, "a difference is taken between snapshots of one volume")
	}
	older, err := s.hold(ctx, from)
	if err != nil {
		return err
	}
	defer older.Close()
	newer, err := s.hold(ctx, to)
	if err != nil {
		return err
	}
	defer newer.Close()
	where, ok := spans(older.snapshot, newer.snapshot)
	if !ok {
		return block.Errorf(block.Invalid, "snapshot %s is not older than %s", from.Name, to.Name)
	}
	leaves, err := s.changedLeaves(where)
	if err != nil {
		return err
	}
	out := extentWriter{yield: func(e driver.Extent) bool { return yield(e, nil) }, to: newer.Size()}
	var c cells
	for _, leaf := range leaves {
		if err := s.usable(ctx); err != nil {
			return err
		}
		changed, err := s.changedBlocks(where, leaf)
		if err != nil {
			return err
		}
		if err := s.lookup(newer.snapshot.branch, newer.snapshot.at, leaf, 0, leafBlocks, &c); err != nil {
			return err
		}
		for i := range changed {
			if changed[i] {
				out.add(int64(leaf)*leafSize+int64(i)*blockSize, blockSize, c[i].zero())
			}
		}
		if out.stopped {
			return nil
		}
	}
	out.flush()
	return nil
}

// changedLeaves lists the leaves that were changed in some spans, in order.
func (s *Store) changedLeaves(where []span) ([]uint32, error) {
	var leaves []uint32
	for _, w := range where {
		it, err := s.db.NewIter(&pebble.IterOptions{
			LowerBound: changedKey(nil, w.br.num, w.from, 0), UpperBound: changedKey(nil, w.br.num, w.to, 0)})
		if err != nil {
			return nil, indexError(err)
		}
		for ok := it.First(); ok; ok = it.Next() {
			leaves = append(leaves, binary.BigEndian.Uint32(it.Key()[len(it.Key())-4:]))
			if len(leaves) == cap(leaves) { // before it grows: it may repeat itself
				slices.Sort(leaves)
				leaves = slices.Compact(leaves)
			}
		}
		if err := it.Close(); err != nil {
			return nil, indexError(err)
		}
	}
	slices.Sort(leaves)
	return slices.Compact(leaves), nil
}

// changedBlocks tells which blocks of a leaf were changed in some spans.
func (s *Store) changedBlocks(where []span, leaf uint32) (out [leafBlocks]bool, err error) {
	for _, w := range where {
		lower := leafKey(nil, w.br.num, leaf, w.to-1)
		upper := next(leafKey(nil, w.br.num, leaf, w.from))
		it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
		if err != nil {
			return out, indexError(err)
		}
		for ok := it.First(); ok && err == nil; ok = it.Next() {
			var v []byte
			if v, err = it.ValueAndErr(); err == nil {
				err = eachRun(v, func(r run) {
					for i := range r.count {
						out[r.first+i] = true
					}
				})
			}
		}
		if cerr := it.Close(); err == nil {
			err = cerr
		}
		if err != nil {
			return out, indexError(err)
		}
	}
	return out, nil
}
