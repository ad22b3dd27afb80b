package logstore

import (
	"context"
	"iter"
	"slices"

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

// since lists where the changes from one mark to a later one of the same
// history lie: what is seen from the later one, in epochs not below from.at,
// up to the branch that the older one is on.
func since(from *snapshot, views []view) ([]view, bool) {
	own := from.branch.final().num
	for i, w := range views {
		if w.branch != own {
			continue
		}
		if from.at > w.bound {
			return nil, false
		}
		if i+1 < len(views) && views[i+1].rest {
			i++
		}
		return views[:i+1], true
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
	leaves, err := s.changedLeaves(older.snapshot, newer.snapshot)
	if err != nil {
		return err
	}
	out := extentWriter{yield: func(e driver.Extent) bool { return yield(e, nil) }, to: newer.Size()}
	var c cells
	for _, leaf := range leaves {
		if err := s.usable(ctx); err != nil {
			return err
		}
		changed, err := s.changedBlocks(older.snapshot, newer.snapshot, leaf)
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

// changedLeaves lists the leaves that were changed between two marks, in order.
func (s *Store) changedLeaves(from, to *snapshot) ([]uint32, error) {
	it, views, err := s.steady(to.branch, to.at, nil, []byte{keyChanged}, []byte{keyChanged + 1})
	if err != nil {
		return nil, err
	}
	defer it.Close()
	where, ok := since(from, views)
	if !ok {
		return nil, block.Errorf(block.Invalid, "snapshot %s is not older than %s", from.name, to.name)
	}
	var leaves []uint32
	for _, w := range where {
		for ok := it.SeekGE(changedKey(nil, w.branch, from.at, 0)); ok; ok = it.Next() {
			num, epoch, leaf, good := parseChangedKey(it.Key())
			if !good || num != w.branch || epoch >= w.bound {
				break
			}
			leaves = append(leaves, leaf)
			if len(leaves) == cap(leaves) { // before it grows: it may repeat itself
				slices.Sort(leaves)
				leaves = slices.Compact(leaves)
			}
		}
		if err := it.Error(); err != nil {
			return nil, indexError(err)
		}
	}
	slices.Sort(leaves)
	return slices.Compact(leaves), nil
}

// changedBlocks tells which blocks of a leaf were changed between two marks.
func (s *Store) changedBlocks(from, to *snapshot, leaf uint32) (out [leafBlocks]bool, err error) {
	it, views, err := s.steady(to.branch, to.at, nil, []byte{keyLeaf}, []byte{keyLeaf + 1})
	if err != nil {
		return out, err
	}
	defer it.Close()
	where, _ := since(from, views)
	for _, w := range where {
		for ok := it.SeekGE(leafKey(nil, w.branch, leaf, w.bound-1)); ok; ok = it.Next() {
			num, l, epoch, good := parseLeafKey(it.Key())
			if !good || num != w.branch || l != leaf || epoch < from.at {
				break
			}
			v, err := it.ValueAndErr()
			if err == nil {
				err = eachRun(v, func(r run) {
					for i := range r.count {
						out[r.first+i] = true
					}
				})
			}
			if err != nil {
				return out, indexError(err)
			}
		}
		if err := it.Error(); err != nil {
			return out, indexError(err)
		}
	}
	return out, nil
}
