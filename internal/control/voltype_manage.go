package control

import (
	"context"

	"kvol/internal/block"
	"kvol/internal/catalog"
)

// TypeChange is what UpdateType changes; nil leaves alone.
type TypeChange struct {
	Name, Description *string
	Public            *bool
}

// CreateType makes a volume type, for administrators; only the name,
// description, specs and whether it is public are looked at. A name that another
// type has is a Conflict. (cinder/api/contrib/types_manage.py)
func (s *Service) CreateType(ctx context.Context, c block.Caller, t block.VolumeType) (block.VolumeType, error) {
	if err := mustAdminister(c, "volume_extension:type_create"); err != nil {
		return block.VolumeType{}, err
	}
	made := block.VolumeType{ID: block.TypeID(block.NewID()), Name: t.Name, Description: t.Description,
		Public: t.Public, ExtraSpecs: t.ExtraSpecs}
	err := s.catalog.Update(ctx, func(tx *catalog.Tx) (err error) {
		if err = first(checkTypeCount(tx), checkSpecs(t.ExtraSpecs), tx.InsertType(made)); err != nil {
			return err
		}
		made, err = tx.Type(made.ID)
		return err
	})
	return made, err
}

// maxTypes is how many volume types a zone has at most: each is in every answer
// about quotas.
const maxTypes = 1000

func checkTypeCount(tx *catalog.Tx) error {
	all, err := tx.Types(block.ListQuery{Limit: -1}, true)
	if err == nil && len(all) >= maxTypes {
		err = block.Errorf(block.Invalid, "This zone has %d volume types already, and no more are possible.", maxTypes)
	}
	return err
}

// UpdateType changes a volume type, for administrators. Volumes of it may exist.
func (s *Service) UpdateType(ctx context.Context, c block.Caller, id block.TypeID,
	change TypeChange) (t block.VolumeType, err error) {
	err = s.changeType(ctx, c, id, "volume_extension:type_update", func(tx *catalog.Tx, was block.VolumeType) error {
		if was.Configured {
			return ofConfiguration(was)
		}
		if change.Name != nil {
			was.Name = *change.Name
		}
		if change.Description != nil {
			was.Description = change.Description
		}
		if change.Public != nil {
			was.Public = *change.Public
		}
		if err := tx.UpdateType(was); err != nil {
			return err
		}
		t, err = tx.Type(id)
		return err
	})
	return t, err
}

// DeleteType forgets a volume type, for administrators. One that volumes have,
// that is a default, or that the configuration names, is Invalid.
func (s *Service) DeleteType(ctx context.Context, c block.Caller, id block.TypeID) error {
	return s.changeType(ctx, c, id, "volume_extension:type_delete", func(tx *catalog.Tx, t block.VolumeType) error {
		chosen, err := tx.DefaultTypeOfAny(id)
		if err != nil {
			return err
		}
		switch {
		case chosen || t.Name == s.cfg.DefaultType:
			return block.Errorf(block.Invalid, "The volume type %s is a default volume type and cannot be deleted.", id)
		case t.Configured:
			return ofConfiguration(t)
		}
		return refusal(tx.DeleteType(id), block.Errorf(block.Invalid, "Target volume type is still in use."))
	})
}

// changeType runs fn on a type that an administrator changes under a rule, in
// one transaction.
func (s *Service) changeType(ctx context.Context, c block.Caller, id block.TypeID, rule string,
	fn func(*catalog.Tx, block.VolumeType) error) error {
	if err := mustAdminister(c, rule); err != nil {
		return err
	}
	return s.catalog.Update(ctx, func(tx *catalog.Tx) error {
		t, err := tx.Type(id)
		if err != nil {
			return err
		}
		return fn(tx, t)
	})
}

// ofConfiguration refuses to change what the zone's configuration says. It is
// no Conflict: nothing that the caller could wait for would help.
func ofConfiguration(t block.VolumeType) error {
	return block.Errorf(block.Invalid, "Volume type %s is named by the zone's configuration, which says what it is; "+
		"it can be changed there only.", t.Name)
}
