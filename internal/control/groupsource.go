package control

import (
	"context"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/driver"
	"kvol/internal/job"
)

// GroupSource is what CreateGroupFrom is asked for: one of the two is set.
type GroupSource struct {
	Name, Description *string
	Snapshot          *block.GroupSnapshotID
	Group             *block.GroupID
	Legacy            bool // by the older API
}

// CreateGroupFrom states the intent to make a group of a group snapshot or of
// another group, whose volumes are then copied as of one instant. It returns
// the row, "creating" (cinder/group/api.py, create_from_src).
func (s *Service) CreateGroupFrom(ctx context.Context, c block.Caller, req GroupSource) (g block.Group, err error) {
	if err := mayMake(c, "group:create"); err != nil {
		return g, err
	}
	var made []block.Volume
	err = s.catalog.Update(ctx, func(tx *catalog.Tx) error {
		source, err := s.groupSource(tx, c, req)
		if err != nil {
			return err
		}
		if err := checkGroupQuota(tx, c.Project); err != nil {
			return err
		}
		g = block.Group{ID: block.GroupID(block.NewID()), Project: c.Project, User: c.User, Name: req.Name,
			Description: req.Description, Status: block.GroupCreating, AvailabilityZone: source.group.AvailabilityZone,
			Type: source.group.Type, VolumeTypes: source.group.VolumeTypes, GroupSnapshotID: req.Snapshot,
			SourceGroupID: req.Group}
		if err := tx.InsertGroup(g); err != nil {
			return err
		}
		made = nil
		for _, from := range source.volumes {
			if err := notFrozen(tx, from.volume.Backend); err != nil {
				return err
			}
			v := s.volumeInGroup(c, g, from)
			if err := s.takeEncryption(tx, &v, from.volume.Encryption); err != nil {
				return err
			}
			if err := first(checkVolumeSize(tx, v.Project, v.Size),
				checkQuota(tx, v.Project, volumeDelta(1, v.Size, v.TypeName)), tx.InsertVolume(v)); err != nil {
				return err
			}
			made = append(made, v)
		}
		if err := enqueue(tx, jobGroupCreate, string(g.ID), nil); err != nil {
			return err
		}
		g, err = tx.Group(g.ID)
		return err
	})
	if err != nil {
		return block.Group{}, err
	}
	for _, v := range made {
		s.changed(v.ID)
	}
	return g, nil
}

// memberSource is what one volume of a new group is made of.
type memberSource struct {
	volume   block.Volume
	snapshot *block.SnapshotID // nil for the volume itself
	size     int64
}

type groupSource struct {
	group   block.Group
	volumes []memberSource
}

func (s *Service) groupSource(tx *catalog.Tx, c block.Caller, req GroupSource) (from groupSource, err error) {
	if req.Snapshot != nil {
		return snapshotSource(tx, c, *req.Snapshot, req.Legacy)
	}
	if from.group, err = groupOf(tx, c, *req.Group); err != nil {
		return from, err
	}
	if err := notLegacy(from.group.Type, req.Legacy); err != nil {
		return from, err
	}
	members, err := tx.VolumesOfGroup(from.group.ID)
	if err != nil {
		return from, err
	}
	if len(members) == 0 {
		return from, invalidGroup("Source Group is empty. No group will be created.")
	}
	for _, v := range members {
		if v.Status != block.VolumeAvailable && v.Status != block.VolumeInUse {
			return from, invalidGroup("Volume %s of the source group must be available or in-use, but is %s.", v.ID, v.Status)
		}
		from.volumes = append(from.volumes, memberSource{volume: v, size: v.Size})
	}
	_, err = s.groupSnapshotter(members)
	return from, err
}

func snapshotSource(tx *catalog.Tx, c block.Caller, id block.GroupSnapshotID, legacy bool) (from groupSource,
	err error) {
	gs, err := groupSnapshotOf(tx, c, id)
	if err != nil {
		return from, err
	}
	if err := notLegacySnapshot(gs.Type, legacy); err != nil {
		return from, err
	}
	if gs.Status != block.GroupAvailable {
		return from, invalidGroup("Group snapshot %s must be available, but is %s.", id, gs.Status)
	}
	if from.group, err = tx.Group(gs.Group); err != nil {
		return from, err
	}
	snapshots, err := tx.SnapshotsOfGroup(id)
	if err != nil {
		return from, err
	}
	if len(snapshots) == 0 {
		return from, invalidGroup("Group snapshot is empty. No group will be created.")
	}
	for _, sn := range snapshots {
		if sn.Status != block.SnapshotAvailable {
			return from, invalidGroup("Snapshot %s of the group snapshot must be available, but is %s.", sn.ID, sn.Status)
		}
		v, err := tx.Volume(sn.VolumeID)
		if err != nil {
			return from, err
		}
		from.volumes = append(from.volumes, memberSource{v, &sn.ID, sn.Size})
	}
	return from, nil
}

