package control

import (
	"context"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/driver"
	"kvol/internal/job"
)

func refOf(sn block.Snapshot) driver.SnapshotRef {
	return driver.SnapshotRef{Volume: sn.VolumeID, Name: block.PointID(sn.ID)}
}

// snapshotWanted returns a job's snapshot and its volume if the snapshot is
// still in the status that the job works in, else errUnwanted.
func snapshotWanted(tx *catalog.Tx, id block.SnapshotID,
	in block.SnapshotStatus) (block.Snapshot, block.Volume, error) {
	sn, err := tx.Snapshot(id)
	if block.Is(err, block.NotFound) || err == nil && sn.Status != in {
		err = errUnwanted
	}
	if err != nil {
		return sn, block.Volume{}, err
	}
	v, err := tx.Volume(sn.VolumeID)
	return sn, v, err
}

// runSnapshotCreate names the present moment of a volume. Repeated, it keeps
// the moment that was named first.
func (s *Service) runSnapshotCreate(ctx context.Context, t *job.Task) error {
	id := block.SnapshotID(t.Job.Subject)
	var sn block.Snapshot
	var v block.Volume
	err := s.catalog.View(ctx, func(tx *catalog.Tx) (err error) {
		sn, v, err = snapshotWanted(tx, id, block.SnapshotCreating)
		return err
	})
	if err != nil {
		return err
	}
	store, err := s.backends.Of(v.Backend)
	if err != nil {
		return err
	}
	if err := store.CreateSnapshot(ctx, refOf(sn)); err != nil {
		return err
	}
	err = s.catalog.Update(ctx, func(tx *catalog.Tx) error {
		sn, _, err := snapshotWanted(tx, id, block.SnapshotCreating)
		if err != nil {
			return err
		}
		sn.Progress = "100%"
		if err := tx.UpdateSnapshot(sn); err != nil {
			return err
		}
		_, err = tx.MoveSnapshot(id, block.Done)
		return err
	})
	if err == nil {
		s.changed(v.ID)
	}
	return err
}

func (s *Service) runSnapshotDelete(ctx context.Context, t *job.Task) error {
	return s.eraseSnapshot(ctx, block.SnapshotID(t.Job.Subject), t.Job.ID)
}

// eraseSnapshot deletes a snapshot's row, and its bytes unless somebody else
// holds them: whoever lets go of them last deletes them then. It waits for
// volumes that are being made of the snapshot, and for other jobs than its own.
func (s *Service) eraseSnapshot(ctx context.Context, id block.SnapshotID, own block.JobID) error {
	var sn block.Snapshot
	var v block.Volume
	var now bool
	s.exports.revokeSnapshot(id)
	err := s.catalog.Update(ctx, func(tx *catalog.Tx) (err error) {
		if sn, v, err = snapshotWanted(tx, id, block.SnapshotDeleting); err != nil {
			return err
		}
		works, err := read(tx, "snapshot_id", string(id))
		if !works && err == nil {
			works, err = busy(tx, string(id), own)
		}
		if (works || s.exports.reading(v.ID, id)) && err == nil {
			return job.Snooze(snoozeTime, nil)
		}
		if err != nil {
			return err
		}
		now, err = tx.ReleaseSnapshot(v.ID, block.PointID(id))
		return err
	})
	if err != nil {
		return err
	}
	if now {
		store, err := s.backends.Of(v.Backend)
		if err != nil {
			return err
		}
		if err := ignoring(block.NotFound, store.DeleteSnapshot(ctx, refOf(sn))); err != nil {
			return err
		}
	}
	err = s.catalog.Update(ctx, func(tx *catalog.Tx) error {
		if _, _, err := snapshotWanted(tx, id, block.SnapshotDeleting); err != nil {
			return err
		}
		_, err := tx.MoveSnapshot(id, block.Done)
		return err
	})
	if err == nil {
		s.changed(v.ID)
	}
	return err
}

// gaveUpSnapshot is gaveUpVolume for snapshots.
func gaveUpSnapshot(in block.SnapshotStatus) func(*catalog.Tx, block.Job, error) error {
	return func(tx *catalog.Tx, j block.Job, cause error) error {
		sn, err := tx.Snapshot(block.SnapshotID(j.Subject))
		if err != nil || sn.Status != in {
			return ignoring(block.NotFound, err)
		}
		if _, err = tx.MoveSnapshot(sn.ID, block.Fail); err != nil {
			return err
		}
		what, why := actionSnapshot, detailSnapshot
		if j.Kind != jobSnapshotCreate {
			what, why = actionSnapshotDelete, detailSnapshotDelete
		}
		return tell(tx, sn.Project, j.RequestID, aboutSnapshot, string(sn.ID), what, why, cause)
	}
}
