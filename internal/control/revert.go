package control

import (
	"context"
	"encoding/json"
	"errors"
	"io"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/driver"
	"kvol/internal/job"
)

type revertArgs struct {
	Snapshot block.SnapshotID `json:"snapshot"`
	Point    block.PointID    `json:"point"` // of the moment before; used where the driver can't take a volume back
}

// RevertVolume states the intent to take a volume back to its latest snapshot:
// the volume must be available, the snapshot too and of its size. Hosts that
// reach the volume through a connection are cut off meanwhile. A wrong state is
// a Conflict here (cinder/api/v3/volumes.py, revert).
func (s *Service) RevertVolume(ctx context.Context, c block.Caller, id block.VolumeID, to string) error {
	return s.changeVolume(ctx, c, id, "volume:revert_to_snapshot", func(tx *catalog.Tx, v block.Volume) error {
		snapshots, err := tx.SnapshotsOf(id)
		if err != nil {
			return err
		}
		if len(snapshots) == 0 {
			return block.Errorf(block.Invalid, "Volume %s has no snapshots.", id)
		}
		latest := snapshots[len(snapshots)-1]
		if wanted, ok := block.ParseID(to); !ok || wanted != string(latest.ID) {
			return block.Errorf(block.Invalid, "Specified snapshot %s is None or not the latest one of volume %s.", to, id)
		}
		conflict := func(why string) error {
			return block.Errorf(block.Conflict, "Invalid volume: Can't revert volume %s to its latest snapshot %s. %s",
				id, latest.ID, why)
		}
		if v.RecoveredTo != nil || v.Migrating() {
			return conflict("Volume's status must be 'available'.")
		}
		if latest.Size != v.Size {
			return conflict("The volume was extended since.")
		}
		if _, err := tx.MoveVolume(id, block.Revert); err != nil {
			return refusal(err, conflict("Volume's status must be 'available'."))
		}
		if _, err := tx.MoveSnapshot(latest.ID, block.Restore); err != nil {
			return refusal(err, block.Errorf(block.Conflict, "Invalid snapshot: Can't revert volume %s to its latest "+
				"snapshot %s. Snapshot's status must be 'available'.", id, latest.ID))
		}
		return enqueue(tx, jobVolumeRevert, string(id),
			revertArgs{Snapshot: latest.ID, Point: block.PointID(block.NewID())})
	})
}

// runRevert takes a volume's bytes back. It waits for what reads the volume.
func (s *Service) runRevert(ctx context.Context, t *job.Task) error {
	var args revertArgs
	if err := t.Args(&args); err != nil {
		return err
	}
	v, err := s.wanted(ctx, block.VolumeID(t.Job.Subject), block.VolumeReverting)
	if errors.Is(err, errUnwanted) { // an administrator set the volume's status
		return s.catalog.Update(ctx, func(tx *catalog.Tx) error { return endRevert(tx, args, t.Job) })
	}
	if err != nil {
		return err
	}
	if err := s.alone(ctx, v.ID, t.Job.ID); err != nil {
		return err
	}
	if err := s.cutOff(ctx, v.ID); err != nil {
		return err
	}
	if err := s.revertBytes(ctx, t, v, args); err != nil {
		return err
	}
	err = s.finish(ctx, v.ID, []block.VolumeStatus{block.VolumeReverting}, func(tx *catalog.Tx, v block.Volume) error {
		if err := endRevert(tx, args, t.Job); err != nil {
			return err
		}
		_, err := tx.MoveVolume(v.ID, block.Done)
		return err
	})
	if err == nil {
		s.changed(v.ID)
	}
	return err
}

// alone puts a job off while others work on its volume, on volumes that are being
// made of it, or on snapshots of it: those that were asked for before are of what
// the volume was then.
func (s *Service) alone(ctx context.Context, id block.VolumeID, own block.JobID) error {
	return s.catalog.View(ctx, func(tx *catalog.Tx) error { return alone(tx, id, own) })
}

func alone(tx *catalog.Tx, id block.VolumeID, own block.JobID) error {
	works, err := busy(tx, string(id), own)
	if !works && err == nil {
		works, err = read(tx, "source_volid", string(id))
	}
	if !works && err == nil {
		works, err = named(tx, id)
	}
	if works && err == nil {
		err = job.Snooze(snoozeTime, nil)
	}
	return err
}

