package control

import (
	"context"
	"errors"
	"slices"
	"time"

	"kvol/internal/backup"
	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/driver"
	"kvol/internal/job"
)

// repositoryWait is how long a job waits for others that use its part of the
// backup repository.
const repositoryWait = 2 * time.Second

// backupPoint names the moment that a backup is made of: the tenant's snapshot,
// or one of its own that stays until a newer backup is there, as the base of
// which driver.Diff tells what changed.
func backupPoint(b block.Backup) driver.SnapshotRef {
	if b.SnapshotID != nil {
		return driver.SnapshotRef{Volume: b.VolumeID, Name: block.PointID(*b.SnapshotID)}
	}
	return driver.SnapshotRef{Volume: b.VolumeID, Name: block.PointID(b.ID)}
}

// backupWanted is wanted for backups.
func backupWanted(tx *catalog.Tx, id block.BackupID, in block.BackupStatus) (block.Backup, error) {
	b, err := tx.Backup(id)
	if block.Is(err, block.NotFound) || err == nil && b.Status != in {
		err = errUnwanted
	}
	return b, err
}

func (s *Service) backupWanted(
	ctx context.Context,
	id block.BackupID,
	in block.BackupStatus,
) (b block.Backup, err error) {
	err = s.catalog.View(ctx, func(tx *catalog.Tx) error {
		b, err = backupWanted(tx, id, in)
		return err
	})
	return b, err
}

// runBackup writes a backup. Each step may be repeated: the moment that was
// named first stays, and the repository goes on from its last checkpoint.
func (s *Service) runBackup(ctx context.Context, t *job.Task) error {
	id := block.BackupID(t.Job.Subject)
	b, err := s.backupWanted(ctx, id, block.BackupCreating)
	if err != nil {
		return s.unwantedBackup(ctx, id, err)
	}
	m, err := s.writeBackup(ctx, t, b)
	if backup.IsBusy(err) {
		return job.Snooze(repositoryWait, err)
	}
	if err != nil {
		return s.unwantedBackup(ctx, id, err)
	}
	t.Evidence(map[string]any{"root": m.Root.String(), "objects": m.Objects, "bytes": m.Stored, "mended": m.Mended})
	err = s.catalog.Update(ctx, func(tx *catalog.Tx) error {
		b, err := backupWanted(tx, id, block.BackupCreating)
		if err != nil {
			return err
		}
		b.ObjectCount, b.Root = m.Objects, m.Root.String()
		if err := first(tx.UpdateBackup(b), releaseSource(tx, b)); err != nil {
			return err
		}
		_, err = tx.MoveBackup(id, block.Done)
		return err
	})
	return s.unwantedBackup(ctx, id, err)
}

func (s *Service) writeBackup(ctx context.Context, t *job.Task, b block.Backup) (m *backup.Manifest, err error) {
	var v block.Volume
	err = s.catalog.View(ctx, func(tx *catalog.Tx) error {
		v, err = tx.Volume(b.VolumeID)
		return err
	})
	if err != nil {
		return nil, err
	}
	store, err := s.backends.Of(v.Backend)
	if err != nil {
		return nil, err
	}
	point := backupPoint(b)
	if b.SnapshotID == nil {
		if err := store.CreateSnapshot(ctx, point); err != nil {
			return nil, err
		}
	}
	reader, err := store.OpenSnapshot(ctx, point)
	if err != nil {
		return nil, err
	}
	defer closing(&err, reader.Close)
	plan := backup.Plan{Location: backup.Location(b.Location), Backup: b.ID, Volume: b.VolumeID, Created: b.CreatedAt,
		Source: reader, Progress: s.backupProgress(ctx, t, b, reader.Size())}
	from, release, err := s.backupBase(ctx, store, b, &plan)
	if err != nil {
		return nil, err
	}
	defer closing(&err, release)
	plan.Changes = driver.Diff(ctx, store, from, point)
	m, err = s.cfg.Backups.Write(ctx, plan)
	if err != nil || b.SnapshotID != nil {
		return m, err
	}
	return m, s.dropOldBases(ctx, store, b)
}

