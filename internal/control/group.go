package control

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"kvol/internal/block"
	"kvol/internal/catalog"
)

// Group is a group as callers see it.
type Group struct {
	block.Group
	Volumes []block.VolumeID // only where they were asked for
	// Replication is how the replication of all its volumes stands: disabled,
	// enabled, error, failing-over or failed-over (cinder/objects/fields.py,
	// ReplicationStatus).
	Replication string
}

// NewGroup is what CreateGroup is asked for.
type NewGroup struct {
	Name, Description *string
	Type              string   // name or id
	VolumeTypes       []string // names or ids
	AvailabilityZone  *string
	Legacy            bool // by the older API, which has a type of its own
}

func invalidGroup(format string, args ...any) error {
	return block.Errorf(block.Invalid, "Invalid Group: %s", fmt.Sprintf(format, args...))
}

// groupOf returns a group of the caller's project. Another project's is not
// there.
func groupOf(tx *catalog.Tx, c block.Caller, id block.GroupID) (block.Group, error) {
	g, err := tx.Group(id)
	if err == nil && !sees(c, g.Project) {
		err = block.Errorf(block.NotFound, "Group %s could not be found.", id)
	}
	if err != nil {
		return block.Group{}, err
	}
	return g, nil
}

// changeGroup is changeVolume for groups. legacy says that the older API asks,
// which alone may touch the groups of its own type.
func (s *Service) changeGroup(ctx context.Context, c block.Caller, id block.GroupID, rule string, legacy bool,
	fn func(*catalog.Tx, block.Group) error) error {
	return s.catalog.Update(ctx, func(tx *catalog.Tx) error {
		g, err := groupOf(tx, c, id)
		if err != nil {
			return err
		}
		if err := first(authorize(c, rule, membersRule, owned(g.Project, g.User)), notLegacy(g.Type, legacy)); err != nil {
			return err
		}
		return fn(tx, g)
	})
}

// notLegacy keeps the API of groups from those that the older API made
// (cinder/api/v3/groups.py, _check_default_cgsnapshot_type).
func notLegacy(t block.GroupTypeID, legacy bool) error {
	if legacy || t != block.LegacyGroupType {
		return nil
	}
	return block.Errorf(block.Invalid, "Group_type %s is reserved for migrating CGs to groups. "+
		"Migrated group can only be operated by CG APIs.", t)
}

// CreateGroup makes a group without volumes. All its types must lie on one
// store, since only there has one instant a name.
func (s *Service) CreateGroup(ctx context.Context, c block.Caller, req NewGroup) (g block.Group, err error) {
	if err := mayMake(c, "group:create"); err != nil {
		return g, err
	}
	if req.Legacy {
		req.Type = string(block.LegacyGroupType)
	}
	err = s.catalog.Update(ctx, func(tx *catalog.Tx) error {
		t, err := groupTypeOf(tx, c, req.Type)
		if err != nil {
			return err
		}
		if err := notLegacy(t.ID, req.Legacy); err != nil {
			return err
		}
		types, err := s.typesOfGroup(tx, c, req.VolumeTypes)
		if err != nil {
			return err
		}
		zone, err := s.availabilityZone(req.AvailabilityZone, nil)
		if block.Is(err, block.Invalid) { // Cinder says it with another prefix than of volumes
			err = invalidInput("Availability zone '%s' is invalid.", *req.AvailabilityZone)
		}
		if err != nil {
			return err
		}
		if err := checkGroupQuota(tx, c.Project); err != nil {
			return err
		}
		g = block.Group{ID: block.GroupID(block.NewID()), Project: c.Project, User: c.User, Name: req.Name,
			Description: req.Description, Status: block.GroupAvailable, AvailabilityZone: zone, Type: t.ID,
			VolumeTypes: types}
		if err := tx.InsertGroup(g); err != nil {
			return err
		}
		g, err = tx.Group(g.ID)
		return err
	})
	return g, err
}

// typesOfGroup finds the types of a new group's volumes.
func (s *Service) typesOfGroup(tx *catalog.Tx, c block.Caller, names []string) (ids []block.TypeID, err error) {
	var stores []string
	for i, name := range names {
		t, err := typeOf(tx, c, name)
		if err != nil {
			return nil, err
		}
		if _, err := s.backendOf(&t); err != nil {
			return nil, err
		}
		if stores = s.commonStores(stores, t); i == 0 {
			stores = s.storesOf(t)
		}
		if len(stores) == 0 {
			return nil, invalidGroup("No store holds volumes of all the types %s.", strings.Join(names, ", "))
		}
		if !slices.Contains(ids, t.ID) {
			ids = append(ids, t.ID)
		}
	}
	return ids, nil
}

func checkGroupQuota(tx *catalog.Tx, project block.ProjectID) error {
	limit, err := limitsOf(tx, project)
	if err != nil {
		return err
	}
	used, err := tx.Usage(project)
	if err != nil {
		return err
	}
	if len(block.Exceeded(used, block.Usage{"groups": 1}, limit)) == 0 {
		return nil
	}
	return block.Errorf(block.OverLimit, "GroupLimitExceeded: Maximum number of groups allowed (%d) exceeded",
		limit("groups"))
}

// Group returns a group, with its volumes if they are wanted. The older API asks
// with legacy.
func (s *Service) Group(ctx context.Context, c block.Caller, id block.GroupID, volumes,
	legacy bool) (g Group, err error) {
	err = s.catalog.View(ctx, func(tx *catalog.Tx) error {
		row, err := groupOf(tx, c, id)
		if err != nil {
			return err
		}
		if err := first(authorize(c, "group:get", readersRule, owned(row.Project, row.User)),
			notLegacy(row.Type, legacy)); err != nil {
			return err
		}
		g, err = s.showGroup(tx, row, volumes)
		return err
	})
	return g, err
}

