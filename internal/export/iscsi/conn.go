package iscsi

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"kvol/internal/export/line"
)

// inlineBytes is the most that a command may move to be carried out by the
// reader.
const inlineBytes = 64 << 10

// conn is a connection in the full feature phase.
type conn struct {
	*login
	in     *input
	out    *output
	pool   *line.Buffers
	limits Limits
	log    *slog.Logger
	ctx    context.Context // of run
	failed sync.Once       // a device's failure was logged
	gone   atomic.Bool     // revoked: nothing more may touch the device
	cut    atomic.Bool     // nothing more can be sent
	heard  atomic.Bool     // something came since the last look
	asked  bool            // the initiator was asked if it is there; the watcher's own

	mu      sync.Mutex // guards below
	changed sync.Cond  // when tasks ended
	tasks   map[uint32]*task
	open    int // tasks that are not over, with those that were aborted

	lastTTT uint32
	textOut []byte // of a text response that continues

	crew    *line.Crew[*task]
	lanes   *line.Lanes[*task] // of those that wait for the target's limits
	answers sync.WaitGroup     // to task management that wait for tasks
	pings   sync.WaitGroup     // what the watcher sends; ends with the connection
	wary    line.Wary
	filling atomic.Int64 // bytes of buffers for data from the initiator
}

func newConn(s *Server, l *login, log *slog.Logger) *conn {
	c := &conn{login: l, pool: &s.pool, limits: s.limits, log: log, tasks: map[uint32]*task{}}
	c.changed.L = &c.mu
	// Commands with a number may come when as many without one as there may be are there.
	c.crew = line.NewCrew(s.limits.Workers, 2*s.limits.Commands+immediateCommands, c.work)
	c.crew.Broken = c.broken
	c.lanes = line.NewLanes(line.LanesConfig[*task]{Ask: c.count, GiveBack: c.uncount, Due: c.crew.Give, Drop: c.dismiss})
	c.out = newOutput(s, l, c.sendingFailed)
	var from io.Reader = l.conn
	_, _ = l.in.in.Discard(l.in.held) // is there
	if n := l.in.in.Buffered(); n > 0 {
		early, _ := l.in.in.Peek(n) // is there
		from = io.MultiReader(bytes.NewReader(bytes.Clone(early)), l.conn)
	}
	room := headerBytes + ahsBytes + receiveMax + 3*digestBytes
	if l.discovery {
		room = headerBytes + ahsBytes + loginMax + 3*digestBytes
	}
	c.in = &input{in: bufio.NewReaderSize(from, room), max: receiveMax, headerDigest: l.params.headerDigest,
		dataDigest: l.params.dataDigest, beforeWaiting: c.out.Flush, readAnything: func() {
			if !c.heard.Load() {
				c.heard.Store(true)
			}
		}}
	if l.discovery {
		c.in.max = loginMax
	}
	l.member.c.Store(c)
	return c
}

var (
	errRevoked = errors.New("the target was revoked")
	errSilent  = errors.New("the initiator does not answer")
	errLong    = errors.New("the discovery session lasts too long")
	errLogout  = errors.New("logout")
	errEnded   = errors.New("the connection was ended")
)

// run serves the connection until the initiator goes, the target is revoked or
// ctx ends, and ends the session's others unless the initiator took leave of this
// one alone. When it returns, nothing of it uses the device any more.
func (c *conn) run(ctx context.Context) error {
	select {
	case <-c.target.Revoked: // during the login
		return errRevoked
	default:
	}
	c.ctx = ctx
	if c.member.over.Load() { // before there was anything to end
		c.out.Fail(errEnded)
	}
	ended := make(chan struct{})
	var watcher sync.WaitGroup
	watcher.Go(func() { c.watch(ctx, ended) })
	err := c.read()
	if !c.member.alone.Load() && ctx.Err() == nil {
		c.session.kill(c.member)
	}
	c.lanes.Drop()
	c.forget()
	c.crew.Close()
	c.answers.Wait()
	c.out.Flush()
	close(ended)
	watcher.Wait()
	c.conn.Close()
	c.pings.Wait()
	switch {
	case ctx.Err() != nil && errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, errLogout):
		return nil
	case c.gone.Load():
		return errRevoked
	case c.member.over.Load():
		return nil
	}
	return err
}

