package control

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/driver"
	"kvol/internal/job"
)

// NewGroupSnapshot is what CreateGroupSnapshot is asked for.
type NewGroupSnapshot struct {
	Group             block.GroupID
	Name, Description *string
	Legacy            bool // by the older API
}

func invalidGroupSnapshot(format string, args ...any) error {
	return block.Errorf(block.Invalid, "Invalid GroupSnapshot: %s", fmt.Sprintf(format, args...))
}

// groupSnapshotOf is groupOf for group snapshots.
func groupSnapshotOf(tx *catalog.Tx, c block.Caller, id block.GroupSnapshotID) (block.GroupSnapshot, error) {
	gs, err := tx.GroupSnapshot(id)
	if err == nil && !sees(c, gs.Project) {
		err = block.Errorf(block.NotFound, "GroupSnapshot %s could not be found.", id)
	}
	if err != nil {
		return block.GroupSnapshot{}, err
	}
	return gs, nil
}

// notLegacySnapshot is notLegacy for group snapshots.
func notLegacySnapshot(t block.GroupTypeID, legacy bool) error {
	if legacy || t != block.LegacyGroupType {
		return nil
	}
	return block.Errorf(block.Invalid, "Group_type %s is reserved for migrating CGs to groups. "+
		"Migrated group snapshots can only be operated by CG snapshot APIs.", t)
}

// groupSnapshotter is the store of some volumes, if they all lie in one and it
// can name one instant of them.
func (s *Service) groupSnapshotter(volumes []block.Volume) (driver.GroupSnapshotter, error) {
	refused := invalidGroupSnapshot("The volumes of the group do not lie in one store that can name an instant of all " +
		"of them.")
	for _, v := range volumes {
		if !s.backends.Shared(volumes[0].Backend, v.Backend) {
			return nil, refused
		}
	}
	store, err := s.backends.Of(volumes[0].Backend)
	if err != nil {
		return nil, err
	}
	g, ok := driver.As[driver.GroupSnapshotter](store)
	if !ok {
		return nil, refused
	}
	return g, nil
}

// CreateGroupSnapshot states the intent to name one instant of all volumes of a
// group, which may be in use. It returns the row, "creating"; there is one
// snapshot of each volume in it.
func (s *Service) CreateGroupSnapshot(ctx context.Context, c block.Caller,
	req NewGroupSnapshot) (made block.GroupSnapshot, err error) {
	err = s.changeGroup(ctx, c, req.Group, "group:create_group_snapshot", true, func(tx *catalog.Tx, g block.Group) error {
		if err := notLegacySnapshot(g.Type, req.Legacy); err != nil {
			return err
		}
		members, err := tx.VolumesOfGroup(g.ID)
		if err != nil {
			return err
		}
		if err := first(notFrozenOf(tx, members), s.snapshottable(g, members)); err != nil {
			return err
		}
		gs := block.GroupSnapshot{ID: block.GroupSnapshotID(block.NewID()), Project: g.Project, User: c.User, Group: g.ID,
			Type: g.Type, Name: req.Name, Description: req.Description, Status: block.GroupCreating}
		if err := tx.InsertGroupSnapshot(gs); err != nil {
			return err
		}
		for _, v := range members {
			sn := block.Snapshot{ID: block.SnapshotID(block.NewID()), VolumeID: v.ID, Project: g.Project, User: c.User,
				Name: req.Name, Description: req.Description, Size: v.Size, Status: block.SnapshotCreating, Progress: "0%",
				GroupSnapshotID: &gs.ID}
			if err := first(checkQuota(tx, g.Project, snapshotDelta(v.Size, v.TypeName)), tx.InsertSnapshot(sn)); err != nil {
				return err
			}
		}
		if err := enqueue(tx, jobGroupSnapshotCreate, string(gs.ID), nil); err != nil {
			return err
		}
		made, err = tx.GroupSnapshot(gs.ID)
		return err
	})
	return made, err
}

// snapshottable refuses a group of which no instant can be named now.
func (s *Service) snapshottable(g block.Group, members []block.Volume) error {
	if g.Status != block.GroupAvailable {
		return invalidGroup("Group status must be available, but current status is: %s", g.Status)
	}
	for _, v := range members {
		if v.Status != block.VolumeAvailable && v.Status != block.VolumeInUse {
			return invalidVolume("Volume %s status must be available or in-use, but current status is: %s.", v.ID, v.Status)
		}
	}
	if len(members) == 0 {
		return nil
	}
	_, err := s.groupSnapshotter(members)
	return err
}

