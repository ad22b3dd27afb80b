package block

import "time"

// SecretID names a secret of the key store.
type SecretID string

// Secret is what the catalog knows of a key, or of something else that its
// project keeps to itself (Barbican's secret). Its payload is sealed.
type Secret struct {
	ID          SecretID
	Project     ProjectID
	User        UserID
	Name        *string
	Kind        string // "symmetric", "opaque", ...
	Algorithm   *string
	BitLength   *int64
	Mode        *string
	ContentType string // "" while there is no payload
	Sealed      []byte `json:"-"`
	ACL         *SecretACL

	ExpiresAt, CreatedAt, UpdatedAt time.Time
}

// SecretACL says who may read a secret. Without one its project may.
type SecretACL struct {
	Users         []UserID  `json:"users"`          // of whatever project, besides
	ProjectAccess bool      `json:"project_access"` // false: of the project only who made it, and administrators
	CreatedAt     time.Time `json:"created_at"`
	UpdatedAt     time.Time `json:"updated_at"`
}

// VolumeEncryption is how one volume is encrypted, and with which secret. It is
// its type's specs as they were when the volume was made.
type VolumeEncryption struct {
	Key             SecretID `json:"-"` // of this zone's key store
	Provider        string   `json:"provider"`
	ControlLocation string   `json:"control_location"` // FrontEnd or BackEnd
	Cipher          *string  `json:"cipher"`
	KeySize         *int64   `json:"key_size"` // bits
}

// Who encrypts a volume: the host that uses it, or the zone that keeps it.
const (
	FrontEnd = "front-end"
	BackEnd  = "back-end"
)

// Same reports whether two volumes are encrypted alike, whatever their keys.
// nil is not encrypted.
func (e *VolumeEncryption) Same(o *VolumeEncryption) bool {
	if e == nil || o == nil {
		return e == o
	}
	return e.Provider == o.Provider && e.ControlLocation == o.ControlLocation && equal(e.Cipher, o.Cipher) &&
		equal(e.KeySize, o.KeySize)
}

func equal[T comparable](a, b *T) bool {
	return a == b || a != nil && b != nil && *a == *b
}

// ByZone reports whether the zone encrypts the volume, so that hosts see clear
// bytes.
func (e *VolumeEncryption) ByZone() bool { return e != nil && e.ControlLocation == BackEnd }
