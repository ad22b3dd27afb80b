package nfs

import (
	"context"
	"errors"
	"iter"
	"sync"
	"sync/atomic"
	"syscall"

	"kvol/internal/block"
	"kvol/internal/client/nbd"
	"kvol/internal/driver"
	"kvol/internal/driver/program"
)

// imageDevice is an open qcow2 file, or an open layer for reading. A program of
// QEMU's has it; when that ends on its own, what was written and not flushed is
// lost, and so is the device.
type imageDevice struct {
	l       *layered
	v       *volume // nil for a snapshot
	at      place
	release func()
	size    atomic.Int64
	dirty   atomic.Bool // something was written since the last flush began

	mu     sync.RWMutex    // guards below; held for reading while a request is under way
	export *program.Export // nil: the next request starts one
	lost   bool
	closed bool
}

func (l *layered) open(ctx context.Context, v *volume, live place) (device, error) {
	if err := l.mine(v); err != nil {
		return nil, err
	}
	return l.openImage(ctx, v, live, func() { l.d.closed(v) })
}

func (l *layered) openSnapshot(ctx context.Context, at place, release func()) (driver.Reader, error) {
	return l.openImage(ctx, nil, at, release)
}

func (l *layered) openImage(ctx context.Context, v *volume, at place, release func()) (*imageDevice, error) {
	size, err := l.size(ctx, at)
	if err != nil {
		return nil, err
	}
	dev := &imageDevice{l: l, v: v, at: at, release: release}
	dev.size.Store(size)
	if dev.export, err = l.d.startExport(ctx, at, v == nil); err != nil {
		return nil, err
	}
	return dev, nil
}

// Size implements driver.Device.
func (d *imageDevice) Size() int64 { return d.size.Load() }

// ReadAt implements driver.Device.
func (d *imageDevice) ReadAt(p []byte, off int64) (n int, err error) {
	if err := driver.CheckRange(off, int64(len(p)), d.Size()); err != nil {
		return 0, err
	}
	err = d.with(func(e *program.Export) (err error) { n, err = e.ReadAt(p, off); return err })
	return n, err
}

// WriteAt implements driver.Device.
func (d *imageDevice) WriteAt(p []byte, off int64) (n int, err error) {
	err = d.change(off, int64(len(p)), func(e *program.Export) (err error) { n, err = e.WriteAt(p, off); return err })
	return n, err
}

// Zero implements driver.Device.
func (d *imageDevice) Zero(off, length int64) error {
	return d.change(off, length, func(e *program.Export) error { return e.WriteZeroes(off, length, true) })
}

// Flush implements driver.Device.
func (d *imageDevice) Flush() error {
	return d.with(func(e *program.Export) error {
		dirty := d.dirty.Swap(false)
		err := e.Flush()
		if err != nil && dirty {
			d.dirty.Store(true)
		}
		return err
	})
}

// Extents implements driver.ExtentReader.
func (d *imageDevice) Extents(off, length int64) iter.Seq2[driver.Extent, error] {
	return func(yield func(driver.Extent, error) bool) {
		if err := driver.CheckRange(off, length, d.Size()); err != nil {
			yield(driver.Extent{}, err)
			return
		}
		for end := off + length; off < end; {
			var found []nbd.Extent
			err := d.with(func(e *program.Export) (err error) { found, err = e.BlockStatus(off, end-off); return err })
			if err != nil {
				yield(driver.Extent{}, err)
				return
			}
			for _, f := range found {
				if !yield(driver.Extent{Off: f.Off, Len: f.Len, Zero: f.Zero}, nil) {
					return
				}
				off = f.Off + f.Len
			}
		}
	}
}

// change carries out a request that changes bytes, before or after a moment is
// named, and counts it.
func (d *imageDevice) change(off, length int64, do func(*program.Export) error) error {
	if err := driver.CheckRange(off, length, d.Size()); err != nil {
		return err
	}
	d.v.gate.RLock()
	defer d.v.gate.RUnlock()
	defer d.l.d.touch(d.v) // after it is done: who asked meanwhile asks again
	d.l.d.touch(d.v)
	return d.with(func(e *program.Export) error {
		d.dirty.Store(true)
		return do(e)
	})
}

const unanswered = "The program that has the volume's file open does not answer."

// with carries out a request.
func (d *imageDevice) with(do func(*program.Export) error) error {
	e, err := d.take()
	if err != nil {
		return err
	}
	err = do(e) // EINVAL is how NBD says all that it has no word for
	d.mu.RUnlock()
	if err == nil {
		return nil
	}
	var refused *nbd.Error
	if !errors.As(err, &refused) {
		d.broke(e)
		return block.Wrap(block.Unavailable, err, unanswered)
	}
	if errors.Is(err, syscall.ENOSPC) {
		return block.Wrap(block.NoSpace, err, "The share is full.")
	}
	return block.Wrap(block.Unavailable, err, "The share does not answer as it should.")
}

// take returns the program that has the file, one that is started if need be,
// with mu held for reading.
func (d *imageDevice) take() (*program.Export, error) {
	for {
		d.mu.RLock()
		if d.export != nil && !d.closed {
			return d.export, nil
		}
		d.mu.RUnlock()
		if err := d.start(); err != nil {
			return nil, err
		}
	}
}

func (d *imageDevice) start() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.closed:
		return block.Wrap(block.Conflict, errClosed, "the volume is closed")
	case d.lost:
		return block.Wrap(
			block.Unavailable,
			errKilled,
			"What was written last to the volume is lost; it has to be opened again.",
		)
	case d.export != nil:
		return nil
	}
	e, err := d.l.d.startExport(context.Background(), d.at, d.v == nil) // bounded by its own time-out
	if err != nil {
		return err
	}
	d.export = e
	return nil
}

var errKilled = errors.New("qemu-nbd ended before it had written all")

// broke puts a program away that serves no more.
func (d *imageDevice) broke(e *program.Export) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.export != e {
		return
	}
	d.export = nil
	e.Break()
	d.lost = d.v != nil && d.dirty.Load()
	d.l.d.o.Log.Warn("the program that had a volume's file open ended", "file", d.at, "said", e.Said())
}

// rest closes the file until resume is called. All that was written is in it
// then.
func (d *imageDevice) rest(ctx context.Context) (resume func(), err error) {
	d.mu.Lock()
	if d.export == nil {
		return d.mu.Unlock, nil
	}
	if err := d.end(ctx); err != nil {
		d.mu.Unlock()
		return nil, err
	}
	return d.mu.Unlock, nil
}

// end has the program write all and end; mu must be held.
func (d *imageDevice) end(ctx context.Context) error {
	e := d.export
	d.export = nil
	if err := e.Close(ctx); err != nil {
		d.lost = d.v != nil && d.dirty.Load()
		return block.Wrap(block.Unavailable, err, unanswered)
	}
	d.dirty.Store(false)
	return nil
}

// Close implements driver.Device.
func (d *imageDevice) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil
	}
	d.closed = true
	defer d.release()
	if d.export == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), d.l.d.o.Timeout)
	defer cancel()
	return d.end(ctx)
}

var _ device = (*imageDevice)(nil)
var _ device = (*rawDevice)(nil)
