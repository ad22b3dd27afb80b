package replication

import (
	"context"
	"errors"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/driver"
)

// takeBack undoes a step whose root came out wrong, so that it can be sent
// again from its base.
func (i *inbound) takeBack(ctx context.Context, s block.Step) error {
	var p catalog.Progress
	err := i.catalog().Update(ctx, func(tx *catalog.Tx) (err error) {
		p = catalog.Progress{Offset: catalog.Rewind}
		if s.Base.ID != "" {
			if _, p.Sum, err = tx.Point(i.replica.ID, s.Base.ID); err != nil {
				return err
			}
		}
		return tx.SetStepProgress(i.replica.ID, p)
	})
	if err != nil {
		return err
	}
	if err := i.rewind(ctx, s); err != nil {
		return err
	}
	p.Offset = 0
	return i.note(ctx, p)
}

// rewind makes the replica's volume hold a step's base, whatever it holds, and
// keeps all committed points. It may be repeated from any point on.
func (i *inbound) rewind(ctx context.Context, s block.Step) error {
	d, id := i.driver, i.replica.ID
	err := d.ExtendVolume(ctx, id, s.Target.Size)
	if block.Is(err, block.NotFound) && i.replica.Newest.ID == "" {
		err = d.CreateVolume(ctx, id, s.Target.Size)
	}
	if err != nil {
		return err
	}
	orphans, err := i.receiver.orphans(ctx, d, id)
	if err != nil {
		return err
	}
	if err := deleteSnapshots(ctx, d, id, orphans); err != nil {
		return err
	}
	if s.Base.ID == "" {
		return i.change(ctx, func(dev driver.Device) error { return dev.Zero(0, dev.Size()) })
	}
	snapshots, err := d.Snapshots(ctx, id)
	if err != nil {
		return err
	}
	// Where the store is far away, a revert asks for each object of the volume, and what
	// a step wrote that was cut is little: what differs is written over.
	reverter, ok := driver.As[driver.Reverter](d)
	if n := len(snapshots); ok && depthOf(d) == 1 && n > 0 && snapshots[n-1].Name == s.Base.ID {
		return reverter.Revert(ctx, i.at(s.Base)) // loses nothing, since nothing is newer
	}
	return i.copyBack(ctx, s.Base, 0)
}

// clearAfter makes the replica's volume hold a step's base from an offset on, so
// that the step can go on there. What was written after the last note of progress
// is in no sum: should it lie where the step writes nothing, no root would tell.
func (i *inbound) clearAfter(ctx context.Context, s block.Step, from int64) error {
	if err := i.driver.ExtendVolume(ctx, i.replica.ID, s.Target.Size); err != nil {
		return err
	}
	if s.Base.ID != "" {
		return i.copyBack(ctx, s.Base, from)
	}
	return i.change(ctx, func(dev driver.Device) error {
		if from >= dev.Size() {
			return nil
		}
		return dev.Zero(from, dev.Size()-from)
	})
}

// copyBack is the general way to rewind: it copies over from the base what
// differs, from an offset on. A snapshot of what is there tells what that is; it
// is an orphan if this is cut short.
func (i *inbound) copyBack(ctx context.Context, base block.Point, after int64) error {
	now := driver.SnapshotRef{Volume: i.replica.ID, Name: block.PointID(block.NewID())}
	if err := i.driver.CreateSnapshot(ctx, now); err != nil {
		return err
	}
	from, err := i.driver.OpenSnapshot(ctx, i.at(base))
	if err != nil {
		return err
	}
	defer from.Close()
	buf := make([]byte, maxRun)
	err = i.change(ctx, func(dev driver.Device) error {
		for e, err := range joined(driver.Diff(ctx, i.driver, i.at(base), now)) {
			if err != nil {
				return err
			}
			if cut := min(e.Len, max(0, after-e.Off)); cut > 0 {
				e.Off, e.Len = e.Off+cut, e.Len-cut
			}
			if err := copyExtent(dev, from, e, buf); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return i.driver.DeleteSnapshot(ctx, now)
}

// copyExtent writes what from has in an extent; beyond its end that is zeros.
func copyExtent(dev driver.Device, from driver.Reader, e driver.Extent, buf []byte) error {
	for off := e.Off; off < e.End(); off += maxRun {
		p := buf[:min(maxRun, e.End()-off)]
		clear(p)
		if n := min(int64(len(p)), from.Size()-off); n > 0 {
			if _, err := from.ReadAt(p[:n], off); err != nil {
				return err
			}
		}
		if driver.IsZero(p) {
			if err := dev.Zero(off, int64(len(p))); err != nil {
				return err
			}
		} else if _, err := dev.WriteAt(p, off); err != nil {
			return err
		}
	}
	return nil
}

// change opens the replica's volume for fn and flushes it.
func (i *inbound) change(ctx context.Context, fn func(driver.Device) error) error {
	dev, err := i.driver.OpenVolume(ctx, i.replica.ID)
	if err != nil {
		return err
	}
	if err = fn(dev); err == nil {
		err = dev.Flush()
	}
	return errors.Join(err, dev.Close())
}