// backupBase finds what an incremental backup can start from: the parent's
// manifest, if the moment that it was made of is still in the store, and is
// older. Else all that is allocated is compared with what the repository has.
func (s *Service) backupBase(ctx context.Context, store driver.Driver, b block.Backup,
	plan *backup.Plan) (from driver.SnapshotRef, release func() error, err error) {
	release = func() error { return nil }
	if b.ParentID == nil {
		return from, release, nil
	}
	plan.Parent = *b.ParentID
	var parent block.Backup
	err = s.catalog.View(ctx, func(tx *catalog.Tx) error {
		parent, err = tx.Backup(*b.ParentID)
		return err
	})
	if err != nil {
		return from, release, err
	}
	snapshots, err := store.Snapshots(ctx, b.VolumeID)
	if err != nil {
		return from, release, err
	}
	at := func(ref driver.SnapshotRef) int {
		return slices.IndexFunc(snapshots, func(i driver.SnapshotInfo) bool { return i.Name == ref.Name })
	}
	base := backupPoint(parent)
	if at(base) < 0 || at(base) > at(backupPoint(b)) {
		return from, release, nil
	}
	reader, err := store.OpenSnapshot(ctx, base) // keeps it while it is needed
	if block.Is(err, block.NotFound) {
		return from, release, nil
	}
	if err != nil {
		return from, release, err
	}
	m, err := s.cfg.Backups.Manifest(ctx, plan.Location, parent.ID)
	if err == nil {
		err = s.cfg.Backups.CheckBase(ctx, plan.Location, m)
	}
	if err != nil && !block.Is(err, block.NotFound) && !block.Is(err, block.Corrupt) {
		return from, release, errors.Join(err, reader.Close())
	}
	if err != nil || !m.Usable(plan.Source.Size()) {
		return from, release, reader.Close() // the repository's loss is not passed on
	}
	plan.Base = m
	return base, reader.Close, nil
}

// dropOldBases deletes the moments of the volume's older backups, which no
// later backup will start from. One that is read now is left for the next time.
func (s *Service) dropOldBases(ctx context.Context, store driver.Driver, b block.Backup) error {
	var all []block.Backup
	err := s.catalog.View(ctx, func(tx *catalog.Tx) (err error) {
		all, err = tx.BackupsOf(b.VolumeID, b.Project)
		return err
	})
	if err != nil {
		return err
	}
	snapshots, err := store.Snapshots(ctx, b.VolumeID)
	if err != nil {
		return err
	}
	for _, other := range all {
		old := other.ID != b.ID && other.SnapshotID == nil && other.Status != block.BackupCreating
		point := backupPoint(other)
		if !old || !slices.ContainsFunc(snapshots, func(i driver.SnapshotInfo) bool { return i.Name == point.Name }) {
			continue
		}
		err := store.DeleteSnapshot(ctx, point)
		if err != nil && !block.Is(err, block.NotFound) && !block.Is(err, block.Conflict) {
			return err
		}
	}
	return nil
}

// backupProgress is progress for backups: it ends the job when the backup went
// on without it, or when its volume is deleted.
func (s *Service) backupProgress(ctx context.Context, t *job.Task, b block.Backup, total int64) func(int64) error {
	next := int64(checkEvery)
	return func(done int64) error {
		t.Progress("backing up", done, total)
		if done < next {
			return ctx.Err()
		}
		next = done + checkEvery
		return s.catalog.View(ctx, func(tx *catalog.Tx) error {
			if _, err := backupWanted(tx, b.ID, block.BackupCreating); err != nil {
				return err
			}
			v, err := tx.Volume(b.VolumeID)
			if err == nil && v.Status == block.VolumeDeleting {
				err = block.Errorf(block.NotFound, "The volume is being deleted.")
			}
			return err
		})
	}
}

// releaseSource ends what holdSource began. It leaves a volume alone that
// another backup is made of by now.
func releaseSource(tx *catalog.Tx, b block.Backup) error {
	if b.SnapshotID != nil {
		return releaseSnapshot(tx, b)
	}
	v, err := tx.Volume(b.VolumeID)
	if err != nil || v.Status != block.VolumeBackingUp {
		return ignoring(block.NotFound, err)
	}
	if held, err := heldByAnother(tx, b); held || err != nil {
		return err
	}
	_, err = tx.MoveVolume(v.ID, block.Done)
	return err
}

// heldByAnother reports whether another backup is made of the same source.
func heldByAnother(tx *catalog.Tx, b block.Backup) (bool, error) {
	others, err := tx.Backups(block.ListQuery{Limit: -1, Filters: map[string]string{
		"volume_id": string(b.VolumeID), "status": string(block.BackupCreating)}})
	return slices.ContainsFunc(others, func(o block.Backup) bool {
		return o.ID != b.ID && (o.SnapshotID == nil) == (b.SnapshotID == nil) &&
			(o.SnapshotID == nil || *o.SnapshotID == *b.SnapshotID)
	}), err
}

func releaseSnapshot(tx *catalog.Tx, b block.Backup) error {
	held, err := heldByAnother(tx, b)
	if err != nil {
		return err
	}
	sn, err := tx.Snapshot(*b.SnapshotID)
	if err == nil && sn.Status == block.SnapshotBackingUp && !held {
		_, err = tx.MoveSnapshot(sn.ID, block.Done)
	}
	if err := ignoring(block.NotFound, err); err != nil {
		return err
	}
	last, err := tx.Unpin(b.VolumeID, block.PointID(*b.SnapshotID), pinOf(b))
	if err != nil || !last {
		return err
	}
	return dropPointOf(tx, b)
}

