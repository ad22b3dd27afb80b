package nfs

import (
	"context"
	"errors"
	"io"
	"iter"
	"os"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"kvol/internal/block"
	"kvol/internal/driver"
)

// rawDevice is an open raw file: a volume's, or for reading a snapshot's.
type rawDevice struct {
	d       *Driver
	v       *volume // nil for a snapshot
	f       *os.File
	release func()
	size    atomic.Int64
	lost    atomic.Bool // a flush failed: nobody knows what is on the disk

	mu     sync.RWMutex // guards closed; held for reading while a request is under way
	closed bool
}

func (r raw) open(_ context.Context, v *volume, live place) (device, error) {
	f, err := r.d.openFile(live, os.O_RDWR)
	if err != nil {
		return nil, err
	}
	return newRawDevice(r.d, v, f, func() { r.d.closed(v) })
}

func (r raw) openSnapshot(_ context.Context, at place, release func()) (driver.Reader, error) {
	f, err := r.d.openFile(at, os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	return newRawDevice(r.d, nil, f, release)
}

func newRawDevice(d *Driver, v *volume, f *os.File, release func()) (*rawDevice, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, failed(errors.Join(err, f.Close()))
	}
	dev := &rawDevice{d: d, v: v, f: f, release: release}
	dev.size.Store(info.Size())
	return dev, nil
}

// Size implements driver.Device.
func (r *rawDevice) Size() int64 { return r.size.Load() }

// use runs a request of an open file.
func (r *rawDevice) use(do func() error) error {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if r.closed {
		return block.Wrap(block.Conflict, errClosed, "the volume is closed")
	}
	return failed(do())
}

// ReadAt implements driver.Device.
func (r *rawDevice) ReadAt(p []byte, off int64) (n int, err error) {
	if err := driver.CheckRange(off, int64(len(p)), r.Size()); err != nil {
		return 0, err
	}
	err = r.use(func() (err error) {
		if n, err = r.f.ReadAt(p, off); errors.Is(err, io.EOF) && n == len(p) {
			return nil
		}
		return err
	})
	return n, err
}

// change carries out a request that changes bytes, before or after a moment is
// named, and counts it.
func (r *rawDevice) change(off, length int64, do func() error) error {
	if err := driver.CheckRange(off, length, r.Size()); err != nil {
		return err
	}
	r.v.gate.RLock()
	defer r.v.gate.RUnlock()
	if r.lost.Load() {
		return block.Errorf(block.Unavailable, "A flush of the volume failed; it has to be opened again.")
	}
	defer r.d.touch(r.v) // after it is done: who asked meanwhile asks again
	r.d.touch(r.v)
	return r.use(do)
}

// WriteAt implements driver.Device.
func (r *rawDevice) WriteAt(p []byte, off int64) (n int, err error) {
	err = r.change(off, int64(len(p)), func() (err error) { n, err = r.f.WriteAt(p, off); return err })
	return n, err
}

// Zero implements driver.Device.
func (r *rawDevice) Zero(off, length int64) error {
	return r.change(off, length, func() error {
		if length == 0 {
			return nil
		}
		err := unix.Fallocate(int(r.f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, length)
		if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) {
			return r.writeZeros(off, length)
		}
		return os.NewSyscallError("fallocate", err)
	})
}

const zerosSize = 1 << 20

// writeZeros zeroes where no holes can be made.
func (r *rawDevice) writeZeros(off, length int64) error {
	zeros := make([]byte, min(length, zerosSize))
	for length > 0 {
		n, err := r.f.WriteAt(zeros[:min(length, zerosSize)], off)
		if err != nil {
			return err
		}
		off, length = off+int64(n), length-int64(n)
	}
	return nil
}

// Flush implements driver.Device. After one failed no other succeeds: the kernel
// tells once that it could not write, and forgets what.
func (r *rawDevice) Flush() error {
	if r.lost.Load() {
		return block.Errorf(block.Unavailable, "A flush of the volume failed; it has to be opened again.")
	}
	err := r.use(r.f.Sync)
	if err != nil {
		r.lost.Store(true)
	}
	return err
}

// Extents implements driver.ExtentReader.
func (r *rawDevice) Extents(off, length int64) iter.Seq2[driver.Extent, error] {
	return func(yield func(driver.Extent, error) bool) {
		if err := driver.CheckRange(off, length, r.Size()); err != nil {
			yield(driver.Extent{}, err)
			return
		}
		for end := off + length; off < end; {
			var e driver.Extent
			err := r.use(func() (err error) { e, err = segment(r.f, off, end); return err })
			if err != nil {
				yield(driver.Extent{}, err)
				return
			}
			if !yield(e, nil) {
				return
			}
			off = e.End()
		}
	}
}

// segment is the part of a file at off that is all data or all hole, up to end.
func segment(f *os.File, off, end int64) (driver.Extent, error) {
	data, err := unix.Seek(int(f.Fd()), off, unix.SEEK_DATA)
	switch {
	case errors.Is(err, unix.ENXIO): // none from here on
		return driver.Extent{Off: off, Len: end - off, Zero: true}, nil
	case errors.Is(err, unix.EINVAL): // the file system can't tell
		return driver.Extent{Off: off, Len: end - off}, nil
	case err != nil:
		return driver.Extent{}, os.NewSyscallError("lseek", err)
	case data > off:
		return driver.Extent{Off: off, Len: min(data, end) - off, Zero: true}, nil
	}
	hole, err := unix.Seek(int(f.Fd()), off, unix.SEEK_HOLE)
	if err != nil {
		return driver.Extent{}, os.NewSyscallError("lseek", err)
	}
	if hole <= off { // it was written meanwhile
		hole = end
	}
	return driver.Extent{Off: off, Len: min(hole, end) - off}, nil
}

// Close implements driver.Device. What was written stays with the kernel.
func (r *rawDevice) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil
	}
	r.closed = true
	r.release()
	return failed(r.f.Close())
}
