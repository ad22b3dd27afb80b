package nbd

import (
	"context"

	"kvol/internal/driver"
)

// gathered are writes that are carried out together. Their bytes lie in the
// input buffer, which stays as it is until more input is read.
type gathered struct {
	requests []request
	parts    []driver.Part
}

// inline reports whether a request is a write that the reader carries out.
func (r *request) inline() bool {
	return r.cmd == cmdWrite && r.length <= inlineBytes && r.flags&flagFUA == 0
}

// writeInline writes from the input buffer: at once, or together with the
// writes behind it that are there too. One that has to wait gets a buffer.
func (c *conn) writeInline(ctx context.Context, r *request) error {
	done := c.expect(ctx, int64(r.length))
	p, err := c.in.Peek(int(r.length)) // replies that were left can wait: the client is sending it
	done()
	if err != nil {
		c.out.Leave(c.failure(r, errInvalid, ""))
		return noEOF(err)
	}
	if turn := c.turn(r); turn.Waits() {
		r.buf = c.pool.Get(len(p))
		copy(r.buf.Data, p)
		_, _ = c.in.Discard(len(p)) // is there
		c.writeGathered()
		c.lanes.Wait(r.lane(), *r, turn)
		return nil
	}
	g := &c.together
	g.requests, g.parts = append(g.requests, *r), append(g.parts, driver.Part{Off: int64(r.off), Data: p})
	_, _ = c.in.Discard(len(p)) // is there
	if !c.moreWrites() {
		c.writeGathered()
	}
	return nil
}

// moreWrites reports whether all of another write of the kind is there already.
func (c *conn) moreWrites() bool {
	if c.in.Buffered() < requestHeader {
		return false
	}
	h, _ := c.in.Peek(requestHeader) // is there
	r, ok := parse(h)
	return ok && r.inline() && c.in.Buffered() >= requestHeader+int(r.length)
}

// writeGathered carries out what was gathered and leaves the replies.
func (c *conn) writeGathered() {
	g := &c.together
	for len(g.parts) > 0 {
		var done int
		var err error
		if !c.gone.Load() {
			done, err = driver.WriteMany(c.dev, g.parts)
		}
		if err != nil { // an error is always some write's: the last one's at least
			done = min(done, len(g.parts)-1)
		}
		for i := range done {
			c.out.Leave(c.answer(&g.requests[i], nil))
		}
		if done < len(g.parts) {
			reply := c.failure(&g.requests[done], errShutdown, "") // it was revoked
			if err != nil {
				reply = c.answer(&g.requests[done], err)
			}
			c.out.Leave(reply)
			done++
		}
		g.requests, g.parts = g.requests[done:], g.parts[done:]
	}
	clear(g.parts[:cap(g.parts)])
	g.requests, g.parts = g.requests[:0], g.parts[:0]
}
