package nfs

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"kvol/internal/driver"
)

// raw is the form of volumes on file systems that share blocks between files.
type raw struct{ d *Driver }

var _ form = raw{}

func (r raw) create(_ context.Context, live place, size int64) error {
	f, at, err := r.d.create()
	if err != nil {
		return err
	}
	if err := errors.Join(f.Truncate(size), r.d.forHosts(f, live)); err != nil {
		r.d.discard(f, at)
		return failed(err)
	}
	return r.d.publish(f, at, live)
}

func (r raw) size(_ context.Context, at place) (int64, error) {
	info, err := r.d.root.Lstat(string(at))
	if err != nil {
		return 0, fromNothing(err)
	}
	return info.Size(), nil
}

func (r raw) extend(_ context.Context, v *volume, live place, size int64) error {
	f, err := r.d.openFile(live, os.O_RDWR)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Truncate(size), f.Sync(), f.Close()); err != nil {
		return failed(err)
	}
	r.d.mu.Lock()
	defer r.d.mu.Unlock()
	if dev, open := v.device.(*rawDevice); open {
		dev.size.Store(size)
	}
	return nil
}

// copy makes a file with the blocks of another, not there for anybody yet.
func (r raw) copy(from place) (f *os.File, at place, err error) {
	source, err := r.d.openFile(from, os.O_RDONLY)
	if err != nil {
		return nil, "", err
	}
	defer source.Close()
	if f, at, err = r.d.create(); err != nil {
		return nil, "", err
	}
	if err := shareBlocks(f, source); err != nil {
		r.d.discard(f, at)
		return nil, "", failed(err)
	}
	return f, at, nil
}

// shareBlocks makes one file what another one is at one instant, as far as
// whoever writes to that is concerned.
func shareBlocks(to, from *os.File) error {
	for {
		err := unix.IoctlFileClone(int(to.Fd()), int(from.Fd()))
		if !errors.Is(err, unix.EINTR) {
			return os.NewSyscallError("ficlone", err)
		}
	}
}

func (r raw) clone(_ context.Context, from, live place, size int64) error {
	f, at, err := r.copy(from)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Truncate(size), r.d.forHosts(f, live)); err != nil {
		r.d.discard(f, at)
		return failed(err)
	}
	return r.d.publish(f, at, live)
}

func (r raw) revert(ctx context.Context, to, live place) error {
	size, err := r.size(ctx, to)
	if err != nil {
		return err
	}
	return r.clone(ctx, to, live, size)
}

func (r raw) replace(ctx context.Context, _ *volume, live place) error {
	return r.revert(ctx, live, live)
}

func (r raw) prepare(_ context.Context, _ *volume, live place) (do cut, drop func(), err error) {
	do = func(_ context.Context, dir string, e entry) (entry, error) {
		f, at, err := r.copy(live)
		if err != nil {
			return e, err
		}
		to, err := e.at(dir)
		if err == nil {
			err = failed(f.Chmod(0o400))
		}
		if err != nil {
			r.d.discard(f, at)
			return e, err
		}
		return e, r.d.publish(f, at, to)
	}
	return do, func() {}, nil
}

// Files stand on nothing: with its name, a file is gone.
func (r raw) dropped(place, ...entry)     {}
func (r raw) sweep(context.Context) error { return nil }

// sharesBlocks is nil where the file system shares blocks between files.
func (d *Driver) sharesBlocks() error {
	a, atA, err := d.create()
	if err != nil {
		return err
	}
	defer d.discard(a, atA)
	b, atB, err := d.create()
	if err != nil {
		return err
	}
	defer d.discard(b, atB)
	if _, err := a.Write(make([]byte, driver.BlockSize)); err != nil {
		return failed(err)
	}
	if err := shareBlocks(b, a); err != nil {
		return fmt.Errorf("the share's file system: %w", err)
	}
	return nil
}
