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
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"kvol/internal/driver"
	"kvol/internal/export/line"
)

const (
	inputBuffer = 128 << 10
	// inlineBytes is the most that a request may have to be carried out by the
	// reader. A write of that size fits into the input buffer with its header.
	inlineBytes = 64 << 10
)

// conn is a connection in transmission.
type conn struct {
	conn       net.Conn
	raw        net.Conn // below TLS; closing it takes no time
	in         *bufio.Reader
	out        *output
	pool       *line.Buffers
	dev        driver.Device
	readOnly   bool
	structured bool
	contexts   []metaContext // chosen for this export
	throttle   func(write bool, bytes int64) time.Duration
	giveBack   func(write bool, bytes int64)
	revoked    <-chan struct{}
	grace      time.Duration
	stall      time.Duration
	now        func() time.Time
	log        *slog.Logger
	failed     sync.Once   // a device's failure was logged
	gone       atomic.Bool // revoked: nothing more may touch the device

	wary line.Wary
	crew *line.Crew[request]
	// lanes has the requests that wait for the export's limits.
	lanes *line.Lanes[request]
	// together are writes that were admitted and wait for those behind them in
	// the input buffer, which has their bytes.
	together gathered
}

func newConn(s *Server, h *handshake, log *slog.Logger) *conn {
	c := &conn{
		conn: h.conn, raw: h.raw, in: bufio.NewReaderSize(h.conn, inputBuffer), pool: &s.pool,
		dev: h.export.Device, readOnly: h.export.ReadOnly, structured: h.structured, throttle: h.export.Throttle,
		giveBack: h.export.GiveBack, revoked: h.export.Revoked, grace: s.limits.Grace, stall: s.limits.Stall,
		now: s.now, log: log,
	}
	c.crew = line.NewCrew(s.limits.Workers, s.limits.Requests, func(r request) { c.out.Send(c.perform(&r)) })
	c.crew.Broken = c.broken
	c.lanes = line.NewLanes(line.LanesConfig[request]{Ask: c.count, GiveBack: c.uncount, Due: c.crew.Give, Drop: c.drop})
	c.out = newOutput(s, h, c.lanes.Drop)
	if h.chosenFor == h.export.name {
		c.contexts = h.contexts
	}
	return c
}

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
	c.writeGathered() // Drain waits for their replies
	switch {
	case ctx.Err() != nil:
		c.lanes.Hurry()
	case err != nil:
		c.lanes.Drop() // who takes leave gets all answers, each in its time
	}
	c.out.Drain()
	c.crew.Close() // all that was admitted is answered
	close(ended)
	watcher.Wait()
	switch {
	case ctx.Err() != nil && errors.Is(err, os.ErrDeadlineExceeded):
		return nil
	case c.gone.Load():
		return errRevoked
	case err == nil, errors.Is(err, errHungUp):
		c.conn.Close() // with TLS's farewell
		return nil
	}
	return err
}

var (
	errRevoked = errors.New("the export was revoked")
	errStopped = errors.New("the server stops")
	errHungUp  = errors.New("the client hung up without a word")
)

// revoke ends the connection at once. What is under way at the device ends;
// what only waits, in buffers or for its time, is not begun.
func (c *conn) revoke() {
	c.gone.Store(true)
	c.out.Fail(errRevoked)
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
	_ = c.conn.SetReadDeadline(line.LongAgo()) // fails only where the connection is closed
	c.lanes.Hurry()
	timer := time.NewTimer(c.grace)
	defer timer.Stop()
	select {
	case <-ended:
	case <-c.revoked:
		c.revoke()
	case <-timer.C:
		c.out.Fail(errStopped)
	}
}

// peek returns the next n bytes of input; replies that were left are sent
// before it waits for any.
func (c *conn) peek(n int) ([]byte, error) {
	if c.in.Buffered() < n {
		c.out.Flush()
	}
	return c.in.Peek(n)
}

// read takes requests until the client ends the connection; nil says that it took
// leave.
func (c *conn) read(ctx context.Context) error {
	for {
		h, err := c.peek(requestHeader)
		if err != nil {
			if errors.Is(err, io.EOF) && len(h) == 0 {
				return errHungUp
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
		if !c.out.TryAdmit(1, r.cost()) {
			c.writeGathered() // or it would wait for them
			if err := c.out.Admit(1, r.cost()); err != nil {
				return err
			}
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
		c.writeGathered()
		var err error
		if r.cmd == cmdWrite {
			err = c.skip(ctx, int64(r.length))
		}
		c.out.Leave(c.failure(r, e, ""))
		return err
	}
	if r.inline() {
		return c.writeInline(ctx, r)
	}
	c.writeGathered()
	if r.cmd == cmdWrite {
		if err := c.payload(ctx, r); err != nil {
			return err
		}
	}
	turn := c.turn(r)
	switch {
	case turn.Waits():
		c.lanes.Wait(r.lane(), *r, turn)
		return nil
	case r.cmd == cmdRead && r.length <= inlineBytes && c.wary.Now(c.alone):
		before := c.now()
		c.out.Leave(c.perform(r))
		c.wary.Took(c.now().Sub(before))
		return nil
	}
	c.crew.Give(*r)
	return nil
}

// alone reports whether nothing waits behind the request that was read last.
func (c *conn) alone() bool { return c.in.Buffered() < requestHeader && c.crew.Idle() }

// payload reads what a write brings into a buffer of its own.
func (c *conn) payload(ctx context.Context, r *request) error {
	if c.in.Buffered() < int(r.length) {
		c.out.Flush()
	}
	defer c.expect(ctx, int64(r.length))()
	r.buf = c.pool.Get(int(r.length))
	if _, err := io.ReadFull(c.in, r.buf.Data); err != nil {
		r.buf.Free()
		c.out.Leave(c.failure(r, errInvalid, ""))
		return noEOF(err)
	}
	return nil
}

// skip drops a payload that is not wanted.
func (c *conn) skip(ctx context.Context, n int64) error {
	c.out.Flush()
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

// broken ends a request that panicked without an answer, and its connection.
func (c *conn) broken(r request, cause any) {
	c.log.Error("a request panicked", "err", cause, "stack", string(debug.Stack()))
	c.raw.Close()
	c.out.Drop(1, r.cost())
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
	err := c.change(r, r.buf.Data)
	r.buf.Free()
	return c.answer(r, err)
}
