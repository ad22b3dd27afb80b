package rbd

import (
	"slices"

	"kvol/internal/block"
	"kvol/internal/driver"
)

// wholly stands for all snapshots of a volume, and the volume, that are being removed.
const wholly = ""

// keep keeps a snapshot from removal until letGo. It fails with Conflict when the
// snapshot is being removed.
func (d *Driver) keep(ref driver.SnapshotRef) (*volume, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	v := d.of(ref.Volume)
	if slices.Contains(v.going, wholly) || slices.Contains(v.going, string(ref.Name)) {
		return nil, block.Errorf(block.Conflict, "snapshot %s of volume %s is being deleted", ref.Name, ref.Volume)
	}
	v.reading = append(v.reading, string(ref.Name))
	return v, nil
}

func (d *Driver) letGo(v *volume, ref driver.SnapshotRef) {
	d.mu.Lock()
	defer d.mu.Unlock()
	i := slices.Index(v.reading, string(ref.Name))
	v.reading = slices.Delete(v.reading, i, i+1)
}

// goes takes a snapshot that nobody reads, so that nobody begins to before stays is
// called; with the name wholly, all of a volume. It fails with Conflict when somebody
// reads.
func (d *Driver) goes(ref driver.SnapshotRef) (stays func(), err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	v, name := d.of(ref.Volume), string(ref.Name)
	if name == wholly && len(v.reading) > 0 || name != wholly && slices.Contains(v.reading, name) {
		return nil, block.Errorf(block.Conflict, "A snapshot of volume %s is being read.", ref.Volume)
	}
	v.going = append(v.going, name)
	return func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		i := slices.Index(v.going, name)
		v.going = slices.Delete(v.going, i, i+1)
	}, nil
}
