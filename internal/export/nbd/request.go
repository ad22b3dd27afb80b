package nbd

import (
	"encoding/binary"

	"kvol/internal/block"
	"kvol/internal/driver"
	"kvol/internal/export/line"
)

// request is one request of a client.
type request struct {
	cmd    command
	flags  uint16
	cookie uint64
	off    uint64
	length uint32
	buf    *line.Buffer // payload of a write, where it does not lie in the reader's buffer
}

// parse reads a request's header; ok is false if it is none.
func parse(h []byte) (r request, ok bool) {
	be := binary.BigEndian
	if be.Uint32(h) != magicRequest {
		return request{}, false
	}
	return request{flags: be.Uint16(h[4:]), cmd: command(be.Uint16(h[6:])), cookie: be.Uint64(h[8:]),
		off: be.Uint64(h[16:]), length: be.Uint32(h[24:])}, true
}

// cost is how many bytes the request holds while it is under way.
func (r *request) cost() int {
	if r.cmd == cmdRead || r.cmd == cmdWrite {
		return int(min(r.length, MaxRequest))
	}
	return 0
}

// changes reports whether the request changes bytes.
func (r *request) changes() bool {
	return r.cmd == cmdWrite || r.cmd == cmdTrim || r.cmd == cmdWriteZeroes
}

// check refuses what can't be carried out, before anything is.
func (c *conn) check(r *request) errno {
	if c.gone.Load() {
		return errShutdown
	}
	allowed, known := commandFlags[r.cmd]
	if !c.structured {
		allowed &^= flagDF
	}
	if !known || r.flags&^allowed != 0 {
		return errInvalid
	}
	if r.changes() && c.readOnly {
		return errPerm
	}
	if (r.cmd == cmdRead || r.cmd == cmdWrite) && r.length > MaxRequest {
		return errInvalid
	}
	if r.cmd == cmdBlockStatus && (len(c.contexts) == 0 || r.length == 0) {
		return errInvalid
	}
	if r.cmd == cmdFlush {
		return errNone
	}
	if size := uint64(c.dev.Size()); r.off > size || uint64(r.length) > size-r.off {
		if r.cmd == cmdWrite || r.cmd == cmdWriteZeroes {
			return errNoSpace // as the protocol's document has it
		}
		return errInvalid
	}
	return errNone
}

// change carries out a request that changes bytes or makes them last; payload
// is what a write brought.
func (c *conn) change(r *request, payload []byte) error {
	var err error
	off, length := int64(r.off), int64(r.length)
	switch r.cmd {
	case cmdWrite:
		_, err = c.dev.WriteAt(payload, off)
	case cmdTrim:
		err = c.trim(off, length)
	case cmdWriteZeroes:
		err = c.writeZeroes(r, off, length)
	}
	if err != nil || r.cmd != cmdFlush && r.flags&flagFUA == 0 {
		return err
	}
	return c.dev.Flush()
}

// trim gives whole blocks back; what is left over at the ends stays, since the
// client does not care what a trimmed range holds.
func (c *conn) trim(off, length int64) error {
	end := off + length
	if end < c.dev.Size() {
		end -= end % driver.BlockSize
	}
	off = (off + driver.BlockSize - 1) / driver.BlockSize * driver.BlockSize
	if end <= off {
		return nil
	}
	return c.dev.Zero(off, end-off)
}

const (
	cacheChunk = 1 << 20
	// cacheMost is how much of a range is read for one NBD_CMD_CACHE: it is
	// advice, and must not let a client make the store read without sending.
	cacheMost = 64 << 20
)

// cache reads a range and drops it, so that it is in memory when the client
// asks for it, and so that damage in it is told now. Holes are left out.
func (c *conn) cache(r *request) error {
	off, end := int64(r.off), int64(r.off)+min(int64(r.length), cacheMost)
	b := c.pool.Get(int(min(end-off, cacheChunk)))
	defer b.Free()
	er, ok := c.dev.(driver.ExtentReader)
	for ; off < end && !c.gone.Load(); off += cacheChunk {
		n := min(end-off, cacheChunk)
		if ok && zeros(er, off, n) {
			continue
		}
		if _, err := c.dev.ReadAt(b.Data[:n], off); err != nil {
			return err
		}
	}
	return nil
}

const zeroChunk = 1 << 20

// writeZeroes makes a range zero. With NO_HOLE it writes the zeros, so that
// room is taken for the range; that is not fast and is refused where the client
// asked for fast only.
func (c *conn) writeZeroes(r *request, off, length int64) error {
	if r.flags&flagNoHole == 0 {
		return c.dev.Zero(off, length)
	}
	if r.flags&flagFastZero != 0 {
		return block.Errorf(block.Unsupported, "writing zeros without a hole is not fast")
	}
	b := c.pool.Get(int(min(length, zeroChunk)))
	defer b.Free()
	clear(b.Data)
	for ; length > 0; off, length = off+zeroChunk, length-zeroChunk {
		if _, err := c.dev.WriteAt(b.Data[:min(length, zeroChunk)], off); err != nil {
			return err
		}
	}
	return nil
}

// errnoOf maps a device's error to a number of the protocol.
func errnoOf(err error) errno {
	if err == nil {
		return errNone
	}
	switch block.KindOf(err) {
	case block.Invalid:
		return errInvalid
	case block.NoSpace, block.OverLimit:
		return errNoSpace
	case block.Stale, block.Forbidden:
		return errPerm
	case block.Unsupported:
		return errNotSup
	case block.NotFound, block.Conflict:
		return errShutdown // the device was taken away
	default:
		return errIO
	}
}
