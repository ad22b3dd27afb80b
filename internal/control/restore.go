package control

import (
	"context"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/placement"
)

// Restored is the answer to RestoreBackup.
type Restored struct {
	Backup     block.BackupID
	Volume     block.VolumeID
	VolumeName *string
}

// RestoreBackup states the intent to write a backup to a volume: to one that is
// available and large enough, or to a new one. The rules are those of
// cinder/backup/api.py restore.
func (s *Service) RestoreBackup(ctx context.Context, c block.Caller, id block.BackupID, to *block.VolumeID,
	name *string) (r Restored, err error) {
	if err := s.measureRooms(ctx); err != nil {
		return r, err
	}
	err = s.changeBackup(ctx, c, id, "backup:restore", membersRule, func(tx *catalog.Tx, b block.Backup) error {
		if err := s.backupsServed(tx); err != nil {
			return err
		}
		if b.Status != block.BackupAvailable {
			return invalidBackup("Backup status must be available")
		}
		var v block.Volume
		var place *placement.Request
		if to == nil {
			v, place, err = s.newForRestore(tx, c, b, name)
		} else {
			v, err = s.restorable(tx, c, b, *to)
		}
		if err != nil {
			return err
		}
		r = Restored{Backup: id, Volume: v.ID, VolumeName: v.Name}
		return beginRestore(tx, b, v.ID, to == nil, place)
	})
	if err == nil {
		s.changed(r.Volume)
	}
	return r, err
}

// restorable returns a volume that a backup may be written to.
func (s *Service) restorable(tx *catalog.Tx, c block.Caller, b block.Backup, id block.VolumeID) (block.Volume, error) {
	v, err := volumeOf(tx, c, id)
	if err != nil {
		return v, err
	}
	if err := notStale(v); err != nil {
		return v, err
	}
	if v.Status != block.VolumeAvailable {
		return v, invalidVolume("Volume to be restored to must be available")
	}
	if b.Size > v.Size {
		return v, invalidVolume("volume size %d is too small to restore backup of size %d.", v.Size, b.Size)
	}
	if !v.Encryption.Same(b.Encryption) {
		return v, invalidVolume("Volume to be restored to must be encrypted as the backup is, or not at all if that is not.")
	}
	if err := s.mayRekey(tx, v, b); err != nil {
		return v, err
	}
	return tx.MoveVolume(id, block.Restore)
}

// newForRestore makes the row of a volume for a backup, in the status that
// Cinder gives it.
func (s *Service) newForRestore(
	tx *catalog.Tx,
	c block.Caller,
	b block.Backup,
	name *string,
) (v block.Volume, place *placement.Request, err error) {
	if err := mayMake(c, "volume:create"); err != nil {
		return v, nil, err
	}
	if name == nil {
		text := "restore_backup_" + string(b.ID)
		name = &text
	}
	description := "auto-created_from_restore_from_backup"
	v, t, at, err := s.planVolume(tx, c, NewVolume{Size: &b.Size, Name: name, Description: &description}, nil)
	if err != nil {
		return v, nil, err
	}
	if v.Backend == "" {
		return v, nil, noBackend()
	}
	v.Status, v.Bootable, v.ImageMetadata = block.VolumeRestoring, b.Bootable, b.ImageMetadata
	if err := s.encryptAs(tx, &v, b); err != nil {
		return v, nil, err
	}
	err = first(checkTypeSize(t, v.Size), checkVolumeSize(tx, v.Project, v.Size),
		checkQuota(tx, v.Project, volumeDelta(1, v.Size, v.TypeName)), tx.InsertVolume(v))
	return v, &at.request, err
}

// beginRestore lets a backup be read, and enqueues the job that does it.
func beginRestore(tx *catalog.Tx, b block.Backup, to block.VolumeID, blank bool, place *placement.Request) error {
	b.RestoreVolumeID, b.FailReason = &to, nil
	if err := tx.UpdateBackup(b); err != nil {
		return err
	}
	if _, err := tx.MoveBackup(b.ID, block.Restore); err != nil {
		return err
	}
	return enqueue(tx, jobBackupRestore, string(to), restoreArgs{Backup: b.ID, Blank: blank, Place: place})
}

// backupOrigin is originOf for a backup (microversion 3.47).
func backupOrigin(tx *catalog.Tx, c block.Caller, id block.BackupID) (origin, error) {
	b, err := backupOf(tx, c, id)
	if err != nil {
		return origin{}, err
	}
	if err := authorize(c, "backup:restore", membersRule, backupTarget(b)); err != nil {
		return origin{}, err
	}
	if b.Status != block.BackupAvailable {
		return origin{}, invalidBackup("Originating backup status must be one of 'available' values")
	}
	return origin{what: "backup", size: b.Size, bootable: b.Bootable, imageMetadata: b.ImageMetadata,
		encryption: b.Encryption}, nil
}