// showGroup adds to a group's row what is not in it.
func (s *Service) showGroup(tx *catalog.Tx, row block.Group, volumes bool) (Group, error) {
	g := Group{Group: row}
	members, err := tx.VolumesOfGroup(row.ID)
	if err != nil {
		return g, err
	}
	g.Replication = s.groupReplication(row, members)
	if !volumes {
		return g, nil
	}
	g.Volumes = []block.VolumeID{}
	for _, v := range members {
		g.Volumes = append(g.Volumes, v.ID)
	}
	return g, err
}

// Groups returns a page of groups, as Volumes does of volumes. The older API
// shows all of them, the newer one those that the older one did not make.
func (s *Service) Groups(ctx context.Context, c block.Caller, q block.ListQuery, volumes,
	legacy bool) (list []Group, err error) {
	if err := mayRead(c, "group:get_all"); err != nil {
		return nil, err
	}
	if !c.Admin() {
		q.Project = c.Own()
	}
	err = s.catalog.View(ctx, func(tx *catalog.Tx) error {
		list = nil
		if q.Marker != "" {
			if _, err := groupOf(tx, c, block.GroupID(q.Marker)); err != nil {
				return err
			}
		}
		rows, err := tx.Groups(q, legacy)
		for _, row := range rows {
			g, err := s.showGroup(tx, row, volumes)
			if err != nil {
				return err
			}
			list = append(list, g)
		}
		return err
	})
	return list, err
}

// ResetGroupStatus is an administrator's word on what a group's status is.
func (s *Service) ResetGroupStatus(ctx context.Context, c block.Caller, id block.GroupID, status string) error {
	to, err := groupStatus(status)
	if err != nil {
		return err
	}
	return s.catalog.Update(ctx, func(tx *catalog.Tx) error {
		g, err := groupOf(tx, c, id)
		if err != nil {
			return err
		}
		if err := authorize(c, "group:reset_status", adminsRule, owned(g.Project, g.User)); err != nil {
			return err
		}
		return tx.ResetGroupStatus(id, to)
	})
}

// groupStatus reads a status that may be set (cinder/api/validation/validators.py,
// _validate_group_status). Nothing is ever "deleted" here, so nothing is made so.
func groupStatus(text string) (block.GroupStatus, error) {
	to := block.GroupStatus(strings.ToLower(text))
	switch {
	case strings.TrimSpace(text) == "":
		return "", block.Errorf(block.Invalid, "Invalid Group Status: The 'status' can not be empty.")
	case !to.Valid():
		return "", block.Errorf(block.Invalid, "Invalid Group Status: Group status: %s is invalid, valid status are: "+
			"('error', 'available', 'creating', 'deleting', 'deleted', 'updating', 'in-use', 'error_deleting').", text)
	}
	return to, nil
}

// joinGroup puts a new volume into the group that was asked for
// (cinder/volume/api.py, create).
func (s *Service) joinGroup(tx *catalog.Tx, c block.Caller, req NewVolume, v *block.Volume) error {
	if req.GroupID == nil {
		return nil
	}
	g, err := groupOf(tx, c, *req.GroupID)
	if err == nil && g.Project != v.Project {
		err = block.Errorf(block.NotFound, "Group %s could not be found.", *req.GroupID)
	}
	if err != nil {
		return err
	}
	switch {
	case req.VolumeType == nil || *req.VolumeType == "":
		return invalidInput("volume_type must be provided when creating a volume in a group.")
	case !slices.Contains(g.VolumeTypes, v.TypeID):
		return invalidInput("Invalid volume_type provided: %s (requested type must be supported by this group).", v.TypeID)
	case g.Status != block.GroupAvailable:
		return invalidGroup("Originating group status must be one of 'available, creating' values")
	}
	v.GroupID, v.AvailabilityZone = &g.ID, g.AvailabilityZone
	stores, err := s.storesOfGroup(tx, g.ID)
	if err != nil {
		return err
	}
	t, err := tx.Type(v.TypeID)
	if err == nil && !slices.ContainsFunc(s.holders(&t), func(name string) bool {
		b, _ := s.backends.Backend(name)
		return slices.Contains(stores, b.Store)
	}) {
		err = invalidVolume("Volume is not local to this node.")
	}
	return err
}

// storesOfGroup are the stores on which a group's next volume may lie: the one of
// the others, else those that can hold all of its types.
func (s *Service) storesOfGroup(tx *catalog.Tx, id block.GroupID) (stores []string, err error) {
	members, err := tx.VolumesOfGroup(id)
	if err != nil {
		return nil, err
	}
	for _, m := range members {
		if b, ok := s.backends.Backend(m.Backend); ok {
			return []string{b.Store}, nil
		}
	}
	g, err := tx.Group(id)
	if err != nil {
		return nil, err
	}
	for i, id := range g.VolumeTypes {
		t, err := tx.Type(id)
		if err != nil {
			return nil, err
		}
		if stores = s.commonStores(stores, t); i == 0 {
			stores = s.storesOf(t)
		}
	}
	return stores, nil
}

// storesOf are the stores that can hold volumes of a type.
func (s *Service) storesOf(t block.VolumeType) (stores []string) {
	for _, name := range s.holders(&t) {
		if b, _ := s.backends.Backend(name); !slices.Contains(stores, b.Store) {
			stores = append(stores, b.Store)
		}
	}
	return stores
}

// commonStores are those of stores that can hold volumes of a type.
func (s *Service) commonStores(stores []string, t block.VolumeType) []string {
	own := s.storesOf(t)
	return slices.DeleteFunc(slices.Clone(stores), func(name string) bool { return !slices.Contains(own, name) })
}
