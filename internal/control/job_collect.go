package control

import (
	"context"
	"encoding/json"
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
	for {
		c, err := s.cfg.Backups.Collect(ctx, location)
		if backup.IsBusy(err) {
			return job.Snooze(repositoryWait, err)
		}
		t.Evidence(c)
		if len(c.Damaged) == 0 {
			return first(err, s.lackingBackups(ctx, t.Job, c.Lacking))
		}
		strange, failed := s.damagedBackups(ctx, t.Job, c.Damaged)
		if failed == nil {
			failed = s.putAside(ctx, t.Job, location, strange)
		}
		if failed != nil || len(strange) < len(c.Damaged) {
			return first(failed, err)
		}
		// Nothing is in the way any more, and each round has fewer manifests.
	}
}

// lackingBackups is damagedBackups for what lacks chunks of data. It holds up nothing;
// nobody would ask for what has no row.
func (s *Service) lackingBackups(ctx context.Context, j block.Job, damages []backup.Damage) error {
	if len(damages) == 0 {
		return nil
	}
	s.log.Error("backups can't be restored: chunks of theirs are missing", "job", j.ID, "backups", len(damages),
		"err", damages[0].Cause)
	_, err := s.damagedBackups(ctx, j, damages)
	return err
}

// gaveUpRestoring is gaveUpRestore, and has all that is kept with a damaged backup
// looked through: others may need what that lacks.
func (s *Service) gaveUpRestoring(tx *catalog.Tx, j block.Job, cause error) error {
	if err := gaveUpRestore(tx, j, cause); err != nil || !block.Is(cause, block.Corrupt) {
		return err
	}
	var args restoreArgs
	if err := json.Unmarshal(j.Args, &args); err != nil {
		return err
	}
	b, err := tx.Backup(args.Backup)
	if err != nil || !backup.Location(b.Location).Of(s.cfg.Zone) {
		return ignoring(block.NotFound, err)
	}
	return collectLater(tx, b.Location)
}

// putAside puts manifests that nobody knows out of the way.
func (s *Service) putAside(ctx context.Context, j block.Job, l backup.Location, strange []backup.Damage) error {
	for _, d := range strange {
		if err := s.cfg.Backups.SetAside(ctx, l, d.Backup); err != nil {
			return err
		}
		s.setAside.Add(1)
		s.log.Error("a damaged manifest of a backup that the catalog does not know was set aside", "job", j.ID,
			"backup", d.Backup, "err", d.Cause)
	}
	return nil
}

// SetAside is how many damaged manifests that nobody knows were put out of the
// way of collections since the zone started.
func (s *Service) SetAside() int64 { return s.setAside.Load() }

// damagedBackups puts backups into error of which the collection found that
// they can't be restored, and tells their projects. While it is a manifest or a page
// that is damaged, no chunk of the project's is removed until they are deleted: an operator may still bring the objects
// back, and set the status again. strange are the damages of backups that the
// catalog has no row of: nobody could restore or delete them.
func (s *Service) damagedBackups(ctx context.Context, j block.Job,
	damages []backup.Damage) (strange []backup.Damage, err error) {
	err = s.catalog.Update(ctx, func(tx *catalog.Tx) error {
		strange = nil
		for _, d := range damages {
			b, err := tx.Backup(d.Backup)
			if block.Is(err, block.NotFound) {
				strange = append(strange, d)
				continue
			}
			if err == nil && b.Status != block.BackupAvailable {
				continue // it is known, or a restore finds it
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
	return strange, err
}
