package logstore

import (
	"sync"

	"kvol/internal/block"
	"kvol/internal/driver"
)

const (
	// joinGap is how many bytes between two blocks are read along rather than
	// reading twice: a record's header and a few blocks of others.
	joinGap = 4 * blockSize
	// joinMax bounds one read that needs a buffer, in bytes.
	joinMax = 256 << 10
)

// read reads bytes of a branch as seen below a bound. It takes no lock that is
// held during input or output.
func (s *Store) read(br *branch, bound uint64, p []byte, off int64) error {
	if s.closed.Load() {
		return errClosed()
	}
	turn := s.grace.enter()
	defer s.grace.leave(turn)
	for len(p) > 0 {
		first, part := off/blockSize, int(off%blockSize)
		var n int
		var err error
		if part != 0 || len(p) < blockSize {
			n = min(blockSize-part, len(p))
			err = s.readPart(br, bound, first, part, p[:n])
		} else {
			n = int(min(int64(len(p)/blockSize), leafBlocks-first%leafBlocks)) * blockSize
			err = s.readBlocks(br, bound, first, p[:n])
		}
		if err != nil {
			return err
		}
		p, off = p[n:], off+int64(n)
	}
	return nil
}

func (s *Store) readPart(br *branch, bound uint64, first int64, part int, p []byte) error {
	buf := getBlock()
	defer putBlock(buf)
	if err := s.readBlocks(br, bound, first, buf[:]); err != nil {
		return err
	}
	copy(p, buf[part:])
	return nil
}

var leafBuffers = sync.Pool{New: func() any { return new(cells) }}

// readBlocks reads whole blocks within one leaf.
func (s *Store) readBlocks(br *branch, bound uint64, first int64, p []byte) error {
	c := leafBuffers.Get().(*cells)
	defer leafBuffers.Put(c)
	from := int(first % leafBlocks)
	to := from + len(p)/blockSize
	if err := s.lookup(br, bound, uint32(first/leafBlocks), from, to, c); err != nil {
		return err
	}
	for i := from; i < to; {
		q := p[(i-from)*blockSize:]
		if c[i].zero() {
			clear(q[:blockSize])
			i++
			continue
		}
		n, joined := join(c[i:to])
		var err error
		if joined {
			err = s.readJoined(c[i:i+n], q)
		} else {
			err = s.readRun(c[i:i+n], q)
		}
		if mendable(err) {
			err = s.readEach(br, bound, first+int64(i-from), c[i:i+n], q)
		}
		if err != nil {
			return err
		}
		i += n
	}
	return nil
}

// readEach reads blocks one by one, where reading them together failed, and
// mends those that are damaged.
func (s *Store) readEach(br *branch, bound uint64, first int64, c []cell, p []byte) error {
	for i := range c {
		err := s.readRun(c[i:i+1], p[i*blockSize:])
		if mendable(err) {
			err = s.mend(br, bound, first+int64(i), c[i], p[i*blockSize:(i+1)*blockSize], err)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// join tells how many of the first cells one read gets, and whether there is
// something between them that nobody wants.
func join(c []cell) (n int, gaps bool) {
	start := c[0].off
	for n = 1; n < len(c); n++ {
		prev, this := c[n-1], c[n]
		if this.zero() || this.segment != prev.segment || this.off < prev.off+blockSize {
			break
		}
		gap := this.off - prev.off - blockSize
		if gap == 0 && !gaps {
			continue
		}
		if gap > joinGap || this.off+blockSize-start > joinMax {
			break
		}
		gaps = true
	}
	return n, gaps
}

// readRun reads blocks that lie one after the other.
func (s *Store) readRun(c []cell, p []byte) error {
	p = p[:len(c)*blockSize]
	if err := s.pread(c[0].segment, p, int64(c[0].off)); err != nil {
		return err
	}
	for i := range c {
		if err := s.verify(c[i], p[i*blockSize:(i+1)*blockSize]); err != nil {
			return err
		}
	}
	return nil
}

var joinBuffers = sync.Pool{New: func() any { return new([joinMax]byte) }}

// readJoined reads blocks with something between them.
func (s *Store) readJoined(c []cell, p []byte) error {
	whole := joinBuffers.Get().(*[joinMax]byte)
	defer joinBuffers.Put(whole)
	start := c[0].off
	n := int(c[len(c)-1].off-start) + blockSize
	if n > len(whole) { // the first blocks had no gaps and are many already
		for i := range c {
			if err := s.readRun(c[i:i+1], p[i*blockSize:]); err != nil {
				return err
			}
		}
		return nil
	}
	if err := s.pread(c[0].segment, whole[:n], int64(start)); err != nil {
		return err
	}
	for i := range c {
		at := int(c[i].off - start)
		if err := s.verify(c[i], whole[at:at+blockSize]); err != nil {
			return err
		}
		copy(p[i*blockSize:(i+1)*blockSize], whole[at:])
	}
	return nil
}

func (s *Store) pread(segment uint32, p []byte, off int64) error {
	if segment == lostSegment {
		return errLost()
	}
	h, err := s.handles.get(segment)
	if err != nil {
		return err
	}
	defer s.handles.put(h)
	_, err = h.ReadAt(p, off)
	return block.Wrap(block.Unavailable, err, "a segment of the store can't be read")
}

func (s *Store) verify(c cell, p []byte) error {
	if blockCRC(p) != c.crc && !s.hooks.is(skipReadCheck) {
		return block.Errorf(block.Corrupt, "a block in segment %08x at %d does not match its checksum", c.segment, c.off)
	}
	return nil
}

// extents yields what of a range holds data, as seen from a branch below a
// bound.
func (s *Store) extents(br *branch, bound uint64, off, length int64, yield func(driver.Extent, error) bool) {
	if length == 0 {
		return
	}
	out := extentWriter{yield: func(e driver.Extent) bool { return yield(e, nil) }, from: off, to: off + length}
	var c cells
	var failed error
	last := uint32((off + length - 1) / leafSize)
	at := off / leafSize * leafSize
	err := s.eachLeaf(br, bound, uint32(off/leafSize), last, func(leaf uint32) bool {
		base := int64(leaf) * leafSize
		out.add(at, base-at, true)
		if failed = s.lookup(br, bound, leaf, 0, leafBlocks, &c); failed != nil {
			return false
		}
		for i := range c {
			out.add(base+int64(i)*blockSize, blockSize, c[i].zero())
		}
		at = base + leafSize
		return !out.stopped
	})
	if err == nil {
		err = failed
	}
	if err != nil {
		yield(driver.Extent{}, err)
		return
	}
	out.add(at, off+length-at, true)
	out.flush()
}

const leafSize = leafBlocks * blockSize

// extentWriter joins neighbours and cuts at the ends of the range.
type extentWriter struct {
	yield    func(driver.Extent) bool
	from, to int64
	last     driver.Extent
	stopped  bool
}

func (w *extentWriter) add(off, length int64, zero bool) {
	end := min(off+length, w.to)
	if off = max(off, w.from); off >= end || w.stopped {
		return
	}
	if w.last.Len > 0 && w.last.End() == off && w.last.Zero == zero {
		w.last.Len = end - w.last.Off
		return
	}
	w.flush()
	w.last = driver.Extent{Off: off, Len: end - off, Zero: zero}
}

func (w *extentWriter) flush() {
	if w.last.Len > 0 && !w.stopped {
		w.stopped = !w.yield(w.last)
	}
	w.last = driver.Extent{}
}
