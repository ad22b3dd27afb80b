package nbd

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"kvol/internal/driver"
)

const (
	inputBuffer = 128 << 10
	// inlineBytes is the most that a request may have to be carried out by the
	// reader. A write of that size fits into the input buffer with its header.
	inlineBytes = 64 << 10
	// slowRead is how long a read may take before the reader leaves reads to
	// workers while others wait behind them, and wary for how many.
	slowRead = 200 * time.Microsecond
	wary     = 64
)

// conn is a connection in transmission.
type conn struct {
	conn       net.Conn
	raw        net.Conn // below TLS; closing it takes no time
	in         *bufio.Reader
	out        *output
	pool       *buffers
	dev        driver.Device
	readOnly   bool
	structured bool
	contexts   []metaContext // chosen for this export
	throttle   func(write bool, bytes int64) time.Duration
	revoked    <-chan struct{}
	grace      time.Duration
	stall      time.Duration
	now        func() time.Time
	log        *slog.Logger
	failed     sync.Once   // a device's failure was logged
	gone       atomic.Bool // revoked: nothing more may touch the device

	wary int // reads that go to workers yet; the reader's own

	work    chan request
	workers int          // started; the reader's own
	most    int          // workers at most
	queued  atomic.Int32 // requests with the workers, and those that wait for their time
	joined  sync.WaitGroup
	paced   paced
}

func newConn(s *Server, h *handshake, log *slog.Logger) *conn {
	c := &conn{
		conn: h.conn, raw: h.raw, in: bufio.NewReaderSize(h.conn, inputBuffer), out: newOutput(s, h), pool: &s.pool,
		dev: h.export.Device, readOnly: h.export.ReadOnly, structured: h.structured, throttle: h.export.Throttle,
		revoked: h.export.Revoked, grace: s.limits.Grace, stall: s.limits.Stall,
		now: s.now, log: log, work: make(chan request, s.limits.Requests), most: s.limits.Workers,
	}
	if h.chosenFor == h.export.name {
		c.contexts = h.contexts
	}
	return c
}

// longAgo as a deadline ends a read that is under way.
func longAgo() time.Time { return time.Unix(1, 0) }

// run serves the connection until the client goes, the export is revoked or
// ctx ends. When it returns, nothing uses the device any more.
func (c *conn) run(ctx context.Context) error {
	select {
	case <-c.revoked: // during the handshake
		return errRevoked
	default:
	}
	ended := make(chan struct{})
	var watcher sync.WaitGroup
	watcher.Go(func() { c.watch(ctx, ended) })
	err := c.read(ctx)
	c.hurry()
	c.out.drain()
	close(c.work) // all that was admitted is answered
	c.joined.Wait()
	close(ended)
	watcher.Wait()
	switch {
	case ctx.Err() != nil && errors.Is(err, os.ErrDeadlineExceeded):
		return nil
	case c.gone.Load():
		return errRevoked
	case err == nil:
		c.conn.Close() // with TLS's farewell
	}
	return err
}

var errRevoked = errors.New("the export was revoked")

// revoke ends the connection at once. What is under way at the device ends;
// what only waits in buffers is not begun.
func (c *conn) revoke() {
	c.gone.Store(true)
	c.raw.Close()
	c.hurry()
}

// watch ends the connection from outside: at once when the export is revoked,
// after what is under way when ctx ends.
func (c *conn) watch(ctx context.Context, ended <-chan struct{}) {
	select {
	case <-ended:
		return
	case <-c.revoked:
		c.revoke()
		return
	case <-ctx.Done():
	}
	_ = c.conn.SetReadDeadline(longAgo()) // fails only where the connection is closed
	c.hurry()
	timer := time.NewTimer(c.grace)
	defer timer.Stop()
	select {
	case <-ended:
	case <-c.revoked:
		c.revoke()
	case <-timer.C:
		c.raw.Close()
	}
}

// peek returns the next n bytes of input; replies that were left are sent
// before it waits for any.
func (c *conn) peek(n int) ([]byte, error) {
	if c.in.Buffered() < n {
		c.out.flush()
	}
	return c.in.Peek(n)
}

