package control

import (
	"context"
	"errors"
	"slices"

	"kvol/internal/backup"
	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/job"
)

type collectArgs struct {
	Location string         `json:"location"`
	Drop     block.BackupID `json:"drop,omitempty"` // of a backup that failed
}

// collectLater enqueues a collection unless one waits already.
func collectLater(tx *catalog.Tx, location string) error {
	jobs, err := tx.JobsOf(location)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(jobs, func(j block.Job) bool { return j.State == block.JobReady && j.Attempts == 0 }) {
		return nil
	}
	return enqueue(tx, jobBackupCollect, location, collectArgs{Location: location})
}

// runBackupCollect removes the chunks that nobody needs any more.
func (s *Service) runBackupCollect(ctx context.Context, t *job.Task) error {
	var args collectArgs
	if err := t.Args(&args); err != nil {
		return err
	}
	if s.cfg.Backups == nil {
		return errNoBackups
	}
	location := backup.Location(args.Location)
	if args.Drop != "" {
		if err := s.cfg.Backups.Remove(ctx, location, args.Drop); err != nil {
			return err
		}
	}
	c, err := s.cfg.Backups.Collect(ctx, location)
	if backup.IsBusy(err) {
		return job.Snooze(repositoryWait, err)
	}
	t.Evidence(c)
	return first(s.damagedBackups(ctx, t.Job, c.Damaged), err)
}

// damagedBackups puts backups into error of which the collection found that
// they can't be restored, and tells their projects. No chunk of the project's
// is removed until they are deleted: an operator may still bring the objects
// back, and set the status again.
func (s *Service) damagedBackups(ctx context.Context, j block.Job, damages []backup.Damage) error {
	if len(damages) == 0 {
		return nil
	}
	return s.catalog.Update(ctx, func(tx *catalog.Tx) error {
		for _, d := range damages {
			b, err := backupWanted(tx, d.Backup, block.BackupAvailable)
			if errors.Is(err, errUnwanted) {
				continue // it is known, or nobody's, or a restore finds it
			}
			if err := first(err, failBackup(tx, b, d.Cause)); err != nil {
				return err
			}
			if _, err := tx.MoveBackup(b.ID, block.Fail); err != nil {
				return err
			}
			if err := tellOfBackup(tx, b, j, actionBackup, detailBackup, d.Cause); err != nil {
				return err
			}
		}
		return nil
	})
}
