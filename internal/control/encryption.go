package control

import (
	"context"
	"crypto/subtle"
	"hash/fnv"
	"strings"
	"sync"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/driver"
	"kvol/internal/imagehead"
	"kvol/internal/keystore"
	"kvol/internal/luks"
)

// luksCipher is the one that the zone itself encrypts with.
const luksCipher = "aes-xts-plain64"

// Sealer keeps the zone's secrets.
func (s *Service) Sealer() *keystore.Sealer { return s.sealer }

// wantedEncryption is how new volumes of a type are to be encrypted; nil for not
// at all. It has no key yet.
func wantedEncryption(tx *catalog.Tx, t *block.VolumeType) (*block.VolumeEncryption, error) {
	if t == nil {
		return nil, nil
	}
	e, err := tx.TypeEncryption(t.ID)
	if err != nil {
		return nil, ignoring(block.NotFound, err)
	}
	return &block.VolumeEncryption{Provider: e.Provider, ControlLocation: e.ControlLocation, Cipher: e.Cipher,
		KeySize: e.KeySize}, nil
}

// encrypt decides how a new volume is encrypted and gives it its key, in the
// transaction that writes the volume's row. What is made of an encrypted source
// is encrypted like that, with a copy of its key
// (cinder/volume/flows/api/create_volume.py, _get_encryption_key_id).
func (s *Service) encrypt(tx *catalog.Tx, c block.Caller, v *block.Volume, t *block.VolumeType, from origin,
	image *Image) error {
	e, err := wantedEncryption(tx, t)
	if err != nil {
		return err
	}
	if from.what != "" {
		if t != nil && t.ID != from.typeID && !e.Same(from.encryption) {
			return invalidInput("Invalid volume_type provided: %s (requested type is not compatible; %s).", t.ID,
				map[bool]string{true: "either match source volume, or omit type argument",
					false: "recommend omitting the type argument"}[from.what == "original volume"])
		}
		return s.takeEncryption(tx, v, from.encryption)
	}
	if e == nil {
		return nil
	}
	if err := checkEncryption(e); err != nil {
		return err
	}
	if image != nil {
		key, err := imageKey(tx, c, *image)
		if err == nil {
			err = checkEncryptedImage(e, *image, v.Size)
		}
		if err != nil {
			return err
		}
		if key != "" {
			e.Key = key
			return s.takeEncryption(tx, v, e)
		}
	}
	bits := int64(0)
	if e.KeySize != nil {
		bits = *e.KeySize
	}
	if e.Key, err = s.sealer.NewKey(tx, v.Project, v.User, algorithm(e), bits); err != nil {
		return err
	}
	v.Encrypted, v.Encryption = true, e
	return nil
}

// takeEncryption encrypts a volume as another one, backup or image is, with a
// copy of its key; nil is not encrypted.
func (s *Service) takeEncryption(tx *catalog.Tx, v *block.Volume, from *block.VolumeEncryption) error {
	e, err := s.copyOfEncryption(tx, from, v.Project, v.User)
	v.Encrypted, v.Encryption = e != nil, e
	return err
}

// copyOfEncryption gives a project a copy of a key; nil of nil.
func (s *Service) copyOfEncryption(tx *catalog.Tx, from *block.VolumeEncryption, project block.ProjectID,
	user block.UserID) (*block.VolumeEncryption, error) {
	if from == nil {
		return nil, nil
	}
	e := *from
	var err error
	e.Key, err = s.sealer.CopyKey(tx, from.Key, project, user)
	return &e, err
}

// encryptAs encrypts a new volume that has no row yet as a backup is, whatever
// its type says. What is clear does not become a volume of a type that is
// encrypted.
func (s *Service) encryptAs(tx *catalog.Tx, v *block.Volume, b block.Backup) error {
	if v.Encryption != nil {
		if b.Encryption == nil {
			return invalidBackup("Volumes of type %s are encrypted, and backup %s is not.", v.TypeName, b.ID)
		}
		if err := tx.DeleteSecret(v.Encryption.Key); err != nil {
			return err
		}
	}
	return s.takeEncryption(tx, v, b.Encryption)
}

