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

	mu     sync.Mutex
	loses  chan struct{}         // closed when the answer to a COMMIT was lost; nil: none is to be; guarded by mu
	paths  map[net.Conn]struct{} // to clients and to the server; guarded by mu
	closed bool                  // guarded by mu
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

func (p *Proxy) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	_ = p.l.Close() // nobody else closes it
	for c := range p.paths {
		_ = c.Close() // its goroutine may have done so
	}
}

// enter notes connections that end with the proxy, and reports false if it has ended.
func (p *Proxy) enter(conns ...net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range conns {
		p.paths[c] = struct{}{}
	}
	return !p.closed
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
		if lost := p.meant(text, typed); lost != nil {
			answers.lose(lost)
		}
		if _, err := s.Write(text); err != nil {
			return err
		}
		typed = true
	}
}

// meant returns what is closed when the answer to a message is lost; nil if it is to
// be passed on.
func (p *Proxy) meant(text []byte, typed bool) (lost chan struct{}) {
	if !typed || text[0] != 'Q' || !bytes.Equal(text[5:], []byte("COMMIT\x00")) {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	lost, p.loses = p.loses, nil
	return lost
}

// answers passes on what the server says, up to what is to be lost.
type answers struct {
	to   net.Conn
	mu   sync.Mutex
	lost chan struct{} // guarded by mu
}

func (a *answers) lose(lost chan struct{}) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.lost = lost
}

var errLost = errors.New("an answer was lost")

// Write implements io.Writer. A client waits for the answer to one statement before
// it asks for the next, so that what comes after a COMMIT is the answer to it.
func (a *answers) Write(p []byte) (int, error) {
	a.mu.Lock()
	lost := a.lost
	a.mu.Unlock()
	if lost == nil {
		return a.to.Write(p)
	}
	err := fmt.Errorf("%w: %q", errLost, p)
	_ = a.to.Close() // the client's reader hears of it
	close(lost)
	return 0, err
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
