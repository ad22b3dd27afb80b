package keystore

import (
	"context"
	"time"

	"kvol/internal/block"
	"kvol/internal/catalog"
)

// The limits of what projects may keep.
const (
	MaxPayload = 20_000 // bytes, Barbican's max_secret_in_bytes
	MaxSecrets = 10_000 // of one project
	MaxPage    = 100
)

// Kinds are those of Barbican's secrets.
var Kinds = map[string]bool{symmetric: true, "opaque": true, "passphrase": true, "public": true, "private": true,
	"certificate": true}

// Service lets callers work with the secrets of their projects, and read those
// that they were let to. Its methods may be called at once. Another project's
// secret is NotFound, for administrators too; who only reads sees no payload.
type Service struct {
	catalog *catalog.Catalog
	sealer  *Sealer
}

// NewService makes a Service.
func NewService(c *catalog.Catalog, s *Sealer) *Service { return &Service{c, s} }

// NewSecret is what Create is asked for; a nil Payload comes later.
type NewSecret struct {
	Name, Algorithm, Mode *string
	BitLength             *int64
	Kind                  string // "" is "opaque"
	ContentType           string
	Payload               []byte
	ExpiresAt             time.Time
}

func mayWrite(c block.Caller) error {
	if c.Has("admin") || c.Has("member") || c.Has("creator") {
		return nil
	}
	return block.Errorf(block.Forbidden, "Your roles do not allow this.")
}

// Create keeps a secret for the caller's project.
func (s *Service) Create(ctx context.Context, c block.Caller, n NewSecret) (made block.Secret, err error) {
	if err := mayWrite(c); err != nil {
		return made, err
	}
	if n.Kind == "" {
		n.Kind = "opaque"
	}
	made = block.Secret{ID: block.SecretID(block.NewID()), Project: c.Project, User: c.User, Name: n.Name, Kind: n.Kind,
		Algorithm: n.Algorithm, BitLength: n.BitLength, Mode: n.Mode, ExpiresAt: n.ExpiresAt}
	if !Kinds[n.Kind] {
		return made, block.Errorf(block.Invalid, "There are no secrets of type %q.", n.Kind)
	}
	if n.Payload != nil {
		if err := s.put(&made, n.ContentType, n.Payload); err != nil {
			return made, err
		}
	}
	err = s.catalog.Update(ctx, func(tx *catalog.Tx) error {
		_, total, err := tx.Secrets(c.Project, "", 0, 1)
		if err != nil {
			return err
		}
		if total >= MaxSecrets {
			return block.Errorf(block.Forbidden, "The project has %d secrets and may have no more.", total)
		}
		return tx.InsertSecret(made)
	})
	return made, err
}

func (s *Service) put(secret *block.Secret, contentType string, payload []byte) error {
	switch {
	case len(payload) == 0 || len(payload) > MaxPayload:
		return block.Errorf(block.Invalid, "A payload has 1 to %d bytes.", MaxPayload)
	case contentType == "":
		return block.Errorf(block.Invalid, "A payload needs its content type.")
	}
	secret.ContentType, secret.Sealed = contentType, s.sealer.seal(secret.ID, payload)
	return nil
}

// SetPayload gives a secret that has none its payload; Conflict if it has one.
func (s *Service) SetPayload(ctx context.Context, c block.Caller, id block.SecretID, contentType string,
	payload []byte) error {
	if err := mayWrite(c); err != nil {
		return err
	}
	return s.catalog.Update(ctx, func(tx *catalog.Tx) error {
		secret, err := ownSecretOf(tx, c, id)
		if err != nil {
			return err
		}
		if secret.ContentType != "" {
			return block.Errorf(block.Conflict, "Secret %s has a payload already.", id)
		}
		if err := s.put(&secret, contentType, payload); err != nil {
			return err
		}
		return tx.UpdateSecret(secret)
	})
}

// secretOf returns a secret that the caller may see. One that expired is gone.
func secretOf(tx *catalog.Tx, c block.Caller, id block.SecretID) (block.Secret, error) {
	secret, err := tx.Secret(id)
	if err == nil && (!sees(c, secret) || !secret.ExpiresAt.IsZero() && !tx.Now.Before(secret.ExpiresAt)) {
		err = block.Errorf(block.NotFound, "Secret %s could not be found.", id)
	}
	if err != nil {
		return block.Secret{}, err
	}
	return secret, nil
}

// readable is secretOf for a secret of which the caller may see the payload.
func readable(tx *catalog.Tx, c block.Caller, id block.SecretID) (block.Secret, error) {
	secret, err := secretOf(tx, c, id)
	if err != nil {
		return secret, err
	}
	if err := mayWrite(c); err != nil && !listed(c, secret) {
		return block.Secret{}, err
	}
	return secret, nil
}

// Secret returns what is known of a secret.
func (s *Service) Secret(ctx context.Context, c block.Caller, id block.SecretID) (secret block.Secret, err error) {
	err = s.catalog.View(ctx, func(tx *catalog.Tx) error {
		secret, err = secretOf(tx, c, id)
		return err
	})
	return secret, err
}

// Secrets returns a page of the caller's project's secrets, at most MaxPage, and
// how many there are.
func (s *Service) Secrets(ctx context.Context, c block.Caller, name string, offset, limit int) (list []block.Secret,
	total int, err error) {
	err = s.catalog.View(ctx, func(tx *catalog.Tx) error {
		list, total, err = tx.Secrets(c.Project, name, max(offset, 0), min(max(limit, 1), MaxPage))
		return err
	})
	return list, total, err
}

// Payload opens a secret.
func (s *Service) Payload(ctx context.Context, c block.Caller, id block.SecretID) (secret block.Secret, payload []byte,
	err error) {
	err = s.catalog.View(ctx, func(tx *catalog.Tx) error {
		secret, err = readable(tx, c, id)
		return err
	})
	if err != nil {
		return secret, nil, err
	}
	payload, err = s.sealer.payload(secret)
	return secret, payload, err
}

// Delete removes a secret; Conflict for one that a volume is encrypted with.
func (s *Service) Delete(ctx context.Context, c block.Caller, id block.SecretID) error {
	if err := mayWrite(c); err != nil {
		return err
	}
	return s.catalog.Update(ctx, func(tx *catalog.Tx) error {
		if _, err := ownSecretOf(tx, c, id); err != nil {
			return err
		}
		return tx.DeleteSecret(id)
	})
}
