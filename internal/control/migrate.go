package control

import (
	"context"
	"errors"
	"slices"
	"time"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/driver"
	"kvol/internal/job"
	"kvol/internal/placement"
)

// Migration is os-migrate_volume: where a volume is to move.
type Migration struct {
	Backend string
	Host    string // how the API calls the backend
	Lock    bool   // nobody else is to work on an available volume meanwhile
}

// migrateArgs say where a volume moves, and how many GiB are promised there while
// it does. The arguments of a retype say it by the same names.
type migrateArgs struct {
	Backend string `json:"backend"`
	GiB     int64  `json:"gib,omitempty"`
}

// moveEndArgs say between which backends a volume moved.
type moveEndArgs struct {
	Job    block.JobID    `json:"job"` // which moves it
	Volume block.VolumeID `json:"volume"`
	From   string         `json:"from"` // To, for a backend that could not make the volume
	To     string         `json:"to"`
}

// moveEndTime is how long the end of a move waits before it looks again whether
// the move is over.
const moveEndTime = time.Second

// forsakenTime is how long a store that could not make a volume is let alone
// before what it has of it is removed.
const forsakenTime = time.Minute

// errBound is why a volume can't leave its backend.
var errBound = block.Errorf(block.Invalid, "The volume has snapshots, belongs to a group or to "+
	"replication, or hosts use it past the exports.")

// MigrateVolume states the intent to move a volume to another backend, for
// administrators. It keeps its id and its type. Hosts that use it through the
// zone's exports notice a pause (cinder/volume/api.py, migrate_volume).
func (s *Service) MigrateVolume(ctx context.Context, c block.Caller, id block.VolumeID, m Migration) error {
	if _, err := s.Volume(ctx, c, id); err != nil {
		return err
	}
	if err := mustAdminister(c, "volume_extension:volume_admin_actions:migrate_volume"); err != nil {
		return err
	}
	if _, ok := s.backends.Backend(m.Backend); !ok || s.schedule(ctx, m.Backend) != nil {
		return block.Errorf(block.Invalid, "Invalid host: No available service named '%s'", m.Host)
	}
	if err := s.measureRooms(ctx); err != nil {
		return err
	}
	var at placed
	err := s.catalog.Update(ctx, func(tx *catalog.Tx) error {
		v, err := volumeOf(tx, c, id)
		if err != nil {
			return err
		}
		bound, err := s.bound(tx, v)
		if err != nil {
			return err
		}
		if bound || v.Migrating() || v.Backend == m.Backend ||
			v.Status != block.VolumeAvailable && v.Status != block.VolumeInUse {
			return invalidVolume("Volume %s status must be available or in-use, must not be migrating, have snapshots, "+
				"be replicated, be part of a group and destination host/cluster must be different than the current one", id)
		}
		if fits, err := s.moves(ctx, tx, &at, v, m.Backend); !fits || err != nil {
			return err
		}
		v.MigrationStatus = block.MigrationStarting
		if err := tx.UpdateVolume(v); err != nil {
			return err
		}
		if m.Lock && v.Status == block.VolumeAvailable {
			if _, err := tx.MoveVolume(id, block.Maintain); err != nil {
				return err
			}
		}
		return enqueueBeside(tx, block.Job{Kind: jobVolumeMigrate, Subject: string(id), Beside: m.Backend},
			migrateArgs{Backend: m.Backend, GiB: v.Size})
	})
	if err == nil {
		s.tellPlaced(ctx, at)
	}
	return err
}

// moves asks whether a backend has room for a volume that an administrator moves
// there; what its type wants does not matter then. Where it has none, the
// migration has failed, and its project is told.
func (s *Service) moves(ctx context.Context, tx *catalog.Tx, at *placed, v block.Volume, to string) (fits bool,
	err error) {
	t, err := typeByID(tx, v.TypeID)
	if err != nil {
		return false, err
	}
	*at = placed{what: "migrate", volume: v, size: v.Size}
	at.decision, err = s.place(tx, placement.Request{Size: v.Size, Specs: provisioning(t), Only: []string{to}}, false)
	if err != nil || at.decision.Backend() != "" {
		return err == nil, err
	}
	v.MigrationStatus = block.MigrationError
	return false, first(tx.UpdateVolume(v), at.keep(tx), tell(tx, v.Project, block.RequestID(ctx), aboutVolume,
		string(v.ID), actionMigrate, detailNoBackend, errNoBackend))
}

