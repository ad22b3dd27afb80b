package drivertest

import (
	"context"
	"iter"
	"sync"

	"kvol/internal/block"
	"kvol/internal/driver"
)

// Op names a method of driver.Driver, driver.Device or driver.Reader.
type Op string

// The operations that Faults asks about.
const (
	OpCreateVolume    Op = "create volume"
	OpCloneSnapshot   Op = "clone snapshot"
	OpExtendVolume    Op = "extend volume"
	OpDeleteVolume    Op = "delete volume"
	OpCreateSnapshot  Op = "create snapshot"
	OpDeleteSnapshot  Op = "delete snapshot"
	OpCreateSnapshots Op = "create snapshots"
	OpRevert          Op = "revert"
	OpOpenVolume      Op = "open volume"
	OpOpenSnapshot    Op = "open snapshot"
	OpRead            Op = "read"          // of a device
	OpReadSnapshot    Op = "read snapshot" // of a reader
	OpWrite           Op = "write"
	OpZero            Op = "zero"
	OpFlush           Op = "flush"
)

// Call is one use of a driver, as a rule sees it.
type Call struct {
	Op       Op
	Volume   block.VolumeID
	Snapshot block.PointID // where there is one
	Off, Len int64         // of reads, writes and zeroing; Off is the size for creating and extending
	N        int           // which call of this Op it is, from 1
	// After is false before the call is carried out and true when it was and
	// succeeded: an error then means that the answer was lost.
	After bool
}

// Faults is a wrapper that lets calls fail as a rule says. Its methods may be
// called at once. Capabilities that are found through Unwrap go past it.
type Faults struct {
	inner driver.Driver

	mu    sync.Mutex // guards below
	rule  func(Call) error
	calls map[Op]int
}

// NewFaults wraps d; nothing fails until a rule is set.
func NewFaults(d driver.Driver) *Faults { return &Faults{inner: d, calls: map[Op]int{}} }

// Unwrap implements driver.Unwrapper.
func (f *Faults) Unwrap() driver.Driver { return f.inner }

// SetRule makes calls fail with what rule returns; nil lets all pass. The rule
// is asked twice for each call, see Call.After; it may block to hold a call up
// and may be asked by many goroutines at once.
func (f *Faults) SetRule(rule func(Call) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rule = rule
}

// FailNth makes the n-th call of op from now on fail with err, before it is
// carried out, and no other.
func (f *Faults) FailNth(op Op, n int, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	target := f.calls[op] + n
	f.rule = func(c Call) error {
		if c.Op == op && c.N == target && !c.After {
			return err
		}
		return nil
	}
}

// Calls tells how often op was called.
func (f *Faults) Calls(op Op) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls[op]
}

// do carries out one call between the two questions.
func (f *Faults) do(c Call, call func() error) error {
	f.mu.Lock()
	f.calls[c.Op]++
	c.N = f.calls[c.Op]
	rule := f.rule
	f.mu.Unlock()
	if rule != nil {
		if err := rule(c); err != nil {
			return err
		}
	}
	if err := call(); err != nil || rule == nil {
		return err
	}
	c.After = true
	return rule(c)
}

// CreateVolume implements driver.Driver.
func (f *Faults) CreateVolume(ctx context.Context, id block.VolumeID, size int64) error {
	return f.do(Call{Op: OpCreateVolume, Volume: id, Off: size}, func() error {
		return f.inner.CreateVolume(ctx, id, size)
	})
}

// CloneSnapshot implements driver.Driver.
func (f *Faults) CloneSnapshot(ctx context.Context, id block.VolumeID, from driver.SnapshotRef, size int64) error {
	return f.do(Call{Op: OpCloneSnapshot, Volume: id, Snapshot: from.Name, Off: size}, func() error {
		return f.inner.CloneSnapshot(ctx, id, from, size)
	})
}

// ExtendVolume implements driver.Driver.
func (f *Faults) ExtendVolume(ctx context.Context, id block.VolumeID, size int64) error {
	return f.do(Call{Op: OpExtendVolume, Volume: id, Off: size}, func() error {
		return f.inner.ExtendVolume(ctx, id, size)
	})
}

// DeleteVolume implements driver.Driver.
func (f *Faults) DeleteVolume(ctx context.Context, id block.VolumeID) error {
	return f.do(Call{Op: OpDeleteVolume, Volume: id}, func() error { return f.inner.DeleteVolume(ctx, id) })
}

// CreateSnapshot implements driver.Driver.
func (f *Faults) CreateSnapshot(ctx context.Context, ref driver.SnapshotRef) error {
	return f.do(Call{Op: OpCreateSnapshot, Volume: ref.Volume, Snapshot: ref.Name}, func() error {
		return f.inner.CreateSnapshot(ctx, ref)
	})
}

