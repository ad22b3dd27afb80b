package control

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/driver"
	"kvol/internal/job"
	"kvol/internal/placement"
	"kvol/internal/recovery"
)

// The kinds of jobs. Their subject is the id of a volume or a snapshot.
const (
	jobVolumeCreate     = "volume.create"
	jobVolumeDelete     = "volume.delete"
	jobVolumeExtend     = "volume.extend"
	jobVolumeUpload     = "volume.upload"
	jobSnapshotCreate   = "snapshot.create"
	jobSnapshotDelete   = "snapshot.delete"
	jobSnapshotUnmanage = "snapshot.unmanage"
	jobVolumeRevert     = "volume.revert"
	jobVolumeReimage    = "volume.reimage"
	jobVolumeRetype     = "volume.retype"
	jobVolumeMigrate    = "volume.migrate"
	jobVolumeUnmanage   = "volume.unmanage"
	jobMoveEnd          = "move.end"   // what a move leaves on the backend where the volume is not
	jobPointDrop        = "point.drop" // an internal snapshot that has served
	jobImageDrop        = "image.drop" // an image whose upload failed

	jobBackupCreate  = "backup.create"  // subject: the backup
	jobBackupRestore = "backup.restore" // the volume
	jobBackupDelete  = "backup.delete"  // the backup
	jobBackupImport  = "backup.import"  // the backup
	jobBackupCollect = "backup.collect" // the location in the repository

	jobGroupCreate         = "group.create" // of a source
	jobGroupDelete         = "group.delete"
	jobGroupSnapshotCreate = "group_snapshot.create"
	jobGroupSnapshotDelete = "group_snapshot.delete"
)

// snoozeTime is how long a job waits for another one to get out of its way.
const snoozeTime = 500 * time.Millisecond

// asker is whose rights a job has with the image service: those of who asked.
type asker struct {
	Roles []string `json:"roles"`
	Token []byte   `json:"token,omitempty"` // sealed
}

func (s *Service) asker(c block.Caller) asker { return asker{c.Roles, s.sealer.SealToken(c.Token)} }

// caller is the asker as it asked.
func (s *Service) caller(project block.ProjectID, user block.UserID, a asker) (block.Caller, error) {
	token, err := s.sealer.OpenToken(a.Token)
	return block.Caller{Project: project, User: user, Roles: a.Roles, Token: token}, err
}

type createArgs struct {
	Image string `json:"image,omitempty"` // id
	asker
	// Place is what place the volume wants; nil where there is one backend only.
	Place *placement.Request `json:"place,omitempty"`
}

type extendArgs struct {
	Old int64 `json:"old"` // GiB
	New int64 `json:"new"`
}

type uploadArgs struct {
	Image  string `json:"image"` // id
	Format string `json:"format"`
	asker
	Project block.ProjectID `json:"project"` // of who asked
	User    block.UserID    `json:"user"`
}

type dropArgs struct {
	Backend string         `json:"backend"`
	Volume  block.VolumeID `json:"volume"`
	Name    block.PointID  `json:"name"`
}

func enqueue(tx *catalog.Tx, kind, subject string, args any) error {
	return enqueueBeside(tx, block.Job{Kind: kind, Subject: subject}, args)
}

// enqueueBeside enqueues a job that says itself which backends it needs: it is counted
// where it may have to wait.
func enqueueBeside(tx *catalog.Tx, j block.Job, args any) (err error) {
	if j.Args, err = json.Marshal(args); err == nil {
		_, err = tx.EnqueueJob(j)
	}
	return err
}

