package control

import (
	"context"
	"fmt"
	"strings"

	"kvol/internal/backup"
	"kvol/internal/block"
	"kvol/internal/catalog"
)

// NewBackup is what CreateBackup is asked for. Nil members mean "not given".
type NewBackup struct {
	VolumeID          block.VolumeID
	SnapshotID        *block.SnapshotID // of which the backup is made; nil for the volume as it is
	Name, Description *string
	Container         *string
	AvailabilityZone  *string
	Incremental       bool
	Force             bool // also of a volume in use
	Metadata          map[string]string
}

// BackupChange is what UpdateBackup changes; a nil Metadata leaves it alone.
type BackupChange struct {
	Name, Description Text
	Metadata          *map[string]string // replaces all of it
}

var errNoBackups = block.Errorf(block.Unavailable, "Service cinder-backup could not be found.")

// backupsServed refuses what needs the repository where there is none, or while
// an administrator has disabled its service (cinder/backup/api.py
// _get_available_backup_service_host).
func (s *Service) backupsServed(tx *catalog.Tx) error {
	if s.cfg.Backups == nil {
		return errNoBackups
	}
	states, err := tx.Services()
	if err == nil && stateOf(states, BackupsService, "").Disabled {
		return errNoBackups
	}
	return err
}

func invalidBackup(format string, args ...any) error {
	return block.Errorf(block.Invalid, "Invalid backup: %s", fmt.Sprintf(format, args...))
}

// backupDelta is what a new backup takes.
func backupDelta(gib int64) block.Usage { return block.Usage{"backups": 1, "backup_gigabytes": gib} }

// backupOf is volumeOf for backups.
func backupOf(tx *catalog.Tx, c block.Caller, id block.BackupID) (block.Backup, error) {
	b, err := tx.Backup(id)
	if err == nil && !sees(c, b.Project) {
		err = block.Errorf(block.NotFound, "Backup %s could not be found.", id)
	}
	if err != nil {
		return block.Backup{}, err
	}
	return b, nil
}

// changeBackup is changeVolume for backups.
func (s *Service) changeBackup(ctx context.Context, c block.Caller, id block.BackupID, rule, otherwise string,
	fn func(*catalog.Tx, block.Backup) error) error {
	return s.catalog.Update(ctx, func(tx *catalog.Tx) error {
		b, err := backupOf(tx, c, id)
		if err != nil {
			return err
		}
		if err := authorize(c, rule, otherwise, backupTarget(b)); err != nil {
			return err
		}
		return fn(tx, b)
	})
}

// CreateBackup states the intent to keep a copy of a volume, or of a snapshot
// of it, in the backup repository. It returns the row, "creating". The rules are
// those of cinder/backup/api.py create.
func (s *Service) CreateBackup(ctx context.Context, c block.Caller, req NewBackup) (made block.Backup, err error) {
	if err := checkMetadata(req.Metadata); err != nil {
		return made, err
	}
	zone := req.AvailabilityZone
	if zone != nil {
		if _, err := s.availabilityZone(zone, nil); err != nil {
			return made, err
		}
	}
	err = s.changeVolume(ctx, c, req.VolumeID, "backup:create", func(tx *catalog.Tx, v block.Volume) error {
		if err := first(inProject(c), s.backupsServed(tx)); err != nil {
			return err
		}
		key, err := s.copyOfEncryption(tx, v.Encryption, c.Project, c.User)
		if err != nil {
			return err
		}
		b := block.Backup{
			ID: block.BackupID(block.NewID()), Project: c.Project, User: c.User, VolumeID: v.ID,
			SnapshotID: req.SnapshotID, Name: req.Name, Description: req.Description, Size: v.Size,
			Status: block.BackupCreating, Container: req.Container, AvailabilityZone: zone,
			Metadata: merged(req.Metadata, nil, false), Location: string(backup.LocationOf(s.cfg.Zone, c.Project)),
			Backend: v.Backend, Bootable: v.Bootable, ImageMetadata: v.ImageMetadata, Encryption: key,
		}
		if err := first(backupSourceOf(tx, c, v, req, &b), checkBackupSize(b.Size)); err != nil {
			return err
		}
		if err := checkQuota(tx, c.Project, backupDelta(b.Size)); err != nil {
			return err
		}
		if req.Incremental {
			if err := chooseParent(tx, &b); err != nil {
				return err
			}
		}
		if err := first(holdSource(tx, b), tx.InsertBackup(b), enqueue(tx, jobBackupCreate, string(b.ID), nil)); err != nil {
			return err
		}
		made, err = tx.Backup(b.ID)
		return err
	})
	return made, err
}