// dropPointOf deletes the moment of a backup; a volume that is gone took it
// along.
func dropPointOf(tx *catalog.Tx, b block.Backup) error {
	v, err := tx.Volume(b.VolumeID)
	if err != nil {
		return ignoring(block.NotFound, err)
	}
	return dropPoint(tx, v.Backend, backupPoint(b))
}

// dropSource is releaseSource for a backup that is not to be: its moment goes
// as well.
func dropSource(tx *catalog.Tx, b block.Backup) error {
	if err := releaseSource(tx, b); err != nil || b.SnapshotID != nil {
		return err
	}
	return dropPointOf(tx, b)
}

// unwantedBackup removes what a backup leaves that went on without its job. A
// backup that is being deleted is left to that job.
func (s *Service) unwantedBackup(ctx context.Context, id block.BackupID, err error) error {
	if !errors.Is(err, errUnwanted) {
		return err
	}
	return s.catalog.Update(ctx, func(tx *catalog.Tx) error {
		b, err := tx.Backup(id)
		if err != nil || b.Status == block.BackupAvailable && b.Root != "" {
			return ignoring(block.NotFound, err) // it was finished, or is gone
		}
		return dropSource(tx, b)
	})
}

func gaveUpBackup(tx *catalog.Tx, j block.Job, cause error) error {
	b, err := backupWanted(tx, block.BackupID(j.Subject), block.BackupCreating)
	if errors.Is(err, errUnwanted) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := first(dropSource(tx, b), failBackup(tx, b, cause)); err != nil {
		return err
	}
	if _, err := tx.MoveBackup(b.ID, block.Fail); err != nil {
		return err
	}
	if err := tellOfBackup(tx, b, j, actionBackup, detailBackup, cause); err != nil {
		return err
	}
	return enqueue(tx, jobBackupCollect, b.Location, collectArgs{Location: b.Location, Drop: b.ID})
}

// tellOfBackup is tellOfVolume for backups.
func tellOfBackup(tx *catalog.Tx, b block.Backup, j block.Job, what, why happening, cause error) error {
	return tell(tx, b.Project, j.RequestID, aboutBackup, string(b.ID), what, why, cause)
}

// failBackup notes what a tenant may know of why something failed.
func failBackup(tx *catalog.Tx, b block.Backup, cause error) error {
	const most = 255 // characters of the column in Cinder
	reason, ok := block.UserMessage(cause)
	if !ok {
		reason = "The job failed for a reason that its operator knows."
	}
	if text := []rune(reason); len(text) > most {
		reason = string(text[:most])
	}
	b.FailReason = &reason
	return tx.UpdateBackup(b)
}

// runBackupDelete deletes what only this backup's manifest names, then its row,
// and leaves the chunks to the collection. What another zone keeps is left to
// that zone.
func (s *Service) runBackupDelete(ctx context.Context, t *job.Task) error {
	id := block.BackupID(t.Job.Subject)
	b, err := s.backupWanted(ctx, id, block.BackupDeleting)
	if err != nil {
		return err
	}
	err = s.catalog.View(ctx, func(tx *catalog.Tx) error {
		works, err := busy(tx, string(id), t.Job.ID)
		if works && err == nil {
			return job.Snooze(snoozeTime, nil)
		}
		return err
	})
	if err != nil {
		return err
	}
	own := backup.Location(b.Location).Of(s.cfg.Zone)
	if own {
		if err := s.cfg.Backups.Remove(ctx, backup.Location(b.Location), id); err != nil {
			return err
		}
	}
	return s.catalog.Update(ctx, func(tx *catalog.Tx) error {
		b, err := backupWanted(tx, id, block.BackupDeleting)
		if err != nil {
			return err
		}
		if own {
			if err := first(dropSource(tx, b), collectLater(tx, b.Location)); err != nil {
				return err
			}
		}
		_, err = tx.MoveBackup(id, block.Done)
		return err
	})
}

func gaveUpBackupDelete(tx *catalog.Tx, j block.Job, cause error) error {
	b, err := backupWanted(tx, block.BackupID(j.Subject), block.BackupDeleting)
	if errors.Is(err, errUnwanted) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := failBackup(tx, b, cause); err != nil {
		return err
	}
	if _, err = tx.MoveBackup(b.ID, block.Fail); err != nil {
		return err
	}
	return tellOfBackup(tx, b, j, actionBackupDelete, detailBackupDelete, cause)
}