// Handlers returns the handlers of the jobs that the Service enqueues, by kind.
func (s *Service) Handlers() map[string]job.Handler {
	return map[string]job.Handler{
		jobVolumeCreate:     handler{s.runCreate, gaveUpVolume(block.VolumeCreating, block.VolumeDownloading)},
		jobVolumeDelete:     handler{s.runDelete, gaveUpDelete},
		jobVolumeExtend:     changes{handler{s.runExtend, gaveUpExtend}, s},
		jobVolumeUpload:     changes{handler{s.runUpload, gaveUpUpload}, s},
		jobVolumeRevert:     changes{handler{s.runRevert, gaveUpRevert}, s},
		jobVolumeReimage:    changes{handler{s.runReimage, gaveUpVolume(block.VolumeDownloading)}, s},
		jobVolumeRetype:     changes{handler{s.runRetype, gaveUpRetype}, s},
		jobVolumeMigrate:    changes{handler{s.runMigrate, gaveUpMigrate}, s},
		jobVolumeUnmanage:   handler{s.runUnmanage, gaveUpVolume(block.VolumeDeleting)},
		jobMoveEnd:          handler{s.runMoveEnd, nobody},
		jobSnapshotUnmanage: handler{s.runSnapshotUnmanage, gaveUpSnapshot(block.SnapshotUnmanaging)},
		jobSnapshotCreate:   handler{s.runSnapshotCreate, gaveUpSnapshot(block.SnapshotCreating)},
		jobSnapshotDelete:   handler{s.runSnapshotDelete, gaveUpSnapshot(block.SnapshotDeleting)},
		jobPointDrop:        handler{s.runPointDrop, nobody},
		jobImageDrop:        lasting{handler{s.runImageDrop, nobody}},
		jobGroupCreate:      handler{s.runGroupCreate, gaveUpGroupCreate},
		jobGroupDelete:      handler{s.runGroupDelete, gaveUpGroupDelete},
		jobBackupCreate:     handler{s.runBackup, gaveUpBackup},
		jobBackupRestore:    handler{s.runRestore, s.gaveUpRestoring},
		jobBackupDelete:     handler{s.runBackupDelete, gaveUpBackupDelete},
		jobBackupImport:     handler{s.runBackupImport, gaveUpBackupImport},
		jobBackupCollect:    handler{s.runBackupCollect, nobody},
		jobGroupSnapshotCreate: handler{s.runGroupSnapshotCreate,
			gaveUpGroupSnapshot(block.GroupCreating, block.SnapshotCreating)},
		jobGroupSnapshotDelete: handler{s.runGroupSnapshotDelete,
			gaveUpGroupSnapshot(block.GroupDeleting, block.SnapshotDeleting)},
		jobServerTell: handler{s.runTell, gaveUpTell},
		jobHosts:      handler{s.runHosts, nobody},
		jobFailover:   handler{s.runFailover, nobody},
		jobOperation:  handler{s.runOperation, gaveUpOperation},
		jobVerify:     handler{s.runVerify, gaveUpVerify},
		jobUndo:       handler{s.runUndo, nobody},
		jobDrill:      drillHandler{handler{s.runDrill, s.gaveUpDrill}},
		jobDrillClean: drillHandler{handler{s.runDrillClean, nobody}},

		jobBackendFailover: handler{s.runBackendFailover, gaveUpBackend},
		jobBackendFailback: handler{s.runBackendFailback, gaveUpFailback},
		recovery.JobKind:   s.recoveryHandler(),
	}
}

// handler is a job.Handler of two functions.
type handler struct {
	run    func(context.Context, *job.Task) error
	gaveUp func(*catalog.Tx, block.Job, error) error
}

// Retries implements job.Patience: about ten minutes in all, short at first,
// since somebody waits.
func (h handler) Retries() job.Retries {
	return job.Retries{Attempts: 12, First: 200 * time.Millisecond, Max: 2 * time.Minute}
}

// Run implements job.Handler. What can't get better by itself is given up, unless
// the job said itself that it waits.
func (h handler) Run(ctx context.Context, t *job.Task) error {
	err := h.run(ctx, t)
	switch {
	case err == nil, errors.Is(err, errUnwanted):
		return nil
	case job.Waits(err):
		return err
	case hopeless(err):
		return job.GiveUp(err)
	}
	return err
}

// GaveUp implements job.Handler.
func (h handler) GaveUp(tx *catalog.Tx, j block.Job, cause error) error {
	return h.gaveUp(tx, j, cause)
}

// lasting is a handler of what nobody waits for and nobody else does: it is tried
// for two days, for which Keystone takes the token of who asked
// (allow_expired_window).
type lasting struct{ handler }

// Retries implements job.Patience.
func (lasting) Retries() job.Retries {
	return job.Retries{Attempts: 300, First: 200 * time.Millisecond, Max: 10 * time.Minute}
}

func nobody(*catalog.Tx, block.Job, error) error { return nil }

// errUnwanted ends a job whose subject went on without it: it was deleted, or
// an administrator set its status.
var errUnwanted = errors.New("the job's subject went on without it")

// hopeless reports whether the next attempt at a job would fail the same way.
func hopeless(err error) bool {
	return slices.Contains([]block.Kind{block.Invalid, block.NotFound, block.NoSpace, block.Corrupt,
		block.Unsupported, block.Forbidden, block.OverLimit}, block.KindOf(err))
}

// wanted returns a job's volume if it is still in a status that the job works
// in, else errUnwanted.
func (s *Service) wanted(ctx context.Context, id block.VolumeID, in ...block.VolumeStatus) (v block.Volume, err error) {
	err = s.catalog.View(ctx, func(tx *catalog.Tx) error {
		v, err = tx.Volume(id)
		return err
	})
	if block.Is(err, block.NotFound) || err == nil && !slices.Contains(in, v.Status) {
		err = errUnwanted
	}
	return v, err
}

