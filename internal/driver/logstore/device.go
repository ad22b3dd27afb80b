package logstore

import (
	"iter"
	"math/bits"
	"sync"
	"sync/atomic"

	"kvol/internal/block"
	"kvol/internal/driver"
)

const (
	lockStripes = 64
	// maxZero is how many blocks one zero record covers, so that applying it
	// holds nobody up for long: 1 GiB.
	maxZero = 512 * leafBlocks
)

// device is a volume that is open.
type device struct {
	store  *Store
	volume *volume
	branch *branch
	closed atomic.Bool
	// stripes order writes of parts of blocks, which read what they don't
	// change, with all other writes there; by leaf. Whole blocks share them.
	stripes [lockStripes]sync.RWMutex
}

func (d *device) Size() int64 { return d.volume.size.Load() }

func (d *device) check(off, length int64) error {
	if err := d.usable(); err != nil {
		return err
	}
	return driver.CheckRange(off, length, d.Size())
}

func (d *device) ReadAt(p []byte, off int64) (int, error) {
	if err := d.check(off, int64(len(p))); err != nil {
		return 0, err
	}
	if err := d.store.read(d.branch, head, p, off); err != nil {
		return 0, err
	}
	return len(p), nil
}

// WriteAt writes leaf by leaf, each part as one record. Parts of blocks are
// read before and written whole.
func (d *device) WriteAt(p []byte, off int64) (int, error) {
	if err := d.check(off, int64(len(p))); err != nil {
		return 0, err
	}
	maxRun := d.store.maxRun()
	for done := 0; done < len(p); {
		at := off + int64(done)
		first, part := at/blockSize, at%blockSize
		var n int
		var err error
		if part != 0 || len(p)-done < blockSize {
			n = min(blockSize-int(part), len(p)-done)
			err = d.writePart(first, int(part), p[done:done+n])
		} else {
			blocks := min(int64(len(p)-done)/blockSize, leafBlocks-first%leafBlocks, maxRun)
			n = int(blocks) * blockSize
			err = d.writeBlocks(first, p[done:done+n])
		}
		if err != nil {
			return done, err
		}
		done += n
	}
	return len(p), nil
}

// maxRun is how many blocks one record may hold: a leaf, or less where
// segments are small, since what does not fit the end of a segment is lost.
func (s *Store) maxRun() int64 {
	segment := (int64(s.super.segmentSize) - segmentHeader - headerSize) / (blockSize + 4)
	return max(1, min(leafBlocks, max(segment/31, min(16, segment/2))))
}

func (d *device) stripe(first int64) *sync.RWMutex {
	return &d.stripes[first/leafBlocks%lockStripes]
}

// stripeSet is a set of stripes, a bit for each.
type stripeSet uint64

func (s *stripeSet) add(first int64) { *s |= 1 << (first / leafBlocks % lockStripes) }

// share takes stripes for writing whole blocks, each once and from the first to
// the last: whoever holds some and waits for others never waits in a circle.
func (d *device) share(of stripeSet) {
	for ; of != 0; of &= of - 1 {
		d.stripes[bits.TrailingZeros64(uint64(of))].RLock()
	}
}

func (d *device) unshare(of stripeSet) {
	for ; of != 0; of &= of - 1 {
		d.stripes[bits.TrailingZeros64(uint64(of))].RUnlock()
	}
}

func (d *device) writeBlocks(first int64, p []byte) error {
	l := d.stripe(first)
	l.RLock()
	defer l.RUnlock()
	return d.write(first, p)
}

func (d *device) writePart(first int64, part int, p []byte) error {
	l := d.stripe(first)
	l.Lock()
	defer l.Unlock()
	buf := getBlock()
	defer putBlock(buf)
	if err := d.store.read(d.branch, head, buf[:], first*blockSize); err != nil {
		return err
	}
	copy(buf[part:], p)
	return d.write(first, buf[:])
}

var blocks = sync.Pool{New: func() any { return new([blockSize]byte) }}

func getBlock() *[blockSize]byte  { return blocks.Get().(*[blockSize]byte) }
func putBlock(b *[blockSize]byte) { blocks.Put(b) }

// usable refuses a device that was closed. Whoever appends a record asks under
// Store.mu, and keeps that until it is applied: a write that was under way while
// the device was closed comes too late then. Its volume may be deleted or
// rewound since, and a record of a branch that has ended fits nothing.
func (d *device) usable() error {
	if d.closed.Load() {
		return block.Errorf(block.Unavailable, "the volume was closed")
	}
	return nil
}

