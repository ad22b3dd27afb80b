package control

import (
	"context"
	"maps"

	"kvol/internal/block"
	"kvol/internal/catalog"
)

// The rules about types of groups (cinder/policies/group_types.py).
const (
	ruleGroupSpecs = "group:access_group_types_specs"
	ruleSpec       = "group:group_types_specs:" // and what is done with one
)

// GroupTypeChange is what UpdateGroupType changes; nil leaves as it is.
type GroupTypeChange struct {
	Name, Description *string
	Public            *bool
}

// SeesGroupSpecs reports whether a caller is shown what types of groups are made
// of.
func (s *Service) SeesGroupSpecs(c block.Caller) bool {
	return mustAdminister(c, ruleGroupSpecs) == nil
}

// groupTypeOf finds a type of groups that the caller may use, by id or name. An
// id comes first.
func groupTypeOf(tx *catalog.Tx, c block.Caller, idOrName string) (block.GroupType, error) {
	id, isID := block.ParseID(idOrName)
	missing := block.Errorf(block.NotFound, "Group type with name %s could not be found.", idOrName)
	if isID {
		t, err := tx.GroupType(block.GroupTypeID(id))
		if err == nil && (t.Public || c.Admin()) {
			return t, nil
		}
		if ignoring(block.NotFound, err) != nil {
			return block.GroupType{}, err
		}
		missing = block.Errorf(block.NotFound, "Group type %s could not be found.", idOrName)
	}
	t, err := tx.GroupTypeNamed(idOrName)
	if block.Is(err, block.NotFound) || err == nil && !t.Public && !c.Admin() {
		return block.GroupType{}, missing
	}
	return t, err
}

// GroupTypes returns a page of the types of groups that the caller may use.
func (s *Service) GroupTypes(
	ctx context.Context,
	c block.Caller,
	q block.ListQuery,
) (list []block.GroupType, err error) {
	err = s.catalog.View(ctx, func(tx *catalog.Tx) error {
		list, err = tx.GroupTypes(q, c.Admin())
		return err
	})
	return list, err
}

// GroupType returns a type of groups by id or name.
func (s *Service) GroupType(ctx context.Context, c block.Caller, idOrName string) (t block.GroupType, err error) {
	err = s.catalog.View(ctx, func(tx *catalog.Tx) error {
		t, err = groupTypeOf(tx, c, idOrName)
		return err
	})
	return t, err
}

// CreateGroupType makes a type of groups, for administrators. Its id and times
// are given here. A name that exists is a Conflict.
func (s *Service) CreateGroupType(ctx context.Context, c block.Caller, t block.GroupType) (made block.GroupType,
	err error) {
	if err := first(mustAdminister(c, "group:group_types:create"), checkMetadata(t.Specs)); err != nil {
		return made, err
	}
	t.ID = block.GroupTypeID(block.NewID())
	err = s.catalog.Update(ctx, func(tx *catalog.Tx) error {
		if err := tx.InsertGroupType(t); err != nil {
			return err
		}
		made, err = tx.GroupType(t.ID)
		return err
	})
	return made, err
}

// changeGroupType runs fn on a type of groups and writes what it makes of it.
func (s *Service) changeGroupType(ctx context.Context, c block.Caller, id block.GroupTypeID, rule string,
	fn func(*block.GroupType) error) (changed block.GroupType, err error) {
	if err := mustAdminister(c, rule); err != nil {
		return changed, err
	}
	err = s.catalog.Update(ctx, func(tx *catalog.Tx) error {
		t, err := tx.GroupType(id)
		if err != nil {
			return err
		}
		if err := first(fn(&t), checkMetadata(t.Specs), tx.UpdateGroupType(t)); err != nil {
			return err
		}
		changed, err = tx.GroupType(id)
		return err
	})
	return changed, err
}

// UpdateGroupType changes a type of groups, for administrators.
func (s *Service) UpdateGroupType(ctx context.Context, c block.Caller, id block.GroupTypeID,
	change GroupTypeChange) (block.GroupType, error) {
	return s.changeGroupType(ctx, c, id, "group:group_types:update", func(t *block.GroupType) error {
		if change.Name != nil {
			t.Name = *change.Name
		}
		if change.Description != nil {
			t.Description = change.Description
		}
		if change.Public != nil {
			t.Public = *change.Public
		}
		return nil
	})
}

// DeleteGroupType removes a type that no group has, for administrators.
func (s *Service) DeleteGroupType(ctx context.Context, c block.Caller, id block.GroupTypeID) error {
	if err := mustAdminister(c, "group:group_types:delete"); err != nil {
		return err
	}
	return s.catalog.Update(ctx, func(tx *catalog.Tx) error {
		return refusal(tx.DeleteGroupType(id), block.Errorf(block.Invalid, "Target group type is still in use. "+
			"Group Type %s deletion is not allowed with groups present with the type.", id))
	})
}

// GroupSpecs returns what a type of groups is made of; what is done with it is
// "get" or "get_all".
func (s *Service) GroupSpecs(ctx context.Context, c block.Caller, id block.GroupTypeID,
	what string) (map[string]string, error) {
	if err := mustAdminister(c, ruleSpec+what); err != nil {
		return nil, err
	}
	t, err := s.GroupType(ctx, c, string(id))
	return t.Specs, err
}

// SetGroupSpecs adds to what a type of groups is made of; what is done is
// "create" or "update".
func (s *Service) SetGroupSpecs(ctx context.Context, c block.Caller, id block.GroupTypeID, what string,
	specs map[string]string) error {
	_, err := s.changeGroupType(ctx, c, id, ruleSpec+what, func(t *block.GroupType) error {
		maps.Copy(t.Specs, specs)
		return nil
	})
	return err
}

// DeleteGroupSpec takes one item away; NotFound if there is none.
func (s *Service) DeleteGroupSpec(ctx context.Context, c block.Caller, id block.GroupTypeID, key string) error {
	_, err := s.changeGroupType(ctx, c, id, ruleSpec+"delete", func(t *block.GroupType) error {
		if _, ok := t.Specs[key]; !ok {
			return block.Errorf(block.NotFound, "Group Type %s has no specs with key %s.", id, key)
		}
		delete(t.Specs, key)
		return nil
	})
	return err
}
