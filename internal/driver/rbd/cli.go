package rbd

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"kvol/internal/block"
	"kvol/internal/driver/program"
)

// command is a run of the rbd or the ceph program.
type command struct {
	program string
	args    []string
}

func (d *Driver) rbd(args ...string) command { return d.rbdWithin(d.o.Timeout, args...) }

// rbdWithin is a command of which each request of the cluster may take as long.
func (d *Driver) rbdWithin(each time.Duration, args ...string) command {
	limit := seconds(each)
	return command{"rbd", append([]string{"--conf", d.o.Conf, "--id", d.o.User,
		"--client_mount_timeout", seconds(d.o.Timeout), "--rados_mon_op_timeout", limit, "--rados_osd_op_timeout", limit},
		args...)}
}

// seconds is how Ceph takes a duration.
func seconds(t time.Duration) string { return strconv.FormatFloat(t.Seconds(), 'f', -1, 64) }

// killAfter is how much longer than its own time-outs a command may take.
const killAfter = 5 * time.Second

// run runs a command and returns what it printed. Errors have the kind that
// the command's exit status, an errno, stands for; the cause is what it said.
func (d *Driver) run(ctx context.Context, c command) ([]byte, error) {
	return d.runFor(ctx, c, 3*d.o.Timeout+killAfter)
}

func (d *Driver) runFor(ctx context.Context, c command, limit time.Duration) ([]byte, error) {
	var out bytes.Buffer
	err := d.runTo(ctx, c, limit, &out)
	return out.Bytes(), err
}

// runTo runs a command that prints to out.
func (d *Driver) runTo(ctx context.Context, c command, limit time.Duration, out io.Writer) error {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, errSlow)
	defer cancel()
	cmd := exec.CommandContext(ctx, c.program, c.args...)
	cmd.WaitDelay = time.Second
	// None goes on beside the process that comes after this one.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var said program.Said
	cmd.Stdout, cmd.Stderr = out, &said
	err := cmd.Run()
	if err == nil {
		return nil
	}
	return failure(ctx, c, err, said.String())
}

// runJSON runs a command that prints JSON and decodes it.
func (d *Driver) runJSON(ctx context.Context, into any, args ...string) error {
	out, err := d.run(ctx, d.rbd(append(args, "--format", "json")...))
	if err != nil {
		return err
	}
	return decode(out, into)
}

// decode reads JSON that a command printed.
func decode(out []byte, into any) error {
	if err := json.Unmarshal(out, into); err != nil {
		return block.Wrap(block.Internal, err, "The storage cluster's answer could not be read.")
	}
	return nil
}

var errSlow = errors.New("it did not end in time")

// failure tells what a command's end means.
func failure(ctx context.Context, c command, err error, said string) error {
	cause := fmt.Errorf("%s %s: %w: %s", c.program, strings.Join(c.args, " "), err, strings.TrimSpace(said))
	if ctx.Err() != nil {
		return ended(ctx, cause)
	}
	if strings.Contains(said, noConnection) {
		return block.Wrap(block.Unavailable, cause, silent) // whatever its exit status is
	}
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return block.Wrap(block.Unavailable, cause, "The command %q could not be run in this zone.", c.program)
	}
	return meaning(number(syscall.Errno(exit.ExitCode()), said), cause)
}

// number is an error's number: what the command ended with, unless it said better.
// The rbd command ends with ENOENT where a full cluster keeps it from removing an image,
// which is there still; the rados command knows one number only.
func number(exit syscall.Errno, said string) syscall.Errno {
	for _, errno := range []syscall.Errno{syscall.ENOSPC, syscall.EDQUOT, syscall.EEXIST} {
		if (exit == syscall.ENOENT || exit == syscall.EPERM) && strings.Contains(said, fmt.Sprintf("(%d) ", errno)) {
			return errno
		}
	}
	return exit
}

// noConnection is what the rbd command says when it did not get as far as to ask for
// anything. Its exit status is ENOENT then if the keyring is not to be found, or has no
// key of the user's.
const noConnection = "couldn't connect to the cluster"

// ended tells why a call's context ended before the call did.
func ended(ctx context.Context, cause error) error {
	if slow := context.Cause(ctx); errors.Is(slow, errSlow) {
		return block.Wrap(block.Unavailable, errors.Join(slow, cause), silent)
	}
	return errors.Join(ctx.Err(), cause)
}

// meaning gives an error the kind that its number stands for.
func meaning(errno syscall.Errno, cause error) error {
	cause = errors.Join(errno, cause)
	switch errno {
	case syscall.ENOENT:
		return block.Wrap(block.NotFound, cause, "It is not in the storage cluster.")
	case syscall.EEXIST:
		return block.Wrap(block.Conflict, cause, "It is in the storage cluster already.")
	case syscall.EBUSY, syscall.ENOTEMPTY:
		return block.Wrap(block.Conflict, cause, "It is in use in the storage cluster.")
	case syscall.EINVAL:
		return block.Wrap(block.Invalid, cause, "The storage cluster refused it as invalid.")
	case syscall.ENOSPC, syscall.EDQUOT:
		return block.Wrap(block.NoSpace, cause, "The storage cluster is full.")
	}
	return block.Wrap(block.Unavailable, cause, silent)
}

const silent = "The storage cluster does not answer as it should."