// backupSourceOf checks that what is to be backed up may be read now.
func backupSourceOf(tx *catalog.Tx, c block.Caller, v block.Volume, req NewBackup, b *block.Backup) error {
	switch {
	case req.SnapshotID != nil:
		sn, err := snapshotOf(tx, c, *req.SnapshotID)
		if err != nil {
			return err
		}
		if sn.VolumeID != v.ID {
			return invalidVolume("Volume %s does not match with snapshot.volume_id %s.", v.ID, sn.VolumeID)
		}
		if sn.Status != block.SnapshotAvailable {
			return invalidSnapshot(`Snapshot to be backed up must be available, but the current status is "%s".`, sn.Status)
		}
		b.Size, b.DataTimestamp = sn.Size, sn.CreatedAt
	case v.Status != block.VolumeAvailable && v.Status != block.VolumeInUse:
		return invalidVolume(`Volume to be backed up must be available or in-use, but the current status is "%s".`, v.Status)
	case v.Status == block.VolumeInUse && !req.Force:
		return invalidVolume("Backing up an in-use volume must use the force flag.")
	}
	return nil
}

// checkBackupSize refuses what a manifest has no room for.
func checkBackupSize(gib int64) error {
	if most := backup.MaxSize / block.GiB; gib > most {
		return invalidBackup("The volume has %d GiB, and at most %d GiB can be backed up.", gib, most)
	}
	return nil
}

// holdSource keeps the volume or the snapshot from being changed meanwhile.
func holdSource(tx *catalog.Tx, b block.Backup) error {
	if b.SnapshotID == nil {
		_, err := tx.MoveVolume(b.VolumeID, block.BackUp)
		return err
	}
	if _, err := tx.MoveSnapshot(*b.SnapshotID, block.BackUp); err != nil {
		return err
	}
	return tx.Pin(b.VolumeID, block.PointID(*b.SnapshotID), pinOf(b))
}

func pinOf(b block.Backup) string { return "backup/" + string(b.ID) }

// chooseParent finds the backup that an incremental one follows: of those that
// are available, the one with the newest content that is older than its own.
// Cinder refuses instead if the newest one is not available.
func chooseParent(tx *catalog.Tx, b *block.Backup) error {
	all, err := tx.BackupsOf(b.VolumeID, b.Project)
	if err != nil {
		return err
	}
	for _, other := range all {
		older := b.SnapshotID == nil || other.DataTimestamp.Before(b.DataTimestamp)
		if other.Status == block.BackupAvailable && older && other.Location == b.Location {
			b.ParentID = &other.ID
			return nil
		}
	}
	if len(all) > 0 {
		return invalidBackup("The parent backup must be available for incremental backup.")
	}
	return invalidBackup("No backups available to do an incremental backup.")
}

// Backup returns a backup.
func (s *Service) Backup(ctx context.Context, c block.Caller, id block.BackupID) (b block.Backup, err error) {
	err = s.catalog.View(ctx, func(tx *catalog.Tx) error {
		if b, err = backupOf(tx, c, id); err != nil {
			return err
		}
		return authorize(c, "backup:get", readersRule, backupTarget(b))
	})
	return b, err
}

