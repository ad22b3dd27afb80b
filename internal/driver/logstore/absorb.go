package logstore

import (
	"context"

	"github.com/cockroachdb/pebble/v2"
)

// A branch that no volume writes to any more is absorbed by the one that goes
// on from its last mark: its versions move under that one's number, with their
// epochs. So chains of branches stay short, whatever is cloned, rewound and
// deleted, and blocks that only such a branch still has, hidden by newer ones,
// die with the next sweep. See docs/adr/0006-absorbing-branches.md.
//
// The nouns change first, in one batch with a note of it: marks, clones and
// snapshots are the heir's from then on, and reading looks under both numbers,
// the heir's first. Then the versions move, a few at a time, from new to old,
// so that of one leaf no older version is ever found before a newer one. Who
// reads sees one moment of the index; whoever looked up its views before the
// absorption began and got an iterator after that looks them up again (see
// steady). A crash between any two batches leaves a state like any other: the
// note says what is left to be moved.
//
// Records in the log keep the number of the branch that they were written to.
// Compaction and checks look for their blocks under the heir, which is why the
// note stays as long as the heir lives.

// maxDepth is how many branches a chain has before such are absorbed of which
// snapshots or other clones are left; of others it is done at once.
const maxDepth = 8

// moving is an absorption of which versions are left to be moved.
type moving struct {
	from   uint64 // the number under which they are
	restAt uint64
	to     *branch
}

// branchOf is the branch that a number stands for; nil if there is none.
func (s *Store) branchOf(num uint64) *branch {
	if br := s.branches[num]; br != nil {
		return br
	}
	if alias := s.aliases[num]; alias != nil {
		return alias.final()
	}
	return nil
}

// mayAbsorb notes that a branch lost something, after which another may absorb
// it. The caller holds s.mu, or is recovery.
func (s *Store) mayAbsorb(br *branch) {
	if !br.head {
		s.candidates[br] = struct{}{}
	}
}

// lookDeep has all that can be absorbed in a chain that is too long. The caller
// holds s.mu, or is recovery.
func (s *Store) lookDeep(br *branch) {
	if br.depth() <= maxDepth {
		return
	}
	for p := br.line.Load().parent; p != nil; p = p.line.Load().parent {
		if p = p.final(); !p.head {
			p.deep = true
			s.candidates[p] = struct{}{}
		}
	}
}

// heirFor is the branch that should absorb br: one that begins at its last
// mark, of its own volume if there is one.
func (br *branch) heirFor() *branch {
	if br.head || !br.marked() {
		return nil
	}
	last := br.last()
	if alone := br.marks.next == last && last.holders == 1; !alone && !br.deep {
		return nil
	}
	for c := last.child; c != nil; c = c.after {
		if c.volume == br.volume {
			return c
		}
	}
	return last.child
}

// absorb does a step of absorbing and reports whether there is more to do.
func (s *Store) absorb(ctx context.Context) (more bool, err error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	if err := s.waitIndex(); err != nil {
		return false, err
	}
	s.sweeping.Lock()
	defer s.sweeping.Unlock()
	s.shifting.Lock()
	defer s.shifting.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.moving != nil {
		return s.moveRest()
	}
	if s.examining > 0 {
		return false, nil
	}
	for br := range s.candidates {
		delete(s.candidates, br)
		if s.branches[br.num] != br {
			continue
		}
		heir := br.heirFor()
		if heir == nil {
			continue
		}
		if len(br.dirt) > 0 || len(heir.dirt) > 0 { // it is swept first
			s.candidates[br] = struct{}{}
			return true, nil
		}
		return true, s.beginAbsorption(br, heir)
	}
	return false, nil
}

