package nbd

import (
	"context"
	"time"

	"kvol/internal/export/line"
)

// pace asks the export's limits about a request that is about to be carried
// out.
func (c *conn) pace(r *request) time.Duration {
	if c.throttle == nil {
		return 0
	}
	switch r.cmd {
	case cmdRead, cmdWrite:
		return c.throttle(r.cmd == cmdWrite, int64(r.length))
	case cmdCache:
		return c.throttle(false, min(int64(r.length), cacheMost))
	case cmdTrim:
		return c.throttle(true, 0)
	case cmdWriteZeroes:
		if r.flags&flagNoHole != 0 {
			return c.throttle(true, int64(r.length))
		}
		return c.throttle(true, 0)
	}
	return 0
}

// later gives a request to the workers after a while.
func (c *conn) later(ctx context.Context, r *request, wait time.Duration) error {
	if r.cmd == cmdWrite {
		if err := c.payload(ctx, r); err != nil {
			return err
		}
	}
	c.crew.Later(*r, wait)
	return nil
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
