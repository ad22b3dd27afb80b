package line

import (
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A host that does not answer for about a minute is gone: its connections are
// cut, so that a half-open one does not hold a volume for ever.
const (
	keepIdle     = 30 * time.Second
	keepInterval = 10 * time.Second
	keepCount    = 3
	// unacked is how long sent bytes may stay unacknowledged, for which no
	// keepalive is sent.
	unacked = 60 * time.Second
)

// watchPeer makes the kernel notice that a client's host is gone.
func watchPeer(nc net.Conn) error {
	c, ok := nc.(*net.TCPConn)
	if !ok {
		return nil
	}
	config := net.KeepAliveConfig{Enable: true, Idle: keepIdle, Interval: keepInterval, Count: keepCount}
	if err := c.SetKeepAliveConfig(config); err != nil {
		return err
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var set error
	err = raw.Control(func(fd uintptr) {
		set = unix.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(unacked.Milliseconds()))
	})
	if err != nil {
		return err
	}
	return set
}
