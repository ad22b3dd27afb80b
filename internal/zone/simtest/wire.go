package simtest

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"kvol/internal/block"
	"kvol/internal/driver"
)

// window is how many bytes may be under way in one direction.
const window = 256 << 10

// pipe is one direction of a connection. Bytes take their time, and one thing
// may happen to them: plan says what, and at which byte.
type pipe struct {
	cloud *cloud
	label string
	from  *life

	mu     sync.Mutex // guards all below
	rnd    *rand.Rand
	plan   Fault // "" for nothing
	at     int64 // bytes until it happens
	chunks []chunk
	queued int
	last   time.Time // when what was sent last arrives
	held   []byte    // what comes after the next write
	fin    bool      // nothing more comes
	gone   bool      // nobody reads any more
	wake   chan struct{}
	room   chan struct{}
}

type chunk struct {
	bytes []byte
	at    time.Time
}

func newPipe(c *cloud, from *life, label string, seed [2]uint64, plan Fault, at int64) *pipe {
	return &pipe{cloud: c, from: from, label: label, rnd: rand.New(rand.NewPCG(seed[0], seed[1])), plan: plan, at: at,
		wake: make(chan struct{}, 1), room: make(chan struct{}, 1)}
}

func ring(bell chan struct{}) {
	select {
	case bell <- struct{}{}:
	default:
	}
}

// sendLocked puts bytes on their way.
func (p *pipe) sendLocked(b []byte, extra time.Duration) {
	at := time.Now().Add(20*time.Microsecond + time.Duration(p.rnd.Int64N(int64(time.Millisecond))) + extra)
	if at.Before(p.last) {
		at = p.last.Add(time.Duration(1 + p.rnd.Int64N(1000)))
	}
	p.last = at
	p.chunks = append(p.chunks, chunk{bytes.Clone(b), at})
	p.queued += len(b)
	ring(p.wake)
}

// send carries out what is planned for the bytes of one write. It reports
// whether the connection ends in them.
func (p *pipe) send(b []byte) (cut bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.plan == Forge {
		b = p.forgeLocked(b)
	}
	at := p.at
	p.at -= int64(len(b))
	if p.plan == "" || p.plan == Forge || at < 0 || at >= int64(len(b)) {
		p.sendLocked(b, 0)
		if held := p.held; held != nil {
			p.held = nil
			p.sendLocked(held, 0)
		}
		return false
	}
	p.cloud.happened(p.plan, p.label)
	head, tail := b[:at], b[at:]
	switch p.plan {
	case Drop:
		p.sendLocked(append(bytes.Clone(head), tail[min(len(tail), 1+p.rnd.IntN(64)):]...), 0)
	case Delay:
		p.sendLocked(b, time.Duration(p.rnd.Int64N(int64(2*time.Minute))))
	case Duplicate:
		p.sendLocked(b, 0)
		p.sendLocked(tail, 0)
	case Reorder:
		p.held = bytes.Clone(b)
	case Damage:
		bad := bytes.Clone(b)
		bad[at] ^= byte(1 + p.rnd.IntN(255))
		p.sendLocked(bad, 0)
	case Truncate:
		p.sendLocked(head, 0)
		return true
	}
	return false
}

// forgeLocked changes a frame of data so that its checksum is right all the same,
// as memory that fails does: a byte of it, or where it goes. See docs/stream.md.
func (p *pipe) forgeLocked(b []byte) []byte {
	const header, data = 16, 7
	if len(b) < header+16 || b[0] != 'K' || b[1] != 'v' || b[2] != data || p.at < 0 {
		return b
	}
	if p.at -= int64(len(b)); p.at >= 0 {
		return b
	}
	p.cloud.happened(Forge, p.label)
	b = bytes.Clone(b)
	if p.rnd.IntN(2) == 0 {
		b[header+1] ^= 0x10 << p.rnd.IntN(3)
	} else {
		b[header+16+p.rnd.IntN(len(b)-header-16)] ^= 1
	}
	sum := crc32.Update(crc32.Checksum(b[:12], castagnoli), castagnoli, b[header:])
	binary.LittleEndian.PutUint32(b[12:], sum)
	return b
}

// end is one end of a connection: a net.Conn.
type end struct {
	in, out *pipe
	from    *life // whose end it is
	closed  chan struct{}
	once    sync.Once
}

func newEnd(in, out *pipe, from *life) *end {
	return &end{in: in, out: out, from: from, closed: make(chan struct{})}
}

