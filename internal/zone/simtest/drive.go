package simtest

import (
	"context"
	"fmt"
	"iter"
	"slices"

	"kvol/internal/block"
	"kvol/internal/driver"
)

// drive is a store as one life of a zone sees it: each operation takes its turn,
// is a point at which the process may die before or after, and may find the
// disk full. What it does to tenants' volumes is written into their books.
type drive struct{ *life }

// richDrive has all capabilities of the store below.
type richDrive struct{ drive }

func errFull() error { return block.Errorf(block.NoSpace, "the disk is full") }

// do carries an operation out.
func (d drive) do(op, what string, grows bool, fn func() error) error {
	wait := d.cloud.schedule.wait
	if d.cloud.story.Whole {
		wait = func(string) {} // locks of the rules are held around some operations
	} else if d.name == "a" && d.cloud.several {
		wait = d.cloud.schedule.waitAmong
	}
	wait(fmt.Sprintf("%s %s %s", d.name, op, what))
	if err := d.point("before " + op); err != nil {
		return err
	}
	if grows && d.full() {
		return errFull()
	}
	if err := fn(); err != nil {
		return err
	}
	d.cloud.tally.add("did " + op)
	return d.point("after " + op)
}

// CreateVolume implements driver.Driver.
func (d drive) CreateVolume(ctx context.Context, id block.VolumeID, size int64) error {
	return d.do("create volume", string(id), true, func() error {
		err := d.store.CreateVolume(ctx, id, size)
		if err == nil && d.cloud.story.Whole {
			d.cloud.keepBook(d.name, id, make([]uint64, watched/driver.BlockSize))
		}
		return err
	})
}

// CloneSnapshot implements driver.Driver.
func (d drive) CloneSnapshot(ctx context.Context, id block.VolumeID, from driver.SnapshotRef, size int64) error {
	return d.do("clone", string(id), true, func() error {
		have, err := d.pointContent(from)
		if err == nil {
			err = d.store.CloneSnapshot(ctx, id, from, size)
		}
		if err == nil && d.cloud.story.Whole {
			b := d.cloud.keepBook(d.name, id, have)
			b.mu.Lock()
			b.cloned = true
			b.mu.Unlock()
		}
		return err
	})
}

// ExtendVolume implements driver.Driver.
func (d drive) ExtendVolume(ctx context.Context, id block.VolumeID, size int64) error {
	return d.do("extend", string(id), false, func() error {
		if err := d.store.ExtendVolume(ctx, id, size); err != nil {
			return err
		}
		b := d.cloud.book(d.name, id)
		if b == nil || size <= b.size() {
			return nil
		}
		blocks := make([]uint64, size/driver.BlockSize)
		b.mu.Lock()
		copy(blocks, b.blocks)
		b.mu.Unlock()
		b.replace(blocks)
		return nil
	})
}

// DeleteVolume implements driver.Driver.
func (d drive) DeleteVolume(ctx context.Context, id block.VolumeID) error {
	return d.do("delete volume", string(id), false, func() error { return d.store.DeleteVolume(ctx, id) })
}

// CreateSnapshot implements driver.Driver.
func (d drive) CreateSnapshot(ctx context.Context, ref driver.SnapshotRef) error {
	return d.do("snapshot", string(ref.Volume+"@")+string(ref.Name), true, func() error {
		if d.sabotaged(NoSnapshot) && d.cloud.book(d.name, ref.Volume) == nil {
			return nil
		}
		have, err := d.store.Snapshots(ctx, ref.Volume)
		if err != nil {
			return err
		}
		if slices.ContainsFunc(have, func(s driver.SnapshotInfo) bool { return s.Name == ref.Name }) {
			return nil
		}
		if err := d.store.CreateSnapshot(ctx, ref); err != nil {
			return err
		}
		d.platter.flushed(ref.Volume)
		if b := d.cloud.book(d.name, ref.Volume); b != nil {
			b.mark(ref.Name, d.cloud.nextAct())
		}
		return nil
	})
}

// DeleteSnapshot implements driver.Driver.
func (d drive) DeleteSnapshot(ctx context.Context, ref driver.SnapshotRef) error {
	return d.do("delete snapshot", string(ref.Volume+"@")+string(ref.Name), false, func() error {
		return d.store.DeleteSnapshot(ctx, ref)
	})
}

// OpenVolume implements driver.Driver.
func (d drive) OpenVolume(ctx context.Context, id block.VolumeID) (dev driver.Device, err error) {
	err = d.do("open volume", string(id), false, func() error {
		inner, err := d.store.OpenVolume(ctx, id)
		if err != nil {
			return err
		}
		d.opened(inner)
		dev = &spindle{Device: inner, drive: d, id: id}
		return nil
	})
	return dev, err
}

// OpenSnapshot implements driver.Driver.
func (d drive) OpenSnapshot(ctx context.Context, ref driver.SnapshotRef) (r driver.Reader, err error) {
	err = d.do("open snapshot", string(ref.Volume+"@")+string(ref.Name), false, func() (err error) {
		r, err = d.store.OpenSnapshot(ctx, ref)
		return err
	})
	return r, err
}

