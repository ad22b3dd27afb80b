package keystore

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hpke"
	"crypto/sha256"

	"kvol/internal/block"
)

// Sealer seals secrets with a zone's key, and opens them. It may be used by
// many at once.
type Sealer struct {
	aead cipher.AEAD
	box  hpke.PrivateKey
}

// NewSealer makes a Sealer of a zone's key.
func NewSealer(zone [32]byte) (*Sealer, error) {
	key, err := hkdf.Key(sha256.New, zone[:], nil, "kvol secrets", 32)
	if err != nil {
		return nil, err
	}
	b, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCMWithRandomNonce(b)
	if err != nil {
		return nil, err
	}
	seed, err := hkdf.Key(sha256.New, zone[:], nil, "kvol secrets from other zones", 32)
	if err != nil {
		return nil, err
	}
	box, err := kem().DeriveKeyPair(seed)
	return &Sealer{aead, box}, err
}

// kem also holds if one of the two, elliptic curves or lattices, turns out not
// to: what travels may be kept by whoever listens.
func kem() hpke.KEM { return hpke.MLKEM768X25519() }

func (s *Sealer) seal(id block.SecretID, payload []byte) []byte {
	return s.aead.Seal(nil, nil, payload, []byte(id))
}

func (s *Sealer) open(id block.SecretID, sealed []byte) ([]byte, error) {
	payload, err := s.aead.Open(nil, nil, sealed, []byte(id))
	return payload, block.Wrap(block.Corrupt, err, "Secret %s was not sealed with this zone's key.", id)
}

// Box is the public key by which other zones seal secrets for this one.
func (s *Sealer) Box() []byte { return s.box.PublicKey().Bytes() }

// travelling says what is sealed for another zone: a volume's key can't be
// passed off as another's.
func travelling(volume block.VolumeID) []byte { return []byte("kvol key of volume " + string(volume)) }

// SealFor seals a volume's key for the zone that has a box.
func SealFor(box []byte, volume block.VolumeID, payload []byte) ([]byte, error) {
	to, err := kem().NewPublicKey(box)
	if err != nil {
		return nil, block.Wrap(block.Invalid, err, "What a zone gave to seal keys with is no public key.")
	}
	return hpke.Seal(to, hpke.HKDFSHA256(), hpke.AES256GCM(), travelling(volume), payload)
}

// OpenFor opens a volume's key that another zone sealed for this one.
func (s *Sealer) OpenFor(volume block.VolumeID, sealed []byte) ([]byte, error) {
	payload, err := hpke.Open(s.box, hpke.HKDFSHA256(), hpke.AES256GCM(), travelling(volume), sealed)
	return payload, block.Wrap(block.Corrupt, err, "The key of volume %s was not sealed for this zone.", volume)
}