// named reports whether some snapshot of a volume is being made.
func named(tx *catalog.Tx, id block.VolumeID) (bool, error) {
	snapshots, err := tx.SnapshotsOf(id)
	if err != nil {
		return false, err
	}
	for _, sn := range snapshots {
		if sn.Status != block.SnapshotCreating {
			continue
		}
		works, err := busy(tx, string(sn.ID), 0)
		if sn.GroupSnapshotID != nil && !works && err == nil {
			works, err = busy(tx, string(*sn.GroupSnapshotID), 0)
		}
		if works || err != nil {
			return works, err
		}
	}
	return false, nil
}

// cutOff ends the exports of a volume and waits until nobody has it open.
func (s *Service) cutOff(ctx context.Context, id block.VolumeID) error {
	s.exports.revoke(id)
	drain, cancel := context.WithTimeout(ctx, drainTime)
	defer cancel()
	return s.devices.drained(drain, id)
}

// revertBytes lets the driver take the volume back, where it can and loses
// nothing but what is newer than the snapshot. Otherwise what differs is written
// over; snapshots that others hold are kept then.
func (s *Service) revertBytes(ctx context.Context, t *job.Task, v block.Volume, args revertArgs) (err error) {
	store, err := s.backends.Of(v.Backend)
	if err != nil {
		return err
	}
	to := driver.SnapshotRef{Volume: v.ID, Name: block.PointID(args.Snapshot)}
	all, err := store.Snapshots(ctx, v.ID)
	if err != nil {
		return err
	}
	reverter, ok := driver.As[driver.Reverter](store)
	if ok && len(all) > 0 && all[len(all)-1].Name == to.Name {
		return reverter.Revert(ctx, to)
	}
	before := driver.SnapshotRef{Volume: v.ID, Name: args.Point}
	if err := store.CreateSnapshot(ctx, before); err != nil {
		return err
	}
	old, err := store.OpenSnapshot(ctx, to)
	if err != nil {
		return err
	}
	defer closing(&err, old.Close)
	total := v.Size * block.GiB
	each := s.progress(ctx, t, "reverting", total, block.VolumeReverting)
	return s.overwrite(ctx, v, func(dev driver.Device) error {
		for e, err := range driver.Diff(ctx, store, to, before) {
			if err != nil {
				return err
			}
			if err := first(copyRange(dev, old, e.Off, e.Len), each(e.End())); err != nil {
				return err
			}
		}
		return nil
	})
}

const rangeSize = 256 * driver.BlockSize

// copyRange writes a range of one thing to another; what reads as zeros gives
// its space back.
func copyRange(to driver.Device, from io.ReaderAt, off, length int64) error {
	buf := make([]byte, min(rangeSize, length))
	for end := off + length; off < end; {
		p := buf[:min(int64(len(buf)), end-off)]
		if _, err := from.ReadAt(p, off); err != nil {
			return err
		}
		var err error
		if driver.IsZero(p) {
			err = to.Zero(off, int64(len(p)))
		} else {
			_, err = to.WriteAt(p, off)
		}
		if err != nil {
			return err
		}
		off += int64(len(p))
	}
	return nil
}

// endRevert gives the snapshot its status back and drops the moment before.
func endRevert(tx *catalog.Tx, args revertArgs, j block.Job) error {
	sn, err := tx.Snapshot(args.Snapshot)
	if err == nil && sn.Status == block.SnapshotRestoring {
		_, err = tx.MoveSnapshot(sn.ID, block.Done)
	}
	if ignoring(block.NotFound, err) != nil {
		return err
	}
	v, err := tx.Volume(block.VolumeID(j.Subject))
	if err != nil {
		return ignoring(block.NotFound, err)
	}
	return dropPoint(tx, v.Backend, driver.SnapshotRef{Volume: v.ID, Name: args.Point})
}

func gaveUpRevert(tx *catalog.Tx, j block.Job, cause error) error {
	var args revertArgs
	if err := json.Unmarshal(j.Args, &args); err != nil {
		return err
	}
	if err := endRevert(tx, args, j); err != nil {
		return err
	}
	return gaveUpVolume(block.VolumeReverting)(tx, j, cause)
}
