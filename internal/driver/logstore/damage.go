package logstore

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"syscall"
	"time"

	"kvol/internal/block"
	"kvol/internal/driver"
)

// Healer gets the bytes of a range of a volume from where there is a whole
// copy. What it returns is used only if it has the checksum that the store
// expects, so an older or newer copy does no harm.
type Healer func(ctx context.Context, volume block.VolumeID, e driver.Extent) ([]byte, error)

// Damage is something in a store that is not as it was written.
type Damage struct {
	What    string         // in words
	Volume  block.VolumeID // of whose history it is; empty where that is not known
	Extent  driver.Extent  // the range of the volume; empty where no block is lost
	Segment uint32         // of the log; 0 for the index
	Off     int64          // in the segment, of the first block
	Healed  bool           // the store has the right bytes again
	cause   error          // why the disk can't be read, where it can't
}

// Error says it all in one sentence.
func (d Damage) Error() string {
	where := fmt.Sprintf("in segment %08x at %d", d.Segment, d.Off)
	if d.Segment == 0 {
		where = "in the index"
	}
	if d.Extent.Len > 0 {
		where += fmt.Sprintf(" (volume %s, bytes %d to %d)", d.Volume, d.Extent.Off, d.Extent.End())
	}
	return d.What + " " + where
}

// asError is d with its kind: a disk that can't be read may be readable later.
func (d Damage) asError() error {
	if d.cause != nil {
		return block.Wrap(block.Unavailable, d.cause, "%s", d.Error())
	}
	return block.Wrap(block.Corrupt, d, "the store is damaged")
}

const (
	maxDamages  = 1000 // that are kept in memory; the count goes on
	healTimeout = 10 * time.Second
)

// damages is what was found since the store was opened.
type damages struct {
	mu     sync.Mutex // guards all below
	found  map[damagePlace]Damage
	total  int64
	healed int64
}

type damagePlace struct {
	segment uint32
	off     int64
	branch  block.VolumeID
}

// damaged describes damage to blocks of a branch.
func (s *Store) damaged(branch, first uint64, count int, segment, off uint32, what string) Damage {
	return Damage{What: what, Volume: s.ownerOf(branch), Segment: segment, Off: int64(off),
		Extent: driver.Extent{Off: int64(first) * blockSize, Len: int64(count) * blockSize}}
}

// ownerOf names the volume to whose history a branch belongs: the one that
// wrote it, or, where that is gone, one that grew out of it.
func (s *Store) ownerOf(branch uint64) block.VolumeID {
	s.mu.Lock()
	defer s.mu.Unlock()
	br := s.branches[branch]
	if br == nil {
		return ""
	}
	if v := s.numbers[br.volume]; v != nil {
		return v.id
	}
	for _, v := range s.volumes {
		for b := v.branch; b != nil; b = b.parent {
			if b == br {
				return v.id
			}
		}
	}
	return ""
}

// alarm notes damage and logs it, once for each place.
func (s *Store) alarm(d Damage) {
	place := damagePlace{d.Segment, d.Off, d.Volume}
	s.damages.mu.Lock()
	old, known := s.damages.found[place]
	if !known {
		s.damages.total++
	}
	if d.Healed && !old.Healed {
		s.damages.healed++
	}
	if known || len(s.damages.found) < maxDamages {
		s.damages.found[place] = d
	}
	s.damages.mu.Unlock()
	if !known || d.Healed && !old.Healed {
		s.slog.Error("the store is damaged", "volume", d.Volume, "err", d, "healed", d.Healed)
	}
}

// Damages lists what was found since the store was opened, in no order.
func (s *Store) Damages() []Damage {
	s.damages.mu.Lock()
	defer s.damages.mu.Unlock()
	out := make([]Damage, 0, len(s.damages.found))
	for _, d := range s.damages.found {
		out = append(out, d)
	}
	return out
}

// mendable reports whether an error means that bytes on the disk are lost.
func mendable(err error) bool { return block.Is(err, block.Corrupt) || errors.Is(err, syscall.EIO) }

// mend deals with a block that can't be read, as seen from a branch below a
// bound: it raises the alarm, gets the bytes from the healer and writes them
// to the log again. Without a healer it returns cause. Wrong bytes are never
// served.
func (s *Store) mend(br *branch, bound uint64, blk int64, c cell, p []byte, cause error) error {
	what := "a block does not match its checksum"
	if !block.Is(cause, block.Corrupt) {
		what = "a block can't be read from the disk"
	}
	d := s.damaged(br.num, uint64(blk), 1, c.segment, c.off, what)
	s.alarm(d)
	if s.healer == nil || d.Volume == "" {
		return cause
	}
	ctx, stop := context.WithTimeout(context.Background(), healTimeout)
	defer stop()
	data, err := s.healer(ctx, d.Volume, d.Extent)
	if err != nil {
		return errors.Join(cause, err)
	}
	if len(data) != blockSize || blockCRC(data) != c.crc {
		return cause
	}
	copy(p, data)
	if s.putBack(br, bound, blk, c, data) == nil {
		d.Healed = true
		s.alarm(d)
	}
	return nil
}

// putBack writes a block anew that the index looks for in a damaged place.
func (s *Store) putBack(br *branch, bound uint64, blk int64, c cell, data []byte) error {
	leaf, i := uint32(blk/leafBlocks), int(blk%leafBlocks)
	for ; br != nil; br, bound = br.parent, br.parentAt {
		epoch, found, err := s.versionOf(br.num, bound, leaf, i, c)
		if err != nil {
			return err
		}
		if !found {
			continue
		}
		body := make([]byte, relocateFixed)
		relocation{epoch: epoch, segment: c.segment, off: c.off}.put(body)
		body = le.AppendUint32(body, c.crc)
		h := header{op: opRelocate, volume: br.volume, branch: br.num, first: uint64(blk), count: 1}
		return s.do(forMoving, func() error { return s.commit(&h, body, data, forMoving) })
	}
	return nil
}

// versionOf finds the epoch in which a branch has a block at a place.
func (s *Store) versionOf(branch, bound uint64, leaf uint32, i int, want cell) (epoch uint64, found bool, err error) {
	err = s.eachVersion(branch, leaf, bound, func(e uint64, c *cells) bool {
		epoch, found = e, c[i].set && c[i].segment == want.segment && c[i].off == want.off
		return !found
	})
	return epoch, found, err
}
