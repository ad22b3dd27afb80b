package line

import (
	"bufio"
	"net"
	"sync"
	"time"
)

// Answer is one answer on its way to the client, an A with methods of its
// pointer. It is sent in one piece: nothing of others comes between.
type Answer[A any] interface {
	*A
	Append(pieces net.Buffers) net.Buffers // its bytes, which stay as they are until Sent
	Cost() (requests, bytes int)           // of what was admitted
	Size() int                             // bytes that it has; more than its cost is counted, see Room
	Sent()                                 // called once, when it was sent or never will be
}

// OutputConfig is what an Output needs.
type OutputConfig struct {
	Conn     net.Conn
	Raw      net.Conn // below TLS: closing it takes no time; nil for Conn
	Requests int      // admitted at once
	Bytes    int      // of them
	// Share is the connection's part of the server's memory right now, in bytes;
	// nil for no bound but Bytes.
	Share func() int
	Stall time.Duration // see Patience
	Now   func() time.Time
	// Failed is called once, by whoever finds it, when the connection failed and
	// nothing more is sent; it may use the Output. May be nil.
	Failed func()
}

// Output gathers the answers of a connection. Whoever finds nobody sending sends
// all that is there; others only leave theirs. It also counts what is under way:
// a request counts until its answer was sent. A client that takes too long to
// read is cut off.
type Output[A any, P Answer[A]] struct {
	c    OutputConfig
	text *bufio.Writer // where the connection takes no vectored writes (TLS); else nil
	// queued is called for each answer in the order of sending, by one goroutine
	// at a time; may be nil.
	queued func(P)

	mu       sync.Mutex // guards below
	changed  sync.Cond  // when a count below fell or err was set
	queue    []A
	spare    []A // the other queue's store
	sending  bool
	requests int // admitted, not yet answered
	bytes    int
	unsent   int   // answers
	surplus  int   // bytes of them that nobody admitted
	err      error // of the connection; nothing is sent after it

	vector net.Buffers // used by the sender only
	pieces net.Buffers
}

const (
	textBuffer = 64 << 10
	// mostUnsent and mostSurplus are how many answers, and bytes of them beyond
	// what was admitted, a client may leave unread before its reader waits.
	mostUnsent  = 1024
	mostSurplus = 1 << 20
)

// NewOutput makes an Output. queued is told each answer in the order in which
// they are sent, before they are, by one goroutine at a time; nil for none.
func NewOutput[A any, P Answer[A]](c OutputConfig, queued func(P)) *Output[A, P] {
	if c.Raw == nil {
		c.Raw = c.Conn
	}
	o := &Output[A, P]{c: c, queued: queued}
	o.changed.L = &o.mu
	switch c.Conn.(type) {
	case *net.TCPConn, *net.UnixConn:
	default:
		o.text = bufio.NewWriterSize(c.Conn, textBuffer)
	}
	return o
}

// Admit counts requests and their bytes, and waits while there are too many, or
// until the connection failed. Only the connection's reader calls it. A
// connection that holds no bytes is always let in, whatever its share: none waits
// for another.
func (o *Output[A, P]) Admit(requests, n int) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	for o.err == nil && o.full(requests, n) {
		if !o.sending && len(o.queue) > 0 {
			o.sendLocked() // what was left for later, see Leave
			continue
		}
		o.changed.Wait()
	}
	if o.err == nil {
		o.requests += requests
		o.bytes += n
	}
	return o.err
}

// Room waits while the client leaves too many answers unread, or until the
// connection failed. A reader asks before it takes what isn't admitted.
func (o *Output[A, P]) Room() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	for o.err == nil && (o.unsent > mostUnsent || o.surplus > mostSurplus) {
		if !o.sending {
			o.sendLocked() // what was left for later, see Leave
			continue
		}
		o.changed.Wait()
	}
	return o.err
}

// TryAdmit is Admit if that need not wait; false if it would, or would fail. A
// reader that holds requests itself which it has not answered asks it first: in
// Admit it would wait for itself, and the share may fall at any time.
func (o *Output[A, P]) TryAdmit(requests, n int) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.err != nil || o.full(requests, n) {
		return false
	}
	o.requests += requests
	o.bytes += n
	return true
}

