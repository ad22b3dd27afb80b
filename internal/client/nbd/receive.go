package nbd

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

var errProtocol = errors.New("nbd: the server's reply makes no sense")

// maxChunk is the most that a chunk without a read's data may have.
const maxChunk = 1 << 20

// receive takes replies until the connection ends, and then fails what is
// under way.
func (c *Conn) receive() {
	r := receiver{c: c, in: bufio.NewReaderSize(c.conn, 64<<10)}
	var err error
	for err == nil {
		err = r.reply()
	}
	if !errors.Is(err, errProtocol) {
		err = fmt.Errorf("nbd: the connection was lost: %w", err)
	}
	c.fail(err)
	c.conn.Close()
	c.mu.Lock()
	defer c.mu.Unlock()
	for cookie, k := range c.calls {
		delete(c.calls, cookie)
		k.done <- c.err
	}
}

// receiver reads replies of one connection.
type receiver struct {
	c  *Conn
	in *bufio.Reader
	h  [20]byte
}

func (r *receiver) find(cookie uint64) (*call, error) {
	r.c.mu.Lock()
	defer r.c.mu.Unlock()
	if k := r.c.calls[cookie]; k != nil {
		return k, nil
	}
	return nil, errProtocol
}

// finish ends a call; err is the server's refusal or nil.
func (r *receiver) finish(cookie uint64, k *call, err error) {
	r.c.mu.Lock()
	defer r.c.mu.Unlock()
	delete(r.c.calls, cookie)
	k.done <- err
}

// reply reads one reply or chunk. Errors end the connection.
func (r *receiver) reply() error {
	be := binary.BigEndian
	h := r.h[:16] // both kinds have their cookie at the same place
	if _, err := io.ReadFull(r.in, h); err != nil {
		return err
	}
	cookie := be.Uint64(h[8:])
	k, err := r.find(cookie)
	if err != nil {
		return err
	}
	switch be.Uint32(h) {
	case magicSimple:
		return r.simple(cookie, k, be.Uint32(h[4:]))
	case magicStructured:
		if _, err := io.ReadFull(r.in, r.h[16:20]); err != nil {
			return err
		}
		return r.chunk(cookie, k, be.Uint16(h[4:]), be.Uint16(h[6:]), be.Uint32(r.h[16:]))
	default:
		return errProtocol
	}
}

func (r *receiver) simple(cookie uint64, k *call, errno uint32) error {
	if errno != 0 {
		r.finish(cookie, k, &Error{Op: k.op, Errno: errno})
		return nil
	}
	if _, err := io.ReadFull(r.in, k.into); err != nil {
		return err
	}
	r.finish(cookie, k, nil)
	return nil
}

// chunk reads one chunk of a structured reply.
func (r *receiver) chunk(cookie uint64, k *call, flags, kind uint16, n uint32) error {
	var err error
	switch {
	case kind == chunkOffsetData:
		err = r.data(k, n)
	case n > maxChunk:
		err = errProtocol
	default:
		payload := make([]byte, n)
		if _, err = io.ReadFull(r.in, payload); err == nil {
			err = k.take(kind, payload)
		}
	}
	if err != nil || flags&chunkDone == 0 {
		return err
	}
	if k.refused == nil && k.filled != len(k.into) {
		return errProtocol
	}
	r.finish(cookie, k, k.refused)
	return nil
}

// data reads a chunk of a read's data to where it belongs.
func (r *receiver) data(k *call, n uint32) error {
	var b [8]byte
	if n < 8 {
		return errProtocol
	}
	if _, err := io.ReadFull(r.in, b[:]); err != nil {
		return err
	}
	p, err := k.part(binary.BigEndian.Uint64(b[:]), uint64(n-8))
	if err != nil {
		return err
	}
	_, err = io.ReadFull(r.in, p)
	return err
}

// part is the place of n bytes at an offset of the export in what a read
// fills; it counts them.
func (k *call) part(off, n uint64) ([]byte, error) {
	at, room := off-uint64(k.off), uint64(len(k.into))
	if off < uint64(k.off) || at > room || n > room-at || uint64(k.filled)+n > room {
		return nil, errProtocol
	}
	k.filled += int(n)
	return k.into[at : at+n], nil
}

// take deals with a chunk other than data.
func (k *call) take(kind uint16, payload []byte) error {
	be := binary.BigEndian
	switch {
	case kind == chunkNone:
	case kind == chunkOffsetHole && len(payload) == 12:
		p, err := k.part(be.Uint64(payload), uint64(be.Uint32(payload[8:])))
		clear(p)
		return err
	case kind == chunkBlockStatus && len(payload) >= 4 && len(payload)%8 == 4:
		for payload = payload[4:]; len(payload) > 0; payload = payload[4:] {
			k.status = append(k.status, be.Uint32(payload))
		}
	case kind&chunkErrorBit != 0 && len(payload) >= 6:
		text := payload[6:]
		if n := int(be.Uint16(payload[4:])); n <= len(text) {
			text = text[:n]
		}
		k.refused = &Error{Op: k.op, Errno: be.Uint32(payload), Message: string(text)}
	default:
		return errProtocol
	}
	return nil
}
