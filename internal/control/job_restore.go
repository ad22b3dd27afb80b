package control

import (
	"context"
	"encoding/json"

	"kvol/internal/backup"
	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/job"
	"kvol/internal/placement"
)

type restoreArgs struct {
	Backup block.BackupID `json:"backup"`
	Blank  bool           `json:"blank"` // the volume is a new one
	// Place is what place a new volume wants; nil: where it is, it stays.
	Place *placement.Request `json:"place,omitempty"`
}

var whileRestoring = []block.VolumeStatus{block.VolumeRestoring, block.VolumeCreating}

// runRestore writes a backup to a volume, which it makes first if it is a new
// one. Repeated, it writes the same bytes again.
func (s *Service) runRestore(ctx context.Context, t *job.Task) error {
	var args restoreArgs
	if err := t.Args(&args); err != nil {
		return err
	}
	v, err := s.wanted(ctx, block.VolumeID(t.Job.Subject), whileRestoring...)
	if err == nil && v.Backend == "" {
		err = errNoBackend
	}
	if err == nil {
		err = s.stillRestorable(ctx, v.ID, args)
	}
	if err == nil {
		if err = s.restore(ctx, t, v, args); otherBackend(ctx, args.Place, err) {
			err = s.beginElsewhere(ctx, t, v, *args.Place, whileRestoring, err)
		}
	}
	if err == nil {
		err = s.finish(ctx, v.ID, whileRestoring, func(tx *catalog.Tx, v block.Volume) error {
			if err := s.rekey(tx, v, args.Backup); err != nil {
				return err
			}
			if _, err := tx.MoveVolume(v.ID, block.Done); err != nil {
				return err
			}
			return endRestore(tx, args.Backup, v.ID, nil)
		})
	}
	if err == nil {
		s.changed(v.ID)
		return nil
	}
	return s.unwantedRestore(ctx, t, args, err)
}

// stillRestorable asks mayRekey again before anything is written over: a volume
// may be replicated by now. The transaction that gives it the backup's key asks
// once more, and then fails the restore: the volume keeps its key, and what is read
// with that stays readable.
func (s *Service) stillRestorable(ctx context.Context, id block.VolumeID, args restoreArgs) error {
	return s.catalog.View(ctx, func(tx *catalog.Tx) error {
		v, err := tx.Volume(id)
		if err != nil {
			return err
		}
		b, err := tx.Backup(args.Backup)
		if err != nil {
			return err
		}
		return s.mayRekey(tx, v, b)
	})
}

// unwantedRestore lets the backup go of a volume that went on without the job.
func (s *Service) unwantedRestore(ctx context.Context, t *job.Task, args restoreArgs, err error) error {
	if err != errUnwanted { //nolint:errorlint // it is never wrapped
		return err
	}
	return s.catalog.Update(ctx, func(tx *catalog.Tx) error {
		return endRestore(tx, args.Backup, block.VolumeID(t.Job.Subject), nil)
	})
}

func (s *Service) restore(ctx context.Context, t *job.Task, v block.Volume, args restoreArgs) (err error) {
	var b block.Backup
	err = s.catalog.View(ctx, func(tx *catalog.Tx) error {
		b, err = tx.Backup(args.Backup)
		return err
	})
	if err != nil {
		return err
	}
	if s.cfg.Backups == nil {
		return errNoBackups
	}
	if args.Blank {
		if err := s.makeEmpty(ctx, v); err != nil {
			return err
		}
	}
	root, err := backup.ParseHash(b.Root)
	if err != nil {
		return err
	}
	to, giveBack, err := s.fillable(ctx, v)
	if err != nil {
		return err
	}
	defer closing(&err, giveBack)
	m, err := s.cfg.Backups.Restore(ctx, backup.Order{Location: backup.Location(b.Location), Backup: b.ID, Root: &root,
		To: to, Blank: args.Blank, Progress: s.progress(ctx, t, "restoring", b.Size*block.GiB, whileRestoring...)})
	if err == nil {
		t.Evidence(map[string]any{"root": m.Root.String()})
	}
	return err
}

// endRestore takes a backup out of "restoring" that was restored to a volume. A
// cause is noted; the backup is as it was all the same.
func endRestore(tx *catalog.Tx, id block.BackupID, to block.VolumeID, cause error) error {
	b, err := tx.Backup(id)
	if err != nil || b.Status != block.BackupRestoring || b.RestoreVolumeID == nil || *b.RestoreVolumeID != to {
		return ignoring(block.NotFound, err)
	}
	if cause != nil {
		if err := failBackup(tx, b, cause); err != nil {
			return err
		}
	}
	_, err = tx.MoveBackup(id, block.Done)
	return err
}

func gaveUpRestore(tx *catalog.Tx, j block.Job, cause error) error {
	var args restoreArgs
	if err := json.Unmarshal(j.Args, &args); err != nil {
		return err
	}
	id := block.VolumeID(j.Subject)
	if err := endRestore(tx, args.Backup, id, cause); err != nil {
		return err
	}
	v, err := tx.Volume(id)
	if err == nil && v.Status != block.VolumeRestoring {
		return gaveUpVolume(block.VolumeCreating)(tx, j, cause) // its maker asked for a volume, not for a restore
	}
	if err != nil {
		return ignoring(block.NotFound, err)
	}
	if _, err := tx.MoveVolume(id, block.Fail); err != nil {
		return err
	}
	return tell(tx, v.Project, j.RequestID, aboutBackup, string(args.Backup), actionRestore, detailRestore, cause)
}
