package rbd

import (
	"context"
	"errors"
	"strconv"
	"syscall"

	"kvol/internal/block"
	"kvol/internal/driver"
)

// image is what `rbd info` tells.
type image struct {
	Size       int64 `json:"size"`
	Objects    int64 `json:"objects"`
	ObjectSize int64 `json:"object_size"`
	Parent     *struct {
		Image string `json:"image"`
	} `json:"parent"` // what it stands on
	Mirroring *struct {
		Primary bool `json:"primary"`
	} `json:"mirroring"` // nil where it is not mirrored
}

func (d *Driver) info(ctx context.Context, id block.VolumeID) (image, error) {
	i, err := d.calls.info(ctx, id)
	if block.Is(err, block.NotFound) {
		d.forget(id)
		err = block.Wrap(block.NotFound, err, "There is no volume %s in the store.", id)
	}
	return i, err
}

func checkSize(size int64) error {
	if size < 0 || size%driver.BlockSize != 0 {
		return block.Errorf(block.Invalid, "%d bytes are no multiple of %d", size, driver.BlockSize)
	}
	return nil
}

// inBytes is how the rbd command takes a size that is no whole number of MiB.
func inBytes(n int64) string { return strconv.FormatInt(n, 10) + "B" }

// CreateVolume implements driver.Driver.
func (d *Driver) CreateVolume(ctx context.Context, id block.VolumeID, size int64) error {
	if err := checkSize(size); err != nil {
		return err
	}
	err := d.calls.create(ctx, id, size)
	if !errors.Is(err, syscall.EEXIST) {
		return d.unlessFull(ctx, err)
	}
	there, err := d.info(ctx, id)
	if err != nil {
		return err
	}
	return sameSize(id, there.Size, size)
}

func sameSize(id block.VolumeID, is, want int64) error {
	if is != want {
		return block.Errorf(block.Conflict, "volume %s exists with %d bytes, not %d", id, is, want)
	}
	return nil
}

// CloneSnapshot implements driver.Driver. A clone that is larger than its
// snapshot is made under another name, so that it is there whole or not at all.
func (d *Driver) CloneSnapshot(ctx context.Context, id block.VolumeID, from driver.SnapshotRef, size int64) error {
	if err := checkSize(size); err != nil {
		return err
	}
	there, err := d.info(ctx, id)
	if err == nil {
		return sameSize(id, there.Size, size)
	}
	if !block.Is(err, block.NotFound) {
		return err
	}
	snap, err := d.snapshot(ctx, from)
	if err != nil {
		return err
	}
	if size < snap.Size {
		return block.Errorf(block.Invalid, "a clone of %d bytes is smaller than its snapshot of %d", size, snap.Size)
	}
	if size == snap.Size {
		return d.clone(ctx, from, imageName(id))
	}
	d.unfinished.RLock()
	defer d.unfinished.RUnlock()
	if err := d.removeUnfinished(ctx, id); err != nil {
		return err
	}
	if err := d.clone(ctx, from, unfinishedPrefix+string(id)); err != nil {
		return err
	}
	if _, err := d.run(ctx, d.rbd("resize", "--no-progress", "--size", inBytes(size), d.unfinishedSpec(id))); err != nil {
		return err
	}
	_, err = d.run(ctx, d.rbd("rename", d.unfinishedSpec(id), d.spec(id)))
	return err
}

// unfinishedPrefix is that of clones which have yet to get their size. A crash may
// leave one behind; it holds the image that it stands on.
const unfinishedPrefix = "unfinished-kvol-"

func (d *Driver) unfinishedSpec(id block.VolumeID) string {
	return d.Pool() + "/" + unfinishedPrefix + string(id)
}

// removeUnfinished removes what a clone that was cut short left.
func (d *Driver) removeUnfinished(ctx context.Context, id block.VolumeID) error {
	_, err := d.run(ctx, d.rbd("rm", "--no-progress", d.unfinishedSpec(id)))
	if block.Is(err, block.NotFound) {
		return nil
	}
	return err
}

func (d *Driver) clone(ctx context.Context, from driver.SnapshotRef, name string) error {
	err := d.calls.clone(ctx, from, name)
	if errors.Is(err, syscall.EEXIST) {
		return nil // somebody was faster, with the same request
	}
	return d.unlessFull(ctx, err)
}

// ExtendVolume implements driver.Driver.
func (d *Driver) ExtendVolume(ctx context.Context, id block.VolumeID, size int64) error {
	if err := checkSize(size); err != nil {
		return err
	}
	there, err := d.info(ctx, id)
	if err != nil {
		return err
	}
	if there.Size < size {
		err := d.changing(ctx, id, func() error { return d.calls.resize(ctx, id, size) })
		if err != nil {
			return d.unlessFull(ctx, err)
		}
	}
	d.mu.Lock()
	v := d.of(id)
	dev := v.device
	d.mu.Unlock()
	d.touch(v)
	if dev != nil {
		return dev.grow(ctx, max(size, there.Size))
	}
	return nil
}

// DeleteVolume implements driver.Driver. The image goes to the pool's trash, where
// it is no volume any more; the sweeper removes its bytes from there.
func (d *Driver) DeleteVolume(ctx context.Context, id block.VolumeID) error {
	done, err := d.idle(id)
	if err != nil {
		return err
	}
	defer done()
	stays, err := d.goes(driver.SnapshotRef{Volume: id, Name: wholly})
	if err != nil {
		return err
	}
	defer stays()
	if err := d.takeBack(ctx, id); err != nil {
		return err
	}
	if err := d.removeImage(ctx, id); err != nil {
		return err
	}
	if d.o.Hosts != nil {
		if err := d.enter(ctx, id, hostsNone); err != nil {
			return err
		}
	}
	d.mu.Lock()
	delete(d.volumes, id)
	d.mu.Unlock()
	d.sweeper.changed()
	return nil
}

// removeImage moves an image, or what there is of it, without its snapshots to the
// trash: that takes no longer for a large one, while to remove its bytes may take hours.
func (d *Driver) removeImage(ctx context.Context, id block.VolumeID) error {
	_, err := d.runFor(ctx, d.rbd("snap", "purge", "--no-progress", d.spec(id)), longest)
	if err == nil || block.Is(err, block.NotFound) { // it may be an image of which a part is gone
		err = d.discard(ctx, id)
	}
	switch {
	case errors.Is(err, syscall.EBUSY):
		return block.Wrap(block.Unavailable, err, "Volume %s is in use by another client of the storage cluster.", id)
	case block.Is(err, block.NotFound):
		return d.removeUnfinished(ctx, id)
	}
	return d.unlessFull(ctx, err)
}

// takeBack cuts off the hosts that use a volume which is about to go.
func (d *Driver) takeBack(ctx context.Context, id block.VolumeID) error {
	state, err := d.hostsOf(ctx, id)
	if err != nil || state == hostsNone {
		return err
	}
	v := d.volume(id)
	v.commands.Lock()
	defer v.commands.Unlock()
	err = d.alone(ctx, v, func() error { return d.lock(ctx, id) })
	if err == nil {
		err = d.unlock(ctx, id)
	}
	if block.Is(err, block.NotFound) {
		return nil
	}
	return err
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
