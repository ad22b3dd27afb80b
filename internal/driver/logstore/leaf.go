package logstore

import (
	"github.com/cockroachdb/pebble/v2"
)

// resolve finds where the blocks of a leaf lie, as seen from a branch below a
// bound: in its own versions from new to old, then in its parent's. Cells that
// stay unset read as zeros.
func (s *Store) resolve(br *branch, bound uint64, leaf uint32, out *cells) error {
	var memory [maxViews]view
	it, views, err := s.steady(br, bound, memory[:0], []byte{keyLeaf}, []byte{keyLeaf + 1})
	if err != nil {
		return err
	}
	defer it.Close()
	*out = cells{}
	missing := leafBlocks
	var key []byte
	for _, w := range views {
		if missing == 0 {
			break
		}
		key = leafKey(key, w.branch, leaf, w.bound-1)
		for ok := it.SeekGE(key); ok && missing > 0; ok = it.Next() {
			num, l, _, good := parseLeafKey(it.Key())
			if !good || num != w.branch || l != leaf {
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

// steady opens an iterator, and lists the views of a branch below a bound that
// fit it: no absorption began in between, after which versions would move.
func (s *Store) steady(br *branch, bound uint64, to []view, lower, upper []byte) (*pebble.Iterator, []view, error) {
	for {
		shape := s.shape.Load()
		views := br.views(bound, to)
		s.hooks.betweenViews()
		it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
		if err != nil {
			return nil, nil, indexError(err)
		}
		if s.shape.Load() == shape || s.hooks.is(trustOldViews) {
			return it, views, nil
		}
		it.Close()
	}
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

// leafWalk goes over the leaves of which there are versions in a view.
type leafWalk struct {
	it *pebble.Iterator
	view
	leaf uint32
	ok   bool
	key  []byte
}

// seek goes to the first leaf not before the given one.
func (w *leafWalk) seek(leaf uint32) {
	for {
		w.key = leafKey(w.key, w.branch, leaf, w.bound-1)
		if w.ok = w.it.SeekGE(w.key); !w.ok {
			return
		}
		num, l, epoch, good := parseLeafKey(w.it.Key())
		if w.ok = good && num == w.branch; !w.ok {
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
// written to, as seen from a branch below a bound, until f returns false. All
// walks share what one iterator sees; each has a copy of it.
func (s *Store) eachLeaf(br *branch, bound uint64, from, to uint32, f func(leaf uint32) bool) error {
	first, views, err := s.steady(br, bound, nil, []byte{keyLeaf}, []byte{keyLeaf + 1})
	if err != nil {
		return err
	}
	walks := make([]leafWalk, 0, len(views))
	defer func() {
		for i := range walks {
			walks[i].it.Close()
		}
	}()
	for i, w := range views {
		it := first
		if i > 0 {
			if it, err = first.Clone(pebble.CloneOptions{}); err != nil {
				return indexError(err)
			}
		}
		walks = append(walks, leafWalk{it: it, view: w})
		walks[i].seek(from)
	}
	for {
		var least *leafWalk
		for i := range walks {
			w := &walks[i]
			if err := w.it.Error(); err != nil {
				return indexError(err)
			}
			if w.ok && w.leaf <= to && (least == nil || w.leaf < least.leaf) {
				least = w
			}
		}
		if least == nil {
			return nil
		}
		leaf := least.leaf
		if !f(leaf) || leaf == to {
			return nil
		}
		for i := range walks {
			if w := &walks[i]; w.ok && w.leaf == leaf {
				w.seek(leaf + 1)
			}
		}
	}
}
