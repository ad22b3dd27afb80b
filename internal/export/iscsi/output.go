package iscsi

import (
	"encoding/binary"
	"hash/crc32"
	"net"
	"sync"

	"kvol/internal/export/line"
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
	buf     *line.Buffer // given back when it was sent
	cost    int          // bytes that were admitted
	command bool         // it ends a command that took a place in the window
	digest  bool         // its headers have digests
}

// answer is a reply as line.Output sends it.
type answer struct{ *reply }

// output sends replies. Each is numbered when it is queued, so that status and
// window leave in one order.
type output struct {
	*line.Output[answer, *answer]
	window *window // the session's
}

func newOutput(s *Server, l *login, failed func()) *output {
	w := &numbers{window: &l.session.window, digest: l.params.headerDigest, statSN: l.statSN}
	return &output{window: w.window, Output: line.NewOutput[answer](line.OutputConfig{Conn: l.conn,
		Bytes: s.limits.InFlightBytes, Share: s.share, Stall: s.limits.Stall, Now: s.now, Failed: failed},
		func(a *answer) { w.number(a.reply) })}
}

// leave adds a reply that is sent by the next send or flush.
func (o *output) leave(r *reply) { o.Leave(answer{r}) }

// send adds a reply and sees to it that it is sent.
func (o *output) send(r *reply) { o.Send(answer{r}) }

// drop counts a command as done that gets no answer, as aborted ones.
func (o *output) drop(t *task) {
	if t.numbered {
		o.window.drop()
	}
	o.Drop(0, t.cost)
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

// Append implements line.Answer.
func (r *reply) Append(pieces net.Buffers) net.Buffers {
	for i := range r.pdus {
		p := &r.pdus[i]
		pieces = append(pieces, p.header[:])
		if r.digest {
			pieces = append(pieces, p.headSum[:])
		}
		if len(p.data) > 0 {
			pieces = append(pieces, p.data)
		}
		if p.tailLen > 0 {
			pieces = append(pieces, p.tail[:p.tailLen])
		}
	}
	return pieces
}

// Cost implements line.Answer; commands are counted by the window.
func (r *reply) Cost() (requests, bytes int) { return 0, r.cost }

// Size implements line.Answer.
func (r *reply) Size() (n int) {
	for i := range r.pdus {
		n += headerBytes + len(r.pdus[i].data)
	}
	return n
}

// Sent implements line.Answer. The reply is used for another one afterwards.
func (r *reply) Sent() {
	if r.buf != nil {
		r.buf.Free()
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
