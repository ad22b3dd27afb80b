package logstore

import (
	"bytes"
	"context"

	"kvol/internal/block"
)

// checkEnd refuses an end of the log that can't be one. What was not synced may
// be on the disk in part, so that the log ends early and whole records lie
// behind its end; but what was synced is there, unless the disk lost it. It is
// known to have been synced where
//   - the superblock's generation began: its first record is on the disk before
//     the superblock says so;
//   - a record says so that was appended later. All that a store ever writes of
//     that stays true, since its log never goes on from before what was synced:
//     records of long ago, which segments hold until they are written over,
//     prove nothing wrong.
func (s *Store) checkEnd(ctx context.Context, end position) error {
	if end.generation < s.super.generation {
		return errCut(end, "the store was opened after that, at generation %d", s.super.generation)
	}
	if !s.unclean {
		return nil
	}
	ids := s.pool.ids()
	size := int64(s.super.segmentSize)
	b := beyond{Store: s, end: end, last: end.seq + uint64(int64(len(ids))*size/headerSize)}
	for _, id := range ids {
		if id < end.segment {
			continue
		}
		from := end.off
		if id > end.segment {
			if begun, err := b.begun(id); err != nil {
				return err
			} else if !begun {
				continue
			}
			from = segmentHeader
		}
		if err := b.look(ctx, id, from); err != nil {
			return err
		}
	}
	return nil
}

func errCut(end position, why string, args ...any) error {
	return block.Wrap(block.Corrupt, block.Errorf(block.Corrupt, why, args...), "the store's log is damaged in segment "+
		"%08x at %d: more was flushed than can be read; nothing was changed, and kvol store mend, which mends the index, "+
		"can't bring it back: put the segment back from a copy, or recover the store's volumes in other zones, and begin "+
		"with an empty store", end.segment, end.off)
}

// beyond looks behind an end of the log for records of the same generation that
// prove that the log went on.
type beyond struct {
	*Store
	end  position
	last uint64 // no sequence in the segments that there are can be higher
}

// begun tells whether the log may have gone on into a segment in the end's
// generation. Segments that wait for their use have their old header, or zeros.
func (b *beyond) begun(id uint32) (bool, error) {
	p, err := b.readSegmentHeader(id)
	if err != nil {
		return false, err
	}
	if info, ok := parseSegment(p, b.super.salt); ok {
		return info.id == id && info.generation == b.end.generation, nil
	}
	return !bytes.Equal(p, make([]byte, len(p))), nil
}

// look reads a segment from an offset on. Since it is not known where records
// begin, each place counts that has their magic and, with the salt, their
// checksum. What can't be read proves nothing: nobody may ever have written it.
func (b *beyond) look(ctx context.Context, id uint32, from int64) error {
	file, err := b.handles.get(id)
	if err != nil {
		return err
	}
	defer b.handles.put(file)
	size := int64(b.super.segmentSize)
	r := recordReader{file: file, size: size, salt: b.super.salt}
	magic, buf := le.AppendUint32(nil, recordMagic), make([]byte, min(rewriteChunk, size)+headerSize)
	for ; from < size; from += rewriteChunk {
		if err := ctx.Err(); err != nil {
			return block.Wrap(block.Unavailable, err, "opening the store ended")
		}
		p := buf[:min(int64(len(buf)), size-from)]
		if _, err := file.ReadAt(p, from); err != nil {
			continue
		}
		for at := bytes.Index(p, magic); at >= 0 && at < rewriteChunk; {
			if h, ok := parseHeader(p[at:]); ok && b.proof(&h) {
				if whole, _, err := r.read(from + int64(at)); err == nil && whole != nil {
					return errCut(b.end, "record %d in segment %08x at %d says that those below %d were synced", h.seq, id,
						from+int64(at), h.proves())
				}
			}
			next := bytes.Index(p[at+1:], magic)
			if next < 0 {
				break
			}
			at += 1 + next
		}
	}
	return nil
}

// proof tells whether a record behind the end, if it is one, says that the
// record at the end was on the disk.
func (b *beyond) proof(h *header) bool {
	return h.generation == b.end.generation && h.seq > b.end.seq && h.seq <= b.last && h.proves() > b.end.seq
}