// finish ends a job's work on a volume in one transaction, if the volume is
// still in a status that the job works in.
func (s *Service) finish(ctx context.Context, id block.VolumeID, in []block.VolumeStatus,
	fn func(*catalog.Tx, block.Volume) error) error {
	return s.catalog.Update(ctx, func(tx *catalog.Tx) error {
		v, err := tx.Volume(id)
		if block.Is(err, block.NotFound) || err == nil && !slices.Contains(in, v.Status) {
			return errUnwanted
		}
		if err != nil {
			return err
		}
		return fn(tx, v)
	})
}

// progress returns a function that tells how far a long job is, and stops it
// by an error when its volume went on without it.
func (s *Service) progress(ctx context.Context, t *job.Task, step string, total int64,
	in ...block.VolumeStatus) func(done int64) error {
	next := int64(checkEvery)
	return func(done int64) error {
		t.Progress(step, done, total)
		if done < next {
			return ctx.Err()
		}
		next = done + checkEvery
		_, err := s.wanted(ctx, block.VolumeID(t.Job.Subject), in...)
		return err
	}
}

// busy reports whether another job than except works on a subject or is about
// to.
func busy(tx *catalog.Tx, subject string, except block.JobID) (bool, error) {
	jobs, err := tx.JobsOf(subject)
	return slices.ContainsFunc(jobs, func(j block.Job) bool {
		return j.ID != except && (j.State == block.JobReady || j.State == block.JobRunning)
	}), err
}

// read reports whether some volume is being made of what a filter names.
func read(tx *catalog.Tx, column, id string) (bool, error) {
	volumes, err := tx.Volumes(block.ListQuery{Limit: -1,
		Filters: map[string]string{column: id, "status": string(block.VolumeCreating)}})
	if err != nil {
		return false, err
	}
	for _, v := range volumes {
		works, err := busy(tx, string(v.ID), 0)
		if v.GroupID != nil && !works && err == nil {
			works, err = busy(tx, string(*v.GroupID), 0)
		}
		if works || err != nil {
			return works, err
		}
	}
	return false, nil
}

// gaveUpVolume puts a volume that is in one of the job's statuses into the
// error status that follows it, and tells its project.
func gaveUpVolume(in ...block.VolumeStatus) func(*catalog.Tx, block.Job, error) error {
	return func(tx *catalog.Tx, j block.Job, cause error) error {
		v, err := tx.Volume(block.VolumeID(j.Subject))
		if err != nil || !slices.Contains(in, v.Status) {
			return ignoring(block.NotFound, err)
		}
		if v.SourceVolumeID != nil && j.Kind == jobVolumeCreate {
			if err := dropClonePoint(tx, v); err != nil {
				return err
			}
		}
		if _, err = tx.MoveVolume(v.ID, block.Fail); err != nil {
			return err
		}
		what, why := failureOf(j)
		return tellOfVolume(tx, v, j, what, why, cause)
	}
}

// failureOf is what a job that was given up says of a volume.
func failureOf(j block.Job) (what, why happening) {
	switch j.Kind {
	case jobVolumeDelete, jobVolumeUnmanage:
		return actionDelete, detailDelete
	case jobVolumeExtend:
		return actionExtend, detailExtend
	case jobVolumeUpload:
		return actionUpload, detailUpload
	case jobVolumeReimage:
		return actionReimage, detailUnknown
	case jobVolumeRevert:
		return actionRevert, detailRevert
	case jobVolumeCreate:
		var args createArgs
		if err := json.Unmarshal(j.Args, &args); err == nil && args.Image != "" {
			return actionDownload, detailUnknown
		}
	}
	return actionCreate, detailCreate
}

// dropPoint deletes an internal snapshot once the transaction has committed.
func dropPoint(tx *catalog.Tx, backend string, ref driver.SnapshotRef) error {
	return enqueueBeside(tx, block.Job{Kind: jobPointDrop, Subject: string(ref.Volume), Backend: backend},
		dropArgs{Backend: backend, Volume: ref.Volume, Name: ref.Name})
}

func (s *Service) runPointDrop(ctx context.Context, t *job.Task) error {
	var args dropArgs
	if err := t.Args(&args); err != nil {
		return err
	}
	store, err := s.backends.Of(args.Backend)
	if err != nil {
		return err
	}
	return ignoring(block.NotFound, store.DeleteSnapshot(ctx, driver.SnapshotRef{Volume: args.Volume, Name: args.Name}))
}

func (s *Service) runImageDrop(ctx context.Context, t *job.Task) error {
	var args uploadArgs
	if err := t.Args(&args); err != nil {
		return err
	}
	caller, err := s.caller(args.Project, args.User, args.asker)
	if err != nil {
		return err
	}
	return ignoring(block.NotFound, s.cfg.Images.Delete(ctx, caller, args.Image))
}
