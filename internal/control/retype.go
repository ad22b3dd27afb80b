package control

import (
	"context"
	"errors"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/job"
)

// Whether a retype may move a volume to another backend.
const (
	MigrateNever    = "never"
	MigrateOnDemand = "on-demand"
)

type retypeArgs struct {
	Type   block.TypeID `json:"type"`
	Policy string       `json:"policy"`
}

// RetypeVolume states the intent to give a volume another type, by name or id.
// A type of another backend moves the volume there, if policy is
// MigrateOnDemand (cinder/volume/api.py, retype).
func (s *Service) RetypeVolume(ctx context.Context, c block.Caller, id block.VolumeID, newType, policy string) error {
	return s.changeVolume(ctx, c, id, "volume:retype", func(tx *catalog.Tx, v block.Volume) error {
		t, err := typeOf(tx, c, newType)
		if err != nil {
			return err
		}
		if err := first(notStale(v), mayRetype(tx, v, t)); err != nil {
			return err
		}
		if s.protected(v.TypeID) && v.TypeID != t.ID {
			return invalidVolume("Volume %s is replicated as a volume of its type, which can't change.", id)
		}
		if err := first(checkTypeSize(&t, v.Size), sameEncryption(tx, v, t), roomForType(tx, v, t)); err != nil {
			return err
		}
		if _, err := s.availabilityZone(&v.AvailabilityZone, &t); err != nil {
			return err
		}
		if _, err := tx.MoveVolume(id, block.Retype); err != nil {
			return refusal(err, cantRetype())
		}
		return enqueue(tx, jobVolumeRetype, string(id), retypeArgs{Type: t.ID, Policy: policy})
	})
}

// cantRetype is the one sentence that Cinder has for all of it.
func cantRetype() error {
	return invalidVolume("Retype needs volume to be in available or in-use state, not be part of an active " +
		"migration or a consistency group, requested type has to be different that the one from the volume, and " +
		"for in-use volumes front-end qos specs cannot change.")
}

func mayRetype(tx *catalog.Tx, v block.Volume, t block.VolumeType) error {
	if v.Status != block.VolumeAvailable && v.Status != block.VolumeInUse || v.Migrating() || v.GroupID != nil ||
		v.TypeID == t.ID {
		return cantRetype()
	}
	if v.Status == block.VolumeAvailable {
		return nil
	}
	was, err := frontEndQoS(tx, v.TypeID)
	if err != nil {
		return err
	}
	is, err := frontEndQoS(tx, t.ID)
	if err == nil && was != is {
		err = cantRetype()
	}
	if err == nil && v.Multiattach != (t.ExtraSpecs["multiattach"] == isTrue) {
		err = invalidInput("Invalid volume_type passed: multiattach can't change while volume %s is %s.", v.ID, v.Status)
	}
	return err
}

// sameEncryption refuses a type whose volumes are encrypted in another way, or
// not at all: bytes move as they are.
func sameEncryption(tx *catalog.Tx, v block.Volume, t block.VolumeType) error {
	wanted, err := wantedEncryption(tx, &t)
	if err == nil && !wanted.Same(v.Encryption) {
		err = invalidInput("Volume %s can't become one of type %s, which encrypts in another way.", v.ID, t.Name)
	}
	return err
}

// frontEndQoS is the id of the QoS specs that a type's hosts keep; "" for none.
func frontEndQoS(tx *catalog.Tx, id block.TypeID) (string, error) {
	if id == "" {
		return "", nil
	}
	q, _, err := tx.QoSOfType(id)
	if err != nil || q.Consumer == block.QoSBackEnd {
		return "", err
	}
	return q.ID, nil
}

// roomForType keeps the quotas of a type that a volume is to have. What is not
// bound to the type is in use already.
func roomForType(tx *catalog.Tx, v block.Volume, t block.VolumeType) error {
	snapshots, err := tx.SnapshotsOf(v.ID)
	if err != nil {
		return err
	}
	delta := block.Usage{"volumes_" + t.Name: 1, "gigabytes_" + t.Name: v.Size}
	for _, sn := range snapshots {
		if sn.Project == v.Project {
			delta["snapshots_"+t.Name]++
			delta["gigabytes_"+t.Name] += sn.Size
		}
	}
	return checkQuota(tx, v.Project, delta)
}

