package nfs

import (
	"cmp"
	"context"
	"iter"
	"path"
	"slices"

	"kvol/internal/block"
	"kvol/internal/driver"
)

// entries lists a volume's snapshots from old to new.
func (d *Driver) entries(id block.VolumeID) (all []entry, dir string, err error) {
	if dir, err = entriesDir(id); err != nil {
		return nil, "", err
	}
	names, err := d.list(dir)
	if err != nil {
		return nil, "", err
	}
	for _, name := range names {
		if e, ok := parseEntry(name); ok {
			all = append(all, e)
		}
	}
	slices.SortFunc(all, func(a, b entry) int { return cmp.Compare(a.seq, b.seq) })
	return all, dir, nil
}

// snapshot finds a snapshot's entry.
func (d *Driver) snapshot(ref driver.SnapshotRef) (entry, string, error) {
	if _, err := d.there(ref.Volume); err != nil {
		return entry{}, "", err
	}
	all, dir, err := d.entries(ref.Volume)
	if err != nil {
		return entry{}, "", err
	}
	i := slices.IndexFunc(all, func(e entry) bool { return e.name == ref.Name })
	if i < 0 {
		return entry{}, "", block.Errorf(block.NotFound, "volume %s has no snapshot %s", ref.Volume, ref.Name)
	}
	return all[i], dir, nil
}

// snapshotAt finds a snapshot's bytes.
func (d *Driver) snapshotAt(ref driver.SnapshotRef) (place, error) {
	e, dir, err := d.snapshot(ref)
	if err != nil {
		return "", err
	}
	return e.at(dir)
}

// Snapshots implements driver.Driver.
func (d *Driver) Snapshots(ctx context.Context, id block.VolumeID) ([]driver.SnapshotInfo, error) {
	v := d.volume(id)
	defer d.hold(v)()
	if _, err := d.there(id); err != nil {
		return nil, err
	}
	all, dir, err := d.entries(id)
	if err != nil {
		return nil, err
	}
	out := make([]driver.SnapshotInfo, 0, len(all))
	for _, e := range all {
		at, err := e.at(dir)
		if err != nil {
			return nil, err
		}
		size, err := d.files.size(ctx, at)
		if err != nil {
			return nil, err
		}
		out = append(out, driver.SnapshotInfo{Name: e.name, Size: size})
	}
	return out, nil
}

// CreateSnapshot implements driver.Driver.
func (d *Driver) CreateSnapshot(ctx context.Context, ref driver.SnapshotRef) error {
	return d.CreateSnapshots(ctx, []driver.SnapshotRef{ref})
}

// moment is a snapshot that is being made.
type moment struct {
	ref  driver.SnapshotRef
	v    *volume
	live place
	dir  string
	next entry
	make cut
}

// CreateSnapshots implements driver.GroupSnapshotter. No write to any of the
// volumes begins between the first snapshot and the last; those that are under
// way end before. Of volumes that hosts may have open themselves it makes no
// group: nothing holds up what they write.
func (d *Driver) CreateSnapshots(ctx context.Context, refs []driver.SnapshotRef) error {
	moments, release, err := d.moments(refs)
	if err != nil {
		return err
	}
	defer release()
	if moments, err = d.unmade(moments); err != nil || len(moments) == 0 {
		return err
	}
	for i := range moments {
		m := &moments[i]
		if err := d.makeDir(m.dir); err != nil {
			return err
		}
		var drop func()
		if m.make, drop, err = d.files.prepare(ctx, m.v, m.live); err != nil {
			return err
		}
		defer drop()
	}
	for _, v := range volumesOf(moments) {
		v.gate.Lock()
		defer v.gate.Unlock()
	}
	for i := range moments {
		m := &moments[i]
		if m.next, err = m.make(ctx, m.dir, m.next); err != nil {
			d.unmake(moments[:i+1])
			return err
		}
	}
	return nil
}

// unmake takes back what an instant has that was not to be had as a whole. What
// stays all the same is replaced when it is asked for again.
func (d *Driver) unmake(moments []moment) {
	for _, m := range moments {
		if err := d.removeEntry(m.v, m.dir, m.next); err != nil {
			d.o.Log.Warn("a part of a group's snapshot stays", "volume", m.ref.Volume, "snapshot", m.ref.Name, "err", err)
		}
	}
}

