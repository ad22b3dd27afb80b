package logstore

import (
	"sync/atomic"
)

// branch is a line of history. A volume writes at the end of one; a clone and
// a rewound volume begin a new one at a mark of another. A branch lives as
// long as a volume writes to it or one of its marks is held.
//
// A branch that no volume writes to may be absorbed by the one that goes on
// from its last mark (see absorb.go). It is then no branch any more, and who
// still names it means its heir.
type branch struct {
	num     uint64 // sequence of the record that made it
	volume  uint64
	line    atomic.Pointer[lineage]
	heir    atomic.Pointer[branch] // by whom it was absorbed; nil while it is a branch
	written atomic.Uint64

	// All below are guarded by Store.mu.
	epoch    uint64             // under which writes go now: sequence of the last mark
	head     bool               // a volume writes to it
	marks    mark               // the ends of the list of its marks, from old to new
	dirt     map[*mark][]uint64 // after which marks there is something to sweep, and what was there
	pin      *mark              // of the parent, that holds it
	before   *branch            // brothers at the same mark
	after    *branch
	absorbed []uint64 // of which it is the heir
	deep     bool     // it is to be absorbed, since those that grow out of it are too many
}

// lineage tells where a branch's history goes on before its own first epoch.
// It is never changed, only put in another's place.
type lineage struct {
	rest   uint64  // number of an absorbed branch of which versions may be left; 0: none
	restAt uint64  // bound: what lies below it in the rest is seen
	parent *branch // nil: nothing was before, all zeros
	at     uint64  // bound: what lies below it in the parent is seen
}

// mark is a moment of a branch: what lies below it is seen by a snapshot, or by
// branches that begin there.
type mark struct {
	at         uint64
	holders    int
	prev, next *mark
	child      *branch // the first of the branches that begin here
}

func newBranch(num, volume uint64, l *lineage) *branch {
	br := &branch{num: num, volume: volume, epoch: num}
	br.marks.prev, br.marks.next = &br.marks, &br.marks
	br.line.Store(l)
	return br
}

// final is the branch that stands for br now.
func (br *branch) final() *branch {
	for h := br.heir.Load(); h != nil; h = br.heir.Load() {
		br = h
	}
	return br
}

func (br *branch) marked() bool { return br.marks.next != &br.marks }

// last is the newest mark; the list's end where there is none.
func (br *branch) last() *mark { return br.marks.prev }

// addMark adds the newest mark, held once.
func (br *branch) addMark(at uint64) *mark {
	m := &mark{at: at, holders: 1, prev: br.marks.prev, next: &br.marks}
	m.prev.next, m.next.prev = m, m
	return m
}

// unlink takes a mark out of its list and hands its dirt to the one before.
func (br *branch) unlink(m *mark) {
	m.prev.next, m.next.prev = m.next, m.prev
	br.soil(m.prev, append(br.dirt[m], m.at)...)
	delete(br.dirt, m)
}

// soil notes what has to be swept after a mark.
func (br *branch) soil(after *mark, what ...uint64) {
	if br.dirt == nil {
		br.dirt = map[*mark][]uint64{}
	}
	if old := br.dirt[after]; len(old) > 0 {
		what = append(old, what...)
	}
	br.dirt[after] = what
}

// gapOf finds the mark after which a moment lies: the newest mark before it.
func (br *branch) gapOf(at uint64) *mark {
	m := br.marks.prev
	for m != &br.marks && m.at >= at {
		m = m.prev
	}
	return m
}

// adopt makes br begin at a mark of its parent.
func (br *branch) adopt(m *mark) {
	br.pin, br.after = m, m.child
	if m.child != nil {
		m.child.before = br
	}
	m.child = br
}

// orphan undoes adopt.
func (br *branch) orphan() {
	if br.before != nil {
		br.before.after = br.after
	} else {
		br.pin.child = br.after
	}
	if br.after != nil {
		br.after.before = br.before
	}
	br.pin, br.before, br.after = nil, nil, nil
}

func (br *branch) value() []byte {
	l := br.line.Load()
	var parent uint64
	if l.parent != nil {
		parent = l.parent.num
	}
	return encoder(nil).uint(parent).uint(l.at).uint(br.volume).uint(br.epoch)
}

// view is what is seen of the versions under one branch's number: those whose
// epoch lies below a bound.
type view struct {
	branch uint64
	bound  uint64
	rest   bool // of the branch of the view before
}

// maxViews is how many views a chain has that needs no memory of its own.
const maxViews = 40

// views lists, from new to old, where blocks may be found as seen from a branch
// below a bound. It takes no lock: see steady.
func (br *branch) views(bound uint64, to []view) []view {
	for br != nil {
		br = br.final()
		l := br.line.Load()
		to = append(to, view{branch: br.num, bound: bound})
		if l.rest != 0 {
			to = append(to, view{l.rest, min(bound, l.restAt), true})
		}
		br, bound = l.parent, min(bound, l.at)
	}
	return to
}

// depth is how many branches a block may have to be looked for in.
func (br *branch) depth() (n int) {
	for ; br != nil; n++ {
		br = br.final().line.Load().parent
	}
	return n
}
