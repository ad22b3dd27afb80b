package control

import (
	"time"

	"kvol/internal/block"
)

// NewVolume is what CreateVolume is asked for. Nil members mean "not given".
type NewVolume struct {
	Size              *int64 // GiB; taken from the source if nil
	Name, Description *string
	VolumeType        *string // name or id
	AvailabilityZone  *string
	SnapshotID        *block.SnapshotID
	SourceVolumeID    *block.VolumeID
	BackupID          *block.BackupID
	GroupID           *block.GroupID
	ImageRef          *string // id, name, or a URL that ends in the id
	Multiattach       bool
	Metadata          map[string]string
	Hints             Hints
}

// Text is a nullable text that a change may leave alone: Set says whether it
// was given at all, and a nil Value sets it to null.
type Text struct {
	Set   bool
	Value *string
}

// VolumeChange is what UpdateVolume changes; a nil Metadata leaves it alone.
type VolumeChange struct {
	Name, Description Text
	Metadata          *map[string]string // replaces all of it
}

// SnapshotChange is what UpdateSnapshot changes.
type SnapshotChange struct {
	Name, Description Text
}

// NewSnapshot is what CreateSnapshot is asked for.
type NewSnapshot struct {
	VolumeID          block.VolumeID
	Name, Description *string
	Force             bool // also of a volume in use
	Metadata          map[string]string
}

// AttachRequest says who attached a volume. Exactly one of ServerID and
// HostName is set.
type AttachRequest struct {
	ServerID, HostName *string
	Device             string // mountpoint as the host names it
	Mode               string // "rw" or "ro"; "" is "rw", or "ro" for a read-only volume
}

// ConnectionInfo tells a host how to reach a volume's bytes.
type ConnectionInfo struct {
	DriverVolumeType string
	Data             map[string]any
	MountPointBase   string // where os-brick mounts what Data names; "" if it mounts nothing
}

// VolumeReset is os-reset_status: an administrator's word on what a volume's
// state is. At least one member is set.
type VolumeReset struct {
	Status, AttachStatus, MigrationStatus *string
}

// UploadRequest is os-volume_upload_image. Empty formats are "raw" and
// "bare", an empty visibility is "private".
type UploadRequest struct {
	ImageName                               string
	Force                                   bool // also of a volume in use
	DiskFormat, ContainerFormat, Visibility string
	Protected                               bool
}

// Upload is the answer to UploadRequest: the image exists and waits for its
// bytes, the volume is "uploading".
type Upload struct {
	Volume                                          block.Volume
	Type                                            *block.VolumeType // nil for none
	ImageID, ImageName, DiskFormat, ContainerFormat string
	Visibility                                      string
	Protected                                       bool
	UpdatedAt                                       time.Time // of the volume; zero before its first change
}

// QuotaUse is one resource of a project's quota. Reserved is always 0: usage
// is counted from rows in the transaction that adds to it.
type QuotaUse struct {
	Limit, InUse, Reserved int64
}

// Limits is a project's limits and use of the resources that `GET /limits`
// shows, by resource name: volumes, snapshots, gigabytes, backups,
// backup_gigabytes.
type Limits map[string]QuotaUse

// AvailabilityZone is a part of a zone that tenants may name.
type AvailabilityZone struct {
	Name      string
	Available bool
}
