package control

import (
	"context"
	"strings"

	"kvol/internal/block"
	"kvol/internal/catalog"
)

// The rules of how volumes of a type are encrypted (cinder/policies/volume_type.py);
// what is done stands behind.
const encryptionRule = "volume_extension:volume_type_encryption:"

// EncryptionChange is what UpdateTypeEncryption changes; nil leaves alone.
type EncryptionChange struct {
	Provider, ControlLocation *string
	Cipher                    Text
	KeySize                   *int64
	NoKeySize                 bool // KeySize is set to null
}

// TypeEncryption returns how volumes of a type are to be encrypted, for
// administrators; ok is false for a type without encryption.
func (s *Service) TypeEncryption(ctx context.Context, c block.Caller,
	id block.TypeID) (e block.TypeEncryption, ok bool, err error) {
	if err := mustAdminister(c, encryptionRule+"get"); err != nil {
		return e, false, err
	}
	err = s.catalog.View(ctx, func(tx *catalog.Tx) error {
		if _, err := tx.Type(id); err != nil {
			return err
		}
		e, err = tx.TypeEncryption(id)
		ok = err == nil
		return ignoring(block.NotFound, err)
	})
	return e, ok, err
}

// CreateTypeEncryption says how volumes of a type are to be encrypted, for
// administrators. While volumes of the type exist, and where it was said already,
// it is Invalid. (cinder/api/contrib/volume_type_encryption.py)
func (s *Service) CreateTypeEncryption(ctx context.Context, c block.Caller,
	e block.TypeEncryption) (block.TypeEncryption, error) {
	e.ID = block.NewID()
	if err := checkContainers(e); err != nil {
		return e, err
	}
	err := s.changeEncryption(ctx, c, e.TypeID, "create", func(tx *catalog.Tx) error {
		return refusal(tx.InsertTypeEncryption(e), block.Errorf(block.Invalid,
			"Volume type encryption for type %s already exists.", e.TypeID))
	})
	return e, err
}

// checkContainers refuses LUKS version 2 where the zone itself encrypts: the
// headers that it makes are of version 1. Hosts may make what they like.
func checkContainers(e block.TypeEncryption) error {
	if e.ControlLocation == block.BackEnd && strings.Contains(strings.ToLower(e.Provider), "luks2") {
		return block.Errorf(block.Invalid, "The zone encrypts as in LUKS version 1; the provider must be luks where "+
			"control_location is back-end.")
	}
	return nil
}

// UpdateTypeEncryption changes how volumes of a type are to be encrypted, as
// CreateTypeEncryption says it.
func (s *Service) UpdateTypeEncryption(ctx context.Context, c block.Caller, id block.TypeID,
	change EncryptionChange) error {
	return s.changeEncryption(ctx, c, id, "update", func(tx *catalog.Tx) error {
		e, err := tx.TypeEncryption(id)
		if err != nil {
			return err
		}
		if change.Provider != nil {
			e.Provider = *change.Provider
		}
		if change.ControlLocation != nil {
			e.ControlLocation = *change.ControlLocation
		}
		if change.Cipher.Set {
			e.Cipher = change.Cipher.Value
		}
		if change.KeySize != nil || change.NoKeySize {
			e.KeySize = change.KeySize
		}
		if err := checkContainers(e); err != nil {
			return err
		}
		return tx.UpdateTypeEncryption(e)
	})
}

// DeleteTypeEncryption makes volumes of a type unencrypted ones, for
// administrators, while there are none.
func (s *Service) DeleteTypeEncryption(ctx context.Context, c block.Caller, id block.TypeID) error {
	return s.changeEncryption(ctx, c, id, "delete", func(tx *catalog.Tx) error { return tx.DeleteTypeEncryption(id) })
}

func (s *Service) changeEncryption(ctx context.Context, c block.Caller, id block.TypeID, what string,
	fn func(*catalog.Tx) error) error {
	return s.changeType(ctx, c, id, encryptionRule+what, func(tx *catalog.Tx, _ block.VolumeType) error {
		used, err := tx.TypeInUse(id)
		if err != nil {
			return err
		}
		if used {
			return block.Errorf(block.Invalid, "Cannot %s encryption specs. Volume type in use.", what)
		}
		return fn(tx)
	})
}
