package control

import (
	"context"
	"errors"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/job"
	"kvol/internal/placement"
)

// Whether a retype may move a volume to another backend.
const (
	MigrateNever    = "never"
	MigrateOnDemand = "on-demand"
)

type retypeArgs struct {
	Type   block.TypeID `json:"type"`
	Policy string       `json:"policy"`
	// Placed says that Backend was chosen; "" is none then. GiB is what the volume is
	// promised there while it moves.
	Placed  bool   `json:"placed"`
	Backend string `json:"backend"`
	GiB     int64  `json:"gib,omitempty"`
}

// RetypeVolume states the intent to give a volume another type, by name or id.
// A type of another backend moves the volume there, if policy is
// MigrateOnDemand (cinder/volume/api.py, retype).
func (s *Service) RetypeVolume(ctx context.Context, c block.Caller, id block.VolumeID, newType, policy string) error {
	if err := s.measureRooms(ctx); err != nil {
		return err
	}
	var at placed
	err := s.changeVolume(ctx, c, id, "volume:retype", func(tx *catalog.Tx, v block.Volume) error {
		t, err := typeOf(tx, c, newType)
		if err != nil {
			return err
		}
		if err := first(notStale(v), mayChangeSharing(c, v, t), mayRetype(tx, v, t)); err != nil {
			return err
		}
		if s.protected(v.TypeID) && v.TypeID != t.ID {
			return invalidVolume("Volume %s is replicated as a volume of its type, which can't change.", id)
		}
		err = first(checkTypeSize(&t, v.Size), mayReencrypt(tx, v, t), roomForType(tx, v, t), s.mayLease(tx, v, t))
		if err != nil {
			return err
		}
		if _, err := s.availabilityZone(&v.AvailabilityZone, &t); err != nil {
			return err
		}
		if _, err := tx.MoveVolume(id, block.Retype); err != nil {
			return refusal(err, cantRetype())
		}
		args, p, err := s.placeRetyped(tx, v, t, policy)
		at = p
		return first(
			err,
			enqueueBeside(tx, block.Job{Kind: jobVolumeRetype, Subject: string(id), Beside: args.Backend}, args),
		)
	})
	if err == nil {
		s.tellPlaced(ctx, at)
	}
	return err
}

// placeRetyped chooses where a volume of another type lies: where it is, if that
// is as the type wants it, else where the type's volumes lie, if it may move
// (cinder/scheduler/filter_scheduler.py, find_retype_backend).
func (s *Service) placeRetyped(tx *catalog.Tx, v block.Volume, t block.VolumeType, policy string) (retypeArgs, placed,
	error) {
	args, p := retypeArgs{Type: t.ID, Policy: policy, Placed: true}, placed{what: "retype", volume: v, size: v.Size}
	if b, ok := s.backends.Backend(v.Backend); ok && s.satisfies(b, t) {
		args.Backend = v.Backend // also where nothing new is placed
		p.decision.Candidates = []placement.Candidate{{Backend: v.Backend}}
		return args, p, nil
	}
	r := placement.Request{Size: v.Size, Specs: t.ExtraSpecs, Zones: []string{v.AvailabilityZone}, At: v.Backend}
	if only := s.defaultBackend(&t); only != "" {
		r.Only = []string{only}
	}
	if policy != MigrateOnDemand {
		r.Only = []string{v.Backend}
	}
	var err error
	if p.decision, err = s.place(tx, r, s.protected(t.ID)); err != nil {
		return args, p, err
	}
	if args.Backend = p.decision.Backend(); args.Backend == "" {
		return args, p, p.keep(tx)
	}
	args.GiB = v.Size
	return args, p, nil
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
	return err
}

