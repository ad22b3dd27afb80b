package block

import (
	"strings"

	"github.com/google/uuid"
)

// The names of things. Volumes, snapshots, types, attachments and images carry
// dashed lower-case UUIDs; projects and users what the identity service gave
// them (usually 32 hex digits), which is echoed as given.
type (
	VolumeID     string
	SnapshotID   string
	TypeID       string
	AttachmentID string
	ImageID      string
	PointID      string // a recovery point; a tenant's snapshot keeps its SnapshotID as PointID
	ProjectID    string
	UserID       string
	Zone         string // "mitaka1"
	JobID        int64
)

// GiB is the unit of volume sizes in the APIs and the catalog, in bytes.
const GiB = int64(1) << 30

// NewID returns a random (version 4) UUID in dashed lower-case form.
func NewID() string { return uuid.NewString() }

// ParseID reads a UUID, dashed or not, and returns it dashed in lower case.
// ok is false if s is no UUID. (Cinder accepts both forms in request bodies.)
func ParseID(s string) (id string, ok bool) {
	if len(s) != 36 && len(s) != 32 {
		return "", false
	}
	u, err := uuid.Parse(s)
	if err != nil {
		return "", false
	}
	return u.String(), true
}

// ParseProjectID reads a project id as Keystone makes them: 32 hex digits or a
// dashed UUID. It is returned as given but for case, since projects are
// compared by text.
func ParseProjectID(s string) (id ProjectID, ok bool) {
	if _, ok := ParseID(s); !ok {
		return "", false
	}
	return ProjectID(strings.ToLower(s)), true
}
