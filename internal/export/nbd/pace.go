package nbd

import (
	"context"
	"time"

	"kvol/internal/export/line"
)

// toll is what a request is counted for by the export's limits; ok is false where
// it isn't.
func (r *request) toll() (write bool, bytes int64, ok bool) {
	switch r.cmd {
	case cmdRead, cmdWrite:
		return r.cmd == cmdWrite, int64(r.length), true
	case cmdCache:
		return false, min(int64(r.length), cacheMost), true
	case cmdTrim:
		return true, 0, true
	case cmdWriteZeroes:
		if r.flags&flagNoHole != 0 {
			return true, int64(r.length), true
		}
		return true, 0, true
	}
	return false, 0, false
}

func (r *request) lane() line.Lane {
	if write, _, _ := r.toll(); write {
		return line.Changes
	}
	return line.Reads
}

// turn asks the export's limits about a request of which everything is there.
func (c *conn) turn(r *request) line.Turn {
	if c.throttle == nil {
		return line.Turn{}
	}
	if _, _, ok := r.toll(); !ok {
		return line.Turn{}
	}
	return c.lanes.Ask(r.lane(), *r)
}

func (c *conn) count(r request) time.Duration {
	write, bytes, _ := r.toll()
	return c.throttle(write, bytes)
}

// uncount takes back what a request was counted for that is never carried out.
func (c *conn) uncount(r request) {
	if c.giveBack != nil {
		write, bytes, _ := r.toll()
		c.giveBack(write, bytes)
	}
}

// drop answers a request that waited for its time when the connection ended. A
// client that only closed its side is told that it was not carried out.
func (c *conn) drop(r request) {
	if r.buf != nil {
		r.buf.Free()
	}
	c.out.Send(c.failure(&r, errShutdown, ""))
}

// expect limits how long the client may take for n more bytes of a request,
// where they aren't there yet. The function that it returns ends that.
func (c *conn) expect(ctx context.Context, n int64) (done func()) {
	if int64(c.in.Buffered()) >= n {
		return func() {}
	}
	c.until(ctx, c.now().Add(line.Patience(c.stall, n)))
	return func() { c.until(ctx, time.Time{}) }
}

// until sets the time at which reading fails, but for a server that stops:
// there it fails at once, see watch.
func (c *conn) until(ctx context.Context, t time.Time) {
	_ = c.conn.SetReadDeadline(t) // fails only where the connection is closed, as reading will
	if ctx.Err() != nil {
		_ = c.conn.SetReadDeadline(line.LongAgo())
	}
}
