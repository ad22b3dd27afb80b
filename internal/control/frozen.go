package control

import (
	"context"
	"errors"
	"iter"
	"slices"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/driver"
	"kvol/internal/export/nbd"
)

// frozen is an open snapshot as a device that nobody can write to.
type frozen struct{ driver.Reader }

func errFrozen() error { return block.Errorf(block.Forbidden, "A snapshot can't be written to.") }

// WriteAt implements driver.Device.
func (frozen) WriteAt([]byte, int64) (int, error) { return 0, errFrozen() }

// Zero implements driver.Device.
func (frozen) Zero(int64, int64) error { return errFrozen() }

// Flush implements driver.Device.
func (frozen) Flush() error { return nil }

type frozenExtents struct {
	frozen
	driver.ExtentReader
}

// freeze returns an open snapshot as a device; it knows where data is if the
// snapshot does.
func freeze(r driver.Reader) driver.Device {
	if extents, ok := r.(driver.ExtentReader); ok {
		return frozenExtents{frozen{r}, extents}
	}
	return frozen{r}
}

// snapshotsUpTo returns a snapshot of a volume that hosts may read, after those
// that were made before it, from old to new.
func snapshotsUpTo(tx *catalog.Tx, v block.VolumeID, id block.SnapshotID) ([]block.Snapshot, error) {
	all, err := tx.SnapshotsOf(v)
	if err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(sn block.Snapshot) bool { return sn.Status != block.SnapshotAvailable })
	i := slices.IndexFunc(all, func(sn block.Snapshot) bool { return sn.ID == id })
	if i < 0 {
		return nil, block.Errorf(block.NotFound, "There is no such export.")
	}
	return all[:i+1], nil
}

// beginSnapshot opens the snapshot of an export that is entered, see
// Exports.Open.
func (e *Exports) beginSnapshot(ctx context.Context, x *exported, v block.Volume) (nbd.Export, error) {
	var all []block.Snapshot
	err := e.s.catalog.View(ctx, func(tx *catalog.Tx) (err error) {
		all, err = snapshotsUpTo(tx, v.ID, x.snapshot)
		return err
	})
	if err != nil {
		return nbd.Export{}, err
	}
	store, err := e.s.backends.Of(v.Backend)
	if err != nil {
		return nbd.Export{}, err
	}
	to := refOf(all[len(all)-1])
	r, err := store.OpenSnapshot(ctx, to)
	if err != nil {
		return nbd.Export{}, err
	}
	content, err := e.s.clear(ctx, v, freeze(r))
	if err != nil {
		return nbd.Export{}, errors.Join(err, r.Close())
	}
	x.permit(content, true, nil, nil)
	out := e.export(x, v, r.Close)
	out.ReadOnly, out.Description = true, "snapshot "+string(x.snapshot)+" of volume "+string(v.ID)
	differ, ok := driver.As[driver.Differ](store)
	if !ok {
		return out, nil
	}
	since := map[string]driver.SnapshotRef{}
	for _, sn := range all[:len(all)-1] {
		since[string(sn.ID)] = refOf(sn)
		out.Since = append(out.Since, string(sn.ID))
	}
	out.Changed = func(ctx context.Context, name string) iter.Seq2[driver.Extent, error] {
		return differ.Diff(ctx, since[name], to)
	}
	return out, nil
}

// reading reports whether a client still reads a snapshot of a volume, or the
// one snapshot if id is not "".
func (e *Exports) reading(v block.VolumeID, id block.SnapshotID) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	for x := range e.open {
		if x.volume == v && x.snapshot != "" && (id == "" || x.snapshot == id) {
			return true
		}
	}
	return false
}
