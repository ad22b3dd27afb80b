//go:build ceph

package rbd

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"syscall"
	"time"

	"github.com/ceph/go-ceph/rados"

	"kvol/internal/block"
)

// library is calls by librbd in this process, over one connection to the cluster
// that stays. A call into the library can't be ended from outside: it has the
// library's own time-outs, and who waits for it waits no longer than for a command.
// Then the connection is given up, and the next call makes another.
type library struct {
	commands // where all slots are taken
	slots    chan struct{}

	mu      sync.Mutex // guards below, and the users of each connection
	current *connection
	closed  bool
}

// maxCalls is how many calls may be in the library, those included that nobody
// waits for any more, each of which holds a thread. What comes beyond goes by the
// command.
const maxCalls = 64

// connection is a client of the cluster.
type connection struct {
	once    sync.Once
	err     error // why there is none
	cluster *rados.Conn
	io      *rados.IOContext
	users   int // calls that are in the library by it
	gone    bool
}

// asked is a call: what it is called in errors, how long it may take, and how the
// library and the command carry it out.
type asked[T any] struct {
	what    string
	limit   time.Duration
	library func(context.Context, *rados.IOContext) (T, error)
	command func() (T, error)
}

// ask carries out a call. One that finds itself cut off is carried out again, by
// another client, as each command is one; every call may be repeated.
func ask[T any](ctx context.Context, l *library, a asked[T]) (T, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, a.limit, errSlow)
	defer cancel()
	got, err := once(ctx, l, a)
	if errors.Is(err, syscall.ESHUTDOWN) {
		got, err = once(ctx, l, a)
	}
	return got, err
}

func once[T any](ctx context.Context, l *library, a asked[T]) (none T, err error) {
	select {
	case l.slots <- struct{}{}:
	default:
		return a.command()
	}
	type answer struct {
		got  T
		err  error
		none error // why there was no connection, so that nothing was asked
	}
	answers := make(chan answer, 1)
	c := l.take()
	go func() { // ends with the library's call
		var said answer
		if said.none = l.connect(c); said.none == nil {
			said.got, said.err = a.library(ctx, c.io)
		}
		l.leave(c)
		<-l.slots
		answers <- said
	}()
	select {
	case said := <-answers:
		switch {
		case said.none != nil: // it may be ENOENT, as where the keyring is away
			err = block.Wrap(block.Unavailable, fmt.Errorf("librbd: %s: no connection: %w", a.what, said.none), silent)
		case said.err != nil:
			err = l.failure(ctx, a.what, said.err)
		default:
			return said.got, nil
		}
	case <-ctx.Done():
		err = ended(ctx, fmt.Errorf("librbd: %s", a.what))
	}
	if block.Is(err, block.Unavailable) {
		l.giveUp(c)
	}
	return none, err
}

// failure tells what an error of the library means.
func (l *library) failure(ctx context.Context, what string, err error) error {
	cause := fmt.Errorf("librbd: %s: %w", what, err)
	if ctx.Err() != nil {
		return ended(ctx, cause)
	}
	var numbered interface{ ErrorCode() int }
	if !errors.As(err, &numbered) {
		return block.Wrap(block.Unavailable, cause, silent)
	}
	return meaning(syscall.Errno(max(numbered.ErrorCode(), -numbered.ErrorCode())), cause)
}

// take returns the connection that there is, or one that is yet to be made.
func (l *library) take() *connection {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.current == nil {
		l.current = &connection{gone: l.closed}
	}
	l.current.users++
	return l.current
}

// leave ends the use of a connection; the last user closes one that was given up.
func (l *library) leave(c *connection) {
	l.mu.Lock()
	c.users--
	last := c.users == 0 && c.gone
	if last && l.current == c {
		l.current = nil
	}
	l.mu.Unlock()
	if last {
		c.shut()
	}
}

// giveUp has a connection used by nobody who comes later.
func (l *library) giveUp(c *connection) {
	l.mu.Lock()
	if l.current == c {
		l.current = nil
	}
	last := c.users == 0 && !c.gone
	c.gone = true
	l.mu.Unlock()
	if last {
		go c.shut() // ends when the library has let go of it
	}
}

func (l *library) close() {
	l.mu.Lock()
	l.closed = true
	c := l.current
	l.mu.Unlock()
	if c != nil {
		l.giveUp(c)
	}
}

// connect makes a connection, once; others wait for it.
func (l *library) connect(c *connection) error {
	c.once.Do(func() { c.err = c.open(l.commands.d.o) })
	return c.err
}

func (c *connection) open(o Options) (err error) {
	if c.cluster, err = rados.NewConnWithUser(o.User); err != nil {
		return err
	}
	if err := c.cluster.ReadConfigFile(o.Conf); err != nil {
		return err
	}
	limit := seconds(o.Timeout)
	for _, option := range [][2]string{
		{"client_mount_timeout", limit}, {"rados_mon_op_timeout", limit}, {"rados_osd_op_timeout", limit},
		{"log_to_stderr", "false"}, {"err_to_stderr", "false"}, // errors are returned
	} {
		if err := c.cluster.SetConfigOption(option[0], option[1]); err != nil {
			return err
		}
	}
	if err := c.cluster.Connect(); err != nil {
		return err
	}
	if c.io, err = c.cluster.OpenIOContext(o.Pool); err != nil {
		return err
	}
	c.io.SetNamespace(o.Namespace)
	return nil
}

// shut lets go of the cluster.
func (c *connection) shut() {
	if c.io != nil {
		c.io.Destroy()
	}
	if c.cluster != nil {
		c.cluster.Shutdown()
	}
}
