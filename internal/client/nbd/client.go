// Package nbd is a small client of the NBD protocol: enough to read and write a
// volume from a Go program, with TLS and structured replies. It is no mount and
// no driver, reconnects by itself never, and knows nothing of kvol: any server
// of fixed newstyle will do.
package nbd

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"sync"
	"syscall"
)

// DefaultPort is the port of NBD servers where a URL names none.
const DefaultPort = "10809"

// Options are the settings of a connection.
type Options struct {
	// TLS makes the connection begin TLS and fail where the server has none. A
	// nbds:// URL without it uses a zero configuration. ServerName is filled in
	// from the address where it is empty.
	TLS *tls.Config
}

// ErrClosed is the cause of calls that failed because Close was called.
var ErrClosed = errors.New("nbd: the connection was closed")

// Error is a refusal by the server.
type Error struct {
	Op      string // "read", "write", "handshake", ...
	Errno   uint32 // of the protocol, which are Linux's; 0 for refused options
	Message string // "" where the server gave none
}

// Error implements error.
func (e *Error) Error() string {
	text := "nbd: " + e.Op + " refused"
	if e.Errno != 0 {
		text += ": " + syscall.Errno(e.Errno).Error()
	}
	if e.Message != "" {
		text += ": " + e.Message
	}
	return text
}

// Unwrap lets errors.Is compare with syscall.ENOSPC and its like.
func (e *Error) Unwrap() error {
	if e.Errno == 0 {
		return nil
	}
	return syscall.Errno(e.Errno)
}

// Conn is a connection to one export. Its methods may be called at once from
// many goroutines; requests are under way together. When the server dies, all
// calls under way and all later ones fail.
type Conn struct {
	conn   net.Conn
	size   int64
	flags  uint16
	blocks bool // base:allocation was agreed on

	sendMu sync.Mutex // one request goes out at a time
	header []byte     // for sending; guarded by sendMu

	mu     sync.Mutex // guards below
	calls  map[uint64]*call
	cookie uint64
	err    error // why no more calls are taken

	received sync.WaitGroup
}

// Dial connects by a URL as libnbd and qemu write them: nbd://host:port/export,
// nbds:// for TLS, nbd+unix:///export?socket=/path.
func Dial(ctx context.Context, rawURL string, o Options) (*Conn, error) {
	u, err := url.Parse(rawURL)
	if err != nil {
		return nil, fmt.Errorf("nbd: %w", err)
	}
	scheme, isUnix := strings.CutSuffix(u.Scheme, "+unix")
	if scheme != "nbd" && scheme != "nbds" {
		return nil, fmt.Errorf("nbd: %q is no scheme of NBD", u.Scheme)
	}
	if scheme == "nbds" && o.TLS == nil {
		o.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	export := strings.TrimPrefix(u.Path, "/")
	if isUnix {
		return DialExport(ctx, "unix", u.Query().Get("socket"), export, o)
	}
	port := u.Port()
	if port == "" {
		port = DefaultPort
	}
	return DialExport(ctx, "tcp", net.JoinHostPort(u.Hostname(), port), export, o)
}

// DialExport connects to an export by network ("tcp" or "unix"), address and
// name.
func DialExport(ctx context.Context, network, address, export string, o Options) (*Conn, error) {
	var d net.Dialer
	nc, err := d.DialContext(ctx, network, address)
	if err != nil {
		return nil, fmt.Errorf("nbd: %w", err)
	}
	if o.TLS != nil && o.TLS.ServerName == "" && network != "unix" {
		o.TLS = o.TLS.Clone()
		o.TLS.ServerName, _, _ = net.SplitHostPort(address)
	}
	c, err := NewConn(ctx, nc, export, o)
	if err != nil {
		nc.Close()
	}
	return c, err
}

// NewConn does the handshake on a connection that is there already. ctx is for
// the handshake. The connection belongs to the Conn if there is no error.
func NewConn(ctx context.Context, nc net.Conn, export string, o Options) (*Conn, error) {
	stop := context.AfterFunc(ctx, func() { nc.Close() })
	defer stop()
	c := &Conn{calls: map[uint64]*call{}}
	if err := c.handshake(ctx, nc, export, o); err != nil {
		return nil, errors.Join(ctx.Err(), err)
	}
	if !stop() {
		return nil, ctx.Err()
	}
	c.received.Go(c.receive)
	return c, nil
}

// Size of the export in bytes, as of the handshake.
func (c *Conn) Size() int64 { return c.size }

// ReadOnly reports whether the server refuses writes.
func (c *Conn) ReadOnly() bool { return c.flags&flagReadOnly != 0 }

// Close says farewell, ends the connection and makes calls under way fail with
// ErrClosed.
func (c *Conn) Close() error {
	if !c.fail(ErrClosed) {
		c.received.Wait()
		return nil
	}
	err := c.farewell()
	c.received.Wait()
	return err
}

// farewell sends NBD_CMD_DISC, unless some request is just going out and may
// be stuck, and closes.
func (c *Conn) farewell() error {
	if c.sendMu.TryLock() {
		defer c.sendMu.Unlock()
		_, _ = c.conn.Write(appendRequest(nil, cmdDisc, 0, 0, 0, 0)) // it may be gone already
	}
	if err := c.conn.Close(); !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil // the server took the farewell first, and the receiver closed
}

// fail lets no more calls begin; it reports whether it was the first to do so.
// Calls under way fail with the first err when the receiver ends.
func (c *Conn) fail(err error) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return false
	}
	c.err = err
	return true
}
