package exporttest

import (
	"context"
	"io"
	"log/slog"
	"net"
	"sync"
	"testing"
)

// Server is what the protocols' servers are to a test.
type Server interface {
	Serve(ctx context.Context, l net.Listener) error
}

// Log shows everything in the test's output.
func Log(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// Listen listens on a port of this machine.
func Listen(t testing.TB) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// Serve runs a server until stop is called or the test ends. It must end without
// an error.
func Serve(t testing.TB, s Server, l net.Listener) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, l) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}

// oneConn is a listener with one connection.
type oneConn struct {
	once   sync.Once
	conn   net.Conn
	closed chan struct{}
}

// Only returns a listener that accepts conn and nothing else.
func Only(conn net.Conn) net.Listener { return &oneConn{conn: conn, closed: make(chan struct{})} }

// Accept implements net.Listener.
func (l *oneConn) Accept() (c net.Conn, err error) {
	l.once.Do(func() { c = l.conn })
	if c != nil {
		return c, nil
	}
	<-l.closed
	return nil, net.ErrClosed
}

// Close implements net.Listener.
func (l *oneConn) Close() error { close(l.closed); return nil }

// Addr implements net.Listener.
func (l *oneConn) Addr() net.Addr { return l.conn.LocalAddr() }

// Talk sends input to a server and drops what it says; it returns when the
// server has done with the connection.
func Talk(s Server, input []byte) {
	client, server := net.Pipe()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Serve(ctx, Only(server)) // what it makes of the input is its own
	}()
	go func() {
		_, _ = client.Write(input) // fails where the server hangs up
		client.Close()
	}()
	_, _ = io.Copy(io.Discard, client)
	cancel()
	<-done
}
