package keystore

import (
	"context"
	"slices"

	"kvol/internal/block"
	"kvol/internal/catalog"
)

// MaxReaders is how many users an access list names.
const MaxReaders = 100

// listed reports whether a secret's access list names a caller.
func listed(c block.Caller, secret block.Secret) bool {
	return secret.ACL != nil && c.User != "" && slices.Contains(secret.ACL.Users, c.User)
}

// sees reports whether a caller may know of a secret: as one of its project,
// unless the access list leaves that out, or as one that is named there
// (barbican/common/policies/secrets.py).
func sees(c block.Caller, secret block.Secret) bool {
	if secret.Project != c.Project {
		return listed(c, secret)
	}
	return secret.ACL == nil || secret.ACL.ProjectAccess || c.Has("admin") || secret.User == c.User || listed(c, secret)
}

// ownSecretOf is secretOf for what only its project may do.
func ownSecretOf(tx *catalog.Tx, c block.Caller, id block.SecretID) (block.Secret, error) {
	secret, err := secretOf(tx, c, id)
	if err == nil && secret.Project != c.Project {
		return block.Secret{}, block.Errorf(block.Forbidden, "Secret %s is another project's.", id)
	}
	return secret, err
}

// ACLChange is what is said of an access list; nil leaves what there was.
type ACLChange struct {
	Users         []block.UserID
	ProjectAccess *bool
}

// ACL returns who may read a secret besides its project, or in its place; nil if
// the project may and nobody else.
func (s *Service) ACL(ctx context.Context, c block.Caller, id block.SecretID) (acl *block.SecretACL, err error) {
	err = s.catalog.View(ctx, func(tx *catalog.Tx) error {
		secret, err := ownSecretOf(tx, c, id)
		acl = secret.ACL
		return err
	})
	return acl, err
}

// SetACL changes who may read a secret, or with whole says all of it anew. Who
// made the secret and administrators of its project may.
func (s *Service) SetACL(ctx context.Context, c block.Caller, id block.SecretID, change ACLChange, whole bool) error {
	if len(change.Users) > MaxReaders {
		return block.Errorf(block.Invalid, "An access list names up to %d users.", MaxReaders)
	}
	return s.changeACL(ctx, c, id, func(tx *catalog.Tx, acl *block.SecretACL) *block.SecretACL {
		out := block.SecretACL{ProjectAccess: true, CreatedAt: tx.Now}
		if acl != nil {
			out.CreatedAt = acl.CreatedAt
			if !whole {
				out = *acl
			}
		}
		if change.Users != nil || whole {
			out.Users = change.Users
		}
		if change.ProjectAccess != nil {
			out.ProjectAccess = *change.ProjectAccess
		}
		out.UpdatedAt = tx.Now
		return &out
	})
}

// DeleteACL lets the project of a secret read it, and nobody else.
func (s *Service) DeleteACL(ctx context.Context, c block.Caller, id block.SecretID) error {
	return s.changeACL(ctx, c, id, func(*catalog.Tx, *block.SecretACL) *block.SecretACL { return nil })
}

func (s *Service) changeACL(ctx context.Context, c block.Caller, id block.SecretID,
	change func(*catalog.Tx, *block.SecretACL) *block.SecretACL) error {
	if err := mayWrite(c); err != nil {
		return err
	}
	return s.catalog.Update(ctx, func(tx *catalog.Tx) error {
		secret, err := ownSecretOf(tx, c, id)
		if err != nil {
			return err
		}
		if !c.Has("admin") && secret.User != c.User {
			return block.Errorf(block.Forbidden, "Only who made a secret says who else may read it.")
		}
		return tx.SetSecretACL(id, change(tx, secret.ACL))
	})
}
