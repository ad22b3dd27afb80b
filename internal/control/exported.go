package control

import (
	"iter"
	"sync"
	"sync/atomic"

	"kvol/internal/block"
	"kvol/internal/driver"
)

// exported is one client's use of a volume. It stands between the client and
// the device that all clients share, so that a client can be cut off for
// certain: revoke waits for writes that are under way.
type exported struct {
	exports    *Exports // nil in tests of one alone
	connection string
	volume     block.VolumeID
	snapshot   block.SnapshotID // that is read in the volume's place; "" for the volume
	revoked    chan struct{}
	limits     map[string]int64 // see exportQoS; set before the export is used
	admitted   *block.Volume    // as it was when the export was let in; guarded by Exports.mu

	readsOnly atomic.Bool             // it is decided, and will never write
	needed    atomic.Pointer[[]int64] // protections whose lease is needed to write; nil before that is known
	ends      atomic.Bool             // ending was asked for
	end       sync.Once               // for ending
	ended     chan struct{}           // set within end

	mu       sync.RWMutex // read: around each use of shared; write: to change the fields below
	shared   driver.Device
	writable bool
	leases   *leases // the rights of the zone
	over     bool
	released bool // its hold of shared is given back, or is about to be
}

// permit gives the device to an export that was entered; if it was revoked
// meanwhile, it stays so.
func (x *exported) permit(device driver.Device, readOnly bool, held *leases, needed []int64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.shared, x.writable = device, !readOnly
	x.readsOnly.Store(readOnly)
	if x.writable {
		x.leases = held
		x.needed.CompareAndSwap(nil, &needed) // the volume may have got another type meanwhile, see need
	}
}

// need changes which leases are needed to write. Writes that are under way are
// acknowledged only if those are held. It waits for nothing.
func (x *exported) need(seqs []int64) { x.needed.Store(&seqs) }

// entitled is an error while a lease that is needed to write is not held.
func (x *exported) entitled() error {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.leaseHeld()
}

// leaseHeld is entitled for those who use the export.
func (x *exported) leaseHeld() error {
	needed := x.needed.Load()
	if x.leases == nil || needed == nil {
		return nil
	}
	if seq := x.leases.lost(*needed, x.volume); seq != 0 {
		return errLease(x.volume, seq)
	}
	return nil
}

// mayWrite is true also while it is not decided yet, so that a change of the
// rule never misses an export that is being opened. It does not wait for uses that are
// under way, as all would that ask after a revoke that does.
func (x *exported) mayWrite() bool { return !x.readsOnly.Load() }

func (x *exported) revoke() {
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.over {
		x.over = true
		close(x.revoked)
	}
}

// release is revoke for who gives back the hold of the device afterwards: whoever
// pauses the volume's exports counts it no more.
func (x *exported) release() {
	x.revoke()
	x.mu.Lock()
	defer x.mu.Unlock()
	x.released = true
}

// ending is revoke for who does not wait: what it returns is closed when that would
// return. However often it is asked for, one waits.
func (x *exported) ending() <-chan struct{} {
	x.ends.Store(true)
	x.end.Do(func() {
		x.ended = make(chan struct{})
		go func() {
			defer close(x.ended)
			x.revoke()
		}()
	})
	return x.ended
}

// pausedExports are the exports of a volume that wait.
type pausedExports []*exported

// pause lets the exports of a volume wait, except those of its snapshots. When
// it returns, nothing of theirs is under way.
func (e *Exports) pause(id block.VolumeID) (all pausedExports) {
	e.mu.Lock()
	for x := range e.open {
		if x.volume == id && x.snapshot == "" {
			all = append(all, x)
		}
	}
	e.mu.Unlock()
	for _, x := range all {
		x.mu.Lock()
	}
	return all
}

func (p pausedExports) resume() {
	for _, x := range p {
		x.mu.Unlock()
	}
}

// users counts those that hold the volume's device.
func (p pausedExports) users() (n int) {
	for _, x := range p {
		if x.shared != nil && !x.released {
			n++
		}
	}
	return n
}

// use gives them another device.
func (p pausedExports) use(d driver.Device) {
	for _, x := range p {
		if x.shared != nil {
			x.shared = d
		}
	}
}

