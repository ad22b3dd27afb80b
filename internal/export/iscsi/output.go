package iscsi

import (
	"encoding/binary"
	"hash/crc32"
	"net"
	"sync"
)

// outPDU is a PDU on its way to the initiator.
type outPDU struct {
	header
	headSum [digestBytes]byte
	data    []byte
	tail    [2 * digestBytes]byte // padding and the data's digest
	tailLen int
	status  bool // takes a StatSN
}

// reply is the PDUs that answer one request, sent without others between.
type reply struct {
	pdus    []outPDU
	buf     *buffer // given back to the pool when it was sent
	cost    int     // bytes that were admitted
	command bool    // it ends a command that took a place in the window
}

// output gathers the replies of a connection. Whoever finds nobody sending
// sends all that is there; others only leave theirs. It also counts what is
// under way: a command counts until its reply was sent, and keeps the CmdSN
// window, so that status and window leave in one order.
type output struct {
	conn         net.Conn
	pool         *buffers
	headerDigest bool
	dataDigest   bool
	limit        struct{ commands, bytes int }

	mu       sync.Mutex // guards below
	changed  sync.Cond  // when commands or bytes fell or err was set
	queue    []*reply
	spare    []*reply // the other queue's store
	sending  bool
	commands int // admitted, not yet answered
	bytes    int
	statSN   uint32
	expCmdSN uint32
	maxCmdSN uint32
	err      error // of the connection; nothing is sent after it

	vector net.Buffers // used by the sender only
	pieces net.Buffers
}

var replies = sync.Pool{New: func() any { return &reply{} }}

// newReply gives an empty reply with n PDUs.
func newReply(n int) *reply {
	r := replies.Get().(*reply)
	if cap(r.pdus) < n {
		r.pdus = make([]outPDU, n)
	}
	r.pdus = r.pdus[:n]
	clear(r.pdus)
	return r
}

func (r *reply) free(pool *buffers) {
	if r.buf != nil {
		pool.put(r.buf)
	}
	clear(r.pdus)
	*r = reply{pdus: r.pdus[:0]}
	replies.Put(r)
}

// set puts the data segment of a PDU in place, with its digest.
func (p *outPDU) set(data []byte, digest bool) {
	p.data = data
	p.setLength(len(data))
	p.tailLen = padded(len(data)) - len(data)
	if digest && len(data) > 0 {
		sum := crc32.Update(crc32.Checksum(data, castagnoli), castagnoli, p.tail[:p.tailLen])
		binary.LittleEndian.PutUint32(p.tail[p.tailLen:], sum)
		p.tailLen += digestBytes
	}
}

// Verdicts on a command's number.
type verdict int

const (
	inOrder verdict = iota
	outside         // of the window: to be ignored, section 4.2.2.1
	gap             // one before it is missing
)

// take counts a command with this CmdSN.
func (o *output) take(sn uint32) verdict {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case int32(sn-o.expCmdSN) < 0 || int32(sn-o.maxCmdSN) > 0:
		return outside
	case sn != o.expCmdSN:
		return gap
	}
	o.expCmdSN++
	o.commands++
	return inOrder
}

// admit counts n bytes of data for the initiator, and waits while there are too
// many. Only the connection's reader calls it.
func (o *output) admit(n int) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	for o.err == nil && o.bytes > 0 && o.bytes+n > o.limit.bytes {
		if !o.sending && len(o.queue) > 0 {
			o.sendLocked() // what was left for later, see leave
			continue
		}
		o.changed.Wait()
	}
	if o.err == nil {
		o.bytes += n
	}
	return o.err
}

// leave adds a reply that is sent by the next send or flush.
func (o *output) leave(r *reply) {
	o.mu.Lock()
	o.addLocked(r)
	o.mu.Unlock()
}

// send adds a reply and sees to it that it is sent.
func (o *output) send(r *reply) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.addLocked(r)
	if !o.sending {
		o.sendLocked()
	}
}

// flush sends what was left.
func (o *output) flush() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.sending && len(o.queue) > 0 {
		o.sendLocked()
	}
}

// drop counts a command as done that gets no answer, as aborted ones.
func (o *output) drop(cost int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.commands--
	o.bytes -= cost
	o.changed.Broadcast()
}

// addLocked numbers a reply's PDUs and queues them.
func (o *output) addLocked(r *reply) {
	if r.command {
		o.commands--
	}
	// The window never shrinks, whatever is under way.
	if open := o.expCmdSN + uint32(o.limit.commands-o.commands) - 1; int32(open-o.maxCmdSN) > 0 {
		o.maxCmdSN = open
	}
	for i := range r.pdus {
		p := &r.pdus[i]
		p.put(24, o.statSN)
		if p.status {
			o.statSN++
		}
		p.put(28, o.expCmdSN)
		p.put(32, o.maxCmdSN)
		if o.headerDigest {
			binary.LittleEndian.PutUint32(p.headSum[:], crc32.Checksum(p.header[:], castagnoli))
		}
	}
	o.queue = append(o.queue, r)
}

// sendLocked sends until the queue is empty. It lets go of o.mu meanwhile.
func (o *output) sendLocked() {
	o.sending = true
	for len(o.queue) > 0 {
		batch := o.queue
		o.queue, o.spare = o.spare[:0], nil
		err := o.err
		o.mu.Unlock()
		if err == nil {
			err = o.write(batch)
		}
		cost := 0
		for _, r := range batch {
			cost += r.cost
			r.free(o.pool)
		}
		clear(batch)
		o.mu.Lock()
		o.spare = batch
		o.bytes -= cost
		if err != nil && o.err == nil {
			o.err = err
			o.conn.Close() // so that the reader ends too
		}
		o.changed.Broadcast()
	}
	o.sending = false
}

func (o *output) write(batch []*reply) error {
	o.pieces = o.pieces[:0]
	for _, r := range batch {
		for i := range r.pdus {
			p := &r.pdus[i]
			o.pieces = append(o.pieces, p.header[:])
			if o.headerDigest {
				o.pieces = append(o.pieces, p.headSum[:])
			}
			if len(p.data) > 0 {
				o.pieces = append(o.pieces, p.data)
			}
			if p.tailLen > 0 {
				o.pieces = append(o.pieces, p.tail[:p.tailLen])
			}
		}
	}
	o.vector = o.pieces // WriteTo eats its receiver
	_, err := o.vector.WriteTo(o.conn)
	return err
}
