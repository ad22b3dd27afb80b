package mem

import (
	"iter"
	"maps"

	"kvol/internal/driver"
)

const leafBlocks = 512 // blocks of a leaf: 2 MiB

type page [driver.BlockSize]byte

// leaf holds a run of leafBlocks blocks; nil is a block of zeros. Blocks that
// are not marked own may be in use by a frozen tree and are never changed.
type leaf struct {
	edit  uint64 // the edit of the tree that made it; others must copy it
	own   [leafBlocks]bool
	pages [leafBlocks]*page
}

// tree is the content of a volume or of a snapshot: pages by number. A tree
// that was frozen is never changed again and needs no lock. Pages and leaves
// are shared between trees; two trees that show one page by the same pointer
// have the same bytes there.
type tree struct {
	size   int64 // bytes
	edit   uint64
	leaves map[int64]*leaf
}

// freeze returns the present content. edit is a number that no leaf has yet;
// what t held until now is copied when it is next written.
func (t *tree) freeze(edit uint64) *tree {
	frozen := &tree{size: t.size, leaves: maps.Clone(t.leaves)}
	t.edit = edit
	return frozen
}

// thaw returns a tree that begins with t's content and may be changed.
func (t *tree) thaw(edit uint64) *tree {
	return &tree{size: t.size, edit: edit, leaves: maps.Clone(t.leaves)}
}

func (t *tree) page(i int64) *page {
	if l := t.leaves[i/leafBlocks]; l != nil {
		return l.pages[i%leafBlocks]
	}
	return nil
}

// leafToWrite returns the leaf of page i as t's own.
func (t *tree) leafToWrite(i int64) *leaf {
	l := t.leaves[i/leafBlocks]
	switch {
	case l == nil:
		l = &leaf{edit: t.edit}
	case l.edit != t.edit:
		l = &leaf{edit: t.edit, pages: l.pages}
	default:
		return l
	}
	t.leaves[i/leafBlocks] = l
	return l
}

// pageToWrite returns page i as t's own, with its present content.
func (t *tree) pageToWrite(i int64) *page {
	l, k := t.leafToWrite(i), i%leafBlocks
	if !l.own[k] {
		fresh := new(page)
		if old := l.pages[k]; old != nil {
			*fresh = *old
		}
		l.pages[k], l.own[k] = fresh, true
	}
	return l.pages[k]
}

func (t *tree) readAt(p []byte, off int64) {
	for len(p) > 0 {
		i, at := off/driver.BlockSize, off%driver.BlockSize
		n := min(int64(len(p)), driver.BlockSize-at)
		if pg := t.page(i); pg != nil {
			copy(p[:n], pg[at:])
		} else {
			clear(p[:n])
		}
		p, off = p[n:], off+n
	}
}

func (t *tree) writeAt(p []byte, off int64) {
	for len(p) > 0 {
		at := off % driver.BlockSize
		n := copy(t.pageToWrite(off / driver.BlockSize)[at:], p)
		p, off = p[n:], off+int64(n)
	}
}

func (t *tree) zero(off, length int64) {
	for end := off + length; off < end; {
		i, at := off/driver.BlockSize, off%driver.BlockSize
		n := min(end-off, driver.BlockSize-at)
		switch whole := n == driver.BlockSize; {
		case t.leaves[i/leafBlocks] == nil: // a run of zeros already
			n = min(end-off, (i/leafBlocks+1)*leafBlocks*driver.BlockSize-off)
		case t.page(i) == nil:
		case whole:
			l := t.leafToWrite(i)
			l.pages[i%leafBlocks], l.own[i%leafBlocks] = nil, false
		default:
			clear(t.pageToWrite(i)[at : at+n])
		}
		off += n
	}
}

// extent returns the longest run of pages of one kind that begins at page i and
// lies in one leaf and below end.
func (t *tree) extent(i, end int64) driver.Extent {
	end = min(end, (i/leafBlocks+1)*leafBlocks)
	j, zero := i+1, t.page(i) == nil
	for j < end && (t.page(j) == nil) == zero {
		j++
	}
	return driver.Extent{Off: i * driver.BlockSize, Len: (j - i) * driver.BlockSize, Zero: zero}
}

// diff yields the pages at which newer may differ from older; a nil older is
// all zeros. Both must be frozen.
func diff(older, newer *tree) iter.Seq[driver.Extent] {
	if older == nil {
		older = &tree{}
	}
	return func(yield func(driver.Extent) bool) {
		pages := newer.size / driver.BlockSize
		for first := int64(0); first < pages; first += leafBlocks {
			if older.leaves[first/leafBlocks] == newer.leaves[first/leafBlocks] {
				continue
			}
			for i := first; i < min(first+leafBlocks, pages); i++ {
				pg := newer.page(i)
				if pg == older.page(i) {
					continue
				}
				e := driver.Extent{Off: i * driver.BlockSize, Len: driver.BlockSize, Zero: pg == nil}
				if !yield(e) {
					return
				}
			}
		}
	}
}
