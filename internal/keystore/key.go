package keystore

import (
	"crypto/rand"
	"encoding/hex"
	"time"

	"kvol/internal/block"
	"kvol/internal/catalog"
)

// octets is the content type of keys.
const octets = "application/octet-stream"

// symmetric is the kind of secrets that keys are.
const symmetric = "symmetric"

const (
	defaultBits = 256
	maxBits     = 4096
)

// NewKey makes a random key of bits (0 for the usual number) in a transaction;
// if that commits, the key is there.
func (s *Sealer) NewKey(tx *catalog.Tx, project block.ProjectID, user block.UserID, algorithm string,
	bits int64) (block.SecretID, error) {
	if bits == 0 {
		bits = defaultBits
	}
	if bits < 128 || bits > maxBits || bits%8 != 0 {
		return "", block.Errorf(block.Invalid, "A key of %d bits can't be made.", bits)
	}
	key := make([]byte, bits/8)
	rand.Read(key)
	return s.AddKey(tx, project, user, algorithm, key)
}

// AddKey is NewKey for a key that there is already.
func (s *Sealer) AddKey(tx *catalog.Tx, project block.ProjectID, user block.UserID, algorithm string,
	key []byte) (block.SecretID, error) {
	id, bits := block.SecretID(block.NewID()), int64(len(key)*8)
	return id, tx.InsertSecret(block.Secret{ID: id, Project: project, User: user, Kind: symmetric,
		Algorithm: &algorithm, BitLength: &bits, ContentType: octets, Sealed: s.seal(id, key)})
}

// OwnKey reports by its error whether a caller may have a key of its project, as
// Service.Payload does. Other secrets than keys, and what is not there yet or any
// more, are NotFound too.
func OwnKey(tx *catalog.Tx, c block.Caller, id block.SecretID) error {
	secret, err := readable(tx, c, id)
	if err == nil && (secret.Project != c.Project || secret.Kind != symmetric || secret.ContentType == "") {
		err = block.Errorf(block.NotFound, "Secret %s is no key of project %s.", id, c.Project)
	}
	return err
}

// CopyKey gives a project a copy of a key under an id of its own, as Cinder does
// for each new user of one, so that each may be deleted by itself. The copy is the
// project's, and there until it is deleted: it has neither the name nor the access
// list of the first one, and does not expire.
func (s *Sealer) CopyKey(tx *catalog.Tx, from block.SecretID, project block.ProjectID,
	user block.UserID) (block.SecretID, error) {
	id := block.SecretID(block.NewID())
	return id, s.CopyKeyAs(tx, id, from, project, user)
}

// CopyKeyAs is CopyKey for an id that was chosen before.
func (s *Sealer) CopyKeyAs(tx *catalog.Tx, id, from block.SecretID, project block.ProjectID, user block.UserID) error {
	made, err := tx.Secret(from)
	if err != nil {
		return err
	}
	key, err := s.payload(made)
	if err != nil {
		return err
	}
	made.ID, made.Project, made.User, made.Sealed = id, project, user, s.seal(id, key)
	made.Name, made.ACL, made.ExpiresAt = nil, nil, time.Time{}
	return tx.InsertSecret(made)
}

// Key opens a key.
func (s *Sealer) Key(tx *catalog.Tx, id block.SecretID) ([]byte, error) {
	secret, err := tx.Secret(id)
	if err != nil {
		return nil, err
	}
	return s.payload(secret)
}

func (s *Sealer) payload(secret block.Secret) ([]byte, error) {
	if secret.ContentType == "" {
		return nil, block.Errorf(block.NotFound, "Secret %s has no payload.", secret.ID)
	}
	return s.open(secret.ID, secret.Sealed)
}

// Passphrase is what opens a LUKS container that has a key: its hexadecimal
// digits (os_brick/encryptors/luks.py, _get_passphrase).
func Passphrase(key []byte) []byte { return []byte(hex.EncodeToString(key)) }
