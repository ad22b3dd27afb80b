package logstore

import (
	"errors"
	"fmt"
	"sync"
	"syscall"

	"kvol/internal/block"
	"kvol/internal/driver"
)

// DamageState says what became of damage.
type DamageState string

// The states of damage. The alarm about it stays until it is healed or gone.
const (
	Damaged DamageState = "damaged" // the bytes are lost as far as this store can tell
	Healed  DamageState = "healed"  // the store has the right bytes again
	Gone    DamageState = "gone"    // a later pass over the place found nothing wrong, or nothing that lies there
)

// Damage is something in a store that is not as it was written.
type Damage struct {
	What    string         // in words
	Volume  block.VolumeID // of whose history it is; empty where that is not known
	Extent  driver.Extent  // the range of the volume; empty where no block is lost
	Segment uint32         // of the log; 0 for the index
	Off     int64          // in the segment, of the first block
	State   DamageState
	Reason  string // why it could not be healed, where that was tried

	cause  error  // why the disk can't be read, where it can't
	branch uint64 // in which the blocks lie
	crcs   []byte // that the blocks should have, 4 bytes each
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

// maxDamages are told apart; what is found beyond is logged as one.
const maxDamages = 1000

// damages is what is known to be damaged now.
type damages struct {
	mu     sync.Mutex // guards all below
	found  map[damagePlace]Damage
	over   bool // there was more than is kept
	healed int64
}

// damagePlace names damage: a place in the log is of one block.
type damagePlace struct {
	segment uint32
	off     int64
	// Of damage that is not in the log:
	volume block.VolumeID
	at     int64
	what   string
}

func (d *Damage) place() damagePlace {
	if d.Segment != 0 && d.Extent.Len > 0 {
		return damagePlace{segment: d.Segment, off: d.Off}
	}
	return damagePlace{segment: d.Segment, volume: d.Volume, at: d.Extent.Off, what: d.What}
}

// damaged describes damage to blocks of a branch that should have these
// checksums.
func (s *Store) damaged(branch, first uint64, crcs []byte, segment, off uint32, what string) Damage {
	owner := block.VolumeID("")
	if all := s.ownersOf(branch); len(all) > 0 {
		owner = all[0]
	}
	return Damage{What: what, Volume: owner, Segment: segment, Off: int64(off), State: Damaged, branch: branch,
		crcs: append([]byte(nil), crcs...), Extent: driver.Extent{Off: int64(first) * blockSize,
			Len: int64(len(crcs)/4) * blockSize}}
}

// maxOwners bounds whom a healer may ask for.
const maxOwners = 8

// ownersOf names volumes to whose history a branch belongs: first the one that
// wrote it, then, or where that is gone, such as grew out of it.
func (s *Store) ownersOf(branch uint64) (ids []block.VolumeID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	br := s.branchOf(branch)
	if br == nil {
		return nil
	}
	first := s.numbers[br.volume]
	if first != nil {
		ids = append(ids, first.id)
	}
	for _, v := range s.volumes {
		for b := v.branch; b != nil && v != first && len(ids) < maxOwners; b = b.line.Load().parent {
			if b = b.final(); b == br {
				ids = append(ids, v.id)
				break
			}
		}
	}
	return ids
}

func (s *Store) ownerOf(branch uint64) block.VolumeID {
	if ids := s.ownersOf(branch); len(ids) > 0 {
		return ids[0]
	}
	return ""
}

// alarm notes what is known of damage, logs each change of it once, and tells
// whoever keeps account (Options.Alarm).
func (s *Store) alarm(d Damage) {
	if d.State == "" {
		d.State = Damaged
	}
	s.damages.mu.Lock()
	old, known := s.damages.found[d.place()]
	if !known && d.State != Damaged {
		s.damages.mu.Unlock()
		return // somebody else was faster
	}
	news := !known || d.State != old.State || d.Reason != old.Reason && d.Reason != ""
	if known && d.Reason == "" && d.State == Damaged {
		d.Reason = old.Reason
	}
	switch {
	case d.State == Healed:
		s.damages.healed++
		delete(s.damages.found, d.place())
	case d.State == Gone:
		delete(s.damages.found, d.place())
	case known || len(s.damages.found) < maxDamages:
		s.damages.found[d.place()] = d
	default:
		news, s.damages.over = !s.damages.over, true
		d = Damage{What: fmt.Sprintf("more than %d places are damaged; the next is one", maxDamages), Volume: d.Volume,
			Segment: d.Segment, State: Damaged}
	}
	s.damages.mu.Unlock()
	if !news {
		return
	}
	if d.State == Damaged {
		s.slog.Error("the store is damaged", "volume", d.Volume, "err", d, "unhealed", d.Reason)
	} else {
		s.slog.Warn("damage of the store is mended", "volume", d.Volume, "was", d.Error(), "state", string(d.State))
	}
	if s.told != nil {
		s.told(d)
	}
}

// Damages lists what is damaged as far as is known, in no order.
func (s *Store) Damages() []Damage {
	s.damages.mu.Lock()
	defer s.damages.mu.Unlock()
	out := make([]Damage, 0, len(s.damages.found))
	for _, d := range s.damages.found {
		out = append(out, d)
	}
	return out
}

// pass is one look at the whole store, which ends the alarm about what it does
// not find damaged any more.
type pass struct {
	before map[damagePlace]Damage
	seen   map[damagePlace]bool
}

func (s *Store) beginPass() *pass {
	p := &pass{before: map[damagePlace]Damage{}, seen: map[damagePlace]bool{}}
	for _, d := range s.Damages() {
		p.before[d.place()] = d
	}
	return p
}

func (p *pass) saw(d *Damage) { p.seen[d.place()] = true }

// endPass ends the alarm about what was known before the pass, what it looked
// at, and did not find again.
func (s *Store) endPass(p *pass, looked func(*Damage) bool) {
	for place, d := range p.before {
		if !p.seen[place] && looked(&d) {
			d.State, d.Reason = Gone, ""
			s.alarm(d)
		}
	}
}

// mendable reports whether an error means that bytes on the disk are lost.
func mendable(err error) bool { return block.Is(err, block.Corrupt) || errors.Is(err, syscall.EIO) }
