package control

import (
	"context"
	"slices"
	"strings"

	"kvol/internal/block"
	"kvol/internal/catalog"
)

// volumeStatuses is Cinder's list, in its order
// (cinder/api/contrib/admin_actions.py VolumeAdminController).
const volumeStatuses = "'creating', 'available', 'deleting', 'error', 'error_deleting', 'error_managing', " +
	"'managing', 'attaching', 'in-use', 'detaching', 'maintenance', 'restoring-backup', 'error_restoring', " +
	"'reserved', 'awaiting-transfer', 'backing-up', 'error_backing-up', 'error_extending', 'downloading', " +
	"'uploading', 'retyping', 'extending'"

// The attach and migration statuses that an administrator may set, in Cinder's
// sentences.
const (
	attachStatuses    = "'attached', 'detached'"
	migrationStatuses = "'migrating', 'error', 'success', 'completing', 'none', 'starting'"
)

// ResetVolumeStatus is an administrator's word on what a volume's state is. An
// attach status of "detached" forgets its attachments and connections; "attached"
// is taken and has no effect, since it follows from what is so. A migration
// status that says that the volume does not move stops a move that is under way.
func (s *Service) ResetVolumeStatus(ctx context.Context, c block.Caller, id block.VolumeID, reset VolumeReset) error {
	if _, err := s.Volume(ctx, c, id); err != nil {
		return err
	}
	if err := first(mustAdminister(c, "volume_extension:volume_admin_actions:reset_status"), reset.check()); err != nil {
		return err
	}
	detach := reset.AttachStatus != nil && strings.ToLower(*reset.AttachStatus) == "detached"
	err := s.catalog.Update(ctx, func(tx *catalog.Tx) error {
		if err := notSwapped(tx, id); err != nil {
			return err
		}
		if detach {
			if err := forgetHosts(tx, id); err != nil {
				return err
			}
		}
		if err := resetMigration(tx, id, reset.MigrationStatus); err != nil || reset.Status == nil {
			return err
		}
		to := block.VolumeStatus(strings.ToLower(*reset.Status))
		v, err := tx.Volume(id)
		if err != nil {
			return err
		}
		if err := notGivenUp(tx, id); err != nil && to != block.VolumeError {
			return err
		}
		if to == block.VolumeInUse && !v.Attached() {
			return invalidVolume("Cannot reset volume %s to in-use when it has no attachments.", id)
		}
		return tx.ResetVolumeStatus(id, to)
	})
	if err == nil && detach {
		s.exports.revoke(id)
	}
	return err
}

// notGivenUp refuses what would open a volume that a recovery was to make and
// gave up: nobody knows what it holds, and another zone may have recovered its
// source since.
func notGivenUp(tx *catalog.Tx, id block.VolumeID) error {
	failed, err := tx.FailedRecovery(id)
	if err == nil && failed {
		err = invalidVolume("Volume %s is what is left of a recovery that failed; it can only be deleted.", id)
	}
	return err
}

func resetMigration(tx *catalog.Tx, id block.VolumeID, to *string) error {
	if to == nil {
		return nil
	}
	v, err := tx.Volume(id)
	if err != nil {
		return err
	}
	if v.MigrationStatus = strings.ToLower(*to); v.MigrationStatus == "none" {
		v.MigrationStatus = ""
	}
	return tx.UpdateVolume(v)
}

func (r VolumeReset) check() error {
	if r.Status == nil && r.AttachStatus == nil && r.MigrationStatus == nil {
		return block.Errorf(block.Invalid, "Must specify 'status', 'attach_status' or 'migration_status' for update.")
	}
	if r.Status != nil {
		to := block.VolumeStatus(strings.ToLower(*r.Status))
		if !to.Valid() || to == block.VolumeReverting {
			return block.Errorf(block.Invalid, "Volume status: %s is invalid, valid statuses are: (%s).",
				*r.Status, volumeStatuses)
		}
		if to == block.VolumeDeleting || to == block.VolumeErrorDeleting {
			return invalidVolume("Cannot reset a volume to %s: delete it.", to)
		}
	}
	if r.AttachStatus != nil && !oneOf(*r.AttachStatus, attachStatuses) {
		return block.Errorf(block.Invalid, "Volume attach status: %s is invalid, valid statuses are: (%s).",
			*r.AttachStatus, attachStatuses)
	}
	if r.MigrationStatus != nil && !oneOf(*r.MigrationStatus, migrationStatuses) {
		return block.Errorf(block.Invalid, "Volume migration status: %s is invalid, valid statuses are: (%s).",
			*r.MigrationStatus, migrationStatuses)
	}
	return nil
}

// oneOf reports whether a word is among quoted ones, in whatever case.
func oneOf(word, quoted string) bool {
	return slices.Contains(strings.Split(quoted, ", "), "'"+strings.ToLower(word)+"'")
}

// forgetHosts removes a volume's attachments and connections, and what its hosts
// reserved.
func forgetHosts(tx *catalog.Tx, id block.VolumeID) error {
	attachments, err := tx.Attachments(id)
	if err != nil {
		return err
	}
	for _, a := range attachments {
		if err := tx.DeleteAttachment(a.ID); err != nil {
			return err
		}
	}
	return first(forgetConnections(tx, id), forgetReservations(tx, id))
}

func forgetConnections(tx *catalog.Tx, id block.VolumeID) error {
	connections, err := tx.Connections(id)
	if err != nil {
		return err
	}
	for _, conn := range connections {
		if err := dropConnection(tx, conn); err != nil {
			return err
		}
	}
	return nil
}