// GroupSnapshot returns a group snapshot.
func (s *Service) GroupSnapshot(ctx context.Context, c block.Caller, id block.GroupSnapshotID,
	legacy bool) (gs block.GroupSnapshot, err error) {
	err = s.catalog.View(ctx, func(tx *catalog.Tx) error {
		if gs, err = groupSnapshotOf(tx, c, id); err != nil {
			return err
		}
		return first(authorize(c, "group:get_group_snapshot", readersRule, owned(gs.Project, gs.User)),
			notLegacySnapshot(gs.Type, legacy))
	})
	return gs, err
}

// GroupSnapshots returns a page of group snapshots, as Groups does of groups.
func (s *Service) GroupSnapshots(ctx context.Context, c block.Caller, q block.ListQuery,
	legacy bool) (list []block.GroupSnapshot, err error) {
	if err := mayRead(c, "group:get_all_group_snapshots"); err != nil {
		return nil, err
	}
	if !c.Admin() {
		q.Project = c.Own()
	}
	err = s.catalog.View(ctx, func(tx *catalog.Tx) error {
		if q.Marker != "" {
			if _, err := groupSnapshotOf(tx, c, block.GroupSnapshotID(q.Marker)); err != nil {
				return err
			}
		}
		list, err = tx.GroupSnapshots(q, legacy)
		return err
	})
	return list, err
}

// DeleteGroupSnapshot states the intent to delete a group snapshot with its
// snapshots, unless a group is being made of it.
func (s *Service) DeleteGroupSnapshot(ctx context.Context, c block.Caller, id block.GroupSnapshotID,
	legacy bool) error {
	refused := invalidGroupSnapshot("GroupSnapshot status must be available or error, and no Group can be currently " +
		"using it as source for its creation.")
	return s.catalog.Update(ctx, func(tx *catalog.Tx) error {
		gs, err := groupSnapshotOf(tx, c, id)
		if err != nil {
			return err
		}
		if err := first(authorize(c, "group:delete_group_snapshot", membersRule, owned(gs.Project, gs.User)),
			notLegacySnapshot(gs.Type, legacy)); err != nil {
			return err
		}
		made, err := tx.GroupBeingMade("group_snapshot_id", string(id))
		if made && err == nil {
			err = refused
		}
		if err != nil {
			return err
		}
		if _, err := tx.MoveGroupSnapshot(id, block.Delete); err != nil {
			return refusal(err, refused)
		}
		snapshots, err := tx.SnapshotsOfGroup(id)
		if err != nil {
			return err
		}
		for _, sn := range snapshots {
			v, err := tx.Volume(sn.VolumeID)
			if err := first(err, notFrozenOf(tx, []block.Volume{v})); err != nil {
				return err
			}
			if !slices.Contains(deletableSnapshot, sn.Status) {
				return refused
			}
			if _, err := tx.MoveSnapshot(sn.ID, block.ForceDelete); err != nil {
				return err
			}
		}
		return enqueue(tx, jobGroupSnapshotDelete, string(id), nil)
	})
}

// deletableSnapshot is what the snapshots of a group snapshot may be in when it
// is deleted: what nothing works on, and what a deletion before left.
var deletableSnapshot = []block.SnapshotStatus{block.SnapshotAvailable, block.SnapshotError,
	block.SnapshotErrorDeleting}

// ResetGroupSnapshotStatus is an administrator's word on what a group snapshot's
// status is.
func (s *Service) ResetGroupSnapshotStatus(ctx context.Context, c block.Caller, id block.GroupSnapshotID,
	status string) error {
	to, err := groupStatus(status)
	if err != nil {
		return err
	}
	return s.catalog.Update(ctx, func(tx *catalog.Tx) error {
		gs, err := groupSnapshotOf(tx, c, id)
		if err != nil {
			return err
		}
		if err := authorize(c, "group:reset_group_snapshot_status", adminsRule, owned(gs.Project, gs.User)); err != nil {
			return err
		}
		return tx.ResetGroupSnapshotStatus(id, to)
	})
}

// groupSnapshotWanted is groupWanted for group snapshots.
func groupSnapshotWanted(tx *catalog.Tx, id block.GroupSnapshotID, in block.GroupStatus) error {
	gs, err := tx.GroupSnapshot(id)
	if block.Is(err, block.NotFound) || err == nil && gs.Status != in {
		return errUnwanted
	}
	return err
}

