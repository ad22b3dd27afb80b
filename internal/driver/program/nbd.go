package program

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
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
	// Files are given to the process as descriptors from FirstFile on. They remain
	// the caller's.
	Files []*os.File
}

// FirstFile is the number of the first of NBD.Files; 3 is the listening
// socket, as the protocol of activated sockets has it (sd_listen_fds(3)).
const FirstFile = 4

// Export is a connection to a qemu-nbd process. Its methods may be called at once,
// but of Close and Drop one is called, once.
type Export struct {
	*nbd.Conn
	cmd  *exec.Cmd
	said *Said
	done chan struct{} // closed when the process ended
	err  error         // how; to be read after done
}

// Start starts qemu-nbd for this process alone; ctx bounds how long it may take to answer. The errors'
// kind and sentence for users are the caller's to add.
//
// The connection is there before the process: qemu-nbd is given the listening
// socket in which it already waits. So it needs no polling, nobody else can
// connect, and as qemu-nbd ends with its last client, none outlives kvol.
func Start(ctx context.Context, o NBD) (*Export, error) {
	listener, conn, err := socketPair(ctx, o.Sockets)
	if err != nil {
		return nil, fmt.Errorf("a socket for qemu-nbd: %w", err)
	}
	e := &Export{said: &Said{}, done: make(chan struct{})}
	// The process has to be told its own id, which it has only once it runs.
	args := append([]string{"-c", `LISTEN_FDS=1 LISTEN_PID=$$ exec "$@"`, "sh", "qemu-nbd", "--shared=1"}, o.Args...)
	e.cmd = exec.Command("/bin/sh", args...)
	e.cmd.ExtraFiles = append([]*os.File{listener}, o.Files...)
	e.cmd.Stderr = e.said
	// It ends with its client, but not before that has spoken to it.
	e.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	err = e.cmd.Start()
	listener.Close()
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("qemu-nbd could not be started: %w", err)
	}
	go func() { // ends with the process
		e.err = e.cmd.Wait()
		close(e.done)
	}()
	if e.Conn, err = nbd.NewConn(ctx, conn, "", nbd.Options{}); err != nil {
		conn.Close()
		e.Kill()
		return nil, fmt.Errorf("qemu-nbd: %w: %s", errors.Join(context.Cause(ctx), err), e.said)
	}
	return e, nil
}

// socketPair makes a listening socket, and a connection that waits in it.
func socketPair(ctx context.Context, dir string) (listener *os.File, conn net.Conn, err error) {
	path := filepath.Join(dir, block.NewID()[:8])
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, nil, err
	}
	defer l.Close() // and its name; the file below is a copy
	var dialer net.Dialer
	if conn, err = dialer.DialContext(ctx, "unix", path); err != nil {
		return nil, nil, err
	}
	if listener, err = l.File(); err != nil {
		conn.Close()
		return nil, nil, err
	}
	return listener, conn, nil
}

// Kill ends the process at once and waits for its end.
func (e *Export) Kill() {
	_ = e.cmd.Process.Kill() // it may have ended
	<-e.done
}

// Close has all written and the process ended. If that takes longer than ctx
// lives, the process is killed, and what it had not written is lost.
func (e *Export) Close(ctx context.Context) error {
	flushed := make(chan error, 1)
	go func() { flushed <- e.Conn.Flush() }() // ends with the connection
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

// Drop ends the connection, upon which the process ends: enough where writes
// bypass every cache. If it has not ended when ctx does, it is killed, and Drop
// reports false.
func (e *Export) Drop(ctx context.Context) bool {
	_ = e.Conn.Close() // the process's end is what counts
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