// volumeInGroup is the row of a new group's volume. It lies where its source
// does, so that it costs no copy.
func (s *Service) volumeInGroup(c block.Caller, g block.Group, from memberSource) block.Volume {
	old := from.volume
	v := block.Volume{ID: block.VolumeID(block.NewID()), Project: c.Project, User: c.User, Size: from.size,
		Status: block.VolumeCreating, TypeID: old.TypeID, TypeName: old.TypeName, Backend: old.Backend,
		AvailabilityZone: g.AvailabilityZone, Bootable: old.Bootable, Multiattach: old.Multiattach,
		ImageMetadata: old.ImageMetadata, ReplicationStatus: block.ReplicationDisabled,
		Epoch: 1, GroupID: &g.ID, SnapshotID: from.snapshot}
	if from.snapshot == nil {
		v.SourceVolumeID = &old.ID
	}
	if s.protected(v.TypeID) {
		v.ReplicationStatus = block.ReplicationEnabled
	}
	return v
}

// runGroupCreate makes the bytes of a new group's volumes: of snapshots that
// there are, or through internal ones that name one instant of all sources. The
// internal ones are kept until the group is available, so that a repeated
// attempt clones the same instant.
func (s *Service) runGroupCreate(ctx context.Context, t *job.Task) error {
	id := block.GroupID(t.Job.Subject)
	var members []block.Volume
	sources := map[block.VolumeID]block.Volume{}
	err := s.catalog.View(ctx, func(tx *catalog.Tx) (err error) {
		if _, err := groupWanted(tx, id, block.GroupCreating); err != nil {
			return err
		}
		all, err := tx.VolumesOfGroup(id)
		if err != nil {
			return err
		}
		for _, v := range all {
			if v.Status != block.VolumeCreating || v.SnapshotID == nil && v.SourceVolumeID == nil {
				continue // an administrator had a hand in it
			}
			members = append(members, v)
			if sources[v.ID], err = sourceOf(tx, v); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := s.nameInstant(ctx, members, sources); err != nil {
		return err
	}
	for _, v := range members {
		from := driver.SnapshotRef{Volume: sources[v.ID].ID, Name: block.PointID(v.ID)}
		if v.SnapshotID != nil {
			from.Name = block.PointID(*v.SnapshotID)
		}
		if err := s.fill(ctx, t, v, sources[v.ID].Backend, from); err != nil {
			return err
		}
	}
	return s.finishGroup(ctx, id)
}

func sourceOf(tx *catalog.Tx, v block.Volume) (block.Volume, error) {
	if v.SnapshotID == nil {
		return tx.Volume(*v.SourceVolumeID)
	}
	sn, err := tx.Snapshot(*v.SnapshotID)
	if err != nil {
		return block.Volume{}, err
	}
	return tx.Volume(sn.VolumeID)
}

// nameInstant names the present moment of the volumes that others are cloned of.
func (s *Service) nameInstant(ctx context.Context, members []block.Volume,
	sources map[block.VolumeID]block.Volume) error {
	var refs []driver.SnapshotRef
	var from []block.Volume
	for _, v := range members {
		if v.SnapshotID == nil {
			refs, from = append(refs, clonePoint(v)), append(from, sources[v.ID])
		}
	}
	if len(refs) == 0 {
		return nil
	}
	store, err := s.groupSnapshotter(from)
	if err != nil {
		return err
	}
	return store.CreateSnapshots(ctx, refs)
}

// finishGroup makes a group and its volumes available, in one transaction.
func (s *Service) finishGroup(ctx context.Context, id block.GroupID) error {
	var made []block.Volume
	err := s.catalog.Update(ctx, func(tx *catalog.Tx) error {
		if _, err := groupWanted(tx, id, block.GroupCreating); err != nil {
			return err
		}
		members, err := tx.VolumesOfGroup(id)
		if err != nil {
			return err
		}
		for _, v := range members {
			if v.Status != block.VolumeCreating {
				continue
			}
			if v.SourceVolumeID != nil {
				if err := dropClonePoint(tx, v); err != nil {
					return err
				}
			}
			if _, err := tx.MoveVolume(v.ID, block.Done); err != nil {
				return err
			}
		}
		made = members
		_, err = tx.MoveGroup(id, block.Done)
		return err
	})
	if err == nil {
		for _, v := range made {
			s.changed(v.ID)
		}
	}
	return err
}

func gaveUpGroupCreate(tx *catalog.Tx, j block.Job, cause error) error {
	return gaveUpGroup(tx, j, block.GroupCreating, block.VolumeCreating, cause)
}
