package logstore

import (
	"github.com/cockroachdb/pebble/v2"
)

// resolve finds where the blocks of a leaf lie, as seen from a branch below a
// bound: in its own versions from new to old, then in its parent's. Cells that
// stay unset read as zeros.
func (s *Store) resolve(br *branch, bound uint64, leaf uint32, out *cells) error {
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: []byte{keyLeaf}, UpperBound: []byte{keyLeaf + 1}})
	if err != nil {
		return indexError(err)
	}
	defer it.Close()
	*out = cells{}
	missing := leafBlocks
	var key []byte
	for ; br != nil && missing > 0; br, bound = br.parent, br.parentAt {
		key = leafKey(key, br.num, leaf, bound-1)
		for ok := it.SeekGE(key); ok && missing > 0; ok = it.Next() {
			num, l, _, good := parseLeafKey(it.Key())
			if !good || num != br.num || l != leaf {
				break
			}
			v, err := it.ValueAndErr()
			if err != nil {
				return indexError(err)
			}
			if err := eachRun(v, func(r run) { missing -= out.fill(r) }); err != nil {
				return err
			}
		}
		if err := it.Error(); err != nil {
			return indexError(err)
		}
	}
	return nil
}

// eachVersion calls f for a branch's versions of a leaf below a bound, from new
// to old, until f returns false.
func (s *Store) eachVersion(branch uint64, leaf uint32, bound uint64, f func(epoch uint64, c *cells) bool) error {
	lower := leafKey(nil, branch, leaf, bound-1)
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: next(lower[:len(lower)-8])})
	if err != nil {
		return indexError(err)
	}
	defer it.Close()
	var c cells
	for ok := it.First(); ok; ok = it.Next() {
		v, err := it.ValueAndErr()
		if err != nil {
			return indexError(err)
		}
		c = cells{}
		if err := c.decode(v); err != nil {
			return err
		}
		if _, _, epoch, ok := parseLeafKey(it.Key()); ok && !f(epoch, &c) {
			return nil
		}
	}
	return indexError(it.Error())
}

// fill lays r beneath c and returns how many cells it set.
func (c *cells) fill(r run) int {
	n := 0
	for i := range r.count {
		if c[r.first+i].set {
			continue
		}
		n++
		if r.segment == 0 {
			c[r.first+i] = cell{set: true}
		} else {
			c[r.first+i] = cell{r.segment, r.off + uint32(i)*blockSize, le.Uint32(r.crcs[i*4:]), true}
		}
	}
	return n
}

// lookup is resolve for cells [from, to) with the cache in front.
func (s *Store) lookup(br *branch, bound uint64, leaf uint32, from, to int, out *cells) error {
	id := leafID{br.num, bound, leaf}
	stamp, ok := s.cache.get(id, from, to, out)
	if ok {
		return nil
	}
	if err := s.resolve(br, bound, leaf, out); err != nil {
		return err
	}
	s.cache.put(id, stamp, out)
	return nil
}

// leafWalk goes over the leaves that one branch has versions of below a bound.
type leafWalk struct {
	it    *pebble.Iterator
	br    *branch
	bound uint64
	leaf  uint32
	ok    bool
	key   []byte
}

// seek goes to the first leaf not before the given one.
func (w *leafWalk) seek(leaf uint32) {
	for {
		w.key = leafKey(w.key, w.br.num, leaf, w.bound-1)
		if w.ok = w.it.SeekGE(w.key); !w.ok {
			return
		}
		_, l, epoch, good := parseLeafKey(w.it.Key())
		if w.ok = good; !good {
			return
		}
		if epoch < w.bound {
			w.leaf = l
			return
		}
		leaf = l // all its versions may be too new: look below the bound
	}
}

// eachLeaf calls f in order for the leaves in [from, to] that anything was
// written to, as seen from a branch below a bound, until f returns false.
func (s *Store) eachLeaf(br *branch, bound uint64, from, to uint32, f func(leaf uint32) bool) error {
	var walks []*leafWalk
	defer func() {
		for _, w := range walks {
			w.it.Close()
		}
	}()
	for ; br != nil; br, bound = br.parent, br.parentAt {
		upper := numberKey(keyLeaf, br.num+1)
		if to < 1<<32-1 {
			upper = leafKey(nil, br.num, to+1, head)
		}
		it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: leafKey(nil, br.num, from, head), UpperBound: upper})
		if err != nil {
			return indexError(err)
		}
		w := &leafWalk{it: it, br: br, bound: bound}
		walks = append(walks, w)
		w.seek(from)
	}
	for {
		var first *leafWalk
		for _, w := range walks {
			if err := w.it.Error(); err != nil {
				return indexError(err)
			}
			if w.ok && (first == nil || w.leaf < first.leaf) {
				first = w
			}
		}
		if first == nil {
			return nil
		}
		leaf := first.leaf
		if !f(leaf) || leaf == to {
			return nil
		}
		for _, w := range walks {
			if w.ok && w.leaf == leaf {
				w.seek(leaf + 1)
			}
		}
	}
}
