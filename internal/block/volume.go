package block

import (
	"strings"
	"time"
)

// Volume is what the catalog knows of a volume. Pointers are nullable fields
// of the APIs, kept as they were sent: a nil name is not an empty name.
type Volume struct {
	ID                VolumeID
	Project           ProjectID
	User              UserID
	Name, Description *string
	Size              int64 // GiB
	Status            VolumeStatus
	TypeID            TypeID // "" for none
	TypeName          string // filled in when read; "" for none
	Backend           string // name of the backend that holds the bytes
	AvailabilityZone  string
	Bootable          bool
	Multiattach       bool
	Encrypted         bool
	Encryption        *VolumeEncryption // nil unless Encrypted
	Readonly          bool              // admin metadata "readonly"
	SnapshotID        *SnapshotID
	SourceVolumeID    *VolumeID
	GroupID           *GroupID
	GroupType         GroupTypeID       // of its group; filled in when read
	Metadata          map[string]string // never nil when read from the catalog
	ImageMetadata     map[string]string // "volume_image_metadata"; empty for none
	ReplicationStatus string            // "disabled", "enabled", ...; Cinder objects/fields.py ReplicationStatus

	// MigrationStatus is how far a move to another backend is, or how the last
	// one ended; "" for none (Cinder's migration_status).
	MigrationStatus string

	// Epoch numbers the right to write the volume; it rises at each promotion.
	Epoch uint64
	// RecoveredTo is set when the volume was recovered in another zone under a
	// higher epoch: this side is a stale primary and is never served for
	// writing again.
	RecoveredTo *Recovered
	// RecoveredFrom is set on a volume that a recovery made.
	RecoveredFrom *Origin
	// Switching is the zone to which the volume is being moved by a planned
	// failover; until that ends no host may write to it. "" for none.
	Switching Zone

	// Attachments are filled in when volumes are read one by one or in detail.
	Attachments []Attachment

	CreatedAt, UpdatedAt time.Time // UTC; UpdatedAt is zero before the first change
}

// Replication statuses that this product gives (of Cinder's
// objects/fields.py ReplicationStatus).
const (
	ReplicationDisabled = "disabled"
	ReplicationEnabled  = "enabled"
	FailedOver          = "failed-over" // recovered in another zone: a stale primary
	FailingOver         = "failing-over"
	FailoverError       = "failover-error" // of a backend none of whose volumes could be moved
)

// Recovered says where a volume lives on after its zone was given up.
type Recovered struct {
	Zone   Zone
	Volume VolumeID // in that zone
	Epoch  uint64
	At     time.Time
	Point  PointID // of the given-up volume, as which the other one began; "" if that is not known
}

// Attached reports whether some host holds the volume now (attach status
// "attached").
func (v Volume) Attached() bool {
	for _, a := range v.Attachments {
		if a.Status == "attached" {
			return true
		}
	}
	return false
}

// Rest is the status of a volume that nothing works on, as its attachments
// have it: "in-use" while a host holds it, "attaching" or "reserved" while
// attachments are about to, and "available" without any.
func (v Volume) Rest() VolumeStatus {
	rest := VolumeAvailable
	for _, a := range v.Attachments {
		switch {
		case a.Status == "attached":
			return VolumeInUse
		case a.Status == "attaching":
			rest = VolumeAttaching
		case rest == VolumeAvailable:
			rest = VolumeReserved
		}
	}
	return rest
}

// Migration statuses that this product gives (Cinder's
// cinder/volume/manager.py and cinder/volume/api.py).
const (
	MigrationStarting = "starting"
	Migrating         = "migrating"
	MigrationError    = "error"
	MigrationSuccess  = "success"
)

// Migrating reports whether a volume moves to another backend now.
func (v Volume) Migrating() bool {
	switch v.MigrationStatus {
	case "", "none", "deleting", MigrationError, MigrationSuccess:
		return false
	}
	return true
}

// Snapshot is what the catalog knows of a tenant's snapshot.
type Snapshot struct {
	ID                SnapshotID
	VolumeID          VolumeID
	Project           ProjectID
	User              UserID
	Name, Description *string
	Size              int64 // GiB, of the volume when it was taken
	Status            SnapshotStatus
	Progress          string // "0%" to "100%"
	Metadata          map[string]string
	GroupSnapshotID   *GroupSnapshotID

	CreatedAt, UpdatedAt time.Time
}

// Attachment is a host's use of a volume (Cinder's volume_attachment row).
type Attachment struct {
	ID         AttachmentID
	VolumeID   VolumeID
	ServerID   *string // instance uuid; nil when a host attached it itself
	HostName   *string
	Device     *string // mountpoint as the host names it, "/dev/vdb"
	Mode       string  // "rw" or "ro"
	Status     string  // attached, detached, attaching, ... (Cinder attach_status)
	AttachedAt time.Time
	DetachedAt time.Time

	ConnectionID string // its own path to the volume; "" for none yet, or for one that volume actions made
}

// Connection is a network path to a volume that was given to a host
// (os-initialize_connection). Its secret is derived from the zone's key, so
// nothing at rest tells it.
type Connection struct {
	ID        string
	VolumeID  VolumeID
	Connector map[string]any // as the host sent it, unknown keys included
	Protocol  string         // "nbd", "iscsi", or the store's own: "rbd"
	Readonly  bool
	CreatedAt time.Time
}

// Initiator is the name of the host's iSCSI initiator, in the lower case in
// which names are compared (RFC 3722); "" for none.
func (c Connection) Initiator() string {
	name, _ := c.Connector["initiator"].(string)
	return strings.ToLower(name)
}

// Host is the IP address of the connector's host, as os-brick says it; "" if it
// does not.
func (c Connection) Host() string {
	ip, _ := c.Connector["ip"].(string)
	return ip
}

// Lent is how it stands with a volume that hosts use by its store's own
// protocol: Wanted counts the hosts that were to be cut off from it, and Done is
// up to which of them that was done.
type Lent struct{ Wanted, Done int64 }
