package control

import (
	"context"
	"slices"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/job"
)

// changes is a handler of what is asked for while nothing else is being done to a volume,
// and which the volume shows until it is done: by its status, or that it migrates.
//
// So an older one that is open still beside a newer one has done its work: the newer one
// would have been refused. It was committed that the volume is as it was to be, and not
// that the job ended, since its process was killed between the two, or lost the catalog.
// It must not take what the volume shows for its own.
type changes struct {
	handler
	s *Service
}

// Run implements job.Handler.
func (c changes) Run(ctx context.Context, t *job.Task) error {
	over := false
	err := c.s.catalog.View(ctx, func(tx *catalog.Tx) (err error) {
		over, err = overtaken(tx, t.Job)
		return err
	})
	if over || err != nil {
		return err
	}
	return c.handler.Run(ctx, t)
}

// overtaken reports whether a job's work was done before a newer one was asked for. A
// volume that migrates may be extended and uploaded meanwhile.
func overtaken(tx *catalog.Tx, j block.Job) (bool, error) {
	after := []string{jobVolumeRetype, jobVolumeMigrate}
	if j.Kind != jobVolumeMigrate {
		after = append(after, jobVolumeExtend, jobVolumeUpload, jobVolumeRevert, jobVolumeReimage, jobBackupRestore)
	}
	newer, err := newerOf(tx, j, after)
	return len(newer) > 0, err
}

// newerOf lists the open jobs of a job's subject that were asked for after it.
func newerOf(tx *catalog.Tx, j block.Job, kinds []string) ([]block.Job, error) {
	jobs, err := tx.JobsOf(j.Subject)
	return slices.DeleteFunc(jobs, func(other block.Job) bool {
		return other.ID <= j.ID || !slices.Contains(kinds, other.Kind) ||
			other.State != block.JobReady && other.State != block.JobRunning
	}), err
}
