package control

import (
	"context"

	"kvol/internal/block"
	"kvol/internal/catalog"
)

// ExtendVolume states the intent to grow a volume, in use or not, to a size in
// GiB. The row has the new size from then on, so that the quota counts it; if
// the job is given up, it has the old one again.
func (s *Service) ExtendVolume(ctx context.Context, c block.Caller, id block.VolumeID, newSizeGiB int64) error {
	return s.changeVolume(ctx, c, id, "volume:extend", func(tx *catalog.Tx, v block.Volume) error {
		if err := notStale(v); err != nil {
			return err
		}
		if v.Status == block.VolumeInUse {
			if err := authorize(c, "volume:extend_attached_volume", membersRule, volumeTarget(v)); err != nil {
				return err
			}
		}
		if _, err := tx.MoveVolume(id, block.Extend); err != nil {
			return refusal(err, invalidVolume("Volume %s status must be '{'status': 'available'}' to extend, currently %s.",
				id, v.Status))
		}
		if newSizeGiB <= v.Size || newSizeGiB > maxSize {
			return invalidInput("New size for extend must be greater than current size. (current: %d, extended: %d).",
				v.Size, newSizeGiB)
		}
		t, err := typeByID(tx, v.TypeID)
		if err != nil {
			return err
		}
		args := extendArgs{Old: v.Size, New: newSizeGiB}
		v.Size = newSizeGiB
		return first(checkTypeSize(t, newSizeGiB), checkVolumeSize(tx, v.Project, newSizeGiB),
			checkQuota(tx, v.Project, volumeDelta(0, args.New-args.Old, v.TypeName)),
			tx.UpdateVolume(v), enqueue(tx, jobVolumeExtend, string(id), args))
	})
}
