package control

import (
	"context"
	"errors"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/job"
)

// DeleteGroup states the intent to delete a group: an empty one, or, with
// volumes, one in whatever status with all that is in it. A group with
// snapshots is Invalid, as is one whose volumes are attached or have snapshots
// (cinder/group/api.py, delete).
func (s *Service) DeleteGroup(ctx context.Context, c block.Caller, id block.GroupID, volumes, legacy bool) error {
	var gone []block.Volume
	err := s.changeGroup(ctx, c, id, "group:delete", legacy, func(tx *catalog.Tx, g block.Group) error {
		var err error
		if gone, err = deletable(tx, g, volumes); err != nil {
			return err
		}
		for _, v := range gone {
			if g.SourceGroupID != nil && v.Status == block.VolumeCreating && v.SourceVolumeID != nil {
				if err := dropClonePoint(tx, v); err != nil {
					return err
				}
			}
			if _, err := tx.MoveVolume(v.ID, block.ForceDelete); err != nil {
				return err
			}
		}
		how := block.Delete
		if volumes {
			how = block.ForceDelete
		}
		if _, err := tx.MoveGroup(id, how); err != nil {
			return err
		}
		return enqueue(tx, jobGroupDelete, string(id), nil)
	})
	if err == nil {
		for _, v := range gone {
			s.exports.revoke(v.ID)
		}
	}
	return err
}

// deletable refuses the deletion of a group that something stands against, and
// returns the volumes that go with it.
func deletable(tx *catalog.Tx, g block.Group, volumes bool) ([]block.Volume, error) {
	members, err := tx.VolumesOfGroup(g.ID)
	if err := first(err, notFrozenOf(tx, members)); err != nil {
		return nil, err
	}
	if !volumes && g.Status != block.GroupAvailable && g.Status != block.GroupError {
		return nil, invalidGroup("Group status must be available or error, but current status is: %s", g.Status)
	}
	snapshots, err := tx.GroupSnapshots(block.ListQuery{Limit: 1, Filters: map[string]string{"group_id": string(g.ID)}},
		true)
	if err != nil {
		return nil, err
	}
	if len(snapshots) > 0 {
		return nil, invalidGroup("Group has existing snapshots.")
	}
	made, err := tx.GroupBeingMade("source_group_id", string(g.ID))
	if err != nil {
		return nil, err
	}
	if made {
		return nil, invalidGroup("Cannot delete group %s. Group status must be available or error and must not have "+
			"dependent group snapshots, and it cannot be the source for an ongoing group or group snapshot creation.", g.ID)
	}
	if len(members) > 0 && !volumes {
		return nil, invalidGroup("Group %s still contains volumes. The delete-volumes flag is required to delete it.", g.ID)
	}
	for _, v := range members {
		if v.Attached() {
			return nil, invalidGroup("Volume in group %s is attached. Need to detach first.", g.ID)
		}
		snapshots, err := tx.SnapshotsOf(v.ID)
		if err != nil {
			return nil, err
		}
		if len(snapshots) > 0 {
			return nil, invalidGroup("Volume in group still has dependent snapshots.")
		}
	}
	return members, nil
}

// runGroupDelete deletes a group's volumes one after the other, and then its
// row. It waits for what works on the group.
func (s *Service) runGroupDelete(ctx context.Context, t *job.Task) error {
	id := block.GroupID(t.Job.Subject)
	var members []block.Volume
	err := s.catalog.View(ctx, func(tx *catalog.Tx) (err error) {
		if _, err := groupWanted(tx, id, block.GroupDeleting); err != nil {
			return err
		}
		works, err := busy(tx, string(id), t.Job.ID)
		if works && err == nil {
			return job.Snooze(snoozeTime, nil)
		}
		if err != nil {
			return err
		}
		members, err = tx.VolumesOfGroup(id)
		return err
	})
	if err != nil {
		return err
	}
	for _, v := range members {
		if v.Status != block.VolumeDeleting {
			continue // an administrator has set another status; it stays, in no group
		}
		if err := s.eraseVolume(ctx, v, t.Job.ID); err != nil && !errors.Is(err, errUnwanted) {
			return err
		}
	}
	return s.catalog.Update(ctx, func(tx *catalog.Tx) error {
		if _, err := groupWanted(tx, id, block.GroupDeleting); err != nil {
			return err
		}
		_, err := tx.MoveGroup(id, block.Done)
		return err
	})
}

// groupWanted returns a job's group if it is still in the status that the job
// works in, else errUnwanted.
func groupWanted(tx *catalog.Tx, id block.GroupID, in block.GroupStatus) (block.Group, error) {
	g, err := tx.Group(id)
	if block.Is(err, block.NotFound) || err == nil && g.Status != in {
		err = errUnwanted
	}
	return g, err
}

// gaveUpGroupDelete puts a group that can't be deleted, and what is left of its
// volumes, into their error statuses, and tells their project.
func gaveUpGroupDelete(tx *catalog.Tx, j block.Job, cause error) error {
	return gaveUpGroup(tx, j, block.GroupDeleting, block.VolumeDeleting, cause)
}

func gaveUpGroup(tx *catalog.Tx, j block.Job, in block.GroupStatus, volumes block.VolumeStatus, cause error) error {
	id := block.GroupID(j.Subject)
	what, why := actionCreate, detailCreate
	if in == block.GroupDeleting {
		what, why = actionDelete, detailDelete
	}
	if _, err := groupWanted(tx, id, in); err != nil {
		if errors.Is(err, errUnwanted) {
			return nil
		}
		return err
	}
	members, err := tx.VolumesOfGroup(id)
	if err != nil {
		return err
	}
	for _, v := range members {
		if v.Status != volumes {
			continue
		}
		if volumes == block.VolumeCreating && v.SourceVolumeID != nil {
			if err := dropClonePoint(tx, v); err != nil {
				return err
			}
		}
		if _, err := tx.MoveVolume(v.ID, block.Fail); err != nil {
			return err
		}
		if err := tellOfVolume(tx, v, j, what, why, cause); err != nil {
			return err
		}
	}
	_, err = tx.MoveGroup(id, block.Fail)
	return err
}