// runRetype changes the type where that is all there is to do, and else moves
// the volume to the type's backend first.
func (s *Service) runRetype(ctx context.Context, t *job.Task) error {
	var args retypeArgs
	if err := t.Args(&args); err != nil {
		return err
	}
	v, err := s.wanted(ctx, block.VolumeID(t.Job.Subject), block.VolumeRetyping)
	if err != nil {
		return s.unwantedMove(ctx, t, err)
	}
	var to block.VolumeType
	err = s.catalog.View(ctx, func(tx *catalog.Tx) error {
		to, err = tx.Type(args.Type)
		return err
	})
	if err != nil {
		return err
	}
	backend, err := s.retypedBackend(v, to)
	if err != nil {
		return err
	}
	commit := func(tx *catalog.Tx, v block.Volume) error { return s.retyped(tx, v, args.Type, backend) }
	switch {
	case backend == v.Backend:
		err = s.finish(ctx, v.ID, []block.VolumeStatus{block.VolumeRetyping}, commit)
	case args.Policy != MigrateOnDemand:
		return errNoBackend // as Cinder's scheduler finds none
	default:
		if err = s.schedule(ctx, backend); err == nil {
			err = s.move(ctx, t, v, backend, commit)
		}
	}
	if err != nil {
		return s.unwantedMove(ctx, t, err)
	}
	s.changed(v.ID)
	return s.exports.retune(ctx)
}

// retypedBackend is where a volume of another type lies: where it is, if that
// is as the type wants it.
func (s *Service) retypedBackend(v block.Volume, t block.VolumeType) (string, error) {
	if b, ok := s.backends.Backend(v.Backend); ok && s.satisfies(b, t) {
		return v.Backend, nil
	}
	return s.backendOf(&t)
}

// retyped ends a retype: the type's quotas are asked again, since others may
// have taken what was left.
func (s *Service) retyped(tx *catalog.Tx, v block.Volume, id block.TypeID, backend string) error {
	t, err := tx.Type(id)
	if err != nil {
		return err
	}
	if err := roomForType(tx, v, t); err != nil {
		return err
	}
	v.TypeID, v.Backend, v.Multiattach = t.ID, backend, t.ExtraSpecs["multiattach"] == isTrue
	if s.protected(t.ID) {
		v.ReplicationStatus = block.ReplicationEnabled
	}
	if v.Migrating() {
		v.MigrationStatus = block.MigrationSuccess
	}
	if err := tx.UpdateVolume(v); err != nil {
		return err
	}
	_, err = tx.MoveVolume(v.ID, block.Done)
	return err
}

// gaveUpRetype leaves the volume as it was, and tells its project.
func gaveUpRetype(tx *catalog.Tx, j block.Job, cause error) error {
	return gaveUpMove(tx, j, cause, actionRetype, func(v block.Volume) bool { return v.Status == block.VolumeRetyping })
}

func gaveUpMigrate(tx *catalog.Tx, j block.Job, cause error) error {
	return gaveUpMove(tx, j, cause, actionMigrate, block.Volume.Migrating)
}

func gaveUpMove(tx *catalog.Tx, j block.Job, cause error, what happening, wanted func(block.Volume) bool) error {
	v, err := tx.Volume(block.VolumeID(j.Subject))
	if err != nil || !wanted(v) {
		return ignoring(block.NotFound, err)
	}
	if v.Migrating() {
		v.MigrationStatus = block.MigrationError
		if err := tx.UpdateVolume(v); err != nil {
			return err
		}
	}
	if v.Status == block.VolumeRetyping || v.Status == block.VolumeMaintenance {
		if _, err := tx.MoveVolume(v.ID, block.Fail); err != nil {
			return err
		}
	}
	why := detailMove
	switch {
	case errors.Is(cause, errBound):
		why = detailSnapshots
	case errors.Is(cause, errOutrun):
		why = detailOutrun
	}
	return tellOfVolume(tx, v, j, what, why, cause)
}