// Volumes implements driver.Driver.
func (d drive) Volumes(ctx context.Context) iter.Seq2[driver.VolumeInfo, error] {
	return d.store.Volumes(ctx)
}

// Snapshots implements driver.Driver.
func (d drive) Snapshots(ctx context.Context, id block.VolumeID) (all []driver.SnapshotInfo, err error) {
	err = d.do("list snapshots", string(id), false, func() (err error) {
		all, err = d.store.Snapshots(ctx, id)
		return err
	})
	return all, err
}

// Capacity implements driver.Driver.
func (d drive) Capacity(ctx context.Context) (driver.Capacity, error) { return d.store.Capacity(ctx) }

// Close implements driver.Driver: the next life needs the store.
func (d drive) Close() error { return nil }

// Diff implements driver.Differ.
func (d richDrive) Diff(ctx context.Context, from, to driver.SnapshotRef) iter.Seq2[driver.Extent, error] {
	all := d.store.Diff(ctx, from, to)
	if d.exact {
		all = driver.Diff(ctx, d.drive, from, to) // by reading
	}
	if !d.sabotaged(ShortDiff) || from.Zero() {
		return all
	}
	return func(yield func(driver.Extent, error) bool) {
		first := true
		for e, err := range all {
			if first && err == nil {
				first = false
				continue
			}
			if !yield(e, err) {
				return
			}
		}
	}
}

// Revert implements driver.Reverter.
func (d richDrive) Revert(ctx context.Context, to driver.SnapshotRef) error {
	return d.do("revert", string(to.Volume+"@")+string(to.Name), false, func() error {
		if d.sabotaged(NoRevert) {
			return nil
		}
		if err := d.store.Revert(ctx, to); err != nil {
			return err
		}
		b := d.cloud.book(d.name, to.Volume)
		if b == nil {
			return nil
		}
		have, err := d.content(to.Volume)
		if err == nil {
			b.replace(have)
		}
		return err
	})
}

// CreateSnapshots implements driver.GroupSnapshotter.
func (d richDrive) CreateSnapshots(ctx context.Context, refs []driver.SnapshotRef) error {
	if d.sabotaged(OneByOne) {
		for _, ref := range refs {
			if err := d.CreateSnapshot(ctx, ref); err != nil {
				return err
			}
		}
		return nil
	}
	return d.do("group snapshot", fmt.Sprint(refs), true, func() error {
		if err := d.store.CreateSnapshots(ctx, refs); err != nil {
			return err
		}
		act := d.cloud.nextAct()
		for _, ref := range refs {
			d.platter.flushed(ref.Volume)
			if b := d.cloud.book(d.name, ref.Volume); b != nil {
				b.mark(ref.Name, act)
			}
		}
		return nil
	})
}

// Changes implements driver.ChangeCounter.
func (d richDrive) Changes(ctx context.Context, id block.VolumeID) (n uint64, err error) {
	err = d.do("count changes", string(id), false, func() (err error) {
		n, err = d.store.Changes(ctx, id)
		return err
	})
	if d.sabotaged(NoChanges) {
		n /= 4
	}
	return n, err
}

// spindle is a device of one life.
type spindle struct {
	driver.Device
	drive
	id block.VolumeID
}

// WriteAt implements driver.Device.
func (s *spindle) WriteAt(p []byte, off int64) (n int, err error) {
	err = s.change("write", off, p, int64(len(p)), func() error { n, err = s.Device.WriteAt(p, off); return err })
	return n, err
}

// Zero implements driver.Device.
func (s *spindle) Zero(off, length int64) error {
	return s.change("zero", off, nil, length, func() error { return s.Device.Zero(off, length) })
}

// change changes the volume, and writes so into its book.
func (s *spindle) change(op string, off int64, p []byte, length int64, fn func() error) error {
	b, n := s.cloud.book(s.name, s.id), 0
	err := s.do(op, fmt.Sprint(s.id, " ", off), true, func() error {
		known := max(0, min(length, s.cloud.watch(s.Device.Size())-off))
		if err := s.platter.dirty(s.id, s.Device, off, known); err != nil {
			return err
		}
		if err := fn(); err != nil {
			return err
		}
		if b != nil {
			n = b.wrote(off, p, length)
		}
		return nil
	})
	if err == nil && b != nil {
		b.acknowledged(n)
	}
	return err
}

// Flush implements driver.Device.
func (s *spindle) Flush() error {
	return s.do("flush", string(s.id), false, func() error {
		if s.sabotaged(NoFlush) {
			return nil
		}
		s.platter.flushed(s.id)
		return s.Device.Flush()
	})
}

// Size implements driver.Device.
func (s *spindle) Size() int64 { return s.Device.Size() }

// Close implements driver.Device. A dead process closes nothing.
func (s *spindle) Close() error { return s.closed(s.Device) }
