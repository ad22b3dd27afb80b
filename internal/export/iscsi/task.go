package iscsi

import (
	"errors"
	"fmt"

	"kvol/internal/block"
	"kvol/internal/export/line"
)

const (
	// immediateCommands is how many commands outside of the window a session may
	// have under way.
	immediateCommands = 16
)

// task is a SCSI command under way.
type task struct {
	cdb      [16]byte
	op       *operation
	tag      uint32
	lun      uint64
	numbered bool // has a place in the window
	reads    bool
	writes   bool
	expected int          // bytes to move, as the initiator has it
	want     int          // bytes from the initiator that are of use
	data     []byte       // what it sent
	buf      *line.Buffer // of data
	cost     int          // bytes admitted for the initiator
	toll     toll         // what the target's limits count it for
	turn     line.Turn    // when they let it go
	refused  error        // what is answered, whatever comes

	unsolicited bool   // data comes without being asked for
	next        int    // offset of the data that comes next
	burst       int    // offset at which the data that was asked for ends
	dataSN      uint32 // of the next Data-Out
	r2tSN       uint32
	ttt         uint32

	held    bool // by the reader or a worker, who ends it; guarded, as all below, by conn.mu
	begun   bool // it is being carried out
	aborted bool // it gets no answer, and is not begun any more
	over    bool
}

// command begins a SCSI command.
func (c *conn) command(p *pdu, numbered bool) error {
	t := &task{tag: p.tag(), lun: p.lun(), numbered: numbered, reads: p.header[1]&0x40 != 0,
		writes: p.header[1]&0x20 != 0, expected: int(p.word(20))}
	copy(t.cdb[:], p.header[32:48])
	if !t.reads && !t.writes {
		t.expected = 0
	}
	t.unsolicited = t.writes && !p.final()
	switch {
	case len(p.data) > 0 && (!c.params.immediate || !t.writes || len(p.data) > c.params.firstBurst):
		return fmt.Errorf("%w: %d bytes of immediate data", errProtocol, len(p.data))
	case t.unsolicited && c.params.initialR2T:
		return fmt.Errorf("%w: unsolicited data where R2T was agreed on", errProtocol)
	}
	switch err := c.enter(t); {
	case errors.Is(err, errImmediate):
		c.out.leave(c.reject(p, rejectImmediate))
		return nil
	case err != nil:
		return err
	}
	t.refused = c.prepare(t)
	if t.refused == nil && t.writes && t.op.out != nil {
		t.want = min(t.expected, t.op.out(t.cdb[:]))
	}
	t.next = len(p.data)
	if (t.unsolicited || t.next < t.want) && c.full(t.want) {
		t.refuse(&fault{status: statusTaskSetFull})
		t.want = 0 // nothing is asked for, and what comes all the same is dropped
	}
	if !t.unsolicited && t.next >= t.want {
		t.data = p.data[:t.want]
		return c.start(t)
	}
	if t.want > 0 {
		c.filling.Add(int64(t.want))
		t.buf = c.pool.Get(t.want)
		t.data = t.buf.Data
		copy(t.data, p.data)
	}
	if !t.unsolicited {
		c.solicit(t)
	}
	c.letGo(t)
	return nil
}

// full reports whether the connection has no room for so many bytes of data to
// come. If it holds none it has, whatever its share.
func (c *conn) full(n int) bool {
	held := c.filling.Load()
	return held > 0 && held+int64(n) > int64(min(c.limits.InFlightBytes, c.s.share()))
}

// refuse makes a command fail once its data has come, which is of no use.
func (t *task) refuse(err error) {
	if t.refused == nil {
		t.refused = err
	}
}

// solicit asks for the next burst of data.
func (c *conn) solicit(t *task) {
	n := min(t.want-t.next, c.params.maxBurst)
	t.burst, t.dataSN = t.next+n, 0
	if c.lastTTT++; c.lastTTT == noTag {
		c.lastTTT = 1
	}
	t.ttt = c.lastTTT
	r := newReply(1)
	h := &r.pdus[0].header
	h[0], h[1] = opR2T, finalBit
	putLUN(h, t.lun)
	h.put(16, t.tag)
	h.put(20, t.ttt)
	h.put(36, t.r2tSN)
	h.put(40, uint32(t.next))
	h.put(44, uint32(n))
	t.r2tSN++
	c.out.leave(r)
}

func putLUN(h *header, lun uint64) {
	h.put(8, uint32(lun>>32))
	h.put(12, uint32(lun))
}

