package logstore

// places remembers in which segments the blocks lie that were written last, so
// that it is seen what dies when they are written again. It knows of blocks
// that were written since the last mark only: what a mark sees lives on. It is
// bounded; what it forgets is found by the next census.
type places struct {
	limit int // leaves
	of    map[placesID]*leafPlaces
}

type placesID struct {
	branch uint64
	leaf   uint32
}

// leafPlaces are the segments of a leaf's blocks; 0 where that isn't known.
type leafPlaces struct {
	epoch    uint64
	segments [leafBlocks]uint32
}

const placesCost = leafBlocks*4 + 64 // bytes of memory of one leaf

func newPlaces(bytes int64) *places {
	return &places{limit: int(max(1, bytes/placesCost)), of: map[placesID]*leafPlaces{}}
}

// wrote notes where a run of the present lies and calls dead for each block
// that it replaced.
func (p *places) wrote(br *branch, leaf uint32, r run, dead func(segment uint32)) {
	l := p.leaf(placesID{br.num, leaf})
	if l.epoch != br.epoch {
		*l = leafPlaces{epoch: br.epoch}
	}
	for i := r.first; i < r.first+r.count; i++ {
		if old := l.segments[i]; old != 0 {
			dead(old)
		}
		l.segments[i] = r.segment
	}
}

func (p *places) leaf(id placesID) *leafPlaces {
	if l := p.of[id]; l != nil {
		return l
	}
	var l *leafPlaces
	for old := range p.of { // any: maps begin somewhere at random
		if len(p.of) < p.limit {
			break
		}
		l = p.of[old]
		delete(p.of, old)
	}
	if l == nil {
		l = new(leafPlaces)
	}
	*l = leafPlaces{}
	p.of[id] = l
	return l
}

// moved notes that a block lies in another segment now.
func (p *places) moved(branch uint64, leaf uint32, i int, from, to uint32) {
	if l := p.of[placesID{branch, leaf}]; l != nil && l.segments[i] == from {
		l.segments[i] = to
	}
}

// full reports whether it has forgotten something.
func (p *places) full() bool { return len(p.of) >= p.limit }

// bytes is how much memory the leaves take.
func (p *places) bytes() int64 { return int64(len(p.of)) * placesCost }
