package logstore

import (
	"cmp"
	"context"
	"slices"

	"kvol/internal/block"
)

// placed is the header of a record with data, and where it lies.
type placed struct {
	header
	at   uint32
	line uint64 // the branch under which its blocks are now
}

func (p *placed) leaf() uint32   { return uint32(p.first / leafBlocks) }
func (p *placed) dataAt() uint32 { return p.at + uint32(p.dataOff()) }

// recordAt finds the record of a group that has a block at an offset; nil
// where none has exactly that block there.
func recordAt(group []placed, off uint32, blk uint64) *placed {
	i, exact := slices.BinarySearchFunc(group, off, func(p placed, off uint32) int { return cmp.Compare(p.dataAt(), off) })
	if !exact {
		i--
	}
	if i < 0 {
		return nil
	}
	p := &group[i]
	n := (off - p.dataAt()) / blockSize
	if (off-p.dataAt())%blockSize != 0 || n >= p.count || p.first+uint64(n) != blk {
		return nil
	}
	return p
}

// segmentWalk is what the records of a segment say, read from first to last.
// It takes memory for the headers of one segment.
type segmentWalk struct {
	recordReader
	handle  *handle
	id      uint32
	records []placed
	end     int64  // before what is no record that follows
	unread  error  // why the disk does not give what is there; nil where it does
	last    header // the last record's
	shape   uint64 // of the store's branches, as the records' lines are
}

// findLines notes for each record under which branch its blocks are now.
func (s *Store) findLines(w *segmentWalk) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w.shape = s.shape.Load()
	for i := range w.records {
		p := &w.records[i]
		p.line = p.branch
		if heir := s.aliases[p.branch]; heir != nil && !s.hooks.is(forgetHeirs) {
			p.line = heir.final().num
		}
	}
}

// lineOf is the branch under which what a branch had is now.
func (s *Store) lineOf(branch uint64) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if br := s.branchOf(branch); br != nil {
		return br.num
	}
	return branch
}

// walkSegment reads the headers of a segment's records. Where the disk does not
// give one the walk ends before it: the rest of the segment is hidden then, and
// no reason to stop those who go over many segments. The handle is to be put
// back by the caller.
func (s *Store) walkSegment(ctx context.Context, id uint32) (*segmentWalk, error) {
	file, err := s.handles.get(id)
	if mendable(err) {
		return &segmentWalk{id: id, unread: err, shape: s.shape.Load()}, nil
	}
	if err != nil {
		return nil, err
	}
	w := &segmentWalk{id: id, handle: file, end: segmentHeader}
	w.recordReader = recordReader{file: file, size: int64(s.super.segmentSize), salt: s.super.salt}
	for {
		if err := ctx.Err(); err != nil {
			s.handles.put(file)
			return nil, block.Wrap(block.Unavailable, err, "the walk over the store's log ended")
		}
		h, _, err := w.read(w.end)
		if mendable(err) {
			w.unread = err
		} else if err != nil {
			s.handles.put(file)
			return nil, err
		}
		if h == nil || w.last.seq != 0 && (h.seq != w.last.seq+1 || h.generation < w.last.generation) {
			s.findLines(w)
			return w, nil
		}
		if h.data > 0 {
			w.records = append(w.records, placed{header: *h, at: uint32(w.end)})
		}
		w.end, w.last = w.end+h.size(), *h
	}
}

// groups sorts the records by leaf, then by place, and returns those of one
// leaf together.
func (w *segmentWalk) groups() [][]placed {
	slices.SortFunc(w.records, func(a, b placed) int {
		return cmp.Or(cmp.Compare(a.line, b.line), cmp.Compare(a.leaf(), b.leaf()), cmp.Compare(a.at, b.at))
	})
	var out [][]placed
	for from := 0; from < len(w.records); {
		to := from + 1
		for to < len(w.records) && w.records[to].line == w.records[from].line &&
			w.records[to].leaf() == w.records[from].leaf() {
			to++
		}
		out = append(out, w.records[from:to])
		from = to
	}
	return out
}
