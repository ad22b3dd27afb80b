package rbd

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"kvol/internal/block"
	"kvol/internal/driver"
)

// The snapshots of a group are of one instant though the cluster makes them one by one,
// and though it may make one after the command for it was given up: the process that
// has the image open does it when the cluster answers again, and writes may have gone
// on by then. So each is made under another name first, that of a part, while no write
// is under way, and gets its own when all are there. A snapshot with its own name
// proves that all were made under one hold; parts alone prove nothing, and are made
// anew.

// partPrefix is that of the names of snapshots that are yet to be a group's.
const partPrefix = "part-of-kvol-"

// groupTries is how often a group is cut while parts of an earlier try turn up.
const groupTries = 4

func partOf(ref driver.SnapshotRef) driver.SnapshotRef {
	return driver.SnapshotRef{Volume: ref.Volume, Name: partPrefix + ref.Name}
}

// CreateSnapshots implements driver.GroupSnapshotter. No write to any of the
// volumes begins between the first snapshot and the last; those that are under
// way end before.
func (d *Driver) CreateSnapshots(ctx context.Context, refs []driver.SnapshotRef) error {
	refs = slices.Clone(refs)
	slices.SortFunc(refs, func(a, b driver.SnapshotRef) int {
		return strings.Compare(string(a.Volume)+"@"+string(a.Name), string(b.Volume)+"@"+string(b.Name))
	})
	refs = slices.Compact(refs)
	if err := d.groupable(ctx, refs); err != nil {
		return err
	}
	named, parts, err := d.groupThere(ctx, refs)
	if err != nil || len(named) == len(refs) {
		return err
	}
	if len(named) == 0 || len(named)+len(parts) < len(refs) {
		if err := d.removeGroup(ctx, refs, len(named)+len(parts)); err != nil {
			return err
		}
		if err := d.cutGroup(ctx, refs); err != nil {
			return err
		}
		parts = refs
	}
	return together(parts, func(ref driver.SnapshotRef) error { return d.nameOwn(ctx, ref) })
}

// groupable says why there can be no instant of the volumes.
func (d *Driver) groupable(ctx context.Context, refs []driver.SnapshotRef) error {
	for _, ref := range refs {
		state, err := d.hostsOf(ctx, ref.Volume)
		if err != nil {
			return err
		}
		if state == hostsLent {
			return block.Errorf(block.Conflict, "Volume %s is used by hosts of the storage cluster themselves, whose writes "+
				"don't wait for those to others.", ref.Volume)
		}
	}
	return nil
}

// groupThere tells which of the snapshots have their own name, and which of the others
// are parts. It fails with NotFound if there is no such volume.
func (d *Driver) groupThere(
	ctx context.Context,
	refs []driver.SnapshotRef,
) (named, parts []driver.SnapshotRef, err error) {
	var mu sync.Mutex // guards named and parts
	err = together(refs, func(ref driver.SnapshotRef) error {
		all, err := d.allSnaps(ctx, ref.Volume)
		has := func(ref driver.SnapshotRef) bool {
			return slices.ContainsFunc(all, func(s snap) bool { return s.Name == string(ref.Name) })
		}
		mu.Lock()
		defer mu.Unlock()
		switch {
		case has(ref):
			named = append(named, ref)
		case has(partOf(ref)):
			parts = append(parts, ref)
		}
		return err
	})
	return named, parts, err
}

// cutGroup makes the parts of a group, of one instant. If it fails, what it made is
// removed, as far as the cluster answers.
func (d *Driver) cutGroup(ctx context.Context, refs []driver.SnapshotRef) error {
	parts := make([]driver.SnapshotRef, 0, len(refs))
	for _, ref := range refs {
		parts = append(parts, partOf(ref))
	}
	err := d.cutParts(ctx, parts)
	if err != nil {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), d.o.Timeout)
		defer cancel()
		if left := d.removeAll(ctx, parts); left != nil {
			d.o.Log.Warn("parts of a group's snapshots stay until it is cut again", "err", left)
		}
	}
	return err
}

func (d *Driver) cutParts(ctx context.Context, parts []driver.SnapshotRef) error {
	defer d.still(parts)()
	for range groupTries {
		var late atomic.Bool
		err := together(parts, func(part driver.SnapshotRef) error {
			err := d.createSnapshot(ctx, part)
			if errors.Is(err, syscall.EEXIST) { // from before the writes were held up, for all we know
				late.Store(true)
				return nil
			}
			return err
		})
		if err != nil || !late.Load() {
			return err
		}
		if err := d.removeAll(ctx, parts); err != nil {
			return err
		}
	}
	return block.Errorf(block.Unavailable, "Snapshots of an earlier try turned up again and again.")
}

// removeGroup removes what is there of a group. A part may be getting its own name just
// now, by a command that was given up: it is looked for by that one afterwards.
func (d *Driver) removeGroup(ctx context.Context, refs []driver.SnapshotRef, there int) error {
	if there == 0 {
		return nil
	}
	parts := make([]driver.SnapshotRef, 0, len(refs))
	for _, ref := range refs {
		parts = append(parts, partOf(ref))
	}
	if err := d.removeAll(ctx, parts); err != nil {
		return err
	}
	return d.removeAll(ctx, refs)
}

// removeAll removes snapshots, those that are parts too.
func (d *Driver) removeAll(ctx context.Context, all []driver.SnapshotRef) error {
	return together(all, func(ref driver.SnapshotRef) error { return d.DeleteSnapshot(ctx, ref) })
}

// nameOwn gives a part its own name.
func (d *Driver) nameOwn(ctx context.Context, ref driver.SnapshotRef) error {
	err := d.changing(ctx, ref.Volume, func() error {
		_, err := d.run(ctx, d.rbd("snap", "rename", d.snapSpec(partOf(ref)), d.snapSpec(ref)))
		return err
	})
	if err != nil {
		return err
	}
	v := d.volume(ref.Volume)
	d.mu.Lock()
	defer d.mu.Unlock()
	if v.newest == string(partOf(ref).Name) {
		v.newest = string(ref.Name)
	}
	return nil
}

// together does the same to several snapshots at once.
func together(refs []driver.SnapshotRef, do func(driver.SnapshotRef) error) error {
	errs := make([]error, len(refs))
	var wg sync.WaitGroup
	for i, ref := range refs {
		wg.Go(func() { errs[i] = do(ref) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// still holds up all writes to the volumes of refs until it is released. The
// gates are taken in one order, so that two groups don't wait for each other.
func (d *Driver) still(refs []driver.SnapshotRef) (release func()) {
	var ids []block.VolumeID
	for _, ref := range refs {
		ids = append(ids, ref.Volume)
	}
	slices.Sort(ids)
	var held []*volume
	for _, id := range slices.Compact(ids) {
		d.mu.Lock()
		v := d.of(id)
		d.mu.Unlock()
		v.gate.Lock()
		held = append(held, v)
	}
	return func() {
		for _, v := range held {
			v.gate.Unlock()
		}
	}
}
