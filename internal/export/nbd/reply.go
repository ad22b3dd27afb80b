package nbd

import (
	"encoding/binary"

	"kvol/internal/block"
	"kvol/internal/driver"
)

// answer is the reply to a request that brings no data back.
func (c *conn) answer(r *request, err error) reply {
	if err != nil {
		return c.deviceFailure(r, err)
	}
	return simple(r, errNone)
}

func simple(r *request, e errno) reply {
	out := reply{n: simpleHeader, cost: r.cost()}
	binary.BigEndian.PutUint32(out.head[:], magicSimple)
	binary.BigEndian.PutUint32(out.head[4:], uint32(e))
	binary.BigEndian.PutUint64(out.head[8:], r.cookie)
	return out
}

// deviceFailure is the reply to a request that the device refused. The client
// gets a number and a sentence; the cause goes to the log, once for a
// connection.
func (c *conn) deviceFailure(r *request, err error) reply {
	e := errnoOf(err)
	if e == errIO {
		c.failed.Do(func() { c.log.Error("a request failed", "command", int(r.cmd), "err", err) })
	}
	text, _ := block.UserMessage(err)
	return c.failure(r, e, text)
}

// maxText is the most that an error chunk says, in bytes (the protocol allows
// strings of 4096).
const maxText = 1024

// failure is the reply to a request that failed: an error chunk where the reply
// must be structured.
func (c *conn) failure(r *request, e errno, text string) reply {
	if !c.structured || r.cmd != cmdRead && r.cmd != cmdBlockStatus {
		return simple(r, e)
	}
	text = text[:min(len(text), maxText)]
	b := c.pool.Get(6 + len(text))
	binary.BigEndian.PutUint32(b.Data, uint32(e))
	binary.BigEndian.PutUint16(b.Data[4:], uint16(len(text)))
	copy(b.Data[6:], text)
	putChunk(b.Head(structuredHeader), r, chunkError, len(b.Data))
	return reply{buf: b, cost: r.cost()}
}

// putChunk writes the header of a structured reply's only chunk; n is the
// length of what follows.
func putChunk(head []byte, r *request, kind uint16, n int) {
	binary.BigEndian.PutUint32(head, magicStructured)
	binary.BigEndian.PutUint16(head[4:], chunkDone)
	binary.BigEndian.PutUint16(head[6:], kind)
	binary.BigEndian.PutUint64(head[8:], r.cookie)
	binary.BigEndian.PutUint32(head[16:], uint32(n))
}

// readReply reads. The reply is one chunk, so that NBD_CMD_FLAG_DF is always
// kept; a large range without data is told and not sent.
func (c *conn) readReply(r *request) reply {
	if c.structured && r.length == 0 {
		b := c.pool.Get(0)
		putChunk(b.Head(structuredHeader), r, chunkNone, 0)
		return reply{buf: b}
	}
	if c.structured && r.length > inlineBytes && c.hole(r) {
		b := c.pool.Get(12)
		binary.BigEndian.PutUint64(b.Data, r.off)
		binary.BigEndian.PutUint32(b.Data[8:], r.length)
		putChunk(b.Head(structuredHeader), r, chunkOffsetHole, 12)
		return reply{buf: b, cost: r.cost()}
	}
	b := c.pool.Get(int(r.length))
	if _, err := c.dev.ReadAt(b.Data, int64(r.off)); err != nil {
		b.Free()
		return c.deviceFailure(r, err)
	}
	if c.structured {
		head := b.Head(structuredHeader + 8)
		putChunk(head, r, chunkOffsetData, 8+len(b.Data))
		binary.BigEndian.PutUint64(head[structuredHeader:], r.off)
	} else {
		head := b.Head(simpleHeader)
		binary.BigEndian.PutUint32(head, magicSimple)
		binary.BigEndian.PutUint32(head[4:], uint32(errNone))
		binary.BigEndian.PutUint64(head[8:], r.cookie)
	}
	return reply{buf: b, cost: r.cost()}
}

// hole reports whether all of a read's range is known to be zeros.
func (c *conn) hole(r *request) bool {
	er, ok := c.dev.(driver.ExtentReader)
	return ok && zeros(er, int64(r.off), int64(r.length))
}

// zeros reports whether a range is known to have no data.
func zeros(er driver.ExtentReader, off, length int64) bool {
	for e, err := range er.Extents(off, length) {
		if err != nil || !e.Zero {
			return false
		}
	}
	return true
}
