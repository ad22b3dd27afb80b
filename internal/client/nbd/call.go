package nbd

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
)

// maxPayload is the most bytes that go into one read or write; longer ones are
// cut up. Every server takes it.
const maxPayload = 4 << 20

// call is a request that is under way.
type call struct {
	op      string
	off     int64
	into    []byte     // where a read's data goes
	filled  int        // bytes of into that came, in any order
	status  []uint32   // descriptors of a block status
	refused error      // from an error chunk; more chunks may follow
	done    chan error // buffered; gets the outcome once, from the receiver, which alone touches into
}

// ReadAt implements io.ReaderAt. Calls may be under way at once.
func (c *Conn) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, &Error{Op: "read", Errno: uint32(syscall.EINVAL)}
	}
	short := int64(len(p)) > max(0, c.size-off)
	if short {
		p = p[:max(0, c.size-off)]
	}
	n := 0
	for n < len(p) {
		part := p[n:min(len(p), n+maxPayload)]
		if err := c.do(cmdRead, 0, off+int64(n), uint32(len(part)), nil, &call{op: "read", into: part}); err != nil {
			return n, err
		}
		n += len(part)
	}
	if short {
		return n, io.EOF
	}
	return n, nil
}

// WriteAt implements io.WriterAt.
func (c *Conn) WriteAt(p []byte, off int64) (int, error) {
	n := 0
	for n < len(p) {
		part := p[n:min(len(p), n+maxPayload)]
		if err := c.do(cmdWrite, 0, off+int64(n), uint32(len(part)), part, &call{op: "write"}); err != nil {
			return n, err
		}
		n += len(part)
	}
	return n, nil
}

// Flush makes all writes that completed before it survive a power cut.
func (c *Conn) Flush() error { return c.do(cmdFlush, 0, 0, 0, nil, &call{op: "flush"}) }

// maxRange is the most bytes that one request without payload is about.
const maxRange = 1 << 30

// Trim tells the server that a range's content is of no interest any more.
func (c *Conn) Trim(off, length int64) error {
	return c.ranges(cmdTrim, 0, "trim", off, length)
}

// WriteZeroes makes a range read as zeros; hole says that its space may be
// given back.
func (c *Conn) WriteZeroes(off, length int64, hole bool) error {
	flags := uint16(flagNoHole)
	if hole {
		flags = 0
	}
	return c.ranges(cmdWriteZeroes, flags, "write zeroes", off, length)
}

func (c *Conn) ranges(cmd, flags uint16, op string, off, length int64) error {
	for length > 0 {
		n := min(length, maxRange)
		if err := c.do(cmd, flags, off, uint32(n), nil, &call{op: op}); err != nil {
			return err
		}
		off, length = off+n, length-n
	}
	return nil
}

// Extent is a range of the export, in bytes; Zero says that it reads as zeros.
type Extent struct {
	Off, Len int64
	Zero     bool
}

// ErrNoStatus is the answer of BlockStatus where the server can't tell.
var ErrNoStatus = errors.New("nbd: the server does not tell which ranges hold data")

// BlockStatus tells which parts of a range hold data; what it returns begins at
// off, is in order and may end early, but has one extent at least.
func (c *Conn) BlockStatus(off, length int64) ([]Extent, error) {
	if !c.blocks {
		return nil, ErrNoStatus
	}
	k := &call{op: "block status"}
	if err := c.do(cmdBlockStatus, 0, off, uint32(min(length, maxRange)), nil, k); err != nil {
		return nil, err
	}
	var all []Extent
	for ; len(k.status) >= 2; k.status = k.status[2:] {
		n := int64(k.status[0])
		all = append(all, Extent{Off: off, Len: n, Zero: k.status[1]&stateZero != 0})
		off += n
	}
	if len(all) == 0 {
		return nil, errProtocol
	}
	return all, nil
}

func appendRequest(b []byte, cmd, flags uint16, cookie uint64, off int64, length uint32) []byte {
	be := binary.BigEndian
	b = be.AppendUint32(b, magicRequest)
	b = be.AppendUint16(b, flags)
	b = be.AppendUint16(b, cmd)
	b = be.AppendUint64(b, cookie)
	b = be.AppendUint64(b, uint64(off))
	return be.AppendUint32(b, length)
}

// do sends one request and waits for its outcome.
func (c *Conn) do(cmd, flags uint16, off int64, length uint32, payload []byte, k *call) error {
	k.off, k.done = off, make(chan error, 1)
	c.mu.Lock()
	if c.err != nil {
		defer c.mu.Unlock()
		return c.err
	}
	c.cookie++
	cookie := c.cookie
	c.calls[cookie] = k
	c.mu.Unlock()

	if err := c.send(cmd, flags, cookie, off, length, payload); err != nil {
		c.fail(fmt.Errorf("nbd: %w", err))
		c.conn.Close() // ends the receiver
	}
	return <-k.done
}

func (c *Conn) send(cmd, flags uint16, cookie uint64, off int64, length uint32, payload []byte) error {
	c.sendMu.Lock()
	defer c.sendMu.Unlock()
	c.header = appendRequest(c.header[:0], cmd, flags, cookie, off, length)
	if len(payload) == 0 {
		_, err := c.conn.Write(c.header)
		return err
	}
	pieces := net.Buffers{c.header, payload}
	_, err := pieces.WriteTo(c.conn)
	return err
}