// runGroupSnapshotCreate names one instant of a group's volumes. Repeated, it
// keeps the instant that was named first: the store names all or none.
func (s *Service) runGroupSnapshotCreate(ctx context.Context, t *job.Task) error {
	id := block.GroupSnapshotID(t.Job.Subject)
	var refs []driver.SnapshotRef
	var volumes []block.Volume
	err := s.catalog.View(ctx, func(tx *catalog.Tx) error {
		if err := groupSnapshotWanted(tx, id, block.GroupCreating); err != nil {
			return err
		}
		snapshots, err := tx.SnapshotsOfGroup(id)
		for _, sn := range snapshots {
			v, err := tx.Volume(sn.VolumeID)
			if err != nil {
				return err
			}
			refs, volumes = append(refs, refOf(sn)), append(volumes, v)
		}
		return err
	})
	if err != nil {
		return err
	}
	if len(refs) > 0 {
		store, err := s.groupSnapshotter(volumes)
		if err != nil {
			return err
		}
		if err := store.CreateSnapshots(ctx, refs); err != nil {
			return err
		}
	}
	err = s.catalog.Update(ctx, func(tx *catalog.Tx) error { return finishGroupSnapshot(tx, id) })
	if err == nil {
		for _, v := range volumes {
			s.changed(v.ID)
		}
	}
	return err
}

func finishGroupSnapshot(tx *catalog.Tx, id block.GroupSnapshotID) error {
	if err := groupSnapshotWanted(tx, id, block.GroupCreating); err != nil {
		return err
	}
	snapshots, err := tx.SnapshotsOfGroup(id)
	if err != nil {
		return err
	}
	for _, sn := range snapshots {
		if sn.Status != block.SnapshotCreating {
			continue
		}
		sn.Progress = "100%"
		if err := tx.UpdateSnapshot(sn); err != nil {
			return err
		}
		if _, err := tx.MoveSnapshot(sn.ID, block.Done); err != nil {
			return err
		}
	}
	_, err = tx.MoveGroupSnapshot(id, block.Done)
	return err
}

// runGroupSnapshotDelete deletes the snapshots of a group snapshot one after the
// other, and then its row.
func (s *Service) runGroupSnapshotDelete(ctx context.Context, t *job.Task) error {
	id := block.GroupSnapshotID(t.Job.Subject)
	var snapshots []block.Snapshot
	err := s.catalog.View(ctx, func(tx *catalog.Tx) (err error) {
		if err := groupSnapshotWanted(tx, id, block.GroupDeleting); err != nil {
			return err
		}
		snapshots, err = tx.SnapshotsOfGroup(id)
		return err
	})
	if err != nil {
		return err
	}
	for _, sn := range snapshots {
		if err := s.eraseSnapshot(ctx, sn.ID, t.Job.ID); err != nil && !errors.Is(err, errUnwanted) {
			return err
		}
	}
	return s.catalog.Update(ctx, func(tx *catalog.Tx) error {
		if err := groupSnapshotWanted(tx, id, block.GroupDeleting); err != nil {
			return err
		}
		_, err := tx.MoveGroupSnapshot(id, block.Done)
		return err
	})
}

// gaveUpGroupSnapshot puts a group snapshot and what is left of its snapshots
// into their error statuses, and tells their project.
func gaveUpGroupSnapshot(
	in block.GroupStatus,
	snapshots block.SnapshotStatus,
) func(*catalog.Tx, block.Job, error) error {
	return func(tx *catalog.Tx, j block.Job, cause error) error {
		id := block.GroupSnapshotID(j.Subject)
		if err := groupSnapshotWanted(tx, id, in); err != nil {
			if errors.Is(err, errUnwanted) {
				return nil
			}
			return err
		}
		all, err := tx.SnapshotsOfGroup(id)
		if err != nil {
			return err
		}
		for _, sn := range all {
			if sn.Status != snapshots {
				continue
			}
			if _, err := tx.MoveSnapshot(sn.ID, block.Fail); err != nil {
				return err
			}
			what, why := actionSnapshot, detailSnapshot
			if in == block.GroupDeleting {
				what, why = actionSnapshotDelete, detailSnapshotDelete
			}
			if err := tell(tx, sn.Project, j.RequestID, aboutSnapshot, string(sn.ID), what, why, cause); err != nil {
				return err
			}
		}
		_, err = tx.MoveGroupSnapshot(id, block.Fail)
		return err
	}
}
