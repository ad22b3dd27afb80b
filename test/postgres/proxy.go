package postgres

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"kvol/test/afterwards"
)

// socketName is how PostgreSQL calls its socket.
const socketName = ".s.PGSQL.5432"

// Proxy is a way to a server on which answers get lost. Its methods may be called at
// once.
type Proxy struct {
	dir    string // with its socket
	server string // that of the server
	l      net.Listener
	work   sync.WaitGroup

	mu      sync.Mutex            // guards below
	loses   chan struct{}         // closed when the answer to a COMMIT was lost; nil: none is to be
	darkens chan struct{}         // closed when it is dark after a COMMIT; nil: it is not to be
	paths   map[net.Conn]struct{} // to clients and to the server
	dark    bool
	refused int // connections since it is dark
	closed  bool
}

// Proxy opens another way to the server, which lives as long as the test.
func (s *Server) Proxy(t testing.TB) *Proxy {
	t.Helper()
	dir, err := os.MkdirTemp("", "kvol-pg-") // short: a socket's name has little room
	if err != nil {
		t.Fatal(err)
	}
	afterwards.Run(t, "/bin/rm", "-rf", dir)
	p := &Proxy{dir: dir, server: filepath.Join(s.dir, socketName), paths: map[net.Conn]struct{}{}}
	if p.l, err = net.Listen("unix", filepath.Join(dir, socketName)); err != nil {
		t.Fatal(err)
	}
	p.work.Go(p.accept)
	t.Cleanup(func() {
		p.close()
		p.work.Wait()
		os.RemoveAll(dir)
	})
	return p
}

// URL is that of a database of the server, by way of the proxy.
func (p *Proxy) URL(t testing.TB, direct string) string {
	t.Helper()
	u, err := url.Parse(direct)
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	q.Set("host", p.dir)
	u.RawQuery = q.Encode()
	return u.String()
}

// LoseCommit has the next COMMIT carried out and its answer lost, with the connection.
// What it returns is closed when that has happened.
func (p *Proxy) LoseCommit() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.loses = make(chan struct{})
	return p.loses
}

// DarkenAfterCommit has the next COMMIT answered, and the server out of reach from
// then on, until Lighten. What it returns is closed when that has happened.
func (p *Proxy) DarkenAfterCommit() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.darkens = make(chan struct{})
	return p.darkens
}

// Refused is how often somebody has tried to connect since it is dark.
func (p *Proxy) Refused() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.refused
}

// Lighten lets the server be reached again.
func (p *Proxy) Lighten() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dark, p.refused = false, 0
}

// darken breaks all connections and refuses others.
func (p *Proxy) darken(done chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dark = true
	for c := range p.paths {
		_ = c.Close() // it may be closed
	}
	close(done)
}

func (p *Proxy) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	_ = p.l.Close() // nobody else closes it
	for c := range p.paths {
		_ = c.Close() // its goroutine may have done so
	}
}

// enter notes connections that end with the proxy, and reports false if it has, or it is dark.
func (p *Proxy) enter(conns ...net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range conns {
		p.paths[c] = struct{}{}
	}
	if p.dark {
		p.refused++
	}
	return !p.closed && !p.dark
}

func (p *Proxy) leave(conns ...net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range conns {
		_ = c.Close() // it may be closed
		delete(p.paths, c)
	}
}

func (p *Proxy) accept() {
	for {
		c, err := p.l.Accept()
		if err != nil {
			return
		}
		p.work.Go(func() {
			s, err := net.Dial("unix", p.server)
			if err != nil { // the server is away
				_ = c.Close()
				return
			}
			defer p.leave(c, s)
			if p.enter(c, s) {
				_ = p.relay(c, s) // it says how a connection ended
			}
		})
	}
}

// relay passes on what client and server say, until one of them ends.
func (p *Proxy) relay(c, s net.Conn) error {
	answers := &answers{to: c}
	p.work.Go(func() {
		_, _ = io.Copy(answers, s) // it ends with either
		p.leave(c, s)
	})
	typed := false // the first message has no type
	for {
		text, err := message(c, typed)
		if err != nil {
			return err
		}
		if typed && text[0] == 'Q' && bytes.Equal(text[5:], []byte("COMMIT\x00")) {
			answers.after(p.meant())
		}
		if _, err := s.Write(text); err != nil {
			return err
		}
		typed = true
	}
}

// meant returns what is to happen to the answer to a COMMIT, in the place of it, or
// after it; both nil for nothing.
func (p *Proxy) meant() (instead, then func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if lost := p.loses; lost != nil {
		p.loses = nil
		return func() { close(lost) }, nil
	}
	if dark := p.darkens; dark != nil {
		p.darkens = nil
		return nil, func() { p.darken(dark) }
	}
	return nil, nil
}

// answers passes on what the server says, up to what is to be lost. A client waits
// for the answer to one statement before it asks for the next, so that what comes
// after a COMMIT is the answer to it.
type answers struct {
	to            net.Conn
	mu            sync.Mutex
	instead, then func() // guarded by mu
}

func (a *answers) after(instead, then func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.instead, a.then = instead, then
}

var errLost = errors.New("an answer was lost")

// Write implements io.Writer.
func (a *answers) Write(p []byte) (int, error) {
	a.mu.Lock()
	instead, then := a.instead, a.then
	a.instead, a.then = nil, nil
	a.mu.Unlock()
	if instead != nil {
		_ = a.to.Close() // the client's reader hears of it
		instead()
		return 0, fmt.Errorf("%w: %q", errLost, p)
	}
	n, err := a.to.Write(p)
	if then != nil {
		then()
	}
	return n, err
}

// maxMessage bounds what a client of a test says at once.
const maxMessage = 64 << 20

// message reads one message of a client (PostgreSQL's manual, "Message Formats").
func message(r io.Reader, typed bool) ([]byte, error) {
	head := 4
	if typed {
		head = 5
	}
	text := make([]byte, head)
	if _, err := io.ReadFull(r, text); err != nil {
		return nil, err
	}
	n := int(binary.BigEndian.Uint32(text[head-4:])) - 4
	if n < 0 || n > maxMessage {
		return nil, fmt.Errorf("a message of %d bytes", n)
	}
	text = append(text, make([]byte, n)...)
	_, err := io.ReadFull(r, text[head:])
	return text, err
}
