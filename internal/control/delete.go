package control

import (
	"context"

	"kvol/internal/block"
	"kvol/internal/catalog"
)

// cantDelete is the one sentence that Cinder has for all of it.
const cantDelete = "Volume status must be available or error or error_restoring or error_extending or " +
	"error_managing and must not be migrating, attached, belong to a group, have snapshots, awaiting a transfer, " +
	"or be disassociated from snapshots after volume transfer."

// DeleteVolume states the intent to delete a volume, with its snapshots if
// cascade. A volume that is attached, busy or has snapshots is Invalid. Its
// quota is free when the row is gone.
func (s *Service) DeleteVolume(ctx context.Context, c block.Caller, id block.VolumeID, cascade bool) error {
	return s.deleteVolume(ctx, c, id, "volume:delete", block.Delete, cascade)
}

// ForceDeleteVolume is DeleteVolume from whatever status, for administrators.
// A volume that is attached or has snapshots is Invalid still.
func (s *Service) ForceDeleteVolume(ctx context.Context, c block.Caller, id block.VolumeID) error {
	return s.deleteVolume(ctx, c, id, "volume_extension:volume_admin_actions:force_delete", block.ForceDelete, false)
}

// DeleteVolumeByForce is ForceDeleteVolume as a parameter of deletions (3.23)
// has it: by a rule of its own, and with the volume's snapshots if cascade.
func (s *Service) DeleteVolumeByForce(ctx context.Context, c block.Caller, id block.VolumeID, cascade bool) error {
	return s.deleteVolume(ctx, c, id, "volume:force_delete", block.ForceDelete, cascade)
}

func (s *Service) deleteVolume(ctx context.Context, c block.Caller, id block.VolumeID, rule string,
	how block.Event, cascade bool) error {
	err := s.changeVolume(ctx, c, id, rule, func(tx *catalog.Tx, v block.Volume) error {
		if err := first(notFrozen(tx, v.Backend), notSwitching(v)); err != nil {
			return err
		}
		if v.Attached() || v.GroupID != nil || v.Migrating() && how != block.ForceDelete {
			return invalidVolume(cantDelete)
		}
		snapshots, err := tx.SnapshotsOf(id)
		if err != nil {
			return err
		}
		if len(snapshots) > 0 && !cascade {
			return invalidVolume(cantDelete)
		}
		for _, sn := range snapshots {
			// One may have stayed behind when the volume changed hands.
			if !sees(c, sn.Project) || sn.GroupSnapshotID != nil {
				return invalidVolume(cantDelete)
			}
			if sn.Status == block.SnapshotDeleting {
				continue
			}
			if _, err := tx.MoveSnapshot(sn.ID, block.Delete); err != nil {
				return refusal(err, invalidVolume("Snapshot %s status must be available or error to delete "+
					"the volume with it, but is %s.", sn.ID, sn.Status))
			}
		}
		if _, err := tx.MoveVolume(id, how); err != nil {
			return refusal(err, invalidVolume(cantDelete))
		}
		return enqueue(tx, jobVolumeDelete, string(id), nil)
	})
	if err == nil {
		s.exports.revoke(id)
	}
	return err
}
