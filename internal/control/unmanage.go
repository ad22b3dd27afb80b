package control

import (
	"context"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/job"
)

// UnmanageVolume states the intent to forget a volume and to leave its bytes
// where they are, for administrators. The rules are those of deleting it.
func (s *Service) UnmanageVolume(ctx context.Context, c block.Caller, id block.VolumeID) error {
	if _, err := s.Volume(ctx, c, id); err != nil {
		return err
	}
	if err := mustAdminister(c, "volume_extension:volume_unmanage"); err != nil {
		return err
	}
	err := s.catalog.Update(ctx, func(tx *catalog.Tx) error {
		v, err := volumeOf(tx, c, id)
		if err != nil {
			return err
		}
		snapshots, err := tx.SnapshotsOf(id)
		if err != nil {
			return err
		}
		if v.Attached() || v.GroupID != nil || v.Migrating() || v.Encrypted || len(snapshots) > 0 {
			return invalidVolume(cantDelete)
		}
		if err := notFrozen(tx, v.Backend); err != nil {
			return err
		}
		if _, err := tx.MoveVolume(id, block.Delete); err != nil {
			return refusal(err, invalidVolume(cantDelete))
		}
		return enqueue(tx, jobVolumeUnmanage, string(id), nil)
	})
	if err == nil {
		s.exports.revoke(id)
	}
	return err
}

// runUnmanage waits until nobody works on the volume or has it open.
func (s *Service) runUnmanage(ctx context.Context, t *job.Task) error {
	v, err := s.wanted(ctx, block.VolumeID(t.Job.Subject), block.VolumeDeleting)
	if err != nil {
		return err
	}
	if err := s.cutOff(ctx, v.ID); err != nil {
		return err
	}
	err = s.finish(ctx, v.ID, []block.VolumeStatus{block.VolumeDeleting}, func(tx *catalog.Tx, v block.Volume) error {
		if err := alone(tx, v.ID, t.Job.ID); err != nil {
			return err
		}
		if works, err := busy(tx, moveEnd(v.ID), 0); works || err != nil { // it would take these bytes for left behind
			return first(err, job.Snooze(snoozeTime, nil))
		}
		if err := tx.VolumeGone(v.ID); err != nil {
			return err
		}
		_, err := tx.MoveVolume(v.ID, block.Done)
		return err
	})
	if err == nil {
		s.exports.forget(v.ID)
		s.changed(v.ID)
	}
	return err
}

// UnmanageSnapshot is UnmanageVolume for snapshots.
func (s *Service) UnmanageSnapshot(ctx context.Context, c block.Caller, id block.SnapshotID) error {
	if _, err := s.Snapshot(ctx, c, id); err != nil {
		return err
	}
	if err := mustAdminister(c, "snapshot_extension:snapshot_unmanage"); err != nil {
		return err
	}
	return s.catalog.Update(ctx, func(tx *catalog.Tx) error {
		sn, err := snapshotOf(tx, c, id)
		if err != nil {
			return err
		}
		refused := invalidSnapshot("Snapshot status must be available or error and must not be part of a group.")
		if sn.GroupSnapshotID != nil {
			return refused
		}
		if _, err := tx.MoveSnapshot(id, block.Unmanage); err != nil {
			return refusal(err, refused)
		}
		return enqueue(tx, jobSnapshotUnmanage, string(id), nil)
	})
}

// runSnapshotUnmanage waits until nobody reads the snapshot.
func (s *Service) runSnapshotUnmanage(ctx context.Context, t *job.Task) error {
	id := block.SnapshotID(t.Job.Subject)
	s.exports.revokeSnapshot(id)
	var of block.VolumeID
	err := s.catalog.Update(ctx, func(tx *catalog.Tx) error {
		_, v, err := snapshotWanted(tx, id, block.SnapshotUnmanaging)
		if err != nil {
			return err
		}
		of = v.ID
		works, err := read(tx, "snapshot_id", string(id))
		if works || err == nil && s.exports.reading(v.ID, id) {
			err = first(err, job.Snooze(snoozeTime, nil))
		}
		if err != nil {
			return err
		}
		_, err = tx.MoveSnapshot(id, block.Done)
		return err
	})
	if err == nil {
		s.changed(of)
	}
	return err
}
