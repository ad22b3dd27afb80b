package rbd

import (
	"context"

	"kvol/internal/block"
	"kvol/internal/driver"
)

// look notes whether hosts changed a volume that is lent: its number of changes
// rises if it differs from its newest snapshot, or if another process made one.
func (d *Driver) look(ctx context.Context, id block.VolumeID) error {
	v := d.volume(id)
	v.looks.Lock()
	defer v.looks.Unlock()
	all, err := d.snaps(ctx, id)
	if err != nil {
		return err
	}
	var newest snap
	if len(all) > 0 {
		newest = all[len(all)-1]
	}
	d.mu.Lock()
	changed := newest.Name != v.newest
	d.mu.Unlock()
	if !changed {
		changed, err = d.differs(ctx, newest.Name, driver.SnapshotRef{Volume: id})
	}
	if err != nil {
		return err
	}
	if changed {
		d.touch(v)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	v.newest = newest.Name
	return nil
}

// noteSnapshot is called with the volume's looks locked, after this process made a snapshot of a lent volume:
// what hosts wrote before it counts as changed.
func (d *Driver) noteSnapshot(ctx context.Context, ref driver.SnapshotRef, before string) error {
	changed, err := d.differs(ctx, before, ref)
	if err != nil && !block.Is(err, block.NotFound) {
		return err
	}
	v := d.volume(ref.Volume)
	if changed || err != nil {
		d.touch(v)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	v.newest = string(ref.Name)
	return nil
}

// differs reports whether an image, or a snapshot of it if to has a name, may differ from an earlier
// snapshot, by its object map.
func (d *Driver) differs(ctx context.Context, from string, to driver.SnapshotRef) (bool, error) {
	extents, err := d.calls.diff(ctx, block.PointID(from), to, true, 1<<62)
	return len(extents) > 0, err
}
