package nbd

import (
	"bufio"
	"net"
	"sync"
	"time"
)

// reply is one answer on its way to the client: a head, or a buffer with head
// and data in one piece.
type reply struct {
	head [simpleHeader]byte
	n    int     // bytes of head, where buf is nil
	buf  *buffer // given back to the pool when it was sent
	cost int     // bytes of the request, see output.admit
}

// output gathers the replies of a connection. Whoever finds nobody sending
// sends all that is there; others only leave theirs. It also counts what is
// under way: a request counts until its reply was sent.
type output struct {
	conn  net.Conn
	raw   net.Conn      // below TLS
	text  *bufio.Writer // where conn takes no vectored writes (TLS); else nil
	pool  *buffers
	limit struct{ requests, bytes int }
	share func() int // of the server's memory, in bytes, right now
	stall time.Duration
	now   func() time.Time

	mu       sync.Mutex // guards below
	changed  sync.Cond  // when requests or bytes fell or err was set
	queue    []reply
	spare    []reply // the other queue's store
	sending  bool
	requests int // admitted, not yet answered
	bytes    int
	err      error // of the connection; nothing is sent after it

	vector net.Buffers // used by the sender only
	pieces net.Buffers
}

const textBuffer = 64 << 10

func newOutput(s *Server, h *handshake) *output {
	o := &output{conn: h.conn, raw: h.raw, pool: &s.pool, share: s.share, stall: s.limits.Stall, now: s.now}
	o.limit.requests, o.limit.bytes = s.limits.Requests, s.limits.InFlightBytes
	o.changed.L = &o.mu
	switch h.conn.(type) {
	case *net.TCPConn, *net.UnixConn:
	default:
		o.text = bufio.NewWriterSize(h.conn, textBuffer)
	}
	return o
}

// admit counts a request of n bytes, and waits while there are too many. Only
// the connection's reader calls it. A connection that holds nothing is always
// let in, whatever its share: none waits for another.
func (o *output) admit(n int) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	full := func() bool {
		return o.requests >= o.limit.requests || o.bytes > 0 && o.bytes+n > min(o.limit.bytes, o.share())
	}
	for o.err == nil && full() {
		if !o.sending && len(o.queue) > 0 {
			o.sendLocked() // what was left for later, see leave
			continue
		}
		o.changed.Wait()
	}
	if o.err == nil {
		o.requests++
		o.bytes += n
	}
	return o.err
}

// leave adds a reply that is sent by the next send or flush.
func (o *output) leave(r reply) {
	o.mu.Lock()
	o.queue = append(o.queue, r)
	o.mu.Unlock()
}

// send adds a reply and sees to it that it is sent.
func (o *output) send(r reply) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.queue = append(o.queue, r)
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

// drain waits until every request that was admitted is answered.
func (o *output) drain() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for o.requests > 0 {
		if !o.sending && len(o.queue) > 0 {
			o.sendLocked()
			continue
		}
		o.changed.Wait()
	}
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
		for i := range batch {
			cost += batch[i].cost
			if batch[i].buf != nil {
				o.pool.put(batch[i].buf)
			}
		}
		done := len(batch)
		clear(batch)
		o.mu.Lock()
		o.spare = batch
		o.requests -= done
		o.bytes -= cost
		if err != nil && o.err == nil {
			o.err = err
			o.raw.Close() // so that the reader ends too
		}
		o.changed.Broadcast()
	}
	o.sending = false
}

func (o *output) write(batch []reply) error {
	total := 0
	for i := range batch {
		total += len(batch[i].bytes())
	}
	if err := o.conn.SetWriteDeadline(o.now().Add(patience(o.stall, int64(total)))); err != nil {
		return err
	}
	if o.text != nil {
		return o.writeText(batch)
	}
	if len(batch) == 1 {
		_, err := o.conn.Write(batch[0].bytes())
		return err
	}
	o.pieces = o.pieces[:0]
	for i := range batch {
		o.pieces = append(o.pieces, batch[i].bytes())
	}
	o.vector = o.pieces // WriteTo eats its receiver
	_, err := o.vector.WriteTo(o.conn)
	return err
}

func (o *output) writeText(batch []reply) error {
	for i := range batch {
		if _, err := o.text.Write(batch[i].bytes()); err != nil {
			return err
		}
	}
	return o.text.Flush()
}

func (r *reply) bytes() []byte {
	if r.buf != nil {
		return r.buf.reply()
	}
	return r.head[:r.n]
}