// watch ends the connection from outside: at once when the target is revoked,
// after what is under way when ctx ends, and when the initiator is silent.
func (c *conn) watch(ctx context.Context, ended <-chan struct{}) {
	idle := time.NewTicker(c.limits.Idle)
	defer idle.Stop()
	for ctx.Err() == nil {
		select {
		case <-ended:
			return
		case <-c.target.Revoked:
			c.revoke()
			return
		case <-idle.C:
			if !c.ask() {
				c.log.Info("session ends", "err", errSilent)
				c.session.end(c.member, false)
				return
			}
		case <-ctx.Done():
		}
	}
	c.out.leave(c.async(asyncDropAll))         // run sends it when it has ended what is under way
	_ = c.conn.SetReadDeadline(line.LongAgo()) // fails only where the connection is closed
	c.member.alone.Store(true)                 // each ends by itself
	c.member.over.Store(true)
	c.window.wake()
	c.lanes.Drop() // who waits for what they hold goes on
	timer := time.NewTimer(c.limits.Grace)
	defer timer.Stop()
	select {
	case <-ended:
	case <-c.target.Revoked:
		c.revoke()
	case <-timer.C:
		c.out.Fail(errEnded)
	}
}

// sendingFailed ends what waits, since the connection can't be used any more.
func (c *conn) sendingFailed() {
	c.cut.Store(true)
	c.window.wake()
	c.lanes.Drop()
}

// ends reports whether the reader need not wait for anything any more.
func (c *conn) ends() bool { return c.cut.Load() || c.member.over.Load() }

// revoke ends the connection at once. What is under way at the device ends;
// what only waits, in buffers or for its time, is not begun.
func (c *conn) revoke() {
	c.gone.Store(true)
	c.session.end(c.member, false)
}

// ask sends a ping to an initiator that said nothing since the last call; it is
// false if the last ping is unanswered.
func (c *conn) ask() bool {
	if c.heard.Swap(false) {
		c.asked = false
		return true
	}
	if c.asked {
		return false
	}
	c.asked = true
	r := newReply(1)
	h := &r.pdus[0]
	h.header[0], h.header[1] = opNopIn, finalBit
	h.put(16, noTag)
	h.put(20, 1)
	c.pings.Go(func() { c.out.send(r) }) // blocks at an initiator that doesn't read
	return true
}

// read takes PDUs until the initiator logs out or the connection ends.
func (c *conn) read() error {
	for {
		if err := c.out.Room(); err != nil {
			return err
		}
		p, err := c.in.next()
		if err != nil {
			if errors.Is(err, io.EOF) {
				return nil // it hung up without a word
			}
			return err
		}
		if err := c.take(&p); err != nil {
			return err
		}
	}
}

// take carries out one PDU. An error ends the connection.
func (c *conn) take(p *pdu) error {
	op := p.opcode()
	if c.discovery && op != opText && op != opLogout && op != opNopOut {
		c.out.leave(c.reject(p, rejectProtocol))
		return nil
	}
	numbered := op != opDataOut && !p.immediate() && (op != opNopOut || p.tag() != noTag)
	if numbered {
		switch c.window.take(p.cmdSN(), c.ends) {
		case outside:
			return nil
		case gap:
			return fmt.Errorf("%w: a gap before CmdSN %d", errProtocol, p.cmdSN())
		}
	}
	switch op {
	case opCommand:
		return c.command(p, numbered)
	case opDataOut:
		return c.dataOut(p)
	case opNopOut:
		if p.tag() != noTag {
			c.out.leave(c.pong(p, numbered))
		}
	case opManage:
		c.manage(p, numbered)
	case opText:
		return c.text(p, numbered)
	case opLogout:
		return c.logout(p, numbered)
	default:
		r := c.reject(p, rejectCommand)
		r.command = numbered
		c.out.leave(r)
	}
	return nil
}

// work carries out a task that the reader gave to the crew.
func (c *conn) work(t *task) {
	if r := c.carryOut(t); r != nil {
		c.out.send(r)
	}
}

// broken ends a task that panicked without an answer, and its session.
func (c *conn) broken(t *task, cause any) {
	c.log.Error("a command panicked", "command", int(t.cdb[0]), "err", cause, "stack", string(debug.Stack()))
	c.dismiss(t)
	c.session.end(c.member, false)
}