// mayChangeSharing is the rule for a type of which several hosts may attach
// volumes, or of which none may.
func mayChangeSharing(c block.Caller, v block.Volume, t block.VolumeType) error {
	shared := t.ExtraSpecs["multiattach"] == isTrue
	if shared == v.Multiattach {
		return nil
	}
	if v.Status != block.VolumeAvailable {
		return invalidInput("Invalid volume_type passed, retypes affecting multiattach are only allowed on available "+
			"volumes, the specified volume however currently has a status of: %s.", v.Status)
	}
	if !shared {
		return nil
	}
	return authorize(c, ruleMultiattach, membersRule, volumeTarget(v))
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

// mayLease refuses a volume that hosts use past the exports for a type whose volumes
// are written to while a lease is held: nothing would keep those hosts from writing.
func (s *Service) mayLease(tx *catalog.Tx, v block.Volume, t block.VolumeType) error {
	if len(s.leasesOf(block.Volume{TypeID: t.ID})) == 0 {
		return nil
	}
	return notLent(tx, v, "a lease, which volumes of type "+t.Name+" need, can't be kept for it")
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
	if err := s.retype(ctx, t, v, args); err != nil {
		return s.unwantedMove(ctx, t, err)
	}
	s.changed(v.ID)
	v.TypeID = args.Type
	s.exports.retyped(v)
	return s.exports.retune(ctx)
}

func (s *Service) retype(ctx context.Context, t *job.Task, v block.Volume, args retypeArgs) error {
	var to block.VolumeType
	var wanted *block.VolumeEncryption
	var begun block.Reencryption
	var swaps bool
	err := s.catalog.View(ctx, func(tx *catalog.Tx) (err error) {
		if begun, swaps, err = swapping(tx, v.ID); err != nil {
			return err
		}
		if to, err = tx.Type(args.Type); err != nil {
			return err
		}
		wanted, err = wantedEncryption(tx, &to)
		return err
	})
	if swaps {
		return s.undisturbed(v.ID, func() error { return s.swap(ctx, begun) })
	}
	if err != nil {
		return err
	}
	backend := args.Backend
	if !args.Placed { // by a program that did not choose yet
		if backend, err = s.retypedBackend(v, to); err != nil {
			return err
		}
	}
	if backend == "" {
		return errNoBackend
	}
	commit := func(tx *catalog.Tx, v block.Volume) error { return s.retyped(tx, v, args.Type, backend) }
	same := wanted.Same(v.Encryption)
	switch {
	case backend == v.Backend && same:
		return s.finish(ctx, v.ID, []block.VolumeStatus{block.VolumeRetyping}, commit)
	case args.Policy != MigrateOnDemand && same:
		return errNoBackend // as Cinder's scheduler finds none
	case args.Policy != MigrateOnDemand:
		return errNeedsMigration
	}
	if backend != v.Backend {
		if err := s.schedule(ctx, backend); err != nil {
			return err
		}
	}
	if same {
		return s.move(ctx, t, v, backend, commit)
	}
	return s.reencrypt(ctx, t, v, backend, wanted, func(tx *catalog.Tx, v *block.Volume) error {
		return s.giveType(tx, v, args.Type, backend)
	})
}

// retypedBackend is where a volume of another type lies: where it is, if that
// is as the type wants it.
func (s *Service) retypedBackend(v block.Volume, t block.VolumeType) (string, error) {
	if b, ok := s.backends.Backend(v.Backend); ok && s.satisfies(b, t) {
		return v.Backend, nil
	}
	return s.backendOf(&t)
}

// retyped ends a retype.
func (s *Service) retyped(tx *catalog.Tx, v block.Volume, id block.TypeID, backend string) error {
	if err := s.giveType(tx, &v, id, backend); err != nil {
		return err
	}
	if v.Migrating() {
		v.MigrationStatus = block.MigrationSuccess
	}
	if err := tx.UpdateVolume(v); err != nil {
		return err
	}
	_, err := tx.MoveVolume(v.ID, block.Done)
	return err
}

// giveType makes a volume one of a type, but for its row: the type's quotas are
// asked again, since others may have taken what was left.
func (s *Service) giveType(tx *catalog.Tx, v *block.Volume, id block.TypeID, backend string) error {
	t, err := tx.Type(id)
	if err != nil {
		return err
	}
	if err := first(roomForType(tx, *v, t), s.mayLease(tx, *v, t)); err != nil {
		return err
	}
	v.TypeID, v.Backend, v.Multiattach = t.ID, backend, t.ExtraSpecs["multiattach"] == isTrue
	if s.protected(t.ID) {
		v.ReplicationStatus = block.ReplicationEnabled
	}
	return nil
}

// gaveUpRetype leaves the volume as it was, and tells its project. Where there is
// no way back the job begins anew: its process ended too often.
func gaveUpRetype(tx *catalog.Tx, j block.Job, cause error) error {
	if _, swaps, err := swapping(tx, block.VolumeID(j.Subject)); swaps || err != nil {
		return first(err, enqueueBeside(tx, block.Job{Kind: j.Kind, Subject: j.Subject, Beside: j.Beside}, j.Args))
	}
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
	case errors.Is(cause, errNeedsMigration):
		why = detailMigration
	case errors.Is(cause, errNoHeaderRoom):
		why = detailHeaderRoom
	case errors.Is(cause, errNoContainer):
		why = detailContainer
	}
	return tellOfVolume(tx, v, j, what, why, cause)
}
