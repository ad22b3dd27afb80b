package logstore

import (
	"context"
	"errors"
	"time"

	"kvol/internal/block"
)

// Lost is a block of which a store has no whole copy.
type Lost struct {
	Volumes []block.VolumeID // in whose history it is, the one that wrote it first
	Off     int64            // in each of them, in bytes; a multiple of 4 KiB
	CRC     uint32           // CRC32C of the block's 4 KiB
}

// Healer gets the 4 KiB of a lost block from where there is a whole copy. The
// store uses them only if they have the checksum, so an older or newer copy
// does no harm. The error's sentence is kept as the reason why the damage
// stays. It may be called by many goroutines at once.
type Healer func(ctx context.Context, want Lost) ([]byte, error)

// healTimeout bounds how long one read waits for others in all, and a pass over
// the store for one block.
const healTimeout = 10 * time.Second

// damagedBlock says which block of what was asked for can't be read.
type damagedBlock struct {
	blk   int64
	cell  cell
	cause error
}

func (d *damagedBlock) Error() string { return d.cause.Error() }
func (d *damagedBlock) Unwrap() error { return d.cause }

// readMending is what read does from the first damaged block on. Who has a copy
// is asked between the parts of it and not within, where segments can't be
// reused meanwhile and writers would wait for their room.
func (s *Store) readMending(r *request, p []byte, off int64, err error) error {
	ctx, stop := context.WithTimeout(context.Background(), healTimeout)
	defer stop()
	r.mended = map[cell][]byte{}
	for {
		var d *damagedBlock
		if !errors.As(err, &d) {
			return err
		}
		data, err2 := s.mend(ctx, r, d)
		if err2 != nil {
			return err2
		}
		r.mended[d.cell] = data
		var n int
		if n, err = s.readOn(r, p, off); err == nil {
			return nil
		}
		p, off = p[n:], off+int64(n)
	}
}

// mend deals with a block that can't be read: it raises the alarm, gets the
// bytes from the healer and writes them to the log again. Without a healer it
// returns the cause. Wrong bytes are never served.
func (s *Store) mend(ctx context.Context, r *request, b *damagedBlock) ([]byte, error) {
	owner, found, err := s.locate(r.br, r.bound, b.blk, b.cell)
	if err != nil || !found {
		return nil, errors.Join(b.cause, err) // moved meanwhile: whoever asks again finds it there
	}
	if b.cell.segment == lostSegment { // nor is it known what checksum it has
		s.alarm(s.lostIn(owner, uint32(b.blk/leafBlocks)))
		return nil, b.cause
	}
	what := "a block does not match its checksum"
	if !block.Is(b.cause, block.Corrupt) {
		what = "a block can't be read from the disk"
	}
	d := s.damaged(owner, uint64(b.blk), le.AppendUint32(nil, b.cell.crc), b.cell.segment, b.cell.off, what)
	s.alarm(d)
	data, err := s.fetch(ctx, &d, 0)
	if err != nil {
		d.Reason = reasonOf(err)
		s.alarm(d)
		return nil, errors.Join(b.cause, err)
	}
	s.settle(&d, s.putBack(&d, 0, data))
	return data, nil
}

// heal tries to get back what a pass over the store found damaged. A block that
// is whole, and only hidden behind a damaged header, needs nobody's help.
func (s *Store) heal(ctx context.Context, d Damage) {
	if d.Segment == 0 || len(d.crcs) == 0 {
		return
	}
	for i := range len(d.crcs) / 4 {
		if ctx.Err() != nil {
			return
		}
		data := make([]byte, blockSize)
		err := s.pread(d.Segment, data, d.Off+int64(i)*blockSize)
		if err != nil || blockCRC(data) != le.Uint32(d.crcs[i*4:]) {
			limited, stop := context.WithTimeout(ctx, healTimeout)
			data, err = s.fetch(limited, &d, i)
			stop()
		}
		if err == nil {
			err = s.putBack(&d, i, data)
		}
		if err != nil {
			s.settle(&d, err)
			return
		}
	}
	s.settle(&d, nil)
}

