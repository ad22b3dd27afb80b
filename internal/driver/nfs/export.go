package nfs

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"kvol/internal/block"
	"kvol/internal/client/nbd"
)

// export is a qemu-nbd process that serves one image to us alone.
type export struct {
	*nbd.Conn
	cmd  *exec.Cmd
	said *limited
	done chan struct{} // closed when the process ended
	err  error         // how; to be read after done
}

// startExport starts qemu-nbd on a file, which it is given with all that the
// file stands on.
//
// The connection is there before the process: qemu-nbd is given the listening
// socket in which it already waits. So it needs no polling, nobody else can
// connect, and as qemu-nbd ends with its last client, none outlives kvol.
func (d *Driver) startExport(ctx context.Context, at place, readOnly bool) (*export, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, d.o.Timeout, errSlow)
	defer cancel()
	flag := os.O_RDWR
	if readOnly {
		flag = os.O_RDONLY
	}
	c, err := d.openChain(at, flag)
	if err != nil {
		return nil, err
	}
	defer c.close()
	listener, conn, err := d.socketPair(ctx)
	if err != nil {
		return nil, block.Wrap(block.Unavailable, err, "No socket could be made for a volume's file.")
	}
	e := &export{said: &limited{}, done: make(chan struct{})}
	// The process has to be told its own id, which it has only once it runs.
	args := []string{"-c", `LISTEN_FDS=1 LISTEN_PID=$$ exec "$@"`, "sh", "qemu-nbd", "--shared=1",
		"--cache=writeback", "--discard=unmap"}
	if readOnly {
		args = append(args, "--read-only")
	}
	e.cmd = exec.Command("/bin/sh", append(args, c.name(firstFile+1))...)
	e.cmd.ExtraFiles = append([]*os.File{listener}, c...) // the third, as the protocol of activated sockets has it
	e.cmd.ExtraFiles = append(e.cmd.ExtraFiles, d.lock)   // its end is waited for by who opens the share after us
	e.cmd.Stderr = e.said
	// It ends with its client, but not before that has spoken to it.
	e.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	err = e.cmd.Start()
	listener.Close()
	if err != nil {
		conn.Close()
		return nil, block.Wrap(block.Unavailable, err, "The command qemu-nbd could not be run in this zone.")
	}
	go func() { // ends with the process
		e.err = e.cmd.Wait()
		close(e.done)
	}()
	if e.Conn, err = nbd.NewConn(ctx, conn, "", nbd.Options{}); err != nil {
		conn.Close()
		e.kill()
		cause := fmt.Errorf("qemu-nbd: %w: %s", errors.Join(context.Cause(ctx), err), strings.TrimSpace(e.said.String()))
		return nil, block.Wrap(block.Unavailable, cause, unanswered)
	}
	return e, nil
}

// socketPair makes a listening socket, and a connection that waits in it.
func (d *Driver) socketPair(ctx context.Context) (listener *os.File, conn net.Conn, err error) {
	path := filepath.Join(d.sockets, block.NewID()[:8])
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

// kill ends the process at once and waits for its end.
func (e *export) kill() {
	_ = e.cmd.Process.Kill() // it may have ended
	<-e.done
}

// close has all written and the process ended; if that takes longer than ctx
// lives, it is killed, and what it had not written is lost.
func (e *export) close(ctx context.Context) error {
	flushed := make(chan error, 1)
	go func() { flushed <- e.Conn.Flush() }() // ends with the connection
	var err error
	select {
	case err = <-flushed:
	case <-ctx.Done():
		err = ctx.Err()
	}
	_ = e.Conn.Close()
	select {
	case <-e.done:
	case <-ctx.Done():
		e.kill()
		return errors.Join(err, ctx.Err())
	}
	if err != nil {
		return fmt.Errorf("%w: %s", errors.Join(err, e.err), strings.TrimSpace(e.said.String()))
	}
	return nil
}
