package logstore

import (
	"context"
	"slices"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// sweepBatch is how many leaves the sweeper deals with while it holds the
// store.
const sweepBatch = 64

// wakeHousekeeper makes the housekeeper look what there is to do. It may be
// called with any lock held.
func (s *Store) wakeHousekeeper() {
	select {
	case s.keeping <- struct{}{}:
	default:
	}
}

// tidyUp is called when something was deleted: writers that come now wait for
// what room that makes.
func (s *Store) tidyUp() {
	s.wakeHousekeeper()
	s.pool.retry()
}

// keepHouse drops what deletions left behind, and gets segments back, until
// ctx ends. What fails is tried again the next time; a failure of the disk
// shows in the log's and the index's own errors.
func (s *Store) keepHouse(ctx context.Context) {
	timer := time.NewTimer(levelEvery)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.keeping:
		case <-timer.C:
			timer.Reset(levelEvery)
		}
		err := s.sweepAll(ctx)
		if err == nil {
			err = s.reclaimWhenDue(ctx)
		}
		if later := time.Duration(s.census.later.Load()); later > 0 {
			timer.Reset(min(later, levelEvery))
		}
		s.watchLevel(ctx)
		if err != nil && ctx.Err() == nil && !s.closed.Load() && s.log.failed() == nil {
			s.slog.Warn("housekeeping of the store failed", "err", err)
		}
	}
}

// sweepAll sweeps the branches that lost a mark.
func (s *Store) sweepAll(ctx context.Context) error {
	for {
		br, last, marks := s.nextDirty()
		if br == nil {
			return nil
		}
		if err := s.sweepBranch(ctx, br, last, marks); err != nil {
			s.mu.Lock()
			br.dirty = true
			s.mu.Unlock()
			return err
		}
	}
}

// nextDirty picks a branch to sweep and lists its marks, from old to new: the
// bounds below which something still looks at it. last is the branch's epoch at
// that moment: what a later mark sees was written in it or before.
func (s *Store) nextDirty() (br *branch, last uint64, marks []uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, b := range s.branches {
		if b.dirty {
			br = b
			break
		}
	}
	if br == nil {
		return nil, 0, nil
	}
	br.dirty = false
	for _, v := range s.volumes {
		if v.branch == br {
			marks = append(marks, head)
		}
		for _, snap := range v.snapshots {
			if snap.branch == br {
				marks = append(marks, snap.at)
			}
		}
	}
	for _, child := range s.branches {
		if child.parent == br {
			marks = append(marks, child.parentAt)
		}
	}
	slices.Sort(marks)
	return br, br.epoch, marks
}

// sweepBranch drops epochs that no mark sees, and joins epochs that no mark
// tells apart. Marks that are made meanwhile lie above the last epoch; epochs
// that begin with them are left alone, since marks does not tell them apart.
func (s *Store) sweepBranch(ctx context.Context, br *branch, last uint64, marks []uint64) error {
	kept := uint64(0)
	for epoch, ok := uint64(0), true; ; {
		var err error
		if epoch, ok, err = s.nextEpoch(br, epoch+1); err != nil || !ok || epoch > last {
			return s.swept(br, err)
		}
		i, exact := slices.BinarySearch(marks, epoch)
		if exact {
			i++ // a mark at the epoch does not see it
		}
		switch {
		case i == len(marks):
			err = s.sweepEpoch(ctx, br, epoch, 0)
		case kept != 0 && (i == 0 || marks[i-1] <= kept):
			err = s.sweepEpoch(ctx, br, epoch, kept)
		default:
			kept = epoch
		}
		if err != nil {
			return err
		}
	}
}

// swept notes that a branch has nothing to sweep any more.
func (s *Store) swept(br *branch, err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil || br.dirty || s.branches[br.num] != br {
		return err
	}
	s.freed = true
	return indexError(s.db.Delete(numberKey(keyDirty, br.num), pebble.NoSync))
}

// nextEpoch finds the first epoch of a branch not before the given one.
func (s *Store) nextEpoch(br *branch, from uint64) (uint64, bool, error) {
	it, err := s.db.NewIter(&pebble.IterOptions{
		LowerBound: changedKey(nil, br.num, from, 0), UpperBound: numberKey(keyChanged, br.num+1)})
	if err != nil {
		return 0, false, indexError(err)
	}
	defer it.Close()
	if !it.First() {
		return 0, false, indexError(it.Error())
	}
	_, epoch, _, ok := parseChangedKey(it.Key())
	return epoch, ok, nil
}

// sweepEpoch takes an epoch's versions away, laid over those of another epoch
// if into is one.
func (s *Store) sweepEpoch(ctx context.Context, br *branch, epoch, into uint64) error {
	for leaf, more := uint32(0), true; more; {
		if err := ctx.Err(); err != nil {
			return err
		}
		var err error
		if leaf, more, err = s.sweepLeaves(br, epoch, into, leaf); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) sweepLeaves(br *branch, epoch, into uint64, from uint32) (next uint32, more bool, err error) {
	s.shifting.Lock()
	defer s.shifting.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.branches[br.num] != br {
		return 0, false, nil // it went meanwhile, with all it had
	}
	it, err := s.db.NewIter(&pebble.IterOptions{
		LowerBound: changedKey(nil, br.num, epoch, from), UpperBound: numberKey(keyChanged, br.num, epoch+1)})
	if err != nil {
		return 0, false, indexError(err)
	}
	defer it.Close()
	b := s.db.NewBatch()
	defer b.Close()
	ok, n := it.First(), 0
	for ; ok && n < sweepBatch; ok, n = it.Next(), n+1 {
		_, _, leaf, good := parseChangedKey(it.Key())
		if !good {
			return 0, false, errIndexValue
		}
		if err := s.sweepLeaf(b, br.num, leaf, epoch, into); err != nil {
			return 0, false, err
		}
		next = leaf + 1
	}
	if err := it.Error(); err != nil {
		return 0, false, indexError(err)
	}
	if !s.hooks.is(trustOldNotes) {
		clear(s.recent) // it may say of a change that it is noted where it isn't now
	}
	return next, ok, indexError(b.Commit(pebble.NoSync))
}

func (s *Store) sweepLeaf(b *pebble.Batch, branch uint64, leaf uint32, epoch, into uint64) error {
	from := leafKey(nil, branch, leaf, epoch)
	var c, older cells
	if err := s.version(from, &c); err != nil {
		return err
	}
	gone := &c
	if into != 0 {
		to := leafKey(nil, branch, leaf, into)
		if err := s.version(to, &older); err != nil {
			return err
		}
		gone = &cells{}
		for i := range c {
			if c[i].set {
				gone[i] = older[i]
			}
		}
		c.under(&older)
		if err := b.Set(to, c.encode(nil), nil); err != nil {
			return indexError(err)
		}
		if err := b.Set(changedKey(nil, branch, into, leaf), nil, nil); err != nil {
			return indexError(err)
		}
	}
	for i := range gone {
		if gone[i].segment != 0 {
			s.died(gone[i].segment, 1)
		}
	}
	if err := b.Delete(from, nil); err != nil {
		return indexError(err)
	}
	return indexError(b.Delete(changedKey(nil, branch, epoch, leaf), nil))
}

// version reads one version of a leaf; nothing where there is none.
func (s *Store) version(key []byte, c *cells) error {
	v, closer, err := s.db.Get(key)
	if err == pebble.ErrNotFound { //nolint:errorlint // as Pebble documents it
		return nil
	} else if err != nil {
		return indexError(err)
	}
	defer closer.Close()
	return c.decode(v)
}
