package control

import (
	"context"
	"slices"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/placement"
)

// ExtendVolume states the intent to grow a volume, in use or not, to a size in
// GiB. The row has the new size from then on, so that the quota counts it; if
// the job is given up, it has the old one again. Where its backend has no room
// for that, it stays as it is, and its project is told
// (cinder/scheduler/manager.py, extend_volume).
func (s *Service) ExtendVolume(ctx context.Context, c block.Caller, id block.VolumeID, newSizeGiB int64) error {
	if err := s.measureRooms(ctx); err != nil {
		return err
	}
	var at placed
	err := s.changeVolume(ctx, c, id, "volume:extend", func(tx *catalog.Tx, v block.Volume) error {
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
		if err := first(checkTypeSize(t, newSizeGiB), checkVolumeSize(tx, v.Project, newSizeGiB),
			checkQuota(tx, v.Project, volumeDelta(0, args.New-args.Old, v.TypeName))); err != nil {
			return err
		}
		at = placed{what: "extend", volume: v, size: args.New - args.Old}
		at.decision, err = s.place(tx, placement.Request{Size: at.size, Specs: provisioning(t), Only: []string{v.Backend}},
			false)
		if err != nil {
			return err
		}
		if why := at.decision.Refused; at.decision.Backend() == "" && slices.ContainsFunc(why, lacksRoom) {
			return first(tx.ResetVolumeStatus(id, v.Status), at.keep(tx), tell(tx, v.Project, block.RequestID(ctx),
				aboutVolume, string(id), actionExtend, detailNoBackend, nil))
		}
		v.Size = newSizeGiB
		return first(tx.UpdateVolume(v), enqueue(tx, jobVolumeExtend, string(id), args))
	})
	if err == nil && slices.ContainsFunc(at.decision.Refused, lacksRoom) {
		s.tellPlaced(ctx, at)
	}
	return err
}

// lacksRoom is the one reason for which a volume can't grow where it is: that a
// backend takes no new volumes does not matter.
func lacksRoom(r placement.Refusal) bool { return r.Filter == placement.CapacityFilter }