// read takes requests until the client ends the connection.
func (c *conn) read(ctx context.Context) error {
	for {
		h, err := c.peek(requestHeader)
		if err != nil {
			if errors.Is(err, io.EOF) && len(h) == 0 {
				return nil // it hung up without a word
			}
			return err
		}
		r, ok := parse(h)
		if !ok {
			return fmt.Errorf("a request begins with %#x", h[:4])
		}
		_, _ = c.in.Discard(requestHeader) // is there
		if r.cmd == cmdDisc {
			return nil
		}
		if err := c.out.admit(r.cost()); err != nil {
			return err
		}
		if err := c.take(ctx, &r); err != nil {
			return err
		}
	}
}

// take carries out a request, or gives it to the workers. An error ends the
// connection; the request then was answered nevertheless, as output counts it.
func (c *conn) take(ctx context.Context, r *request) error {
	if e := c.check(r); e != errNone {
		var err error
		if r.cmd == cmdWrite {
			err = c.skip(ctx, int64(r.length))
		}
		c.out.leave(c.failure(r, e, ""))
		return err
	}
	wait := c.pace(r)
	switch {
	case wait > 0:
		return c.later(ctx, r, wait)
	case r.cmd == cmdWrite && r.length <= inlineBytes && r.flags&flagFUA == 0:
		return c.writeInline(ctx, r)
	case r.cmd == cmdRead && r.length <= inlineBytes && c.readNow():
		before := c.now()
		c.out.leave(c.perform(r))
		if c.now().Sub(before) > slowRead {
			c.wary = wary
		}
		return nil
	case r.cmd == cmdWrite:
		if err := c.payload(ctx, r); err != nil {
			return err
		}
	}
	c.employ()
	c.work <- *r // there is room for all that is admitted
	return nil
}

// readNow decides whether the reader carries out a small read itself: if none
// waits behind it, or if reads have been quick of late.
func (c *conn) readNow() bool {
	if c.wary == 0 || c.in.Buffered() < requestHeader && c.queued.Load() == 0 {
		return true
	}
	c.wary--
	return false
}

// writeInline writes from the input buffer.
func (c *conn) writeInline(ctx context.Context, r *request) error {
	done := c.expect(ctx, int64(r.length))
	p, err := c.in.Peek(int(r.length)) // replies that were left can wait: the client is sending it
	done()
	if err != nil {
		c.out.leave(c.failure(r, errInvalid, ""))
		return noEOF(err)
	}
	c.out.leave(c.answer(r, c.change(r, p)))
	_, _ = c.in.Discard(len(p)) // is there
	return nil
}

// payload reads what a write brings into a buffer of its own.
func (c *conn) payload(ctx context.Context, r *request) error {
	if c.in.Buffered() < int(r.length) {
		c.out.flush()
	}
	defer c.expect(ctx, int64(r.length))()
	r.buf = c.pool.get(int(r.length))
	if _, err := io.ReadFull(c.in, r.buf.data); err != nil {
		c.pool.put(r.buf)
		c.out.leave(c.failure(r, errInvalid, ""))
		return noEOF(err)
	}
	return nil
}

// skip drops a payload that is not wanted.
func (c *conn) skip(ctx context.Context, n int64) error {
	c.out.flush()
	defer c.expect(ctx, n)()
	_, err := io.CopyN(io.Discard, c.in, n)
	return noEOF(err)
}

// noEOF makes an end of input in the middle of a request what it is.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// employ counts a request that the workers will get, and starts one more if all
// have something to do.
func (c *conn) employ() {
	if int(c.queued.Add(1)) > c.workers && c.workers < c.most {
		c.workers++
		c.joined.Go(func() {
			for r := range c.work {
				c.out.send(c.perform(&r))
				c.queued.Add(-1)
			}
		})
	}
}

// perform carries out a request that was checked and makes its reply.
func (c *conn) perform(r *request) reply {
	if c.gone.Load() {
		return c.failure(r, errShutdown, "")
	}
	switch r.cmd {
	case cmdRead:
		return c.readReply(r)
	case cmdBlockStatus:
		return c.statusReply(r)
	case cmdCache:
		return c.answer(r, c.cache(r))
	}
	if r.buf == nil {
		return c.answer(r, c.change(r, nil))
	}
	err := c.change(r, r.buf.data)
	c.pool.put(r.buf)
	return c.answer(r, err)
}
