package rbd

import (
	"context"
	"errors"
	"iter"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"kvol/internal/block"
	"kvol/internal/client/nbd"
	"kvol/internal/driver"
	"kvol/internal/driver/program"
)

// depth is how many requests to an image are carried out at once: what an OSD commits
// together costs it little more than one, so that few at a time cost a cluster more of
// its processors, not only time.
const depth = connections * program.RequestsEach

// connections are those to a qemu-nbd.
const connections = 4

// Depth implements driver.Distant.
func (d *Driver) Depth() int { return depth }

// device is an open volume, or an open snapshot. When its qemu-nbd ends, or the
// cluster has cut it off, what is under way fails, and the next call starts another:
// whether this process may still write is for who calls to know (package fenced).
type device struct {
	d        *Driver
	image    string
	snapshot string // "" for a volume
	v        *volume
	release  func() // tells the driver that it is closed
	size     atomic.Int64

	mu     sync.RWMutex    // guards below; held for reading while a request is under way
	export *program.Export // nil: it broke
	closed bool
}

// OpenVolume implements driver.Driver.
func (d *Driver) OpenVolume(ctx context.Context, id block.VolumeID) (_ driver.Device, err error) {
	done, err := d.idle(id)
	if err != nil {
		return nil, err
	}
	defer func() {
		done()
		if block.Is(err, block.NotFound) {
			d.forget(id)
		}
	}()
	if err := d.succeed(ctx, id); err != nil {
		return nil, err
	}
	d.mu.Lock()
	v := d.of(id)
	d.mu.Unlock()
	dev := &device{d: d, image: imageName(id), v: v}
	dev.release = func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		v.device = nil
	}
	v.commands.RLock() // it is a client that nobody knows of until v.device is set
	defer v.commands.RUnlock()
	if err := dev.start(ctx); err != nil {
		if _, looked := d.info(ctx, id); block.Is(looked, block.NotFound) {
			return nil, looked
		}
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	v.device = dev
	return dev, nil
}

// OpenSnapshot implements driver.Driver.
func (d *Driver) OpenSnapshot(ctx context.Context, ref driver.SnapshotRef) (driver.Reader, error) {
	if err := d.succeed(ctx, ref.Volume); err != nil {
		return nil, err
	}
	v, err := d.keep(ref)
	if err != nil {
		return nil, err
	}
	dev := &device{d: d, image: imageName(ref.Volume), snapshot: string(ref.Name), v: v}
	dev.release = func() {
		d.letGo(v, ref)
		d.mu.Lock()
		defer d.mu.Unlock()
		v.readers = slices.DeleteFunc(v.readers, func(r *device) bool { return r == dev })
	}
	v.commands.RLock() // who looks for clients puts it away only once it is whole
	defer v.commands.RUnlock()
	d.mu.Lock()
	v.readers = append(v.readers, dev)
	d.mu.Unlock()
	if err := dev.start(ctx); err != nil {
		dev.release()
		if _, looked := d.snapshot(ctx, ref); block.Is(looked, block.NotFound) {
			return nil, looked
		}
		return nil, err
	}
	return dev, nil
}

// start starts the first process. It knows whether the image is there, and how large
// it is: a command that asked before would take as long as the process does.
func (d *device) start(ctx context.Context) (err error) {
	if d.export, err = d.d.startExport(ctx, d.image, d.snapshot); err == nil {
		d.size.Store(d.export.Size())
	}
	return err
}

// Size implements driver.Device.
func (d *device) Size() int64 { return d.size.Load() }

// ReadAt implements driver.Device.
func (d *device) ReadAt(p []byte, off int64) (int, error) {
	if err := driver.CheckRange(off, int64(len(p)), d.Size()); err != nil {
		return 0, err
	}
	var n int
	err := d.with(func(e *program.Export) (err error) { n, err = e.ReadAt(p, off); return err })
	return n, err
}

// WriteAt implements driver.Device.
func (d *device) WriteAt(p []byte, off int64) (int, error) {
	if err := driver.CheckRange(off, int64(len(p)), d.Size()); err != nil {
		return 0, err
	}
	var n int
	err := d.change(func(e *program.Export) (err error) { n, err = e.WriteAt(p, off); return err })
	return n, err
}