var errDataSequence = &fault{status: statusCheck, key: keyAborted, code: codeSequence}

// dataOut takes data of a command. Data of commands that are gone is dropped.
func (c *conn) dataOut(p *pdu) error {
	t := c.hold(p.tag())
	if t == nil {
		return nil
	}
	complete, err := c.fill(t, p)
	if err != nil || !complete {
		c.letGo(t)
		return err
	}
	return c.start(t)
}

// fill takes data of a command that the reader holds; complete says that there
// is all of it.
func (c *conn) fill(t *task, p *pdu) (complete bool, err error) {
	if !t.unsolicited && p.transferTag() != t.ttt {
		return false, nil
	}
	if t.unsolicited && p.transferTag() != noTag {
		return false, fmt.Errorf("%w: solicited data nobody asked for", errProtocol)
	}
	if p.word(36) != t.dataSN || int64(p.word(40)) != int64(t.next) {
		t.refuse(errDataSequence)
	}
	t.dataSN++
	if t.next < len(t.data) {
		copy(t.data[t.next:], p.data)
	}
	t.next += len(p.data)
	switch {
	case t.unsolicited && t.next > max(c.params.firstBurst, len(p.data)):
		return false, fmt.Errorf("%w: %d bytes of unsolicited data", errProtocol, t.next)
	case !t.unsolicited && (t.next > t.burst || p.final() && t.next < t.burst):
		t.refuse(errDataSequence)
	}
	if !p.final() {
		return false, nil
	}
	t.unsolicited = false
	if t.refused == nil && t.next < t.want {
		c.solicit(t)
		return false, nil
	}
	return true, nil
}

// start carries a command out that has all its data, or gives it to a worker.
func (c *conn) start(t *task) error {
	if cost := t.readBytes(); cost > 0 {
		if err := c.out.Admit(0, cost); err != nil {
			c.dismiss(t)
			return err
		}
		t.cost = cost
	}
	t.turn = c.turnOf(t)
	if t.refused != nil || c.now(t) {
		c.inline(t)
		return nil
	}
	if t.buf == nil && len(t.data) > 0 {
		t.buf = c.pool.Get(len(t.data))
		copy(t.buf.Data, t.data)
		t.data = t.buf.Data
		c.filling.Add(int64(len(t.data)))
	}
	if t.turn.Waits() {
		c.wait(t)
	} else {
		c.crew.Give(t)
	}
	return nil
}

// inline has the reader carry out a command itself.
func (c *conn) inline(t *task) {
	defer func() {
		if cause := recover(); cause != nil {
			c.broken(t, cause)
		}
	}()
	before := c.s.now()
	if r := c.carryOut(t); r != nil {
		c.out.leave(r)
	}
	if t.cost > 0 {
		c.wary.Took(c.s.now().Sub(before))
	}
}

// carryOut carries out a command, whose holder calls it, and makes its reply;
// nil if it was aborted.
func (c *conn) carryOut(t *task) (r *reply) {
	if c.begin(t) {
		r = c.perform(t)
	}
	if c.finish(t) {
		return r
	}
	if r != nil {
		r.Sent() // never will be
	}
	return nil
}

// readBytes is how many bytes of the device a command needs a buffer for: whole
// blocks, and no more than the initiator takes.
func (t *task) readBytes() int {
	if t.refused != nil || !t.reads || t.op.in == nil {
		return 0
	}
	return min(t.op.in(t.cdb[:]), (t.expected+blockBytes-1)&^(blockBytes-1))
}

// now decides whether the reader carries out a command itself: what touches no
// more than memory, small writes, and small reads if none waits behind or if
// they have been quick of late.
func (c *conn) now(t *task) bool {
	switch {
	case t.turn.Waits():
		return false
	case t.op.quick:
		return true
	case t.op.slow || len(t.data) > inlineBytes || t.cost > inlineBytes || fua(t.cdb[:]):
		return false
	}
	return t.cost == 0 || c.wary.Now(c.alone)
}

// alone reports whether nothing waits behind the command that was read last.
func (c *conn) alone() bool { return c.in.in.Buffered()-c.in.held < headerBytes && c.crew.Idle() }

