package rbd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"kvol/internal/block"
	"kvol/internal/client/nbd"
)

// export is a qemu-nbd process that serves one image or snapshot to us alone.
type export struct {
	*nbd.Conn
	cmd  *exec.Cmd
	said *limited
	done chan struct{} // closed when the process ended
}

// startExport starts qemu-nbd on an image, or on a snapshot of it for reading.
//
// The connection is there before the process: qemu-nbd is given the listening
// socket in which it already waits. So it needs no polling, nobody else can
// connect, and as qemu-nbd ends with its last client, none outlives kvol.
func (d *Driver) startExport(ctx context.Context, image, snapshot string) (*export, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, 2*d.o.Timeout+killAfter, errSlow)
	defer cancel()
	listener, conn, err := d.socketPair(ctx)
	if err != nil {
		return nil, block.Wrap(block.Unavailable, err, "No socket could be made for the storage cluster's client.")
	}
	e := &export{said: &limited{}, done: make(chan struct{})}
	// The process has to be told its own id, which it has only once it runs.
	args := []string{"-c", `LISTEN_FDS=1 LISTEN_PID=$$ exec "$@"`, "sh", "qemu-nbd", "--shared=1",
		"--cache=none", "--discard=unmap", "--format=raw"}
	if snapshot != "" {
		args = append(args, "--read-only")
	}
	e.cmd = exec.Command("/bin/sh", append(args, d.qemuName(image, snapshot))...)
	e.cmd.ExtraFiles = []*os.File{listener} // the third, as the protocol of activated sockets has it
	e.cmd.Stderr = e.said
	err = e.cmd.Start()
	listener.Close()
	if err != nil {
		conn.Close()
		return nil, block.Wrap(block.Unavailable, err, "The storage cluster's client could not be started.")
	}
	go func() { // ends with the process
		_ = e.cmd.Wait() // what it said matters, not how it ended
		close(e.done)
	}()
	if e.Conn, err = nbd.NewConn(ctx, conn, "", nbd.Options{}); err != nil {
		conn.Close()
		e.kill()
		cause := fmt.Errorf("qemu-nbd: %w: %s", errors.Join(context.Cause(ctx), err), strings.TrimSpace(e.said.String()))
		return nil, block.Wrap(block.Unavailable, cause, silent)
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

// qemuName is how qemu takes an image: settings of librados follow the name.
func (d *Driver) qemuName(image, snapshot string) string {
	var b strings.Builder
	b.WriteString("rbd:" + quote(d.o.Pool) + "/")
	if d.o.Namespace != "" {
		b.WriteString(quote(d.o.Namespace) + "/")
	}
	b.WriteString(quote(image))
	if snapshot != "" {
		b.WriteString("@" + quote(snapshot))
	}
	b.WriteString(":id=" + quote(d.o.User) + ":conf=" + quote(d.o.Conf))
	b.WriteString(":client_mount_timeout=" + seconds(d.o.Timeout))
	b.WriteString(":rados_osd_op_timeout=" + seconds(d.o.IOTimeout))
	return b.String()
}

// quote takes their meaning from the characters that part a name for qemu.
func quote(s string) string {
	return strings.NewReplacer(`\`, `\\`, `:`, `\:`, `@`, `\@`, `/`, `\/`, `=`, `\=`).Replace(s)
}

// kill ends the process at once and waits for its end.
func (e *export) kill() {
	_ = e.cmd.Process.Kill() // it may have ended
	<-e.done
}

// close ends the connection, upon which the process ends; it is not waited for
// longer than ctx lives.
func (e *export) close(ctx context.Context) {
	_ = e.Conn.Close() // writes bypass every cache: nothing is lost with it
	select {
	case <-e.done:
	case <-ctx.Done():
		e.kill()
	}
}
