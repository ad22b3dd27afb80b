package logstore

import (
	"encoding/binary"
	"slices"

	"github.com/cockroachdb/pebble/v2"
)

// usage is what is known of a full segment. It is written to the index in the
// batch of the first record after the segment, so it is there exactly if the
// index has reached that record.
type usage struct {
	end  uint32 // where its records end; 0 where a program that kept no usage filled it
	data int64  // bytes of data in its records
	// live bounds from above what the index refers to. It is what the last
	// census counted, less what was moved or joined away since; a full segment's
	// count only ever falls, since nothing new refers to old data.
	live int64
	// guess is what is probably live: less than live by what was seen to be
	// overwritten. It says which segments to move first and nothing else; it is
	// in memory only.
	guess int64
	free  bool // nothing live, and the durable index knows it
	left  bool // not to be compacted: something in it can't be read
}

func segmentKey(id uint32) []byte {
	return binary.BigEndian.AppendUint32(append(make([]byte, 0, 9), keySegment, 0, 0, 0, 0), id)
}

func (u *usage) value() []byte {
	return encoder(nil).uint(uint64(u.end)).uint(uint64(u.data)).uint(uint64(u.live))
}

func parseUsage(p []byte) (u usage, err error) {
	d := decoder{p: p}
	u = usage{end: uint32(d.uint()), data: int64(d.uint()), live: int64(d.uint())}
	return u, d.done("index's count of a segment")
}

// filling is the segment that the index's position lies in.
type filling struct {
	segment uint32
	end     int64
	data    int64
	dead    int64 // of it, seen to be overwritten
}

// countRecord keeps the count of data in the log's segments. The caller holds
// s.mu, or is recovery.
func (s *Store) countRecord(b *pebble.Batch, h *header, at position) error {
	f := &s.filling
	if f.segment != at.segment {
		if f.segment != 0 {
			u := &usage{end: uint32(f.end), data: f.data, live: f.data, guess: f.data - f.dead}
			s.usage[f.segment] = u
			if err := b.Set(segmentKey(f.segment), u.value(), nil); err != nil {
				return indexError(err)
			}
		}
		*f = filling{segment: at.segment}
	}
	f.end = at.off + h.size()
	f.data += int64(h.data)
	s.sinceCensus += h.size()
	s.indexed += h.size()
	return nil
}

// died notes that blocks of a segment are not referred to any more. The caller
// holds s.mu, or is recovery.
func (s *Store) died(segment uint32, blocks int64) {
	u := s.usage[segment]
	if u == nil || blocks == 0 {
		return
	}
	s.fallen.Add(blocks)
	if u.live > 0 && u.live <= blocks*blockSize {
		s.emptied = append(s.emptied, segment)
	}
	u.live = max(0, u.live-blocks*blockSize)
	u.guess = max(0, u.guess-blocks*blockSize)
}

// overwritten notes that a block of a segment is probably dead. The caller
// holds s.mu, or is recovery.
func (s *Store) overwritten(segment uint32) {
	if s.filling.segment == segment {
		s.filling.dead += blockSize
	} else if u := s.usage[segment]; u != nil {
		u.guess = max(0, u.guess-blockSize)
	}
}

// loadUsage reads the counts of segments. A segment that has none was filled
// by a program that kept none: it is taken as full of live data.
func (s *Store) loadUsage(end position) error {
	s.filling = filling{segment: end.segment, end: end.off, data: max(0, end.off-segmentHeader)}
	if end.seq == 1 {
		s.filling = filling{}
	}
	var gone [][]byte
	err := s.each(keySegment, func(k, v []byte) error {
		u, err := parseUsage(v)
		u.guess = u.live
		id := uint32(binary.BigEndian.Uint64(k))
		if !s.pool.all[id] {
			gone = append(gone, segmentKey(id))
			return err
		}
		s.usage[id] = &u
		return err
	})
	if err != nil {
		return err
	}
	for _, k := range gone {
		if err := s.db.Delete(k, pebble.NoSync); err != nil {
			return indexError(err)
		}
	}
	_, closer, err := s.db.Get([]byte{keyFreed})
	if err == nil {
		s.freed = true
		closer.Close()
	} else if err != pebble.ErrNotFound { //nolint:errorlint // as Pebble documents it
		return indexError(err)
	}
	size := int64(s.super.segmentSize)
	for id := range s.pool.all {
		if u := s.usage[id]; id < end.segment && u == nil {
			s.usage[id] = &usage{data: size - segmentHeader, live: size - segmentHeader,
				guess: size - segmentHeader}
			s.freed = true
		} else if u != nil && u.live == 0 && id < end.segment {
			// What noted it came after an index that refers to nothing in it.
			u.free = true
			s.pool.free = append(s.pool.free, id)
		}
	}
	return nil
}

// setUsage writes the counts of segments as they are. The caller holds s.mu.
func (s *Store) setUsage(ids []uint32) error {
	b := s.db.NewBatch()
	defer b.Close()
	for _, id := range ids {
		if u := s.usage[id]; u != nil {
			if err := b.Set(segmentKey(id), u.value(), nil); err != nil {
				return indexError(err)
			}
		}
	}
	return indexError(b.Commit(pebble.NoSync))
}

// forgetSegment is told by the pool of a segment that is no more.
func (s *Store) forgetSegment(id uint32) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.usage, id)
	return indexError(s.db.Delete(segmentKey(id), pebble.NoSync))
}

// setFree lets segments be reused in which nothing is live: once the durable
// index knows that, and nobody who may have seen an older one is reading.
func (s *Store) setFree(ids []uint32) error {
	if len(ids) == 0 {
		return nil
	}
	if !s.hooks.is(recycleEarly) {
		if err := s.flushIndex(); err != nil {
			return err
		}
	}
	if err := s.grace.wait(s.closing); err != nil {
		return err
	}
	s.mu.Lock()
	for _, id := range ids {
		if u := s.usage[id]; u != nil {
			u.live, u.guess, u.free = 0, 0, true
		}
	}
	err := s.setUsage(ids)
	s.mu.Unlock()
	if err != nil {
		return err
	}
	s.pool.setFree(ids)
	s.pool.retry()
	return nil
}

// shrink gives free segments back to the file system but for those that are
// kept for reuse.
func (s *Store) shrink() error {
	if s.pool.freeCount() == 0 && s.pool.count() <= readyTarget {
		return nil
	}
	inUse := 0
	s.mu.Lock()
	for _, u := range s.usage {
		if !u.free {
			inUse++
		}
	}
	s.mu.Unlock()
	return s.pool.shrink(min(readyTarget, inUse/4) + inUse/keepFree)
}

// freeEmptied sets those segments free of which the last block died. It costs
// nothing where there are none.
func (s *Store) freeEmptied() error {
	s.mu.Lock()
	ids := slices.DeleteFunc(s.emptied, func(id uint32) bool {
		u := s.usage[id]
		return u == nil || u.live > 0 || u.free
	})
	s.emptied = nil
	s.mu.Unlock()
	slices.Sort(ids)
	ids = slices.Compact(ids)
	err := s.setFree(ids)
	if err != nil {
		s.mu.Lock()
		s.emptied = append(s.emptied, ids...)
		s.mu.Unlock()
	}
	return err
}

// keepFree is the share of the segments in use that is kept for reuse when
// more than that are free, one in so many, and up to readyTarget more while
// there are four times as many in use; the rest goes back to the file system.
// A store that holds nothing so has the files that a new one has: the segment
// at the log's end and those that are kept ready after it.
const keepFree = 8