// Read implements net.Conn.
func (e *end) Read(b []byte) (int, error) {
	for {
		n, wait, err := e.in.take(b)
		if n > 0 || err != nil {
			return n, err
		}
		var due <-chan time.Time
		var timer *time.Timer
		if wait > 0 {
			timer = time.NewTimer(wait)
			due = timer.C
		}
		select {
		case <-e.closed:
			err = net.ErrClosed
		case <-e.in.wake:
		case <-due:
		}
		if timer != nil {
			timer.Stop()
		}
		if err != nil {
			return 0, err
		}
	}
}

// take takes what has arrived, or says how long to wait; 0 for until somebody
// sends.
func (p *pipe) take(b []byte) (n int, wait time.Duration, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.chunks) == 0 {
		if p.fin {
			return 0, 0, io.EOF
		}
		return 0, 0, nil
	}
	head := &p.chunks[0]
	if wait = time.Until(head.at); wait > 0 {
		return 0, wait, nil
	}
	if head.bytes == nil { // the end
		p.fin, p.chunks = true, nil
		return 0, 0, io.EOF
	}
	n = copy(b, head.bytes)
	head.bytes = head.bytes[n:]
	p.queued -= n
	if len(head.bytes) == 0 {
		p.chunks = p.chunks[1:]
	}
	ring(p.room)
	return n, 0, nil
}

// Write implements net.Conn.
func (e *end) Write(b []byte) (int, error) {
	if err := e.from.point("before send"); err != nil {
		return 0, err
	}
	waited := false
	for {
		e.out.mu.Lock()
		gone, room := e.out.gone, e.out.queued < window
		e.out.mu.Unlock()
		select {
		case <-e.closed:
			return 0, net.ErrClosed
		default:
		}
		if gone {
			return 0, io.ErrClosedPipe
		}
		if room {
			break
		}
		waited = true
		select {
		case <-e.closed:
		case <-e.out.room:
		}
	}
	if waited {
		e.from.cloud.schedule.wait("send " + e.out.label)
	}
	if e.out.send(b) {
		_ = e.Close()
		return 0, net.ErrClosed
	}
	return len(b), nil
}

// Close implements net.Conn. The other end hears of it later.
func (e *end) Close() error {
	e.once.Do(func() {
		close(e.closed)
		e.out.mu.Lock()
		e.out.at = -1
		e.out.sendLocked(nil, 0)
		e.out.chunks[len(e.out.chunks)-1].bytes = nil
		e.out.mu.Unlock()
		e.in.mu.Lock()
		e.in.gone = true
		ring(e.in.room)
		e.in.mu.Unlock()
		e.from.hungUp(e)
	})
	return nil
}

type address string

// Network implements net.Addr.
func (a address) Network() string { return "sim" }

// String implements net.Addr.
func (a address) String() string { return string(a) }

// LocalAddr implements net.Conn.
func (e *end) LocalAddr() net.Addr { return address(e.out.label) }

// RemoteAddr implements net.Conn.
func (e *end) RemoteAddr() net.Addr { return address(e.in.label) }

// SetDeadline implements net.Conn; there are none.
func (e *end) SetDeadline(time.Time) error { return nil }

// SetReadDeadline implements net.Conn; there are none.
func (e *end) SetReadDeadline(time.Time) error { return nil }

// SetWriteDeadline implements net.Conn; there are none.
func (e *end) SetWriteDeadline(time.Time) error { return nil }

// streamFaults are what can happen to bytes; few of those that change data find any.
var streamFaults = []Fault{Drop, Delay, Duplicate, Reorder, Damage, Truncate, Forge, Forge, Forge, Forge}

// connect makes a connection between two lives.
func (c *cloud) connect(from, to *life) (here, there *end) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.conns++
	lay := func(a, b *life, likely, most int) *pipe {
		plan, at := Fault(""), int64(0)
		if c.faulty && c.rnd.IntN(100) < likely {
			plan, at = streamFaults[c.rnd.IntN(len(streamFaults))], c.rnd.Int64N(1<<(6+c.rnd.IntN(most)))
			if plan == Forge {
				at %= driver.BlockSize // of data
			}
		}
		return newPipe(c, a, fmt.Sprintf("%s-%s %d", a.name, b.name, c.conns), [2]uint64{c.rnd.Uint64(), c.rnd.Uint64()},
			plan, at)
	}
	out, back := lay(from, to, 40, 13), lay(to, from, 25, 6)
	here, there = newEnd(back, out, from), newEnd(out, back, to)
	from.holds(here)
	to.holds(there)
	return here, there
}

// unreachable is what who dials in vain is told.
func unreachable(zone block.Zone) error {
	return block.Errorf(block.Unavailable, "zone %s can't be reached", zone)
}
