package control

import (
	"context"
	"slices"
	"strings"

	"kvol/internal/block"
	"kvol/internal/catalog"
)

// GroupChange is what UpdateGroup changes; nil leaves as it is.
type GroupChange struct {
	Name, Description *string
	Add, Remove       []string // ids of volumes
}

// What the volumes that join or leave a group may be in (cinder/group/api.py).
var (
	mayJoin  = []block.VolumeStatus{block.VolumeAvailable, block.VolumeInUse}
	mayLeave = append(slices.Clone(mayJoin), block.VolumeError, block.VolumeErrorDeleting)
)

// UpdateGroup changes a group's name and description, and which volumes are in
// it. All of it happens at once or not at all.
func (s *Service) UpdateGroup(ctx context.Context, c block.Caller, id block.GroupID, change GroupChange,
	legacy bool) error {
	return s.changeGroup(ctx, c, id, "group:update", legacy, func(tx *catalog.Tx, g block.Group) error {
		var twice []string
		for _, volume := range change.Add {
			if slices.Contains(change.Remove, volume) {
				twice = append(twice, "'"+volume+"'")
			}
		}
		if len(twice) > 0 {
			return invalidVolume("UUIDs [%s] are in both add and remove volume list.", strings.Join(twice, ", "))
		}
		members, err := tx.VolumesOfGroup(id)
		if err != nil {
			return err
		}
		joining, err := s.joining(tx, c, g, members, change.Add)
		if err != nil {
			return err
		}
		leaving, err := leaving(g, members, change.Remove)
		if err != nil {
			return err
		}
		named := rename(&g.Name, change.Name)
		described := rename(&g.Description, change.Description)
		switch {
		case len(joining)+len(leaving) == 0 && !named && !described:
			return invalidGroup("Cannot update group %s because no valid name, description, add_volumes, or "+
				"remove_volumes were provided.", id)
		case len(joining)+len(leaving) > 0 && g.Status != block.GroupAvailable:
			return invalidGroup("Group status must be available.")
		}
		for _, v := range slices.Concat(joining, leaving) {
			if err := tx.UpdateVolume(v); err != nil {
				return err
			}
		}
		return tx.UpdateGroup(g)
	})
}

// rename sets a text that is given and new, and reports whether it did.
func rename(old **string, to *string) bool {
	if to == nil || *old != nil && **old == *to {
		return false
	}
	*old = to
	return true
}

// leaving are the members that are to leave, as they are then.
func leaving(g block.Group, members []block.Volume, ids []string) (left []block.Volume, err error) {
	for _, id := range ids {
		i := slices.IndexFunc(members, func(v block.Volume) bool { return string(v.ID) == id })
		if i < 0 {
			return nil, invalidVolume("Cannot remove volume %s from group %s because it is not in the group.", id, g.ID)
		}
		v := members[i]
		if !slices.Contains(mayLeave, v.Status) {
			return nil, invalidVolume("Cannot remove volume %s from group %s because volume is in an invalid state: %s. "+
				"Valid states are: ('available', 'in-use', 'error', 'error_deleting').", id, g.ID, v.Status)
		}
		v.GroupID = nil
		left = append(left, v)
	}
	return left, nil
}

// joining are the volumes that are to join, as they are then.
func (s *Service) joining(tx *catalog.Tx, c block.Caller, g block.Group, members []block.Volume,
	ids []string) (joined []block.Volume, err error) {
	all := slices.Clone(members)
	for _, id := range ids {
		if slices.ContainsFunc(all, func(v block.Volume) bool { return string(v.ID) == id }) {
			continue
		}
		v, err := volumeOf(tx, c, block.VolumeID(id))
		if block.Is(err, block.NotFound) {
			return nil, invalidVolume("Cannot add volume %s to group %s because volume cannot be found.", id, g.ID)
		}
		if err := first(err, joins(g, v), notLent(tx, v, "moments of a group can't be named for it")); err != nil {
			return nil, err
		}
		if len(all) > 0 && !s.backends.Shared(all[0].Backend, v.Backend) {
			return nil, invalidVolume("Volume is not local to this node.")
		}
		v.GroupID = &g.ID
		joined, all = append(joined, v), append(all, v)
	}
	return joined, nil
}

// joins refuses a volume that can't be in a group
// (cinder/group/api.py, _validate_add_volumes).
func joins(g block.Group, v block.Volume) error {
	switch {
	case v.GroupID != nil:
		return invalidVolume("Cannot add volume %s to group %s because it is already in group %s.", v.ID, g.ID, *v.GroupID)
	case v.Project != g.Project:
		return invalidVolume("Cannot add volume %s to group %s as they belong to different projects.", v.ID, g.ID)
	case v.TypeID == "":
		return invalidVolume("Cannot add volume %s to group %s because it has no volume type.", v.ID, g.ID)
	case !slices.Contains(g.VolumeTypes, v.TypeID):
		return invalidVolume("Cannot add volume %s to group %s because volume type %s is not supported by the group.",
			v.ID, g.ID, v.TypeID)
	case !slices.Contains(mayJoin, v.Status):
		return invalidVolume("Cannot add volume %s to group %s because volume is in an invalid state: %s. "+
			"Valid states are: ('available', 'in-use').", v.ID, g.ID, v.Status)
	}
	return nil
}