// mayRekey refuses a backup that has another key than the volume that it is to be
// restored to, if anything is read with the volume's key that was written before.
// A volume has one key: with the backup's, that would be lost.
func (s *Service) mayRekey(tx *catalog.Tx, v block.Volume, b block.Backup) error {
	same, err := s.sameKey(tx, v.Encryption, b.Encryption)
	if same || err != nil {
		return err
	}
	snapshots, err := tx.SnapshotsOf(v.ID)
	if err != nil {
		return err
	}
	links, err := tx.LinksOf(v.ID)
	if err != nil {
		return err
	}
	why := ""
	switch {
	case len(snapshots) > 0:
		why = "has snapshots"
	case len(links) > 0 || s.protected(v.TypeID):
		why = "is replicated"
	case v.Size > b.Size:
		why = "is larger than the backup"
	default:
		return nil
	}
	return invalidVolume("Volume to be restored to has another key than the backup and %s, so that older content could "+
		"not be read any more: restore to a new volume.", why)
}

// sameKey reports whether two are encrypted with the same bytes, whatever their
// keys are called. What is clear has none.
func (s *Service) sameKey(tx *catalog.Tx, a, b *block.VolumeEncryption) (bool, error) {
	if a == nil || b == nil {
		return a == b, nil
	}
	one, err := s.sealer.Key(tx, a.Key)
	if err != nil {
		return false, err
	}
	other, err := s.sealer.Key(tx, b.Key)
	return subtle.ConstantTimeCompare(one, other) == 1, err
}

// rekey gives a volume to which a backup was restored the backup's key in the
// place of its own, if that is another one: until then, what was not written over
// has the old one.
func (s *Service) rekey(tx *catalog.Tx, v block.Volume, from block.BackupID) error {
	b, err := tx.Backup(from)
	if err != nil || b.Encryption == nil || v.Encryption == nil {
		return err
	}
	if same, err := s.sameKey(tx, v.Encryption, b.Encryption); same || err != nil {
		return err
	}
	if err := s.mayRekey(tx, v, b); err != nil {
		return err
	}
	old := v.Encryption.Key
	if err := s.takeEncryption(tx, &v, b.Encryption); err != nil {
		return err
	}
	if err := tx.UpdateVolume(v); err != nil {
		return err
	}
	return tx.DeleteSecret(old)
}

// algorithm is what a cipher is called as a key's attribute: "aes".
func algorithm(e *block.VolumeEncryption) string {
	if e.Cipher == nil {
		return "aes"
	}
	name, _, _ := strings.Cut(*e.Cipher, "-")
	return name
}

// usual reports whether the zone itself can encrypt so.
func usual(e *block.VolumeEncryption) bool {
	return (e.Cipher == nil || *e.Cipher == "" || *e.Cipher == luksCipher) &&
		(e.KeySize == nil || *e.KeySize == 256 || *e.KeySize == 512)
}

// checkEncryption refuses what the zone can't do that is to encrypt by itself.
// How hosts do it is their concern.
func checkEncryption(e *block.VolumeEncryption) error {
	if e.ByZone() && !usual(e) {
		return invalidType("the zone encrypts volumes by %s with keys of 256 or 512 bits only.", luksCipher)
	}
	return nil
}

// containers reports whether hosts that encrypt so make LUKS containers.
func containers(e *block.VolumeEncryption) bool {
	return strings.Contains(strings.ToLower(e.Provider), "luks")
}

// Cinder's names for what an encrypted image says of its key.
const (
	imageKeyProperty = "cinder_encryption_key_id"
	imageKeyPolicy   = "cinder_encryption_key_deletion_policy"
	withImage        = "on_image_deletion"
)

