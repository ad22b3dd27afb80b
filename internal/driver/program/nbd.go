package program

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"

	"kvol/internal/block"
	"kvol/internal/client/nbd"
)

// NBD says what qemu-nbd serves, and how.
type NBD struct {
	// Sockets is a directory for a socket that nobody but us may enter; its name is
	// gone before Start returns.
	Sockets string
	// Args are qemu-nbd's: how it caches, and at the end the image.
	Args []string
	// Connections are how many connections the requests are spread over; one if 0.
	// qemu-nbd carries out RequestsEach at a time of each.
	Connections int
	// Files are given to the process as descriptors from FirstFile on. They remain
	// the caller's.
	Files []*os.File
}

// FirstFile is the number of the first of NBD.Files; 3 is the listening
// socket, as the protocol of activated sockets has it (sd_listen_fds(3)).
const FirstFile = 4

// RequestsEach is how many requests of a connection qemu-nbd carries out at once
// (MAX_NBD_REQUESTS in its nbd/server.c).
const RequestsEach = 16

// Export is what a qemu-nbd process serves. Its methods may be called at once, but of
// Close and Drop one is called, once.
type Export struct {
	conns []conn
	cmd   *exec.Cmd
	said  *Said
	done  chan struct{} // closed when the process ended
	err   error         // how; to be read after done
}

// Start starts qemu-nbd for this process alone; ctx bounds how long it may take to
// answer. The errors' kind and sentence for users are the caller's to add.
//
// The connections are there before the process: qemu-nbd is given the listening
// socket in which they already wait. So it needs no polling, nobody else can
// connect, and as qemu-nbd ends with its last client, none outlives kvol.
func Start(ctx context.Context, o NBD) (*Export, error) {
	listener, waiting, err := socketPairs(ctx, o.Sockets, max(1, o.Connections))
	if err != nil {
		return nil, fmt.Errorf("a socket for qemu-nbd: %w", err)
	}
	e := &Export{conns: make([]conn, len(waiting)), said: &Said{}, done: make(chan struct{})}
	// The process has to be told its own id, which it has only once it runs.
	args := append([]string{"-c", `LISTEN_FDS=1 LISTEN_PID=$$ exec "$@"`, "sh", "qemu-nbd",
		"--shared=" + strconv.Itoa(len(waiting))}, o.Args...)
	e.cmd = exec.Command("/bin/sh", args...)
	e.cmd.ExtraFiles = append([]*os.File{listener}, o.Files...)
	e.cmd.Stderr = e.said
	// It ends with its client, but not before that has spoken to it.
	e.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	err = e.cmd.Start()
	listener.Close()
	if err != nil {
		closeAll(waiting)
		return nil, fmt.Errorf("qemu-nbd could not be started: %w", err)
	}
	go func() { // ends with the process
		e.err = e.cmd.Wait()
		close(e.done)
	}()
	for i, c := range waiting {
		if e.conns[i].Conn, err = nbd.NewConn(ctx, c, "", nbd.Options{}); err != nil {
			closeAll(waiting)
			e.Kill()
			return nil, fmt.Errorf("qemu-nbd: %w: %s", errors.Join(context.Cause(ctx), err), e.said)
		}
	}
	return e, nil
}

// socketPairs makes a listening socket, and connections that wait in it.
func socketPairs(ctx context.Context, dir string, n int) (listener *os.File, waiting []net.Conn, err error) {
	path := filepath.Join(dir, block.NewID()[:8])
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, nil, err
	}
	defer l.Close() // and its name; the file below is a copy
	var dialer net.Dialer
	for range n {
		c, err := dialer.DialContext(ctx, "unix", path)
		if err != nil {
			closeAll(waiting)
			return nil, nil, err
		}
		waiting = append(waiting, c)
	}
	if listener, err = l.File(); err != nil {
		closeAll(waiting)
		return nil, nil, err
	}
	return listener, waiting, nil
}

func closeAll(conns []net.Conn) {
	for _, c := range conns {
		c.Close()
	}
}

// Kill ends the process at once and waits for its end.
func (e *Export) Kill() {
	_ = e.cmd.Process.Kill() // it may have ended
	<-e.done
}

// Break ends the connections and the process at once: it serves no more.
func (e *Export) Break() {
	e.Kill()
	e.hangUp()
}

func (e *Export) hangUp() {
	for i := range e.conns {
		_ = e.conns[i].Close() // the process's end is what counts
	}
}

// Close has all written and the process ended. If that takes longer than ctx
// lives, the process is killed, and what it had not written is lost.
func (e *Export) Close(ctx context.Context) error {
	flushed := make(chan error, 1)
	go func() { flushed <- e.Flush() }() // ends with the connection
	var err error
	select {
	case err = <-flushed:
	case <-ctx.Done():
		err = ctx.Err()
	}
	if !e.Drop(ctx) {
		return errors.Join(err, ctx.Err())
	}
	if err != nil {
		return fmt.Errorf("%w: %s", errors.Join(err, e.err), e.said)
	}
	return nil
}

// Drop ends the connections, upon which the process ends: enough where writes
// bypass every cache. If it has not ended when ctx does, it is killed, and Drop
// reports false.
func (e *Export) Drop(ctx context.Context) bool {
	e.hangUp()
	select {
	case <-e.done:
		return true
	case <-ctx.Done():
		e.Kill()
		return false
	}
}

// Said is what the process said, once it has ended.
func (e *Export) Said() string { return e.said.String() }
