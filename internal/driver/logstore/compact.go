package logstore

import (
	"cmp"
	"context"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"kvol/internal/block"
)

const (
	// compactBelow is the share of a segment's bytes, in percent, up to which
	// its live data is worth moving.
	compactBelow = 60
	// compactRound is the least that is moved before segments are got back, as a
	// share of a segment in percent; it fits the reserve of a full store.
	compactRound = 80
)

// compact moves the live data of the emptiest segments to the log's end, round
// by round, as long as that frees whole segments.
func (s *Store) compact(ctx context.Context, live map[uint32]int64) error {
	for {
		room, err := s.Capacity(ctx)
		if err != nil {
			return err
		}
		victims := s.victims(live, room.Free/2)
		if len(victims) == 0 {
			return nil
		}
		for _, id := range victims {
			err = s.evacuate(ctx, id)
			if err == errNoRoom || block.Is(err, block.NoSpace) { //nolint:errorlint // never wrapped
				break // see what was got so far
			} else if err != nil {
				return err
			}
		}
		var dead int
		if live, dead, err = s.takeCensus(); err != nil || dead == 0 {
			return err
		}
	}
}

// victims picks the segments with the fewest live bytes whose data together
// fits one round: as many bytes as given, and at least what the reserve allows.
// Garbage below a tenth of what is live is left alone.
func (s *Store) victims(live map[uint32]int64, room int64) []uint32 {
	size := int64(s.super.segmentSize)
	end := s.log.now().segment
	var ids []uint32
	var total int64
	for id, n := range live {
		total += n
		if id < end && n*100 <= size*compactBelow {
			ids = append(ids, id)
		}
	}
	if (int64(len(live))*size-total)*10 < total {
		return nil
	}
	slices.SortFunc(ids, func(a, b uint32) int { return cmp.Compare(live[a], live[b]) })
	var moved int64
	for i, id := range ids {
		if moved += live[id]; moved > max(room, size/100*compactRound) {
			ids = ids[:i]
			break
		}
	}
	return ids
}

// evacuate moves what is live in a segment.
func (s *Store) evacuate(ctx context.Context, id uint32) error {
	turn := s.grace.enter()
	defer s.grace.leave(turn)
	file, err := s.handles.get(id)
	if err != nil {
		return err
	}
	defer s.handles.put(file)
	r := recordReader{file: file, size: int64(s.super.segmentSize), salt: s.super.salt}
	var last uint64
	for off := int64(segmentHeader); ; {
		if err := ctx.Err(); err != nil {
			return err
		}
		h, body, err := r.read(off)
		if err != nil || h == nil || h.seq <= last {
			return err
		}
		if h.data > 0 {
			if err := s.moveLive(&r, h, body, position{segment: id, off: off}); err != nil {
				return err
			}
		}
		last, off = h.seq, off+h.size()
	}
}

// moveLive writes those blocks of a record anew that the index still looks for
// in it.
func (s *Store) moveLive(r *recordReader, h *header, body []byte, at position) error {
	leaf, first := uint32(h.first/leafBlocks), int(h.first%leafBlocks)
	dataOff := uint32(at.off + h.dataOff())
	lower := leafKey(nil, h.branch, leaf, head)
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: next(lower[:len(lower)-8])})
	if err != nil {
		return indexError(err)
	}
	defer it.Close()
	for ok := it.First(); ok; ok = it.Next() {
		_, _, epoch, _ := parseLeafKey(it.Key())
		v, err := it.ValueAndErr()
		if err != nil {
			return indexError(err)
		}
		var c cells
		if err := c.decode(v); err != nil {
			return err
		}
		here := func(i int) bool {
			return i < int(h.count) && c[first+i].segment == at.segment && c[first+i].off == dataOff+uint32(i)*blockSize
		}
		for i := 0; i < int(h.count); {
			n := 0
			for here(i + n) {
				n++
			}
			if n > 0 {
				from := relocation{epoch: epoch, segment: at.segment, off: dataOff + uint32(i)*blockSize}
				if err := s.move(r, h, body, i, n, from); err != nil {
					return err
				}
			}
			i += n + 1
		}
	}
	return indexError(it.Error())
}

// move writes n blocks of a record, from the i-th on, as a relocate record. A
// block that does not match its checksum stays where it is, to be found by who
// reads it; its segment is not reused then.
func (s *Store) move(r *recordReader, h *header, body []byte, i, n int, from relocation) error {
	r.data = grown(r.data, n*blockSize)
	if _, err := r.file.ReadAt(r.data, int64(from.off)); err != nil {
		return unreadable(err)
	}
	crcs := h.crcs(body)[i*4 : (i+n)*4]
	for j := range n {
		if blockCRC(r.data[j*blockSize:(j+1)*blockSize]) != le.Uint32(crcs[j*4:]) {
			s.slog.Error("a block does not match its checksum", "volume", h.volume, "segment", from.segment,
				"offset", int(from.off)+j*blockSize)
			return nil
		}
	}
	moved := make([]byte, relocateFixed, relocateFixed+len(crcs))
	from.put(moved)
	moved = append(moved, crcs...)
	m := header{op: opRelocate, volume: h.volume, branch: h.branch, first: h.first + uint64(i), count: uint32(n)}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.commit(&m, moved, r.data, forMoving)
}