func (o *Output[A, P]) full(requests, n int) bool {
	if o.requests+requests > o.c.Requests {
		return true
	}
	if o.bytes == 0 {
		return false
	}
	limit := o.c.Bytes
	if o.c.Share != nil {
		limit = min(limit, o.c.Share())
	}
	return o.bytes+n > limit
}

// Leave adds an answer that is sent by the next Send or Flush.
func (o *Output[A, P]) Leave(a A) {
	o.mu.Lock()
	o.addLocked(a)
	o.mu.Unlock()
}

// Send adds an answer and sees to it that it is sent.
func (o *Output[A, P]) Send(a A) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.addLocked(a)
	if !o.sending {
		o.sendLocked()
	}
}

func (o *Output[A, P]) addLocked(a A) {
	o.queue = append(o.queue, a)
	o.unsent++
	p := P(&o.queue[len(o.queue)-1])
	o.surplus += surplus(p)
	if o.queued != nil {
		o.queued(p)
	}
}

// surplus is how many bytes an answer has that nobody admitted.
func surplus[A any, P Answer[A]](a P) int {
	_, cost := a.Cost()
	return max(0, a.Size()-cost)
}

// Drop counts something as done that was admitted and gets no answer.
func (o *Output[A, P]) Drop(requests, n int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.requests -= requests
	o.bytes -= n
	o.changed.Broadcast()
}

// Flush sends what was left.
func (o *Output[A, P]) Flush() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.sending && len(o.queue) > 0 {
		o.sendLocked()
	}
}

// Fail ends the connection from outside: nothing more is sent, and who waits in
// Admit waits no longer. Any goroutine may call it, and again.
func (o *Output[A, P]) Fail(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.failLocked(err)
}

// failLocked lets go of o.mu meanwhile.
func (o *Output[A, P]) failLocked(err error) {
	if o.err != nil {
		return
	}
	o.err = err
	o.changed.Broadcast()
	o.mu.Unlock()
	defer o.mu.Lock()
	o.c.Raw.Close() // so that the reader ends too, and who sends
	if o.c.Failed != nil {
		o.c.Failed()
	}
}

// Drain waits until every request that was admitted is answered. Each has to be
// given to Leave, Send or Drop, also where the connection failed: the caller holds
// none back himself.
func (o *Output[A, P]) Drain() {
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
func (o *Output[A, P]) sendLocked() {
	o.sending = true
	for len(o.queue) > 0 {
		batch := o.queue
		o.queue, o.spare = o.spare[:0], nil
		err := o.err
		o.mu.Unlock()
		if err == nil {
			err = o.write(batch)
		}
		requests, bytes, beyond := 0, 0, 0
		for i := range batch {
			r, n := P(&batch[i]).Cost()
			requests += r
			bytes += n
			beyond += surplus(P(&batch[i]))
			P(&batch[i]).Sent()
		}
		clear(batch)
		o.mu.Lock()
		o.spare = batch
		o.requests -= requests
		o.bytes -= bytes
		o.unsent -= len(batch)
		o.surplus -= beyond
		o.changed.Broadcast()
		if err != nil {
			o.failLocked(err)
		}
	}
	o.sending = false
}

func (o *Output[A, P]) write(batch []A) error {
	o.pieces = o.pieces[:0]
	for i := range batch {
		o.pieces = P(&batch[i]).Append(o.pieces)
	}
	total := 0
	for _, p := range o.pieces {
		total += len(p)
	}
	if err := o.c.Conn.SetWriteDeadline(o.c.Now().Add(Patience(o.c.Stall, int64(total)))); err != nil {
		return err
	}
	switch {
	case o.text != nil:
		for _, p := range o.pieces {
			if _, err := o.text.Write(p); err != nil {
				return err
			}
		}
		return o.text.Flush()
	case len(o.pieces) == 1:
		_, err := o.c.Conn.Write(o.pieces[0])
		return err
	}
	o.vector = o.pieces // WriteTo eats its receiver
	_, err := o.vector.WriteTo(o.c.Conn)
	return err
}
