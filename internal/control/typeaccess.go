package control

import (
	"context"

	"kvol/internal/block"
	"kvol/internal/catalog"
)

// mayUse reports whether a caller sees a type and may choose it: a public one,
// one that its project was given, any for administrators.
func mayUse(tx *catalog.Tx, c block.Caller, t block.VolumeType) (bool, error) {
	if t.Public || c.Admin() {
		return true, nil
	}
	return tx.TypeGranted(t.ID, c.Project)
}

// TypeAccess lists the projects that were given a private type, for
// administrators.
func (s *Service) TypeAccess(ctx context.Context, c block.Caller, id block.TypeID) (all []block.ProjectID, err error) {
	if err := mustAdminister(c, "volume_extension:volume_type_access:get_all_for_type"); err != nil {
		return nil, err
	}
	err = s.catalog.View(ctx, func(tx *catalog.Tx) error {
		t, err := tx.Type(id)
		if err != nil {
			return err
		}
		if t.Public {
			return block.Errorf(block.NotFound, "Access list not available for public volume types.")
		}
		all, err = tx.TypeAccess(id)
		return err
	})
	return all, err
}

// GrantType lets a project use a private type, for administrators. One that may
// already is a Conflict.
func (s *Service) GrantType(ctx context.Context, c block.Caller, id block.TypeID, project block.ProjectID) error {
	const rule = "volume_extension:volume_type_access:addProjectAccess"
	return s.changeType(ctx, c, id, rule, func(tx *catalog.Tx, t block.VolumeType) error {
		return first(onlyPrivate(t), tx.GrantType(id, project))
	})
}

// DenyType takes a private type from a project, for administrators. Volumes
// that it has stay as they are.
func (s *Service) DenyType(ctx context.Context, c block.Caller, id block.TypeID, project block.ProjectID) error {
	const rule = "volume_extension:volume_type_access:removeProjectAccess"
	return s.changeType(ctx, c, id, rule, func(tx *catalog.Tx, t block.VolumeType) error {
		if err := onlyPrivate(t); err != nil {
			return err
		}
		return tx.DenyType(id, project)
	})
}

func onlyPrivate(t block.VolumeType) error {
	if t.Public {
		return invalidType("Type access modification is not applicable to public volume type.")
	}
	return nil
}

func invalidType(format string, args ...any) error {
	return block.Errorf(block.Invalid, "Invalid volume type: "+format, args...)
}

// DefaultType returns the type of the caller's volumes that ask for none: its
// project's, else the zone's. NotFound if there is neither.
func (s *Service) DefaultType(ctx context.Context, c block.Caller) (t block.VolumeType, err error) {
	err = s.catalog.View(ctx, func(tx *catalog.Tx) error {
		found, err := s.defaultType(tx, c.Project)
		if err == nil && found == nil {
			return block.Errorf(block.NotFound, "Default volume type can not be found.")
		}
		if found != nil {
			t = *found
		}
		return err
	})
	return t, first(err, mayRead(c, ruleShowType))
}

// defaultType is DefaultType in a transaction; nil for none.
func (s *Service) defaultType(tx *catalog.Tx, project block.ProjectID) (*block.VolumeType, error) {
	id, err := tx.DefaultType(project)
	if err == nil {
		return typeByID(tx, id)
	}
	if !block.Is(err, block.NotFound) || s.cfg.DefaultType == "" {
		return nil, ignoring(block.NotFound, err)
	}
	t, err := tx.TypeNamed(s.cfg.DefaultType)
	return &t, err
}

// ProjectDefaultType returns a project's own default type, for administrators.
func (s *Service) ProjectDefaultType(ctx context.Context, c block.Caller,
	project block.ProjectID) (d block.DefaultType, err error) {
	if err := mustAdminister(c, "volume_extension:default_get"); err != nil {
		return d, err
	}
	err = s.catalog.View(ctx, func(tx *catalog.Tx) error {
		id, err := tx.DefaultType(project)
		d = block.DefaultType{Project: project, Type: id}
		return err
	})
	return d, err
}

// DefaultTypes lists the projects that have a default type of their own, for
// administrators.
func (s *Service) DefaultTypes(ctx context.Context, c block.Caller) (all []block.DefaultType, err error) {
	if err := mustAdminister(c, "volume_extension:default_get_all"); err != nil {
		return nil, err
	}
	err = s.catalog.View(ctx, func(tx *catalog.Tx) error {
		all, err = tx.DefaultTypes()
		return err
	})
	return all, err
}

// SetDefaultType sets a project's default type, by name or id, for
// administrators. An unknown type is Invalid (cinder/api/v3/default_types.py).
func (s *Service) SetDefaultType(ctx context.Context, c block.Caller, project block.ProjectID,
	idOrName string) (d block.DefaultType, err error) {
	if err := mustAdminister(c, "volume_extension:default_set_or_update"); err != nil {
		return d, err
	}
	err = s.catalog.Update(ctx, func(tx *catalog.Tx) error {
		t, err := typeOf(tx, c, idOrName)
		if block.Is(err, block.NotFound) {
			message, _ := block.UserMessage(err)
			return block.Errorf(block.Invalid, "%s", message)
		}
		if err != nil {
			return err
		}
		d = block.DefaultType{Project: project, Type: t.ID}
		return tx.SetDefaultType(project, t.ID)
	})
	return d, err
}

// UnsetDefaultType takes a project back to the zone's default type, for
// administrators. It succeeds where nothing was set.
func (s *Service) UnsetDefaultType(ctx context.Context, c block.Caller, project block.ProjectID) error {
	if err := mustAdminister(c, "volume_extension:default_unset"); err != nil {
		return err
	}
	return s.catalog.Update(ctx, func(tx *catalog.Tx) error { return tx.DeleteDefaultType(project) })
}
