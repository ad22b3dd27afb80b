package logstore

import (
	"sync"

	"kvol/internal/block"
	"kvol/internal/driver"
)

// request is what one read is about: a branch as seen below a bound, and the
// blocks that were mended on the way.
type request struct {
	br     *branch
	bound  uint64
	mended map[cell][]byte // nil where nothing is damaged, as nearly always
}

// read reads bytes of a branch as seen below a bound. It takes no lock that is
// held during input or output.
func (s *Store) read(br *branch, bound uint64, p []byte, off int64) error {
	if s.closed.Load() {
		return errClosed()
	}
	r := request{br: br, bound: bound}
	n, err := s.readOn(&r, p, off)
	if err == nil {
		return nil
	}
	return s.readMending(&r, p[n:], off+int64(n), err)
}

// readOn reads until something is damaged, and tells how far it came. Segments
// are not reused while it runs, so it waits for nobody.
func (s *Store) readOn(r *request, p []byte, off int64) (done int, err error) {
	turn := s.grace.enter()
	defer s.grace.leave(turn)
	for len(p) > 0 {
		first, part := off/blockSize, int(off%blockSize)
		var n int
		if part != 0 || len(p) < blockSize {
			n = min(blockSize-part, len(p))
			err = s.readPart(r, first, part, p[:n])
		} else {
			n = int(min(int64(len(p)/blockSize), leafBlocks-first%leafBlocks)) * blockSize
			err = s.readBlocks(r, first, p[:n])
		}
		if err != nil {
			return done, err
		}
		p, off, done = p[n:], off+int64(n), done+n
	}
	return done, nil
}

func (s *Store) readPart(r *request, first int64, part int, p []byte) error {
	buf := getBlock()
	defer putBlock(buf)
	if err := s.readBlocks(r, first, buf[:]); err != nil {
		return err
	}
	copy(p, buf[part:])
	return nil
}

var leafBuffers = sync.Pool{New: func() any { return new(cells) }}

// readBlocks reads whole blocks within one leaf.
func (s *Store) readBlocks(r *request, first int64, p []byte) error {
	c := leafBuffers.Get().(*cells)
	defer leafBuffers.Put(c)
	from := int(first % leafBlocks)
	to := from + len(p)/blockSize
	if err := s.lookup(r.br, r.bound, uint32(first/leafBlocks), from, to, c); err != nil {
		return err
	}
	g := gathers.Get().(*gather)
	defer gathers.Put(g)
	g.plan(c[from:to], p)
	if len(g.groups) == 1 { // as nearly always; without garbage
		return s.readSure(r, first, g.blocks, g.groups[0].direct, p)
	}
	return g.each(func(w []wanted, direct bool) error { return s.readSure(r, first, w, direct, p) })
}

// readSure reads what one operation reads, or block by block where that fails.
func (s *Store) readSure(r *request, first int64, w []wanted, direct bool, p []byte) error {
	err := s.readGroup(w, direct, p)
	if mendable(err) {
		return s.readEach(r, first, w, p)
	}
	return err
}

// readEach reads blocks one by one, where reading them together failed, until
// one is damaged that was not mended yet.
func (s *Store) readEach(r *request, first int64, w []wanted, p []byte) error {
	for i := range w {
		index := w[i].index
		err := s.readGroup(w[i:i+1], true, p)
		if mendable(err) {
			data := r.mended[w[i].cell]
			if data == nil {
				return &damagedBlock{blk: first + int64(index), cell: w[i].cell, cause: err}
			}
			copy(p[index*blockSize:], data)
		} else if err != nil {
			return err
		}
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
	if s.closed.Load() {
		yield(driver.Extent{}, errClosed())
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
