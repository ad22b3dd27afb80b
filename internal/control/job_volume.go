package control

import (
	"context"
	"encoding/json"
	"time"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/driver"
	"kvol/internal/job"
)

// drainTime is how long a deletion waits for the last user of a volume before
// it tries again.
const drainTime = 5 * time.Second

func (s *Service) runDelete(ctx context.Context, t *job.Task) error {
	v, err := s.wanted(ctx, block.VolumeID(t.Job.Subject), block.VolumeDeleting)
	if err != nil {
		return err
	}
	return s.eraseVolume(ctx, v, t.Job.ID)
}

// eraseVolume deletes a volume's bytes, with whatever snapshots, and then its
// rows, in whose transaction its quota ends. It waits for other jobs than its
// own that work on the volume, and for volumes that are being made of it.
func (s *Service) eraseVolume(ctx context.Context, v block.Volume, own block.JobID) error {
	err := s.catalog.View(ctx, func(tx *catalog.Tx) error {
		works, err := busy(tx, string(v.ID), own)
		if !works && err == nil {
			works, err = read(tx, "source_volid", string(v.ID))
		}
		snapshots, snapErr := tx.SnapshotsOf(v.ID)
		for _, sn := range snapshots {
			if !works && err == nil {
				works, err = read(tx, "snapshot_id", string(sn.ID))
			}
		}
		if works && err == nil {
			return job.Snooze(snoozeTime, nil)
		}
		return first(err, snapErr)
	})
	if err != nil {
		return err
	}
	s.exports.revoke(v.ID)
	if err := s.deleteBytes(ctx, v); err != nil {
		return err
	}
	err = s.finish(ctx, v.ID, []block.VolumeStatus{block.VolumeDeleting}, func(tx *catalog.Tx, v block.Volume) error {
		if err := tx.VolumeGone(v.ID); err != nil {
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

func (s *Service) deleteBytes(ctx context.Context, v block.Volume) error {
	if v.Backend == "" {
		return nil // there was none that could take it
	}
	store, err := s.backends.Of(v.Backend)
	if err != nil {
		return err
	}
	drain, cancel := context.WithTimeout(ctx, drainTime)
	defer cancel()
	if err := s.devices.drained(drain, v.ID); err != nil {
		return err
	}
	if s.exports.reading(v.ID, "") {
		return job.Snooze(snoozeTime, nil)
	}
	s.exports.forget(v.ID)
	return s.removeBytes(ctx, store, v.ID)
}

// removeBytes removes a volume from a store. Whoever has it open keeps it there:
// replication, which may read it for hours, is told to let go, and has when the job
// tries again.
func (s *Service) removeBytes(ctx context.Context, store driver.Driver, id block.VolumeID) error {
	err := ignoring(block.NotFound, store.DeleteVolume(ctx, id))
	if block.Is(err, block.Conflict) && s.cfg.OnRemove != nil {
		s.cfg.OnRemove(id)
	}
	return err
}

// runExtend grows a volume's bytes, open or not.
func (s *Service) runExtend(ctx context.Context, t *job.Task) error {
	var args extendArgs
	if err := t.Args(&args); err != nil {
		return err
	}
	v, err := s.wanted(ctx, block.VolumeID(t.Job.Subject), block.VolumeExtending)
	if err != nil {
		return err
	}
	store, err := s.backends.Of(v.Backend)
	if err != nil {
		return err
	}
	if err := store.ExtendVolume(ctx, v.ID, args.New*block.GiB); err != nil {
		return err
	}
	err = s.finish(ctx, v.ID, []block.VolumeStatus{block.VolumeExtending}, func(tx *catalog.Tx, v block.Volume) error {
		if _, err := tx.MoveVolume(v.ID, block.Done); err != nil {
			return err
		}
		return s.tellServers(tx, v, eventExtended)
	})
	if err == nil {
		s.changed(v.ID)
	}
	return err
}

// gaveUpDelete puts the snapshots that were to go with the volume into their
// error status as well, but for those with a deletion of their own.
func gaveUpDelete(tx *catalog.Tx, j block.Job, cause error) error {
	snapshots, err := tx.SnapshotsOf(block.VolumeID(j.Subject))
	if err != nil {
		return err
	}
	for _, sn := range snapshots {
		if sn.Status != block.SnapshotDeleting {
			continue
		}
		if works, err := busy(tx, string(sn.ID), j.ID); works || err != nil {
			if err != nil {
				return err
			}
			continue
		}
		if _, err := tx.MoveSnapshot(sn.ID, block.Fail); err != nil {
			return err
		}
	}
	return gaveUpVolume(block.VolumeDeleting)(tx, j, cause)
}

// gaveUpExtend takes the row's size back to what it was.
func gaveUpExtend(tx *catalog.Tx, j block.Job, cause error) error {
	var args extendArgs
	if err := json.Unmarshal(j.Args, &args); err != nil {
		return err
	}
	v, err := tx.Volume(block.VolumeID(j.Subject))
	if err != nil || v.Status != block.VolumeExtending {
		return ignoring(block.NotFound, err)
	}
	v.Size = args.Old
	if err := tx.UpdateVolume(v); err != nil {
		return err
	}
	return gaveUpVolume(block.VolumeExtending)(tx, j, cause)
}
