package control

import (
	"iter"
	"sync"

	"kvol/internal/block"
	"kvol/internal/driver"
)

// exported is one client's use of a volume. It stands between the client and
// the device that all clients share, so that a client can be cut off for
// certain: revoke waits for writes that are under way.
type exported struct {
	connection string
	volume     block.VolumeID
	snapshot   block.SnapshotID // that is read in the volume's place; "" for the volume
	revoked    chan struct{}
	limits     map[string]int64 // see exportQoS; set before the export is used
	admitted   *block.Volume    // as it was when the export was let in; guarded by Exports.mu

	mu       sync.RWMutex // read: around each use of shared; write: to change the fields below
	shared   driver.Device
	writable bool
	over     bool
}

// permit gives the device to an export that was entered; if it was revoked
// meanwhile, it stays so.
func (x *exported) permit(device driver.Device, readOnly bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.shared, x.writable = device, !readOnly
}

// mayWrite is true also while it is not decided yet, so that a change of the
// rule never misses an export that is being opened.
func (x *exported) mayWrite() bool {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.writable || x.shared == nil
}

func (x *exported) revoke() {
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.over {
		x.over = true
		close(x.revoked)
	}
}

// use runs fn on the device unless the export is over.
func (x *exported) use(fn func(driver.Device) error) error {
	x.mu.RLock()
	defer x.mu.RUnlock()
	if x.over {
		return block.Errorf(block.NotFound, "The export of volume %s was taken back.", x.volume)
	}
	return fn(x.shared)
}

// write is use for what changes the volume.
func (x *exported) write(fn func(driver.Device) error) error {
	return x.use(func(d driver.Device) error {
		if !x.writable {
			return block.Errorf(block.Forbidden, "The export of volume %s is read-only.", x.volume)
		}
		return fn(d)
	})
}

// device is what the client gets; it knows where data is if the shared one
// does.
func (x *exported) device() driver.Device {
	if extents, ok := x.shared.(driver.ExtentReader); ok {
		return exportedExtents{exportedDevice{x}, extents}
	}
	return exportedDevice{x}
}

type exportedDevice struct{ x *exported }

// ReadAt implements io.ReaderAt.
func (d exportedDevice) ReadAt(p []byte, off int64) (n int, err error) {
	err = d.x.use(func(dev driver.Device) error { n, err = dev.ReadAt(p, off); return err })
	return n, err
}

// WriteAt implements io.WriterAt.
func (d exportedDevice) WriteAt(p []byte, off int64) (n int, err error) {
	err = d.x.write(func(dev driver.Device) error { n, err = dev.WriteAt(p, off); return err })
	return n, err
}

// WriteMany implements driver.ManyWriter.
func (d exportedDevice) WriteMany(parts []driver.Part) (n int, err error) {
	err = d.x.write(func(dev driver.Device) error { n, err = driver.WriteMany(dev, parts); return err })
	return n, err
}

// Zero implements driver.Device.
func (d exportedDevice) Zero(off, length int64) error {
	return d.x.write(func(dev driver.Device) error { return dev.Zero(off, length) })
}

// Flush implements driver.Device. It is taken from those that only read too.
func (d exportedDevice) Flush() error { return d.x.use(driver.Device.Flush) }

// Size implements driver.Device.
func (d exportedDevice) Size() int64 { return d.x.shared.Size() }

// Close implements driver.Device. The shared device is closed by its last
// holder, see Export.Release.
func (d exportedDevice) Close() error { return nil }

type exportedExtents struct {
	exportedDevice
	extents driver.ExtentReader
}

// Extents implements driver.ExtentReader.
func (d exportedExtents) Extents(off, length int64) iter.Seq2[driver.Extent, error] {
	return func(yield func(driver.Extent, error) bool) {
		if err := d.x.use(func(driver.Device) error { return nil }); err != nil {
			yield(driver.Extent{}, err)
			return
		}
		d.extents.Extents(off, length)(yield)
	}
}
