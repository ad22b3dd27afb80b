package nbd

import (
	"context"
	"sync"
	"time"
)

// paced is the requests that wait until the export's limits let them go on. No
// goroutine waits for them, so that what is not limited goes past.
type paced struct {
	mu      sync.Mutex // guards below
	waiting map[*time.Timer]request
	over    bool // the connection ends: nothing waits any more
}

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
	c.employ()
	p := &c.paced
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.over {
		c.work <- *r
		return nil
	}
	if p.waiting == nil {
		p.waiting = map[*time.Timer]request{}
	}
	due := *r
	var timer *time.Timer
	timer = time.AfterFunc(wait, func() {
		p.mu.Lock()
		_, still := p.waiting[timer]
		delete(p.waiting, timer)
		p.mu.Unlock()
		if still {
			c.work <- due
		}
	})
	p.waiting[timer] = due
	return nil
}

// hurry lets all go on that wait, since the connection ends.
func (c *conn) hurry() {
	p := &c.paced
	p.mu.Lock()
	defer p.mu.Unlock()
	p.over = true
	for timer, r := range p.waiting {
		timer.Stop()
		c.work <- r // there is room for all that is admitted
	}
	clear(p.waiting)
}

// expect limits how long the client may take for n more bytes of a request,
// where they aren't there yet. The function that it returns ends that.
func (c *conn) expect(ctx context.Context, n int64) (done func()) {
	if int64(c.in.Buffered()) >= n {
		return func() {}
	}
	c.until(ctx, c.now().Add(patience(c.stall, n)))
	return func() { c.until(ctx, time.Time{}) }
}

// until sets the time at which reading fails, but for a server that stops:
// there it fails at once, see watch.
func (c *conn) until(ctx context.Context, t time.Time) {
	_ = c.conn.SetReadDeadline(t) // fails only where the connection is closed, as reading will
	if ctx.Err() != nil {
		_ = c.conn.SetReadDeadline(longAgo())
	}
}