// perform carries out a command and makes its reply.
func (c *conn) perform(t *task) *reply {
	var data []byte
	var buf *line.Buffer
	there := 0
	err := t.refused
	if err == nil && c.gone.Load() {
		err = &fault{status: statusCheck, key: keyNotReady, code: codeNotReady}
	}
	if err == nil && c.unit.reserved.Load() && !c.unit.permits(c.session, t) {
		err = errConflict // by a reservation that came while it waited
	}
	if err == nil {
		x := &exec{c: c, t: t, dev: c.target.Device, cdb: t.cdb[:]}
		err = t.op.run(x)
		data, buf, there = x.answer, x.buf, max(x.there, len(x.answer))
	}
	if err != nil {
		if buf != nil {
			buf.Free()
		}
		return c.failure(t, err)
	}
	return c.success(t, data, there, buf)
}

// faultOf makes of a device's error what the initiator is told. The cause goes
// to the log, once for a connection.
func (c *conn) faultOf(t *task, err error) *fault {
	var f *fault
	if errors.As(err, &f) {
		return f
	}
	switch block.KindOf(err) {
	case block.Invalid:
		return errLBA
	case block.NoSpace, block.OverLimit:
		return &fault{status: statusCheck, key: keyProtect, code: codeSpace}
	case block.Stale, block.Forbidden:
		return &fault{status: statusCheck, key: keyProtect, code: codeProtected}
	case block.NotFound, block.Conflict:
		return &fault{status: statusCheck, key: keyNotReady, code: codeNotReady}
	}
	c.failed.Do(func() { c.log.Error("a command failed", "command", int(t.cdb[0]), "err", err) })
	if t.writes {
		return &fault{status: statusCheck, key: keyMedium, code: codeWriteError}
	}
	return &fault{status: statusCheck, key: keyMedium, code: codeReadError}
}

// residual writes the difference of what was expected and what was there.
func (t *task) residual(h *header, there int) {
	switch {
	case there > t.expected:
		h[1] |= 0x04
		h.put(44, uint32(there-t.expected))
	case there < t.expected:
		h[1] |= 0x02
		h.put(44, uint32(t.expected-there))
	}
}

// there is how many bytes the command would move.
func (t *task) there(answer int) int {
	if t.op != nil && t.op.out != nil && answer == 0 {
		return t.op.out(t.cdb[:])
	}
	return answer
}

// response fills a SCSI Response.
func (t *task) response(p *outPDU, status byte, there int) {
	p.header[0], p.header[1], p.header[3], p.status = opResponse, finalBit, status, true
	p.put(16, t.tag)
	t.residual(&p.header, there)
}

func (c *conn) failure(t *task, err error) *reply {
	f := c.faultOf(t, err)
	r := newReply(1)
	r.command, r.cost = t.numbered, t.cost
	p := &r.pdus[0]
	there := 0
	if f.status != statusCheck && t.op != nil && t.op.out != nil {
		there = t.op.out(t.cdb[:])
	}
	t.response(p, f.status, there)
	if f.status == statusCheck {
		sense := f.sense(c.unit != nil && c.unit.descriptorSense.Load())
		p.set(append([]byte{0, byte(len(sense))}, sense...), c.params.dataDigest)
	}
	return r
}

// success is the reply of a command that was carried out: its data, with the
// status in the last Data-In. there is how much there would be of it.
func (c *conn) success(t *task, data []byte, there int, buf *line.Buffer) *reply {
	there = t.there(there)
	if !t.reads {
		data = nil
	}
	data = data[:min(len(data), t.expected)]
	if len(data) == 0 {
		r := newReply(1)
		r.command, r.cost, r.buf = t.numbered, t.cost, buf
		t.response(&r.pdus[0], statusGood, there)
		return r
	}
	piece := min(c.params.sendMax, c.params.maxBurst)
	r := newReply(pdus(len(data), piece, c.params.maxBurst))
	r.command, r.cost, r.buf = t.numbered, t.cost, buf
	for i, off := 0, 0; off < len(data); i++ {
		p := &r.pdus[i]
		left := c.params.maxBurst - off%c.params.maxBurst
		n := min(len(data)-off, piece, left)
		p.header[0] = opDataIn
		p.put(16, t.tag)
		p.put(20, noTag)
		p.put(36, uint32(i))
		p.put(40, uint32(off))
		p.set(data[off:off+n], c.params.dataDigest)
		off += n
		if n == left {
			p.header[1] = finalBit
		}
		if off == len(data) {
			p.header[1], p.header[3], p.status = finalBit|1, statusGood, true
			t.residual(&p.header, there)
		}
	}
	return r
}

// pdus is how many pieces n bytes have, with a cut at each burst.
func pdus(n, piece, burst int) int {
	per := (burst + piece - 1) / piece
	return n/burst*per + (n%burst+piece-1)/piece
}