// use runs fn on the device unless the export is over. What ends after another process
// has the zone's exports is not answered: whoever took them over may have ended this
// one, and given the volume to somebody else.
func (x *exported) use(fn func(driver.Device) error) error {
	if err := x.mayServe(); err != nil { // while nothing is held that who ends it waits for
		return err
	}
	if err := x.reach(fn); err != nil {
		return err
	}
	return x.mayServe()
}

func (x *exported) reach(fn func(driver.Device) error) error {
	x.mu.RLock()
	defer x.mu.RUnlock()
	if x.over {
		return block.Errorf(block.NotFound, "The export of volume %s was taken back.", x.volume)
	}
	return fn(x.shared)
}

// write is use for what changes a range of the volume. What ends after the lease
// did is not acknowledged: who took the volume over may not have it.
func (x *exported) write(off, length int64, fn func(driver.Device) error) error {
	x.exports.keepPace(x.volume, off, length, x.revoked) // before anything is held that a move waits for
	return x.use(func(d driver.Device) error {
		if !x.writable {
			return block.Errorf(block.Forbidden, "The export of volume %s is read-only.", x.volume)
		}
		if err := x.leaseHeld(); err != nil {
			return err
		}
		if err := fn(d); err != nil {
			return err
		}
		return x.leaseHeld()
	})
}

// device is what the client gets; it knows where data is if the shared one
// does.
func (x *exported) device() driver.Device {
	if _, ok := x.shared.(driver.ExtentReader); ok {
		return exportedExtents{exportedDevice{x}}
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
	err = d.x.write(off, int64(len(p)), func(dev driver.Device) error { n, err = dev.WriteAt(p, off); return err })
	return n, err
}

// WriteMany implements driver.ManyWriter.
func (d exportedDevice) WriteMany(parts []driver.Part) (n int, err error) {
	length := int64(0)
	for _, p := range parts {
		length += blocksOf(p.Off, int64(len(p.Data)))
	}
	refused := d.x.write(0, length, func(dev driver.Device) error { n, err = driver.WriteMany(dev, parts); return nil })
	if refused != nil {
		return 0, refused // what was written is not acknowledged either
	}
	return n, err
}

// Zero implements driver.Device.
func (d exportedDevice) Zero(off, length int64) error {
	return d.x.write(off, length, func(dev driver.Device) error { return dev.Zero(off, length) })
}

// Flush implements driver.Device. It is taken from those that only read too.
func (d exportedDevice) Flush() error {
	return d.x.use(func(dev driver.Device) error {
		if err := dev.Flush(); err != nil {
			return err
		}
		return d.x.leaseHeld()
	})
}

// Size implements driver.Device.
func (d exportedDevice) Size() int64 {
	d.x.mu.RLock()
	defer d.x.mu.RUnlock()
	return d.x.shared.Size()
}

// Close implements driver.Device. The shared device is closed by its last
// holder, see Export.Release.
func (d exportedDevice) Close() error { return nil }

type exportedExtents struct{ exportedDevice }

// extentsAtOnce is how many extents are looked up at a time: the export is not
// paused or ended while they are.
const extentsAtOnce = 1024

// Extents implements driver.ExtentReader.
func (d exportedExtents) Extents(off, length int64) iter.Seq2[driver.Extent, error] {
	return func(yield func(driver.Extent, error) bool) {
		for end := off + length; off < end; {
			some, err := d.some(off, end-off)
			for _, e := range some {
				if !yield(e, nil) {
					return
				}
				off = e.End()
			}
			if err == nil && len(some) == 0 {
				return
			}
			if err != nil {
				yield(driver.Extent{}, err)
				return
			}
		}
	}
}

// some returns the first extents of a range. A device that does not know where
// data is has it everywhere.
func (d exportedExtents) some(off, length int64) (some []driver.Extent, err error) {
	err = d.x.use(func(dev driver.Device) error {
		extents, ok := dev.(driver.ExtentReader)
		if !ok {
			some = append(some, driver.Extent{Off: off, Len: length})
			return nil
		}
		for e, err := range extents.Extents(off, length) {
			if err != nil {
				return err
			}
			if some = append(some, e); len(some) == extentsAtOnce {
				break
			}
		}
		return nil
	})
	return some, err
}
