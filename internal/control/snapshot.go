package control

import (
	"context"
	"slices"
	"strings"

	"kvol/internal/block"
	"kvol/internal/catalog"
)

// CreateSnapshot states the intent to name the present moment of a volume. A
// volume in use needs req.Force. It returns the row, "creating".
func (s *Service) CreateSnapshot(ctx context.Context, c block.Caller,
	req NewSnapshot) (made block.Snapshot, err error) {
	if err := checkMetadata(req.Metadata); err != nil {
		return block.Snapshot{}, err
	}
	err = s.changeVolume(ctx, c, req.VolumeID, "volume:create_snapshot", func(tx *catalog.Tx, v block.Volume) error {
		if err := first(inProject(c), notFrozen(tx, v.Backend)); err != nil {
			return err
		}
		if v.Migrating() {
			return invalidVolume("Snapshot cannot be created while volume is migrating.")
		}
		if !req.Force && v.Status != block.VolumeAvailable {
			return invalidVolume("Volume %s status must be available, but current status is: %s.", v.ID, v.Status)
		}
		if v.Status != block.VolumeAvailable && v.Status != block.VolumeInUse {
			return invalidVolume("Volume %s status must be available or in-use, but current status is: %s.", v.ID, v.Status)
		}
		if err := checkQuota(tx, c.Project, snapshotDelta(v.Size, v.TypeName)); err != nil {
			return err
		}
		sn := block.Snapshot{
			ID: block.SnapshotID(block.NewID()), VolumeID: v.ID, Project: c.Project, User: c.User, Name: req.Name,
			Description: req.Description, Size: v.Size, Status: block.SnapshotCreating, Progress: "0%",
			Metadata: merged(req.Metadata, nil, false),
		}
		if err := first(tx.InsertSnapshot(sn), enqueue(tx, jobSnapshotCreate, string(sn.ID), nil)); err != nil {
			return err
		}
		made, err = tx.Snapshot(sn.ID)
		return err
	})
	return made, err
}

// Snapshot returns a snapshot.
func (s *Service) Snapshot(ctx context.Context, c block.Caller, id block.SnapshotID) (sn block.Snapshot, err error) {
	err = s.catalog.View(ctx, func(tx *catalog.Tx) error {
		if sn, err = snapshotOf(tx, c, id); err != nil {
			return err
		}
		return authorize(c, "volume:get_snapshot", readersRule, snapshotTarget(sn))
	})
	return sn, err
}

// SnapshotMetadata returns a snapshot's metadata.
func (s *Service) SnapshotMetadata(ctx context.Context, c block.Caller,
	id block.SnapshotID) (map[string]string, error) {
	sn, err := s.Snapshot(ctx, c, id)
	if err := first(err, authorize(c, "volume:get_snapshot_metadata", readersRule, snapshotTarget(sn))); err != nil {
		return nil, err
	}
	return sn.Metadata, nil
}

// Snapshots returns a page of snapshots, as Volumes does of volumes.
func (s *Service) Snapshots(ctx context.Context, c block.Caller, q block.ListQuery) (list []block.Snapshot, err error) {
	if err := mayRead(c, "volume:get_all_snapshots"); err != nil {
		return nil, err
	}
	if !c.Admin() {
		q.Project = c.Own()
	}
	err = s.catalog.View(ctx, func(tx *catalog.Tx) error {
		if q.Marker != "" {
			if _, err := snapshotOf(tx, c, block.SnapshotID(q.Marker)); err != nil {
				return err
			}
		}
		list, err = tx.Snapshots(q)
		return err
	})
	return list, err
}

// UpdateSnapshot changes name and description.
func (s *Service) UpdateSnapshot(ctx context.Context, c block.Caller, id block.SnapshotID,
	change SnapshotChange) (changed block.Snapshot, err error) {
	err = s.changeSnapshot(ctx, c, id, "volume:update_snapshot", func(tx *catalog.Tx, sn block.Snapshot) error {
		if change.Name.Set {
			sn.Name = change.Name.Value
		}
		if change.Description.Set {
			sn.Description = change.Description.Value
		}
		if err := tx.UpdateSnapshot(sn); err != nil {
			return err
		}
		changed, err = tx.Snapshot(id)
		return err
	})
	return changed, err
}

// DeleteSnapshot states the intent to delete a snapshot, which must be
// available or in error. Volumes that were made of it live on.
func (s *Service) DeleteSnapshot(ctx context.Context, c block.Caller, id block.SnapshotID) error {
	return s.deleteSnapshot(ctx, c, id, "volume:delete_snapshot", block.Delete)
}

// ForceDeleteSnapshot is DeleteSnapshot from whatever status, for
// administrators.
func (s *Service) ForceDeleteSnapshot(ctx context.Context, c block.Caller, id block.SnapshotID) error {
	const rule = "volume_extension:snapshot_admin_actions:force_delete"
	if !c.Admin() {
		if _, err := s.Snapshot(ctx, c, id); err != nil {
			return err
		}
		return forbid(rule)
	}
	return s.deleteSnapshot(ctx, c, id, rule, block.ForceDelete)
}