// settle tells how the healing of damage went. It is over when what was written
// again would survive a power cut.
func (s *Store) settle(d *Damage, err error) {
	if err == nil {
		err = s.log.flush()
	}
	if d.State = Healed; err != nil {
		d.State, d.Reason = Damaged, reasonOf(err)
	}
	s.alarm(*d)
}

// reasonOf is what of an error may be shown to people.
func reasonOf(err error) string {
	if message, ok := block.UserMessage(err); ok {
		return message
	}
	return "healing failed; the log says why"
}

// fetch gets block i of what is damaged from the healer.
func (s *Store) fetch(ctx context.Context, d *Damage, i int) ([]byte, error) {
	if s.healer == nil {
		return nil, block.Errorf(block.Corrupt, "nobody is known who has a copy")
	}
	want := Lost{Volumes: s.ownersOf(d.branch), Off: d.Extent.Off + int64(i)*blockSize, CRC: le.Uint32(d.crcs[i*4:])}
	data, err := s.healer(ctx, want)
	if err != nil {
		return nil, err
	}
	if len(data) != blockSize || blockCRC(data) != want.CRC {
		return nil, block.Errorf(block.Corrupt, "the copy that was found does not match the checksum either")
	}
	return data, nil
}

// locate finds in which branch a block lies that the index looks for in a
// place.
func (s *Store) locate(br *branch, bound uint64, blk int64, c cell) (num uint64, found bool, err error) {
	for _, w := range br.views(bound, nil) {
		if _, found, err = s.versionOf(w.branch, w.bound, blk, c); err != nil || found {
			return w.branch, found, err
		}
	}
	return 0, false, nil
}

// versionOf finds the epoch in which a branch has a block at a place.
func (s *Store) versionOf(branch, bound uint64, blk int64, want cell) (epoch uint64, found bool, err error) {
	i := blk % leafBlocks
	err = s.eachVersion(branch, uint32(blk/leafBlocks), bound, func(e uint64, c *cells) bool {
		epoch, found = e, c[i].set && c[i].segment == want.segment && c[i].off == want.off
		return !found
	})
	return epoch, found, err
}

// putBack writes block i of what is damaged anew, where the index still looks
// for it in the damaged place. It does not wait for room: whoever reads has the
// bytes already.
func (s *Store) putBack(d *Damage, i int, data []byte) error {
	for {
		err := s.tryPutBack(d, i, data)
		switch err { //nolint:errorlint // never wrapped
		case errNoRoom:
			return block.Errorf(block.NoSpace, "there is a copy, but no room in the store to write it")
		case errBehind:
			if err := s.waitIndex(); err != nil {
				return err
			}
		default:
			return err
		}
	}
}

func (s *Store) tryPutBack(d *Damage, i int, data []byte) error {
	s.shifting.Lock() // the block's epoch must not change between the look and the record
	defer s.shifting.Unlock()
	blk := d.Extent.Off/blockSize + int64(i)
	place := cell{segment: d.Segment, off: uint32(d.Off) + uint32(i)*blockSize}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed.Load() {
		return errClosed()
	}
	br := s.branchOf(d.branch)
	if br == nil {
		return nil
	}
	num := br.num
	epoch, found, err := s.versionOf(num, head, blk, place)
	if m := s.moving; err == nil && !found && m != nil && m.to == br {
		num = m.from
		epoch, found, err = s.versionOf(num, head, blk, place)
	}
	if err != nil || !found {
		return err
	}
	body := make([]byte, relocateFixed)
	relocation{epoch: epoch, segment: place.segment, off: place.off}.put(body)
	body = append(body, d.crcs[i*4:i*4+4]...)
	h := header{op: opRelocate, volume: br.volume, branch: num, first: uint64(blk), count: 1}
	return s.commit(&h, body, data, forMoving)
}
