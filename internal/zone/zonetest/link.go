package zonetest

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"

	"kvol/internal/pace"
)

// link is the network between one zone and another, in the direction in which
// connections are made. It can be cut: then connections break and new ones are
// refused, until it is mended.
type link struct {
	listener net.Listener
	to       string // host:port

	sent  atomic.Int64 // bytes, in the direction of the connections
	shape *pace.Shaper
	mu    sync.Mutex
	cut   bool                  // guarded by mu, as all below
	conns map[net.Conn]struct{} // both halves of what is open
	wg    sync.WaitGroup
	held  chan struct{} // closed when answers go on; nil while they do; guarded by mu
}

func newLink(to string) (*link, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	k := &link{listener: l, to: to, conns: map[net.Conn]struct{}{}, shape: pace.NewShaper(nil, nil)}
	k.wg.Go(k.accept)
	return k, nil
}

func (k *link) address() string { return k.listener.Addr().String() }

func (k *link) accept() {
	for {
		c, err := k.listener.Accept()
		if err != nil {
			return
		}
		if !k.keep(c) {
			c.Close()
			continue
		}
		k.wg.Go(func() { k.carry(c) })
	}
}

// keep remembers a connection; false if the link is cut.
func (k *link) keep(c net.Conn) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.cut {
		k.conns[c] = struct{}{}
	}
	return !k.cut
}

func (k *link) forget(c net.Conn) {
	c.Close()
	k.mu.Lock()
	delete(k.conns, c)
	k.mu.Unlock()
}

func (k *link) carry(a net.Conn) {
	defer k.forget(a)
	b, err := net.Dial("tcp", k.to)
	if err != nil {
		return
	}
	defer k.forget(b)
	if !k.keep(b) {
		return
	}
	var both sync.WaitGroup
	for _, pair := range [][2]net.Conn{{a, b}, {b, a}} {
		both.Go(func() {
			var to io.Writer = pair[0]
			if pair[0] == b {
				to = &shaped{link: k, to: b}
			}
			_, _ = io.Copy(to, held{pair[1], k, pair[1] == b}) // a broken link is what it is for
			pair[0].Close()
			pair[1].Close()
		})
	}
	both.Wait()
}

// shaped counts what goes over a link, and holds it to the link's rate.
type shaped struct {
	link *link
	to   io.Writer
}

func (s *shaped) Write(p []byte) (int, error) {
	flow := s.link.shape.Flow(0, false)
	if err := flow.Wait(context.Background(), int64(len(p))); err != nil {
		return 0, err
	}
	flow.Done(int64(len(p)))
	s.link.sent.Add(int64(len(p)))
	return s.to.Write(p)
}

// held is an end of a connection whose bytes may be held back.
type held struct {
	net.Conn
	link    *link
	answers bool
}

// Read gives what came when answers go on.
func (h held) Read(p []byte) (int, error) {
	n, err := h.Conn.Read(p)
	h.link.mu.Lock()
	wait := h.link.held
	h.link.mu.Unlock()
	if h.answers && wait != nil {
		<-wait
	}
	return n, err
}

// hold holds what comes back, or lets it go on.
func (k *link) hold(on bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if on && k.held == nil {
		k.held = make(chan struct{})
	} else if !on && k.held != nil {
		close(k.held)
		k.held = nil
	}
}

// set cuts or mends the link.
func (k *link) set(cut bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.cut = cut
	if cut {
		for c := range k.conns {
			c.Close()
		}
	}
}

func (k *link) close() error {
	err := k.listener.Close()
	k.set(true)
	k.hold(false)
	k.wg.Wait()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// Wire is a link for tests whose zones are processes of their own.
type Wire struct{ link *link }

// NewWire listens on a free port of this machine and carries what comes there to
// an address.
func NewWire(to string) (*Wire, error) {
	k, err := newLink(to)
	return &Wire{k}, err
}

// Address is where the wire listens, as host:port.
func (w *Wire) Address() string { return w.link.address() }

// Cut breaks the wire, or joins it again.
func (w *Wire) Cut(cut bool) { w.link.set(cut) }

// Close ends it.
func (w *Wire) Close() error { return w.link.close() }
