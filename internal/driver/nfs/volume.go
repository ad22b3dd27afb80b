package nfs

import (
	"context"
	"errors"
	"io/fs"

	"kvol/internal/block"
	"kvol/internal/driver"
)

// CreateVolume implements driver.Driver.
func (d *Driver) CreateVolume(ctx context.Context, id block.VolumeID, size int64) error {
	return d.add(ctx, id, size, func(live place) error { return d.files.create(ctx, live, size) })
}

// CloneSnapshot implements driver.Driver.
func (d *Driver) CloneSnapshot(ctx context.Context, id block.VolumeID, from driver.SnapshotRef, size int64) error {
	return d.add(ctx, id, size, func(live place) error {
		e, dir, err := d.snapshot(from)
		if err != nil {
			return err
		}
		at, err := e.at(dir)
		if err != nil {
			return err
		}
		has, err := d.files.size(ctx, at)
		if err != nil {
			return gone(err, from)
		}
		if size < has {
			return block.Errorf(block.Invalid, "a clone of %d bytes is smaller than its snapshot of %d", size, has)
		}
		return gone(d.files.clone(ctx, at, live, size), from)
	})
}

// gone is an error of a snapshot whose file went away meanwhile.
func gone(err error, ref driver.SnapshotRef) error {
	if block.Is(err, block.NotFound) {
		return block.Wrap(block.NotFound, err, "volume %s has no snapshot %s", ref.Volume, ref.Name)
	}
	return err
}

// add makes a volume unless it is there with that size.
func (d *Driver) add(ctx context.Context, id block.VolumeID, size int64, make func(live place) error) error {
	if err := checkSize(size); err != nil {
		return err
	}
	live, err := liveName(id)
	if err != nil {
		return err
	}
	v := d.volume(id)
	defer d.hold(v)()
	switch _, err := d.there(id); {
	case err == nil:
		is, err := d.files.size(ctx, live)
		if err != nil {
			return err
		}
		return sameSize(id, is, size)
	case !block.Is(err, block.NotFound):
		return err
	}
	if err := d.room(ctx, size); err != nil {
		return err
	}
	return make(live)
}

// ExtendVolume implements driver.Driver. A host that has the file open sees the
// new size when it asks for it.
func (d *Driver) ExtendVolume(ctx context.Context, id block.VolumeID, size int64) error {
	if err := checkSize(size); err != nil {
		return err
	}
	v := d.volume(id)
	defer d.hold(v)()
	live, err := d.there(id)
	if err != nil {
		return err
	}
	is, err := d.files.size(ctx, live)
	if err != nil || size <= is {
		return err
	}
	if err := d.room(ctx, size-is); err != nil {
		return err
	}
	defer d.touch(v)
	return d.files.extend(ctx, v, live, size)
}

// DeleteVolume implements driver.Driver. First its snapshots go, all at once.
func (d *Driver) DeleteVolume(ctx context.Context, id block.VolumeID) error {
	live, err := liveName(id)
	if err != nil {
		return nil // there can't be one
	}
	dir, err := entriesDir(id)
	if err != nil {
		return nil
	}
	done, err := d.idle(id)
	if err != nil {
		return err
	}
	defer done()
	defer d.hold(d.volume(id))()
	entries, _, err := d.entries(id)
	if err != nil {
		return err
	}
	trash := newAt()
	switch err := d.root.Rename(dir, string(trash)); {
	case err == nil:
		if err := d.syncDir(volumesDir); err != nil {
			return err
		}
	case !errors.Is(err, fs.ErrNotExist):
		return failed(err)
	}
	if err := d.remove(live); err != nil {
		return err
	}
	d.files.dropped(live, entries...)
	d.mu.Lock()
	delete(d.volumes, id)
	d.mu.Unlock()
	if err := d.root.RemoveAll(string(trash)); err != nil { // NFS keeps what is open
		d.o.Log.Warn("files stay until the share is opened again", "volume", id, "err", err)
	}
	return d.files.sweep(ctx)
}

// idle takes a volume that is not open, so that nobody opens it before done.
func (d *Driver) idle(id block.VolumeID) (done func(), err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	v := d.of(id)
	if v.device != nil || v.opening {
		return nil, block.Errorf(block.Conflict, "volume %s is open", id)
	}
	v.opening = true
	return func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		v.opening = false
	}, nil
}

// OpenVolume implements driver.Driver.
func (d *Driver) OpenVolume(ctx context.Context, id block.VolumeID) (driver.Device, error) {
	done, err := d.idle(id)
	if err != nil {
		return nil, err
	}
	defer done()
	v := d.volume(id)
	defer d.hold(v)()
	live, err := d.there(id)
	if err != nil {
		return nil, err
	}
	dev, err := d.files.open(ctx, v, live)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	v.device = dev
	return dev, nil
}

// closed notes that a volume is not open any more.
func (d *Driver) closed(v *volume) {
	d.mu.Lock()
	defer d.mu.Unlock()
	v.device = nil
}

// Revert implements driver.Reverter. A host that still has the old file open
// keeps it, and reaches nothing of the volume with it.
func (d *Driver) Revert(ctx context.Context, to driver.SnapshotRef) error {
	done, err := d.idle(to.Volume)
	if err != nil {
		return err
	}
	defer done()
	v := d.volume(to.Volume)
	defer d.hold(v)()
	live, err := d.there(to.Volume)
	if err != nil {
		return err
	}
	entries, dir, err := d.entries(to.Volume)
	if err != nil {
		return err
	}
	kept := -1
	for i, e := range entries {
		if e.name == to.Name {
			kept = i
		}
	}
	if kept < 0 {
		return block.Errorf(block.NotFound, "volume %s has no snapshot %s", to.Volume, to.Name)
	}
	at, err := entries[kept].at(dir)
	if err != nil {
		return err
	}
	for i := len(entries) - 1; i > kept; i-- {
		if err := d.removeEntry(v, dir, entries[i]); err != nil {
			return err
		}
	}
	d.touch(v)
	if err := d.files.revert(ctx, at, live); err != nil {
		return err
	}
	return d.files.sweep(ctx)
}

func (d *Driver) removeEntry(v *volume, dir string, e entry) error {
	d.mu.Lock()
	open := d.format == QCOW2 && v.readers[e.name] > 0 // a raw file lives on until it is closed
	d.mu.Unlock()
	if open {
		return block.Errorf(block.Conflict, "snapshot %s is open", e.name)
	}
	at, err := entryAt(dir, e)
	if err != nil {
		return err
	}
	if err := d.remove(at); err != nil {
		return err
	}
	d.files.dropped("", e)
	return nil
}