// provisioning is the one extra spec of a type that is about room.
func provisioning(t *block.VolumeType) map[string]string {
	const key = "provisioning:type"
	if t == nil || t.ExtraSpecs[key] == "" {
		return nil
	}
	return map[string]string{key: t.ExtraSpecs[key]}
}

// CompleteMigration is os-migrate_volume_completion, by which a compute service
// says that it moved a volume's bytes to another. Here moves need none, so there
// is nothing to complete (cinder/volume/api.py, migrate_volume_completion).
func (s *Service) CompleteMigration(
	ctx context.Context,
	c block.Caller,
	id, other block.VolumeID,
) (saved block.VolumeID,
	err error) {
	v, err := s.Volume(ctx, c, id)
	if err != nil {
		return "", err
	}
	if err := mustAdminister(c, "volume_extension:volume_admin_actions:migrate_volume_completion"); err != nil {
		return "", err
	}
	o, err := s.Volume(ctx, c, other)
	if err != nil {
		return "", err
	}
	switch {
	case v.MigrationStatus == "" && o.MigrationStatus == "":
		return o.ID, nil
	case v.MigrationStatus == "":
		return "", invalidVolume("Source volume not mid-migration.")
	case o.MigrationStatus == "":
		return "", invalidVolume("Destination volume not mid-migration.")
	}
	return "", invalidVolume("Destination has migration_status %s, expected target:%s.", o.MigrationStatus, id)
}

// bound reports whether a volume has to stay on its backend.
func (s *Service) bound(tx *catalog.Tx, v block.Volume) (bool, error) {
	snapshots, err := tx.SnapshotsOf(v.ID)
	if err != nil {
		return false, err
	}
	if _, lent, err := tx.Lent(v.ID); lent || err != nil {
		return lent, err // hosts would stay where the volume is not
	}
	cuts, err := tx.Cuts(v.ID)
	return len(snapshots)+len(cuts) > 0 || v.GroupID != nil || v.RecoveredTo != nil || s.protected(v.TypeID), err
}

// moveEnd is the subject of the job that ends the moves of a volume.
func moveEnd(id block.VolumeID) string { return string(id) + "/move" }

// endMove enqueues the end of a move. It needs both backends, wherever the volume is
// by then.
func endMove(tx *catalog.Tx, args moveEndArgs) error {
	j := block.Job{Kind: jobMoveEnd, Subject: moveEnd(args.Volume), Backend: args.From, Beside: args.To}
	return enqueueBeside(tx, j, args)
}

func (s *Service) runMigrate(ctx context.Context, t *job.Task) error {
	var args migrateArgs
	if err := t.Args(&args); err != nil {
		return err
	}
	v, err := s.migrating(ctx, block.VolumeID(t.Job.Subject))
	if err != nil {
		return s.unwantedMove(ctx, t, err)
	}
	commit := func(tx *catalog.Tx, v block.Volume) error {
		v.Backend, v.MigrationStatus = args.Backend, block.MigrationSuccess
		if err := tx.UpdateVolume(v); err != nil || v.Status != block.VolumeMaintenance {
			return err
		}
		_, err := tx.MoveVolume(v.ID, block.Done)
		return err
	}
	if err := s.move(ctx, t, v, args.Backend, commit); err != nil {
		return s.unwantedMove(ctx, t, err)
	}
	s.changed(v.ID)
	return nil
}

// whileMoving are the statuses in which a volume may change its backend; during
// others a job works on it.
var whileMoving = []block.VolumeStatus{block.VolumeAvailable, block.VolumeInUse, block.VolumeReserved,
	block.VolumeAttaching, block.VolumeDetaching, block.VolumeMaintenance, block.VolumeRetyping}

// migrating returns a volume if it still is to move.
func (s *Service) migrating(ctx context.Context, id block.VolumeID) (v block.Volume, err error) {
	err = s.catalog.View(ctx, func(tx *catalog.Tx) error {
		v, err = stillMigrating(tx, id)
		return err
	})
	return v, err
}

