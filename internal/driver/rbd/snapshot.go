package rbd

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"syscall"

	"kvol/internal/block"
	"kvol/internal/driver"
)

// snap is a snapshot as `rbd snap ls` shows it.
type snap struct {
	ID   int64  `json:"id"` // rises with time
	Name string `json:"name"`
	Size int64  `json:"size"`
}

// snaps lists a volume's snapshots from old to new, without those that are yet to be
// a group's.
func (d *Driver) snaps(ctx context.Context, id block.VolumeID) ([]snap, error) {
	all, err := d.allSnaps(ctx, id)
	all = slices.DeleteFunc(all, func(s snap) bool { return strings.HasPrefix(s.Name, partPrefix) })
	slices.SortFunc(all, func(a, b snap) int { return cmp.Compare(a.ID, b.ID) })
	return all, err
}

// allSnaps lists a volume's snapshots in any order.
func (d *Driver) allSnaps(ctx context.Context, id block.VolumeID) ([]snap, error) {
	all, err := d.calls.snaps(ctx, id)
	if block.Is(err, block.NotFound) {
		d.forget(id)
		err = block.Wrap(block.NotFound, err, "There is no volume %s in the store.", id)
	}
	return all, err
}

func (d *Driver) snapshot(ctx context.Context, ref driver.SnapshotRef) (snap, error) {
	all, err := d.snaps(ctx, ref.Volume)
	if err != nil {
		return snap{}, err
	}
	return find(all, ref)
}

// find finds a snapshot among all of its volume.
func find(all []snap, ref driver.SnapshotRef) (snap, error) {
	i := slices.IndexFunc(all, func(s snap) bool { return s.Name == string(ref.Name) })
	if i < 0 {
		return snap{}, block.Errorf(block.NotFound, "volume %s has no snapshot %s", ref.Volume, ref.Name)
	}
	return all[i], nil
}

// Snapshots implements driver.Driver.
func (d *Driver) Snapshots(ctx context.Context, id block.VolumeID) ([]driver.SnapshotInfo, error) {
	all, err := d.snaps(ctx, id)
	if err != nil {
		return nil, err
	}
	out := make([]driver.SnapshotInfo, 0, len(all))
	for _, s := range all {
		out = append(out, driver.SnapshotInfo{Name: block.PointID(s.Name), Size: s.Size})
	}
	return out, nil
}

// CreateSnapshot implements driver.Driver. Where the volume is open, the
// command asks the process that has it to take the snapshot between two writes.
func (d *Driver) CreateSnapshot(ctx context.Context, ref driver.SnapshotRef) error {
	err := d.createSnapshot(ctx, ref)
	if errors.Is(err, syscall.EEXIST) {
		return nil
	}
	return err
}

// createSnapshot fails with EEXIST.
func (d *Driver) createSnapshot(ctx context.Context, ref driver.SnapshotRef) error {
	state, err := d.hostsOf(ctx, ref.Volume)
	if err != nil {
		return err
	}
	var before []snap
	if state != hostsNone {
		v := d.volume(ref.Volume)
		v.looks.Lock()
		defer v.looks.Unlock()
		if before, err = d.snaps(ctx, ref.Volume); err != nil {
			return err
		}
	}
	err = d.changing(ctx, ref.Volume, func() error { return d.calls.createSnap(ctx, ref) })
	if block.Is(err, block.NotFound) {
		d.forget(ref.Volume)
	}
	if err != nil || state == hostsNone {
		return d.unlessFull(ctx, err)
	}
	newest := ""
	if len(before) > 0 {
		newest = before[len(before)-1].Name
	}
	return d.noteSnapshot(ctx, ref, newest)
}

// DeleteSnapshot implements driver.Driver.
func (d *Driver) DeleteSnapshot(ctx context.Context, ref driver.SnapshotRef) error {
	gone := false
	d.mu.Lock()
	_, known := d.volumes[ref.Volume]
	d.mu.Unlock()
	stays, err := d.goes(ref)
	if err != nil {
		return err
	}
	defer func() {
		if stays(); gone && !known { // nor is the volume there, for all that is known
			d.forget(ref.Volume)
		}
	}()
	v := d.volume(ref.Volume)
	v.looks.Lock()
	defer v.looks.Unlock()
	remove := func(ref driver.SnapshotRef) error {
		return d.changing(ctx, ref.Volume, func() error { return d.calls.removeSnap(ctx, ref) })
	}
	err = remove(ref)
	if block.Is(err, block.NotFound) && !strings.HasPrefix(string(ref.Name), partPrefix) {
		// It may have been on its way to be a group's, or have got there meanwhile.
		if err = remove(partOf(ref)); block.Is(err, block.NotFound) {
			err = remove(ref)
		}
	}
	if gone = block.Is(err, block.NotFound); gone {
		return nil
	}
	return err
}

// Revert implements driver.Reverter. The cluster rolls each object back by
// itself; it takes time by the volume's size, and no bytes travel.
func (d *Driver) Revert(ctx context.Context, to driver.SnapshotRef) (err error) {
	done, err := d.idle(to.Volume)
	if err != nil {
		return err
	}
	defer func() {
		if done(); block.Is(err, block.NotFound) {
			d.forget(to.Volume)
		}
	}()
	all, err := d.snaps(ctx, to.Volume)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(all, func(s snap) bool { return s.Name == string(to.Name) })
	if i < 0 {
		return block.Errorf(block.NotFound, "volume %s has no snapshot %s", to.Volume, to.Name)
	}
	for _, later := range slices.Backward(all[i+1:]) {
		if err := d.DeleteSnapshot(ctx, driver.SnapshotRef{Volume: to.Volume, Name: block.PointID(later.Name)}); err != nil {
			return err
		}
	}
	d.mu.Lock()
	v := d.of(to.Volume)
	d.mu.Unlock()
	d.touch(v)
	return d.changing(ctx, to.Volume, func() error {
		_, err := d.runFor(ctx, d.rbd("snap", "rollback", "--no-progress", d.snapSpec(to)), longest)
		return err
	})
}