func (s *Service) deleteSnapshot(ctx context.Context, c block.Caller, id block.SnapshotID, rule string,
	how block.Event) error {
	return s.changeSnapshot(ctx, c, id, rule, func(tx *catalog.Tx, sn block.Snapshot) error {
		v, err := tx.Volume(sn.VolumeID)
		if err != nil {
			return err
		}
		if err := notFrozen(tx, v.Backend); err != nil {
			return err
		}
		refused := invalidSnapshot("Snapshot status must be available or error and must not be part of a group.")
		if sn.GroupSnapshotID != nil {
			return refused
		}
		if _, err := tx.MoveSnapshot(id, how); err != nil {
			return refusal(err, refused)
		}
		return enqueue(tx, jobSnapshotDelete, string(id), nil)
	})
}

// snapshotStatuses is Cinder's list, in its order
// (cinder/api/contrib/admin_actions.py SnapshotAdminController).
const snapshotStatuses = "'error', 'available', 'creating', 'deleting', 'deleted', 'updating', 'error_deleting', " +
	"'unmanaging', 'backing-up', 'restoring'"

// ResetSnapshotStatus is an administrator's word on what a snapshot's status
// is.
func (s *Service) ResetSnapshotStatus(ctx context.Context, c block.Caller, id block.SnapshotID, status string) error {
	if _, err := s.Snapshot(ctx, c, id); err != nil {
		return err
	}
	if err := mustAdminister(c, "volume_extension:snapshot_admin_actions:reset_status"); err != nil {
		return err
	}
	to := block.SnapshotStatus(strings.ToLower(status))
	if !to.Valid() || to == block.SnapshotDeleted {
		return block.Errorf(block.Invalid, "Snapshot status: %s is invalid, valid statuses are: (%s).",
			status, snapshotStatuses)
	}
	return s.catalog.Update(ctx, func(tx *catalog.Tx) error { return tx.ResetSnapshotStatus(id, to) })
}

// UpdateSnapshotStatus is what a compute service tells of a snapshot that it
// helps to make or to delete (cinder/api/contrib/snapshot_actions.py). Here it
// helps with none: its progress is noted and failures are believed, but a
// snapshot is available when its own job says so.
func (s *Service) UpdateSnapshotStatus(ctx context.Context, c block.Caller, id block.SnapshotID, status string,
	progress *string) error {
	const rule = "snapshot_extension:snapshot_actions:update_snapshot_status"
	return s.changeSnapshot(ctx, c, id, rule, func(tx *catalog.Tx, sn block.Snapshot) error {
		allowed := map[block.SnapshotStatus][]block.SnapshotStatus{
			block.SnapshotCreating: {block.SnapshotCreating, block.SnapshotAvailable, block.SnapshotError},
			block.SnapshotDeleting: {block.SnapshotDeleting, block.SnapshotErrorDeleting},
		}[sn.Status]
		to := block.SnapshotStatus(status)
		switch {
		case allowed == nil:
			return block.Errorf(block.Invalid, "Snapshot status %s not allowed for update_snapshot_status", sn.Status)
		case !slices.Contains(allowed, to):
			return block.Errorf(block.Invalid, "Provided snapshot status %s not allowed for snapshot with status %s.",
				to, sn.Status)
		}
		if progress != nil && *progress != "" {
			sn.Progress = *progress
			if err := tx.UpdateSnapshot(sn); err != nil {
				return err
			}
		}
		if to == block.SnapshotAvailable || to == sn.Status {
			return nil
		}
		return tx.ResetSnapshotStatus(id, to)
	})
}

// SetSnapshotMetadata adds to a snapshot's metadata, or replaces all of it, and
// returns what it is then.
func (s *Service) SetSnapshotMetadata(ctx context.Context, c block.Caller, id block.SnapshotID,
	metadata map[string]string, replace bool) (after map[string]string, err error) {
	err = s.changeSnapshot(ctx, c, id, "volume:update_snapshot_metadata", func(tx *catalog.Tx, sn block.Snapshot) error {
		after = merged(sn.Metadata, metadata, replace)
		if err := checkMetadata(after); err != nil {
			return err
		}
		sn.Metadata = after
		return tx.UpdateSnapshot(sn)
	})
	return after, err
}

// DeleteSnapshotMetadata removes one item; NotFound if there is none.
func (s *Service) DeleteSnapshotMetadata(ctx context.Context, c block.Caller, id block.SnapshotID, key string) error {
	return s.changeSnapshot(ctx, c, id, "volume:delete_snapshot_metadata", func(tx *catalog.Tx, sn block.Snapshot) error {
		if _, ok := sn.Metadata[key]; !ok {
			return block.Errorf(block.NotFound, "Snapshot %s has no metadata with key %s.", id, key)
		}
		delete(sn.Metadata, key)
		return tx.UpdateSnapshot(sn)
	})
}