// stillMigrating is errUnwanted for a volume that is not to move any more, and
// puts a job off while another one works on the volume.
func stillMigrating(tx *catalog.Tx, id block.VolumeID) (block.Volume, error) {
	v, err := tx.Volume(id)
	switch {
	case block.Is(err, block.NotFound), err == nil && (!v.Migrating() || v.Status == block.VolumeDeleting):
		return v, errUnwanted
	case err == nil && !slices.Contains(whileMoving, v.Status):
		if !v.Status.Passing() {
			return v, errUnwanted
		}
		return v, job.Snooze(snoozeTime, nil)
	}
	return v, err
}

// unwantedMove ends the move of a volume that went on without it, so that what
// was copied is removed.
func (s *Service) unwantedMove(ctx context.Context, t *job.Task, err error) error {
	if !errors.Is(err, errUnwanted) {
		return err
	}
	return first(s.catalog.Update(ctx, func(tx *catalog.Tx) error {
		v, err := tx.Volume(block.VolumeID(t.Job.Subject))
		if err != nil {
			return ignoring(block.NotFound, err)
		}
		// What remains if an administrator reset the migration status alone.
		if v.Status == block.VolumeRetyping && t.Job.Kind == jobVolumeRetype ||
			v.Status == block.VolumeMaintenance && t.Job.Kind == jobVolumeMigrate {
			if _, err := tx.MoveVolume(v.ID, block.Fail); err != nil {
				return err
			}
		}
		if !v.Migrating() {
			return nil
		}
		v.MigrationStatus = block.MigrationError
		return tx.UpdateVolume(v)
	}), errUnwanted)
}

// beginMove notes that a volume moves, and who removes what stays behind. It
// waits for what works on the volume, and for the end of an earlier move.
func (s *Service) beginMove(ctx context.Context, t *job.Task, id block.VolumeID, to string) error {
	return s.catalog.Update(ctx, func(tx *catalog.Tx) error {
		v, err := tx.Volume(id)
		if err != nil || v.MigrationStatus == block.Migrating {
			return err
		}
		if bound, err := s.bound(tx, v); bound || err != nil {
			return first(err, errBound)
		}
		if err := alone(tx, id, t.Job.ID); err != nil {
			return err
		}
		if works, err := busy(tx, moveEnd(id), 0); works || err != nil {
			return first(err, job.Snooze(snoozeTime, nil))
		}
		v.MigrationStatus = block.Migrating
		return first(tx.UpdateVolume(v), endMove(tx, moveEndArgs{Job: t.Job.ID, Volume: id, From: v.Backend, To: to}))
	})
}

// runMoveEnd removes what a move leaves where the volume is not: its old bytes,
// or the copy if the move failed. It waits until the job that moves has ended;
// the volume's migration status may be that of the next move, which waits in turn
// for this end.
func (s *Service) runMoveEnd(ctx context.Context, t *job.Task) error {
	var args moveEndArgs
	if err := t.Args(&args); err != nil {
		return err
	}
	var v block.Volume
	err := s.catalog.View(ctx, func(tx *catalog.Tx) error {
		j, err := tx.Job(args.Job)
		if err == nil && (j.State == block.JobReady || j.State == block.JobRunning) {
			return job.Snooze(moveEndTime, nil)
		}
		if err := ignoring(block.NotFound, err); err != nil {
			return err
		}
		if v, err = tx.Volume(args.Volume); ignoring(block.NotFound, err) != nil {
			return err
		}
		if _, swaps, err := swapping(tx, args.Volume); err != nil || swaps && v.Status == block.VolumeRetyping {
			return first(err, job.Snooze(moveEndTime, nil))
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := s.dropReencryption(ctx, args.Volume, 0); err != nil {
		return err
	}
	for _, backend := range []string{args.From, args.To} {
		store, err := s.backends.Of(backend)
		if err != nil {
			return err
		}
		if v.ID == "" || !s.backends.Shared(backend, v.Backend) {
			err := s.removeBytes(ctx, store, args.Volume)
			if args.From == args.To && block.Is(err, block.Unavailable) {
				return job.Snooze(forsakenTime, err) // it was left because it failed: it may take long to come back
			}
			if err != nil {
				return err
			}
			continue
		}
		for _, name := range movePoints(args.Volume) {
			ref := driver.SnapshotRef{Volume: args.Volume, Name: name}
			if err := ignoring(block.NotFound, store.DeleteSnapshot(ctx, ref)); err != nil {
				return err
			}
		}
	}
	return nil
}
