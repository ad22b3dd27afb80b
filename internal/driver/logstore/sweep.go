package logstore

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// Deleting a mark changes nothing for those who read; it leaves epochs that no
// mark tells apart, or that none sees. Marks are kept in order, so that the gap
// between the two neighbours of a deleted mark is known at once, and sweeping
// it costs what was changed in it, however many marks and epochs there are.

// defaultSweepBatch is how many leaves the sweeper deals with, or versions
// absorbing moves, while it holds the store.
const defaultSweepBatch = 64

// sweepWork counts what sweeping and absorbing looked at, for tests.
type sweepWork struct {
	gaps atomic.Int64
	keys atomic.Int64 // of the index
}

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
		s.tellSuspects()
		err := s.tidyBranches(ctx)
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

// tidyBranches sweeps what deletions left, and absorbs branches, until there is
// nothing of either. Sweeping comes first after each few steps of absorbing:
// it makes room.
func (s *Store) tidyBranches(ctx context.Context) error {
	for {
		if err := s.sweepAll(ctx); err != nil {
			return err
		}
		if more, err := s.absorb(ctx); err != nil || !more {
			return err
		}
	}
}

// gap is the part of a branch between two neighbouring marks: its epochs are
// not told apart.
type gap struct {
	br       *branch
	after    *mark
	from, to uint64   // epochs in [from, to)
	seen     bool     // by the mark at its end, or the branch's present
	what     []uint64 // moments for which it is noted as to be swept
}

// sweepAll sweeps all gaps that lost a mark, but those of a branch to which
// versions of another are being moved.
func (s *Store) sweepAll(ctx context.Context) error {
	s.sweeping.Lock()
	defer s.sweeping.Unlock()
	for {
		g, ok := s.nextGap()
		if !ok {
			return nil
		}
		s.swept.gaps.Add(1)
		if s.hooks.is(noteSweptEarly) {
			_ = s.noteSwept(g)
		}
		err := s.sweepGap(ctx, g)
		if err == nil {
			err = s.noteSwept(g)
		}
		if err != nil {
			s.mu.Lock()
			if s.branches[g.br.num] == g.br {
				for _, at := range g.what {
					g.br.soil(g.br.gapOf(at), at)
				}
				s.dirty[g.br] = struct{}{}
			}
			s.mu.Unlock()
			return err
		}
	}
}

// nextGap picks a gap to sweep. Marks that are made from now on lie above the
// branch's present epoch, which thus ends a gap that ends at the present.
func (s *Store) nextGap() (g gap, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for br := range s.dirty {
		if s.moving != nil && s.moving.to == br {
			continue
		}
		for m, what := range br.dirt {
			delete(br.dirt, m)
			g = gap{br: br, after: m, from: m.at, to: m.next.at, seen: true, what: what}
			if m.next == &br.marks {
				g.to, g.seen = br.epoch+1, br.head
			} else if s.hooks.is(sweepPastMark) {
				g.to++
			}
			return g, true
		}
		delete(s.dirty, br)
	}
	return gap{}, false
}

// sweepGap drops the epochs of a gap if nothing sees them, else joins them to
// one: of two the one with fewer changes goes into the other, so that it costs
// the least whatever the order in which marks are deleted.
func (s *Store) sweepGap(ctx context.Context, g gap) error {
	kept := uint64(0)
	for next := g.from; ; {
		epoch, ok, err := s.nextEpoch(g.br, next, g.to)
		if err != nil || !ok {
			return err
		}
		next = epoch + 1
		switch {
		case !g.seen || s.hooks.is(dropSeen):
			err = s.sweepEpoch(ctx, g.br, epoch, 0)
		case kept == 0:
			kept = epoch
		default:
			var fewer bool
			if fewer, err = s.fewer(g.br, kept, epoch); err == nil && fewer {
				kept, epoch = epoch, kept
			}
			if err == nil {
				err = s.sweepEpoch(ctx, g.br, epoch, kept)
			}
		}
		if err != nil {
			return err
		}
	}
}

// noteSwept takes the notes away that a gap has something to sweep.
func (s *Store) noteSwept(g gap) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.branches[g.br.num] != g.br {
		return nil
	}
	b := s.db.NewBatch()
	defer b.Close()
	for _, at := range g.what {
		k := numberKey(keyDirty, g.br.num, at)
		if at == wholeBranch {
			if len(g.br.dirt) > 0 { // the note stands for the other gaps, too
				for m := range g.br.dirt {
					g.br.soil(m, wholeBranch)
					break
				}
				continue
			}
			k = numberKey(keyDirty, g.br.num)
		}
		if err := b.Delete(k, nil); err != nil {
			return indexError(err)
		}
	}
	return indexError(b.Commit(pebble.NoSync))
}

// nextEpoch finds the first epoch of a branch in [from, to).
func (s *Store) nextEpoch(br *branch, from, to uint64) (uint64, bool, error) {
	it, err := s.db.NewIter(&pebble.IterOptions{
		LowerBound: changedKey(nil, br.num, from, 0), UpperBound: changedKey(nil, br.num, to, 0)})
	if err != nil {
		return 0, false, indexError(err)
	}
	defer it.Close()
	s.swept.keys.Add(1)
	if !it.First() {
		return 0, false, indexError(it.Error())
	}
	_, epoch, _, ok := parseChangedKey(it.Key())
	return epoch, ok, nil
}

