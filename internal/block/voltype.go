package block

import "time"

// VolumeType is what tenants choose; it lies on one backend.
type VolumeType struct {
	ID          TypeID
	Name        string
	Description *string
	Public      bool // else only projects that were given access use it
	ExtraSpecs  map[string]string
	QoSSpecsID  *string
	Configured  bool // the zone's configuration names it, and says what it is

	CreatedAt, UpdatedAt time.Time
}

// BackendName is the backend that volumes of this type lie on; "" if the type
// names none.
func (t VolumeType) BackendName() string { return t.ExtraSpecs["volume_backend_name"] }

// TypeEncryption is how volumes of a type are to be encrypted (Cinder's
// encryption specs).
type TypeEncryption struct {
	ID              string
	TypeID          TypeID
	Provider        string // "luks", or a class of os-brick
	ControlLocation string // "front-end" or "back-end"
	Cipher          *string
	KeySize         *int64 // bits

	CreatedAt, UpdatedAt time.Time
}

// Who keeps the limits of QoS specs: the host, this zone's exports, or both.
const (
	QoSFrontEnd = "front-end"
	QoSBackEnd  = "back-end"
	QoSBoth     = "both"
)

// QoSSpecs are limits that volume types may be associated with.
type QoSSpecs struct {
	ID         string
	Name       string
	Consumer   string
	Specs      map[string]string
	Configured bool // made of the zone's configuration

	CreatedAt, UpdatedAt time.Time
}

// DefaultType is the type of a project's volumes that ask for none.
type DefaultType struct {
	Project ProjectID
	Type    TypeID
}
