package logstore

import (
	"context"
	"slices"

	"kvol/internal/block"
)

// recover brings the index up to the end of the log and sets that end.
func (s *Store) recover(ctx context.Context) error {
	from, err := s.loadMeta()
	if err != nil {
		return err
	}
	fresh := from.seq == 1
	if fresh {
		from.segment, from.off = 0, 0
	}
	// What is replayed may still be in the page cache only, after a kill; the
	// index must not get ahead of it on the disk.
	if err := s.syncFrom(from.segment); err != nil {
		return err
	}
	if err := s.loadUsage(from); err != nil {
		return err
	}
	end, err := s.replay(ctx, from, func(h *header, body []byte, at position) error {
		if s.tooMuch() {
			if err := s.waitIndex(); err != nil {
				return err
			}
		}
		return s.apply(h, body, at)
	})
	if err != nil {
		return err
	}
	if err := s.pool.adopt(end.segment); err != nil {
		return err
	}
	end.generation = max(end.generation, s.super.generation) + 1
	s.log.mu.Lock() // the index may be written meanwhile, and flushes the log before
	defer s.log.mu.Unlock()
	s.log.end, s.log.synced = end, end.seq
	if end.segment != 0 {
		if s.log.file, err = s.handles.get(end.segment); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) syncFrom(segment uint32) error {
	for _, id := range s.pool.ids() {
		if id < segment || s.hooks.is(skipReplaySync) {
			continue
		}
		h, err := s.handles.get(id)
		if err != nil {
			return err
		}
		err = h.Sync()
		s.handles.put(h)
		if err != nil {
			return block.Wrap(block.Unavailable, err, "the store's log can't be synced")
		}
	}
	return nil
}

// replay calls f for each record from a position on, in order, and returns
// where the log ends: before the first record that is not whole, is out of
// sequence or is of an older generation than the one before it.
func (s *Store) replay(ctx context.Context, at position,
	f func(h *header, body []byte, at position) error) (position, error) {
	ids := s.pool.ids()
	if at.segment != 0 && !slices.Contains(ids, at.segment) {
		return at, block.Errorf(block.Corrupt, "the store lacks the segment %08x that its index ends in", at.segment)
	}
	for {
		if at.segment != 0 {
			var err error
			if at, err = s.replaySegment(ctx, at, f); err != nil {
				return at, err
			}
		}
		next, ok, err := s.successor(ids, at)
		if err != nil || !ok {
			return at, err
		}
		at = next
	}
}

func (s *Store) replaySegment(ctx context.Context, at position,
	f func(h *header, body []byte, at position) error) (position, error) {
	file, err := s.handles.get(at.segment)
	if err != nil {
		return at, err
	}
	defer s.handles.put(file)
	r := recordReader{file: file, size: int64(s.super.segmentSize), salt: s.super.salt, hooks: s.hooks}
	for {
		if err := ctx.Err(); err != nil {
			return at, block.Wrap(block.Unavailable, err, "opening the store ended")
		}
		h, body, err := r.read(at.off)
		if err != nil {
			return at, err
		}
		if h == nil || !s.follows(h, at) {
			return at, nil
		}
		if whole, err := r.dataWhole(h, body, at.off); err != nil || !whole {
			return at, err
		}
		if err := f(h, body, at); err != nil {
			return at, err
		}
		at.off, at.seq, at.generation = at.off+h.size(), h.seq+1, h.generation
	}
}

func (s *Store) follows(h *header, at position) bool {
	return (h.seq == at.seq || s.hooks.is(acceptAnySequence)) &&
		(h.generation >= at.generation || s.hooks.is(skipGeneration))
}

// successor finds the segment in which the log goes on after a position.
func (s *Store) successor(ids []uint32, at position) (position, bool, error) {
	for _, id := range ids {
		if id <= at.segment {
			continue
		}
		file, err := s.handles.get(id)
		if err != nil {
			return at, false, err
		}
		p := make([]byte, segmentHeader)
		_, err = file.ReadAt(p, 0)
		s.handles.put(file)
		if isIOError(err) {
			return at, false, block.Wrap(block.Unavailable, err, "a segment of the store can't be read")
		}
		info, ok := parseSegment(p, s.super.salt)
		if ok && info.id == id && info.prev == at.segment && int64(info.prevEnd) == at.off &&
			info.firstSeq == at.seq && (info.generation >= at.generation || s.hooks.is(skipGeneration)) {
			return position{segment: id, off: segmentHeader, seq: at.seq, generation: info.generation}, true, nil
		}
	}
	return at, false, nil
}
