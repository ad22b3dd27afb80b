package nbd_test

import (
	"net"
	"testing"

	"golang.org/x/sys/unix"

	"kvol/internal/export/nbd"
)

// wantOptions expects that the kernel gives an unanswering host up after about
// a minute, whether it has something to send or not.
func wantOptions(t *testing.T, c *net.TCPConn) {
	t.Helper()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	for option, want := range map[int]int{unix.TCP_KEEPIDLE: 30, unix.TCP_KEEPINTVL: 10, unix.TCP_KEEPCNT: 3,
		unix.TCP_USER_TIMEOUT: 60_000} {
		var got int
		var failed error
		err := raw.Control(func(fd uintptr) { got, failed = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, option) })
		if err != nil || failed != nil || got != want {
			t.Errorf("option %d is %d, %v, %v; want %d", option, got, err, failed, want)
		}
	}
}

// TestDeadHosts: the kernel is asked to notice hosts that are gone.
func TestDeadHosts(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	seen := &watched{Listener: l, conns: make(chan *net.TCPConn, 1)}
	serveOn(t, nbd.Config{Exports: newShelf(t, testSize)}, seen)
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	(&wire{t, c}).expect("NBDMAGIC") // the server is past the settings
	wantOptions(t, <-seen.conns)
}

// watched shows the connections that it accepts.
type watched struct {
	net.Listener
	conns chan *net.TCPConn
}

func (l *watched) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil {
		l.conns <- c.(*net.TCPConn)
	}
	return c, err
}