// ListBackups returns a page of backups, as Volumes does of volumes.
func (s *Service) ListBackups(ctx context.Context, c block.Caller, q block.ListQuery) (list []block.Backup, err error) {
	if err := mayRead(c, "backup:get_all"); err != nil {
		return nil, err
	}
	if !c.Admin() {
		q.Project = c.Own()
	}
	err = s.catalog.View(ctx, func(tx *catalog.Tx) error {
		if q.Marker != "" {
			if _, err := backupOf(tx, c, block.BackupID(q.Marker)); err != nil {
				return err
			}
		}
		list, err = tx.Backups(q)
		return err
	})
	return list, err
}

// CountBackups is CountVolumes for backups.
func (s *Service) CountBackups(ctx context.Context, c block.Caller, q block.ListQuery) (n int64, err error) {
	if !c.Admin() {
		q.Project = c.Own()
	}
	err = s.catalog.View(ctx, func(tx *catalog.Tx) error {
		n, err = tx.CountBackups(q)
		return err
	})
	return n, err
}

// UpdateBackup changes name, description and metadata.
func (s *Service) UpdateBackup(ctx context.Context, c block.Caller, id block.BackupID,
	change BackupChange) (changed block.Backup, err error) {
	if change.Metadata != nil {
		if err := checkMetadata(*change.Metadata); err != nil {
			return changed, err
		}
	}
	err = s.changeBackup(ctx, c, id, "backup:update", membersRule, func(tx *catalog.Tx, b block.Backup) error {
		if change.Name.Set {
			b.Name = change.Name.Value
		}
		if change.Description.Set {
			b.Description = change.Description.Value
		}
		if change.Metadata != nil {
			b.Metadata = *change.Metadata
		}
		if err := tx.UpdateBackup(b); err != nil {
			return err
		}
		changed, err = tx.Backup(id)
		return err
	})
	return changed, err
}

// DeleteBackup states the intent to delete a backup, which must be available or
// in error, and on which no other one depends. Its quota is free when the row
// is gone.
func (s *Service) DeleteBackup(ctx context.Context, c block.Caller, id block.BackupID) error {
	return s.deleteBackup(ctx, c, id, "backup:delete", membersRule, block.Delete)
}

// ForceDeleteBackup is DeleteBackup from whatever status, for administrators.
func (s *Service) ForceDeleteBackup(ctx context.Context, c block.Caller, id block.BackupID) error {
	return s.deleteBackup(ctx, c, id, "volume_extension:backup_admin_actions:force_delete", adminsRule, block.ForceDelete)
}

func (s *Service) deleteBackup(ctx context.Context, c block.Caller, id block.BackupID, rule, otherwise string,
	how block.Event) error {
	return s.changeBackup(ctx, c, id, rule, otherwise, func(tx *catalog.Tx, b block.Backup) error {
		if err := s.backupsServed(tx); err != nil {
			return err
		}
		// One in error that others followed is damaged. It keeps chunks from being
		// collected, and the others do without its manifest.
		if b.Dependents > 0 && b.Status != block.BackupError {
			return invalidBackup("Incremental backups exist for this backup.")
		}
		if _, err := tx.MoveBackup(id, how); err != nil {
			return refusal(err, invalidBackup("Backup status must be available or error"))
		}
		return enqueue(tx, jobBackupDelete, string(id), nil)
	})
}

// backupStatuses are those that an administrator may set
// (cinder/api/validation/validators.py backup_status).
var backupStatuses = []block.BackupStatus{block.BackupAvailable, block.BackupError}

// ResetBackupStatus is an administrator's word on what a backup's status is.
func (s *Service) ResetBackupStatus(ctx context.Context, c block.Caller, id block.BackupID, status string) error {
	const rule = "volume_extension:backup_admin_actions:reset_status"
	return s.changeBackup(ctx, c, id, rule, adminsRule, func(tx *catalog.Tx, b block.Backup) error {
		for _, to := range backupStatuses {
			if string(to) != strings.ToLower(status) {
				continue
			}
			if to == block.BackupAvailable && b.Root == "" {
				return invalidBackup("Backup %s has no content.", id)
			}
			return tx.ResetBackupStatus(id, to)
		}
		return block.Errorf(block.Invalid, "Backup status: %s is invalid, valid statuses are: "+
			"['available', 'error'].", status)
	})
}