// imageKey is the key of an image that is encrypted, "" for another one. It has
// to be a key of the caller's project that the caller may read: a volume of the
// image gets a copy, which the whole project may.
func imageKey(tx *catalog.Tx, c block.Caller, image Image) (block.SecretID, error) {
	id := block.SecretID(image.Properties[imageKeyProperty])
	if id == "" {
		return "", nil
	}
	err := keystore.OwnKey(tx, c, id)
	if block.Is(err, block.NotFound) || block.Is(err, block.Forbidden) {
		return "", invalidInput("The key of image %s is not there.", image.ID)
	}
	return id, err
}

// checkEncryptedImage refuses an image of which no encrypted volume of size GiB
// can be made.
func checkEncryptedImage(e *block.VolumeEncryption, image Image, size int64) error {
	sealed := image.Properties[imageKeyProperty] != ""
	content := max(image.Size, image.VirtualSize)
	switch {
	case sealed && !imagehead.IsRaw(image.DiskFormat):
		return invalidInput("Image %s is encrypted and not raw.", image.ID)
	case !sealed && !e.ByZone() && (!containers(e) || !usual(e)):
		return invalidInput("An image can be written only to volumes that are encrypted by LUKS with %s, "+
			"and keys of 256 or 512 bits.", luksCipher)
	case sealed && e.ByZone():
		content -= luks.HeaderSize
	case !sealed && !e.ByZone():
		content += luks.HeaderSize
	}
	if gib := gibs(content); gib > size {
		return invalidInput("Size of specified image %dGB is larger than volume size %dGB.", gib, size)
	}
	return nil
}

// guards are locks for volumes that the zone encrypts, see luks.NewDevice. Some
// volumes share one.
type guards [64]sync.RWMutex

func (g *guards) of(id block.VolumeID) *sync.RWMutex {
	h := fnv.New32a()
	h.Write([]byte(id))
	return &g[h.Sum32()%uint32(len(g))]
}

// key opens a volume's key.
func (s *Service) key(ctx context.Context, e *block.VolumeEncryption) (key []byte, err error) {
	err = s.catalog.View(ctx, func(tx *catalog.Tx) error {
		key, err = s.sealer.Key(tx, e.Key)
		return err
	})
	return key, err
}

// clear returns a volume's device, or a snapshot of it as one, as hosts see it:
// decrypted where the zone encrypts, else as it is.
func (s *Service) clear(ctx context.Context, v block.Volume, d driver.Device) (driver.Device, error) {
	if !v.Encryption.ByZone() {
		return d, nil
	}
	key, err := s.key(ctx, v.Encryption)
	if err != nil {
		return nil, err
	}
	c, err := luks.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return luks.NewDevice(d, c, s.guards.of(v.ID)), nil
}

// SealKey seals a volume's key for the zone that has a box.
func (s *Service) SealKey(ctx context.Context, v block.Volume, box []byte) ([]byte, error) {
	if v.Encryption == nil {
		return nil, nil
	}
	key, err := s.key(ctx, v.Encryption)
	if err != nil {
		return nil, err
	}
	return keystore.SealFor(box, v.ID, key)
}

// Reseal seals a key that came sealed for this zone with a replica for another
// one.
func (s *Service) Reseal(source block.VolumeID, sealed, box []byte) ([]byte, error) {
	key, err := s.sealer.OpenFor(source, sealed)
	if err != nil {
		return nil, err
	}
	return keystore.SealFor(box, source, key)
}

// adoptKey encrypts a volume that is made of a replica as the replica is: the
// key came with its entry, sealed for this zone.
func (s *Service) adoptKey(tx *catalog.Tx, v *block.Volume, t block.VolumeType, r block.Replica) error {
	from := r.Entry.Volume.Encryption
	wanted, err := wantedEncryption(tx, &t)
	if err != nil {
		return err
	}
	if from == nil {
		if wanted != nil {
			return invalidType("volumes of type %s are encrypted, and volume %s of zone %s is not.", t.Name, r.Source,
				r.SourceZone)
		}
		return nil
	}
	key, err := s.sealer.OpenFor(r.Source, r.Entry.Key)
	if err != nil {
		return err
	}
	e := *from
	e.Key, err = s.sealer.AddKey(tx, v.Project, v.User, algorithm(from), key)
	v.Encrypted, v.Encryption = true, &e
	return err
}
