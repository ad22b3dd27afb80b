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
	end, window, err := s.replay(ctx, from, nil, func(*header, []byte, position) error { return nil })
	if err == nil {
		err = s.checkEnd(ctx, end)
	}
	if err != nil {
		return err
	}
	// The index must not get ahead of the log on the disk.
	if err := s.rewrite(ctx, window); err != nil {
		return err
	}
	if err := s.loadUsage(from); err != nil {
		return err
	}
	if err := s.makeRoom(); err != nil {
		return err
	}
	again, _, err := s.replay(ctx, from, &end, func(h *header, body []byte, at position) error {
		if s.tooMuch() {
			if err := s.waitIndex(); err != nil {
				return err
			}
		}
		return s.apply(h, body, at)
	})
	if err == nil && again != end {
		err = block.Errorf(block.Unavailable, "the store's log gives other bytes each time it is read")
	}
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

// stretch is a part of a segment.
type stretch struct {
	segment  uint32
	from, to int64
}

// rewrite writes a part of the log over itself and syncs it. After a kill it may
// be in the page cache only; and where a sync failed before, the kernel counts
// as written what never got to the disk, so that no sync alone would bring it
// there. The bytes are the same: a crash meanwhile leaves what there was.
func (s *Store) rewrite(ctx context.Context, window []stretch) error {
	buf := make([]byte, rewriteChunk)
	for _, w := range window {
		file, err := s.handles.get(w.segment)
		if err != nil {
			return err
		}
		err = rewriteStretch(ctx, file, w, buf)
		if err == nil && !s.hooks.is(skipReplaySync) {
			err = block.Wrap(block.Unavailable, file.Sync(), "the store's log can't be synced")
		}
		s.handles.put(file)
		if err != nil {
			return err
		}
	}
	return nil
}

// rewriteChunk is how much of the log is in memory when it is written over
// itself, in bytes.
const rewriteChunk = 1 << 20

func rewriteStretch(ctx context.Context, file *handle, w stretch, buf []byte) error {
	for off := w.from; off < w.to; off += rewriteChunk {
		if err := ctx.Err(); err != nil {
			return block.Wrap(block.Unavailable, err, "opening the store ended")
		}
		p := buf[:min(rewriteChunk, w.to-off)]
		if _, err := file.ReadAt(p, off); err != nil {
			return unreadable(err)
		}
		if _, err := file.WriteAt(p, off); err != nil {
			return block.Wrap(ioKind(err), err, "the store's log can't be written")
		}
	}
	return nil
}

// replay calls f for each record from a position on, in order, and returns
// where the log ends: before the first record that is not whole, is out of
// sequence or is of an older generation than the one before it; and what of the
// log it went over. Where the end is known, data is not looked at.
func (s *Store) replay(ctx context.Context, at position, known *position,
	f func(h *header, body []byte, at position) error) (end position, window []stretch, err error) {
	ids := s.pool.ids()
	if at.segment != 0 && !slices.Contains(ids, at.segment) {
		return at, nil, block.Errorf(block.Corrupt, "the store lacks the segment %08x that its index ends in", at.segment)
	}
	from := at.off
	for {
		if at.segment != 0 {
			if at, err = s.replaySegment(ctx, at, known, f); err != nil {
				return at, nil, err
			}
			window = append(window, stretch{at.segment, from, at.off})
		}
		if known != nil && at == *known {
			return at, window, nil
		}
		next, ok, err := s.successor(ids, at)
		if err != nil || !ok {
			return at, window, err
		}
		at, from = next, 0
	}
}

func (s *Store) replaySegment(ctx context.Context, at position, known *position,
	f func(h *header, body []byte, at position) error) (position, error) {
	file, err := s.handles.get(at.segment)
	if err != nil {
		return at, err
	}
	defer s.handles.put(file)
	r := recordReader{file: file, size: int64(s.super.segmentSize), salt: s.super.salt, hooks: s.hooks}
	for known == nil || at != *known {
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
		if known == nil {
			if whole, err := r.dataWhole(h, body, at.off); err != nil || !whole {
				return at, err
			}
		}
		if err := f(h, body, at); err != nil {
			return at, err
		}
		at.off, at.seq, at.generation = at.off+h.size(), h.seq+1, h.generation
	}
	return at, nil
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
		p, err := s.readSegmentHeader(id)
		if err != nil {
			return at, false, err
		}
		info, ok := parseSegment(p, s.super.salt)
		if ok && info.id == id && info.prev == at.segment && int64(info.prevEnd) == at.off &&
			info.firstSeq == at.seq && (info.generation >= at.generation || s.hooks.is(skipGeneration)) {
			return position{segment: id, off: segmentHeader, seq: at.seq, generation: info.generation}, true, nil
		}
	}
	return at, false, nil
}

// readSegmentHeader reads the first bytes of a segment.
func (s *Store) readSegmentHeader(id uint32) ([]byte, error) {
	file, err := s.handles.get(id)
	if err != nil {
		return nil, err
	}
	defer s.handles.put(file)
	p := make([]byte, segmentHeader)
	if _, err = file.ReadAt(p, 0); isIOError(err) {
		return nil, unreadable(err)
	}
	return p, nil
}