// CreateSnapshots implements driver.GroupSnapshotter where the driver does; the
// call is named for its first snapshot.
func (f *Faults) CreateSnapshots(ctx context.Context, refs []driver.SnapshotRef) error {
	g, ok := driver.As[driver.GroupSnapshotter](f.inner)
	if !ok {
		return block.Errorf(block.Unsupported, "the driver can't name one instant of many volumes")
	}
	c := Call{Op: OpCreateSnapshots}
	if len(refs) > 0 {
		c.Volume, c.Snapshot = refs[0].Volume, refs[0].Name
	}
	return f.do(c, func() error { return g.CreateSnapshots(ctx, refs) })
}

// Revert implements driver.Reverter where the driver does.
func (f *Faults) Revert(ctx context.Context, to driver.SnapshotRef) error {
	r, ok := driver.As[driver.Reverter](f.inner)
	if !ok {
		return block.Errorf(block.Unsupported, "the driver can't take volumes back")
	}
	return f.do(Call{Op: OpRevert, Volume: to.Volume, Snapshot: to.Name}, func() error { return r.Revert(ctx, to) })
}

// DeleteSnapshot implements driver.Driver.
func (f *Faults) DeleteSnapshot(ctx context.Context, ref driver.SnapshotRef) error {
	return f.do(Call{Op: OpDeleteSnapshot, Volume: ref.Volume, Snapshot: ref.Name}, func() error {
		return f.inner.DeleteSnapshot(ctx, ref)
	})
}

// OpenVolume implements driver.Driver.
func (f *Faults) OpenVolume(ctx context.Context, id block.VolumeID) (driver.Device, error) {
	var dev driver.Device
	err := f.do(Call{Op: OpOpenVolume, Volume: id}, func() (err error) {
		dev, err = f.inner.OpenVolume(ctx, id)
		return err
	})
	if err != nil {
		if dev != nil {
			dev.Close()
		}
		return nil, err
	}
	wrapped := &faultyDevice{Device: dev, f: f, id: id}
	if er, ok := dev.(driver.ExtentReader); ok {
		return faultyExtents{wrapped, er}, nil
	}
	return wrapped, nil
}

// OpenSnapshot implements driver.Driver.
func (f *Faults) OpenSnapshot(ctx context.Context, ref driver.SnapshotRef) (driver.Reader, error) {
	var reader driver.Reader
	err := f.do(Call{Op: OpOpenSnapshot, Volume: ref.Volume, Snapshot: ref.Name}, func() (err error) {
		reader, err = f.inner.OpenSnapshot(ctx, ref)
		return err
	})
	if err != nil {
		if reader != nil {
			reader.Close()
		}
		return nil, err
	}
	wrapped := &faultyReader{Reader: reader, f: f, ref: ref}
	if er, ok := reader.(driver.ExtentReader); ok {
		return faultyReaderExtents{wrapped, er}, nil
	}
	return wrapped, nil
}

// Volumes implements driver.Driver.
func (f *Faults) Volumes(ctx context.Context) iter.Seq2[driver.VolumeInfo, error] {
	return f.inner.Volumes(ctx)
}

// Snapshots implements driver.Driver.
func (f *Faults) Snapshots(ctx context.Context, id block.VolumeID) ([]driver.SnapshotInfo, error) {
	return f.inner.Snapshots(ctx, id)
}

// Capacity implements driver.Driver.
func (f *Faults) Capacity(ctx context.Context) (driver.Capacity, error) { return f.inner.Capacity(ctx) }

// Close implements driver.Driver.
func (f *Faults) Close() error { return f.inner.Close() }

type faultyDevice struct {
	driver.Device
	f  *Faults
	id block.VolumeID
}

type faultyExtents struct {
	*faultyDevice
	driver.ExtentReader
}

func (d *faultyDevice) do(op Op, off, n int64, call func() error) error {
	return d.f.do(Call{Op: op, Volume: d.id, Off: off, Len: n}, call)
}

func (d *faultyDevice) ReadAt(p []byte, off int64) (n int, err error) {
	err = d.do(OpRead, off, int64(len(p)), func() (err error) { n, err = d.Device.ReadAt(p, off); return err })
	return n, err
}

func (d *faultyDevice) WriteAt(p []byte, off int64) (n int, err error) {
	err = d.do(OpWrite, off, int64(len(p)), func() (err error) { n, err = d.Device.WriteAt(p, off); return err })
	return n, err
}

func (d *faultyDevice) Zero(off, n int64) error {
	return d.do(OpZero, off, n, func() error { return d.Device.Zero(off, n) })
}

func (d *faultyDevice) Flush() error { return d.do(OpFlush, 0, 0, d.Device.Flush) }

type faultyReader struct {
	driver.Reader
	f   *Faults
	ref driver.SnapshotRef
}

type faultyReaderExtents struct {
	*faultyReader
	driver.ExtentReader
}

func (r *faultyReader) ReadAt(p []byte, off int64) (n int, err error) {
	c := Call{Op: OpReadSnapshot, Volume: r.ref.Volume, Snapshot: r.ref.Name, Off: off, Len: int64(len(p))}
	err = r.f.do(c, func() (err error) { n, err = r.Reader.ReadAt(p, off); return err })
	return n, err
}