// moments finds the volumes of refs, and keeps others from changing them. They
// are taken in one order, so that two groups don't wait for each other.
func (d *Driver) moments(refs []driver.SnapshotRef) (all []moment, release func(), err error) {
	for _, ref := range refs {
		if _, err := d.there(ref.Volume); err != nil {
			return nil, nil, err
		}
		dir, err := entriesDir(ref.Volume)
		if err != nil {
			return nil, nil, err
		}
		if _, err := encode(string(ref.Name)); err != nil {
			return nil, nil, err
		}
		all = append(all, moment{ref: ref, v: d.volume(ref.Volume), dir: dir})
	}
	var held []func()
	release = func() {
		for _, r := range held {
			r()
		}
	}
	if d.format == QCOW2 {
		held = append(held, d.hold(nil))
	} else {
		for _, v := range volumesOf(all) {
			held = append(held, d.hold(v))
		}
	}
	for i := range all {
		if all[i].live, err = d.there(all[i].ref.Volume); err != nil {
			break
		}
	}
	if err != nil {
		release()
		return nil, nil, err
	}
	return all, release, nil
}

// volumesOf are the volumes of some moments, each once, in one order.
func volumesOf(moments []moment) (all []*volume) {
	for _, m := range moments {
		all = append(all, m.v)
	}
	slices.SortFunc(all, func(a, b *volume) int { return cmp.Compare(a.id, b.id) })
	return slices.Compact(all)
}

// unmade leaves out what is there already. Of a group that an interrupted call
// made in part, all is made anew: it is to be of one instant.
func (d *Driver) unmade(moments []moment) (left []moment, err error) {
	var there []moment
	last := map[*volume]uint64{}
	for _, m := range moments {
		all, _, err := d.entries(m.ref.Volume)
		if err != nil {
			return nil, err
		}
		if n := len(all); n > 0 {
			last[m.v] = max(last[m.v], all[n-1].seq)
		}
		if i := slices.IndexFunc(all, func(e entry) bool { return e.name == m.ref.Name }); i >= 0 {
			m.next = all[i]
			there = append(there, m)
		}
	}
	if len(there) == len(moments) {
		return nil, nil
	}
	open := 0
	for _, v := range volumesOf(moments) {
		if d.isLent(v) {
			open++
		}
	}
	if open > 0 && len(moments) > 1 {
		return nil, block.Errorf(block.Conflict, "Hosts have volumes of the group open by NFS; nobody can hold up what they "+
			"write, so their moments would not be one.")
	}
	for _, m := range there {
		if err := d.removeEntry(m.v, m.dir, m.next); err != nil {
			return nil, err
		}
	}
	for _, m := range moments {
		last[m.v]++
		m.next = entry{seq: last[m.v], name: m.ref.Name}
		left = append(left, m)
	}
	return left, nil
}

// DeleteSnapshot implements driver.Driver.
func (d *Driver) DeleteSnapshot(ctx context.Context, ref driver.SnapshotRef) error {
	v := d.volume(ref.Volume)
	defer d.hold(v)()
	e, dir, err := d.snapshot(ref)
	if block.Is(err, block.NotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := d.removeEntry(v, dir, e); err != nil {
		return err
	}
	return d.files.sweep(ctx)
}

// OpenSnapshot implements driver.Driver.
func (d *Driver) OpenSnapshot(ctx context.Context, ref driver.SnapshotRef) (driver.Reader, error) {
	v := d.volume(ref.Volume)
	defer d.hold(v)()
	at, err := d.snapshotAt(ref)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	v.readers[ref.Name]++
	d.mu.Unlock()
	release := func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		if v.readers[ref.Name]--; v.readers[ref.Name] == 0 {
			delete(v.readers, ref.Name)
		}
	}
	r, err := d.files.openSnapshot(ctx, at, release)
	if err != nil {
		release()
		return nil, err
	}
	return r, nil
}

// Diff implements driver.Differ.
func (d *Driver) Diff(ctx context.Context, from, to driver.SnapshotRef) iter.Seq2[driver.Extent, error] {
	return func(yield func(driver.Extent, error) bool) {
		if err := d.diff(ctx, from, to, func(e driver.Extent) bool { return yield(e, nil) }); err != nil {
			yield(driver.Extent{}, err)
		}
	}
}

func (d *Driver) diff(ctx context.Context, from, to driver.SnapshotRef, yield func(driver.Extent) bool) error {
	if !from.Zero() && from.Volume != to.Volume {
		return block.Errorf(block.Invalid, "snapshots of two volumes can't be compared")
	}
	newer, err := d.snapshotAt(to)
	if err != nil {
		return err
	}
	var older place
	if !from.Zero() {
		if older, err = d.snapshotAt(from); err != nil {
			return err
		}
	}
	return d.files.diff(ctx, older, newer, yield)
}

// entryAt is the place of an entry's own file.
func entryAt(dir string, e entry) (place, error) {
	file, err := e.file()
	return place(path.Join(dir, file)), err
}