// Zero implements driver.Device.
func (d *device) Zero(off, length int64) error {
	if err := driver.CheckRange(off, length, d.Size()); err != nil {
		return err
	}
	for end := off + length; off < end; off += zeroedAtOnce {
		err := d.change(func(e *program.Export) error { return e.WriteZeroes(off, min(zeroedAtOnce, end-off), true) })
		if err != nil {
			return err
		}
	}
	return nil
}

// zeroedAtOnce bounds what one request asks of the cluster: 256 objects.
const zeroedAtOnce = int64(block.GiB)

// Flush implements driver.Device.
func (d *device) Flush() error { return d.with((*program.Export).Flush) }

// Extents implements driver.ExtentReader.
func (d *device) Extents(off, length int64) iter.Seq2[driver.Extent, error] {
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

// change carries out a request that changes bytes, before or after a moment of
// several volumes is named, and counts it.
func (d *device) change(do func(*program.Export) error) error {
	d.v.gate.RLock()
	defer d.v.gate.RUnlock()
	defer d.d.touch(d.v) // after it is done: who asked meanwhile asks again
	d.d.touch(d.v)
	return d.with(do)
}

// with carries out a request.
func (d *device) with(do func(*program.Export) error) error {
	d.mu.RLock()
	if d.export == nil || d.closed {
		d.mu.RUnlock()
		if err := d.restart(); err != nil {
			return err
		}
		d.mu.RLock()
	}
	e := d.export
	if e == nil || d.closed {
		d.mu.RUnlock()
		return block.Wrap(block.Unavailable, os.ErrClosed, silent)
	}
	// Who waits for an answer keeps the device from being closed.
	watchdog := time.AfterFunc(d.d.o.IOTimeout+d.d.o.Stall, e.Kill)
	err := do(e) // EINVAL is how NBD says all that it has no word for, time-outs too
	watchdog.Stop()
	d.mu.RUnlock()
	if err == nil {
		return nil
	}
	var refused *nbd.Error
	// A client that is on the cluster's blocklist stays there: only another one serves.
	if !errors.As(err, &refused) || errors.Is(err, syscall.ESHUTDOWN) {
		d.broke(e)
		return block.Wrap(block.Unavailable, err, silent)
	}
	if errors.Is(err, syscall.ENOSPC) {
		return block.Wrap(block.NoSpace, err, "The storage cluster is full.")
	}
	return block.Wrap(block.Unavailable, err, silent)
}

// broke puts a process away that serves no more.
func (d *device) broke(e *program.Export) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.export == e {
		d.export = nil
		e.Break()
		d.d.o.Log.Warn("the client process of an image ended", "image", d.image, "said", e.Said())
	}
}

// restart starts another process where the last one broke.
func (d *device) restart() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return block.Wrap(block.Conflict, os.ErrClosed, "the volume is closed")
	}
	if d.export != nil {
		return nil
	}
	e, err := d.d.startExport(context.Background(), d.image, d.snapshot) // bounded by its own time-out
	if err != nil {
		return err
	}
	d.export = e
	return nil
}

// away runs do while no process of ours has the image open. Requests wait for
// it, and the next one starts a process again.
func (d *device) away(ctx context.Context, do func() error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.export != nil {
		d.export.Drop(ctx)
		d.export = nil
	}
	return do()
}

// grow makes a larger size known. A process serves the size that it found, so
// another one takes over between two requests.
func (d *device) grow(ctx context.Context, size int64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed || size <= d.Size() {
		return nil
	}
	if d.export != nil {
		d.export.Drop(ctx)
		d.export = nil
	}
	e, err := d.d.startExport(ctx, d.image, d.snapshot)
	if err != nil {
		return err
	}
	d.export = e
	d.size.Store(size)
	return nil
}

// Close implements driver.Device.
func (d *device) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil
	}
	d.closed = true
	if d.export != nil {
		ctx, cancel := context.WithTimeout(context.Background(), killAfter)
		defer cancel()
		d.export.Drop(ctx)
		d.export = nil
	}
	d.release()
	return nil
}
