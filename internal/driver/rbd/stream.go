package rbd

import (
	"context"
	"errors"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"kvol/internal/block"
)

// stream has a command write to whoever reads, for as long as that takes, but never
// longer than longest without a byte. Where the command failed, that is the error.
func (d *Driver) stream(ctx context.Context, c command, read func(io.Reader) error) error {
	within, cancel := context.WithCancel(ctx)
	defer cancel()
	in, out, err := os.Pipe()
	if err != nil {
		return block.Wrap(block.Unavailable, err, "The command %q could not be run in this zone.", c.program)
	}
	defer in.Close()
	widen(in)
	ended := make(chan error, 1)
	go func() { // ends with the command
		defer out.Close()
		ended <- d.runTo(within, c, forever, out)
	}()
	patience := newPatient(in)
	defer patience.timer.Stop()
	err = read(patience)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		cancel()
		<-ended
		return errors.Join(ctx.Err(), err)
	}
	if failed := <-ended; failed != nil {
		return failed
	}
	return err
}

// forever is longer than any volume takes.
const forever = 100 * 365 * 24 * time.Hour

// patient waits for each read of a pipe for longest at most: what is under way when
// its timer goes off fails with os.ErrDeadlineExceeded.
type patient struct {
	in    *os.File
	timer *time.Timer
}

func newPatient(in *os.File) patient {
	p := patient{in, time.AfterFunc(longest, func() { _ = in.SetReadDeadline(time.Unix(1, 0)) })} // or it is closed
	p.timer.Stop()
	return p
}

func (p patient) Read(b []byte) (int, error) {
	p.timer.Reset(longest)
	defer p.timer.Stop() // who reads may take his time
	return p.in.Read(b)
}

// widen gives a pipe room for more than the usual 64 KiB, so that who writes and who
// reads wait less often for each other. Where that is refused, they wait.
func widen(pipe *os.File) {
	raw, err := pipe.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) { _, _ = unix.FcntlInt(fd, unix.F_SETPIPE_SZ, exportBuffer) })
}