// write appends whole blocks within a leaf as one record.
func (d *device) write(first int64, p []byte) error {
	s := d.store
	w := writers.Get().(*writer)
	defer writers.Put(w)
	count := len(p) / blockSize
	w.h = header{op: opWrite, volume: d.volume.num, branch: d.branch.num, first: uint64(first), count: uint32(count)}
	w.crcs = w.crcs[:0]
	for i := range count {
		w.crcs = le.AppendUint32(w.crcs, blockCRC(p[i*blockSize:(i+1)*blockSize]))
	}
	s.pace.hold(len(p), s.now)
	for {
		if s.closed.Load() {
			return errClosed()
		}
		s.mu.Lock()
		err := d.usable()
		if err == nil {
			err = s.commit(&w.h, w.crcs, p, forWriting)
		}
		s.mu.Unlock()
		if again, err := s.waitFor(err, forWriting); !again {
			return err
		}
	}
}

// writer is what a write needs beside its data.
type writer struct {
	h    header
	crcs []byte
}

var writers = sync.Pool{New: func() any { return &writer{crcs: make([]byte, 0, leafBlocks*4)} }}

// Zero notes whole blocks as zeros and writes zeros into parts of blocks.
func (d *device) Zero(off, length int64) error {
	if err := d.check(off, length); err != nil {
		return err
	}
	for end := off + length; off < end; {
		first, part := off/blockSize, off%blockSize
		n := end - off
		var err error
		if part != 0 || n < blockSize {
			n = min(blockSize-part, n)
			err = d.writePart(first, int(part), make([]byte, n))
		} else {
			n = min(n/blockSize, maxZero) * blockSize
			err = d.zeroBlocks(first, n/blockSize)
		}
		if err != nil {
			return err
		}
		off += n
	}
	return nil
}

func (d *device) zeroBlocks(first, count int64) error {
	var of stripeSet
	from, leaves := first/leafBlocks, (first+count-1)/leafBlocks-first/leafBlocks+1
	for i := range min(leaves, lockStripes) {
		of.add((from + i) * leafBlocks)
	}
	d.share(of)
	defer d.unshare(of)
	h := header{op: opZero, volume: d.volume.num, branch: d.branch.num, first: uint64(first), count: uint32(count)}
	return d.store.do(forTrimming, func() error {
		if err := d.usable(); err != nil {
			return err
		}
		return d.store.commit(&h, nil, nil, forTrimming)
	})
}

// Flush syncs the log, with whoever else wants it at the moment.
func (d *device) Flush() error { return d.store.log.flush() }

func (d *device) Close() error {
	if !d.closed.Swap(true) {
		d.store.mu.Lock()
		d.volume.open = false
		d.store.mu.Unlock()
	}
	return nil
}

func (d *device) Extents(off, length int64) iter.Seq2[driver.Extent, error] {
	return func(yield func(driver.Extent, error) bool) {
		if err := d.check(off, length); err != nil {
			yield(driver.Extent{}, err)
			return
		}
		d.store.extents(d.branch, head, off, length, yield)
	}
}

// reader is a snapshot that is open.
type reader struct {
	store    *Store
	snapshot *snapshot
	closed   atomic.Bool
}

func (r *reader) Size() int64 { return r.snapshot.size }

func (r *reader) check(off, length int64) error {
	if r.closed.Load() {
		return block.Errorf(block.Unavailable, "the snapshot was closed")
	}
	return driver.CheckRange(off, length, r.Size())
}

func (r *reader) ReadAt(p []byte, off int64) (int, error) {
	if err := r.check(off, int64(len(p))); err != nil {
		return 0, err
	}
	if err := r.store.read(r.snapshot.branch, r.snapshot.at, p, off); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (r *reader) Close() error {
	if !r.closed.Swap(true) {
		r.store.mu.Lock()
		r.snapshot.readers--
		r.store.mu.Unlock()
	}
	return nil
}

func (r *reader) Extents(off, length int64) iter.Seq2[driver.Extent, error] {
	return func(yield func(driver.Extent, error) bool) {
		if err := r.check(off, length); err != nil {
			yield(driver.Extent{}, err)
			return
		}
		r.store.extents(r.snapshot.branch, r.snapshot.at, off, length, yield)
	}
}