// fewer tells whether an epoch has fewer changed leaves than another. It looks
// at no more of either than the smaller one has.
func (s *Store) fewer(br *branch, epoch, other uint64) (bool, error) {
	var its [2]*pebble.Iterator
	for i, e := range []uint64{epoch, other} {
		it, err := s.db.NewIter(&pebble.IterOptions{
			LowerBound: changedKey(nil, br.num, e, 0), UpperBound: changedKey(nil, br.num, e+1, 0)})
		if err != nil {
			return false, indexError(err)
		}
		defer it.Close()
		its[i] = it
	}
	a, b := its[0].First(), its[1].First()
	for a && b {
		s.swept.keys.Add(2)
		a, b = its[0].Next(), its[1].Next()
	}
	if err := its[0].Error(); err != nil {
		return false, indexError(err)
	}
	return b, indexError(its[1].Error())
}

// sweepEpoch takes an epoch's versions away; if into is another epoch they are
// joined with those: the newer lie over the older.
func (s *Store) sweepEpoch(ctx context.Context, br *branch, epoch, into uint64) error {
	for leaf, more := uint32(0), true; more; {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := s.waitIndex(); err != nil {
			return err
		}
		if err := s.foresee(br, epoch, into, leaf); err != nil {
			return err
		}
		var err error
		if leaf, more, err = s.sweepLeaves(br, epoch, into, leaf); err != nil {
			return err
		}
	}
	return nil
}

// foresee reads what sweepLeaves needs next into the index's cache, while nobody
// waits for it: on a disk that is slow, a batch of leaves takes a second to read.
func (s *Store) foresee(br *branch, epoch, into uint64, from uint32) error {
	it, err := s.db.NewIter(&pebble.IterOptions{
		LowerBound: changedKey(nil, br.num, epoch, from), UpperBound: changedKey(nil, br.num, epoch+1, 0)})
	if err != nil {
		return indexError(err)
	}
	defer it.Close()
	for ok, n := it.First(), 0; ok && n < s.sweepBatch; ok, n = it.Next(), n+1 {
		_, _, leaf, good := parseChangedKey(it.Key())
		if !good {
			return errIndexValue
		}
		for _, e := range []uint64{epoch, into} {
			var c cells
			if err := s.version(leafKey(nil, br.num, leaf, e), &c); err != nil {
				return err
			}
		}
	}
	return indexError(it.Error())
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
		LowerBound: changedKey(nil, br.num, epoch, from), UpperBound: changedKey(nil, br.num, epoch+1, 0)})
	if err != nil {
		return 0, false, indexError(err)
	}
	defer it.Close()
	b := s.db.NewBatch()
	defer b.Close()
	dead := map[uint32]int64{}
	ok, n := it.First(), 0
	for ; ok && n < s.sweepBatch; ok, n = it.Next(), n+1 {
		_, _, leaf, good := parseChangedKey(it.Key())
		if !good {
			return 0, false, errIndexValue
		}
		if err := s.sweepLeaf(b, br.num, leaf, epoch, into, dead); err != nil {
			return 0, false, err
		}
		next = leaf + 1
	}
	if err := it.Error(); err != nil {
		return 0, false, indexError(err)
	}
	s.swept.keys.Add(int64(n))
	return next, ok && next != 0, s.commitSwept(b, dead)
}

// commitSwept commits what sweeping changed, with the counts of the segments in
// which it left blocks dead.
func (s *Store) commitSwept(b *pebble.Batch, dead map[uint32]int64) error {
	for segment, n := range dead {
		s.died(segment, n)
		if u := s.usage[segment]; u != nil {
			if err := b.Set(segmentKey(segment), u.value(), nil); err != nil {
				return indexError(err)
			}
		}
	}
	s.sinceLook += int64(b.Len())
	return indexError(b.Commit(pebble.NoSync))
}

func (s *Store) sweepLeaf(b *pebble.Batch, branch uint64, leaf uint32, epoch, into uint64,
	dead map[uint32]int64) error {
	from := leafKey(nil, branch, leaf, epoch)
	var c cells
	if err := s.version(from, &c); err != nil {
		return err
	}
	gone := &c
	if into != 0 {
		to := leafKey(nil, branch, leaf, into)
		var other cells
		if err := s.version(to, &other); err != nil {
			return err
		}
		newer, older := &c, &other
		if epoch < into != s.hooks.is(joinOldOver) {
			newer, older = older, newer
		}
		gone = &cells{}
		for i := range newer {
			if newer[i].set {
				gone[i] = older[i]
			}
		}
		newer.under(older)
		if err := b.Set(to, newer.encode(nil), nil); err != nil {
			return indexError(err)
		}
		if err := b.Set(changedKey(nil, branch, into, leaf), nil, nil); err != nil {
			return indexError(err)
		}
	}
	for i := range gone {
		if gone[i].segment != 0 {
			dead[gone[i].segment]++
		}
	}
	if err := b.Delete(from, nil); err != nil {
		return indexError(err)
	}
	if !s.hooks.is(trustOldNotes) {
		delete(s.recent, versionID{branch, epoch, leaf}) // its change is not noted any more
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