// beginAbsorption makes heir stand for br, neither of which has anything to
// sweep. What it changes in memory for those
// who read without a lock is in an order in which each state is right. The
// caller holds s.mu.
func (s *Store) beginAbsorption(br, heir *branch) error {
	b := s.db.NewBatch()
	defer b.Close()
	old, own := br.line.Load(), heir.line.Load()
	m := heir.pin
	heir.orphan()
	if old.parent != nil {
		pin := br.pin
		br.orphan()
		heir.adopt(pin)
	}
	heir.takeMarks(br)
	delete(s.branches, br.num)
	s.aliases[br.num] = br
	for _, num := range br.absorbed {
		s.aliases[num].heir.Store(heir)
	}
	heir.absorbed = append(append(heir.absorbed, br.absorbed...), br.num)
	heir.line.Store(&lineage{rest: br.num, restAt: own.at, parent: old.parent, at: old.at})
	br.heir.Store(heir)
	s.shape.Add(1)
	s.moving = &moving{from: br.num, restAt: own.at, to: heir}

	_ = b.Set(numberKey(keyHeir, br.num), heirRow{heir.num, own.at}.value(), nil)
	_ = b.Set(numberKey(keyBranch, heir.num), heir.value(), nil)
	for _, kind := range []byte{keyBranch, keyWritten} {
		_ = b.Delete(numberKey(kind, br.num), nil)
	}
	s.letGo(b, heir, m) // its own beginning tells nothing apart any more
	return indexError(b.Commit(pebble.NoSync))
}

// takeMarks puts the marks of a branch, which are all older, before br's own.
// Neither has anything to sweep.
func (br *branch) takeMarks(from *branch) {
	first, last := from.marks.next, from.marks.prev
	first.prev, last.next = &br.marks, br.marks.next
	br.marks.next.prev, br.marks.next = last, first
	from.marks.prev, from.marks.next = &from.marks, &from.marks
}

// moveRest moves some versions, from new to old. The caller holds s.mu and
// s.shifting.
func (s *Store) moveRest() (more bool, err error) {
	m := s.moving
	if s.branches[m.to.num] != m.to {
		if s.examining == 0 {
			s.moving = nil // it went, with all that was its own
		}
		return s.moving == nil, nil
	}
	k := numberKey(keyChanged, m.from)
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: k, UpperBound: next(k)})
	if err != nil {
		return false, indexError(err)
	}
	defer it.Close()
	b := s.db.NewBatch()
	defer b.Close()
	step, ok := it.Prev, it.Last()
	if s.hooks.is(moveOldFirst) {
		step, ok = it.Next, it.First()
	}
	n := 0
	for ; ok && n < s.sweepBatch; ok, n = step(), n+1 {
		if err := s.moveVersion(b, it.Key(), m.to.num); err != nil {
			return false, err
		}
	}
	if err := it.Error(); err != nil {
		return false, indexError(err)
	}
	s.swept.keys.Add(int64(n))
	if n == 0 {
		if s.examining > 0 {
			return false, nil
		}
		s.endAbsorption(b)
	}
	s.sinceLook += int64(b.Len())
	return true, indexError(b.Commit(pebble.NoSync))
}

// moveVersion moves the version of which changed is the note.
func (s *Store) moveVersion(b *pebble.Batch, changed []byte, to uint64) error {
	branch, epoch, leaf, ok := parseChangedKey(changed)
	if !ok {
		return errIndexValue
	}
	from := leafKey(nil, branch, leaf, epoch)
	v, closer, err := s.db.Get(from)
	if err != nil {
		return indexError(err)
	}
	err = b.Set(leafKey(nil, to, leaf, epoch), v, nil)
	closer.Close()
	if err != nil {
		return indexError(err)
	}
	_ = b.Set(changedKey(nil, to, epoch, leaf), nil, nil)
	_ = b.Delete(from, nil)
	return indexError(b.Delete(changed, nil))
}

// endAbsorption notes that nothing is left under the old number.
func (s *Store) endAbsorption(b *pebble.Batch) {
	m := s.moving
	l := m.to.line.Load()
	m.to.line.Store(&lineage{parent: l.parent, at: l.at})
	_ = b.Set(numberKey(keyHeir, m.from), heirRow{heir: m.to.num}.value(), nil)
	s.moving = nil
}

// dropAliases forgets by whom branches were absorbed, when that one goes. An
// examination of an older moment of the index still asks for it.
func (s *Store) dropAliases(b *pebble.Batch, br *branch) {
	for _, num := range br.absorbed {
		_ = b.Delete(numberKey(keyHeir, num), nil)
		if s.examining == 0 {
			delete(s.aliases, num)
		}
	}
}

// storedUnder lists the numbers under which a branch's versions may be.
func (s *Store) storedUnder(line uint64) []uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if m := s.moving; m != nil && m.to.num == line {
		return []uint64{m.from, line}
	}
	return []uint64{line}
}
