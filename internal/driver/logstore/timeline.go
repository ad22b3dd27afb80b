package logstore

import (
	"cmp"
	"iter"
	"slices"

	"kvol/internal/block"
)

// timeline is a volume's snapshots. Taking one away costs the same however
// many there are: it stays in the list, as gone, until half of them are.
type timeline struct {
	list  []*snapshot // from old to new
	gone  int
	names map[block.PointID]*snapshot
}

func (t *timeline) len() int { return len(t.list) - t.gone }

// all yields the snapshots from old to new. The timeline must not be changed
// meanwhile.
func (t *timeline) all() iter.Seq[*snapshot] {
	return func(yield func(*snapshot) bool) {
		for _, s := range t.list {
			if !s.gone && !yield(s) {
				return
			}
		}
	}
}

// backward yields the snapshots from new to old, down to one that it leaves
// out. Those that were yielded may be removed meanwhile.
func (t *timeline) backward(to *snapshot) iter.Seq[*snapshot] {
	list := slices.Clone(t.list)
	return func(yield func(*snapshot) bool) {
		for _, s := range slices.Backward(list) {
			if s == to || !s.gone && !yield(s) {
				return
			}
		}
	}
}

// add takes a snapshot in that is younger than all others.
func (t *timeline) add(s *snapshot) {
	if t.names == nil {
		t.names = map[block.PointID]*snapshot{}
	}
	t.list, t.names[s.name] = append(t.list, s), s
}

func (t *timeline) find(name block.PointID) *snapshot { return t.names[name] }

// at finds a snapshot by its record's sequence.
func (t *timeline) at(seq uint64) *snapshot {
	i, ok := slices.BinarySearchFunc(t.list, seq, func(s *snapshot, seq uint64) int { return cmp.Compare(s.at, seq) })
	if !ok || t.list[i].gone {
		return nil
	}
	return t.list[i]
}

func (t *timeline) remove(s *snapshot) {
	s.gone = true
	delete(t.names, s.name)
	if t.gone++; t.gone*2 > len(t.list) {
		t.list = slices.DeleteFunc(t.list, func(s *snapshot) bool { return s.gone })
		t.gone = 0
	}
}
