package block

import "time"

// BackupID names a backup: a dashed lower-case UUID.
type BackupID string

// BackupStatus is a backup's status as the APIs show it
// (cinder/objects/fields.py BackupStatus).
type BackupStatus string

// The statuses of backups.
const (
	BackupCreating      BackupStatus = "creating"
	BackupAvailable     BackupStatus = "available"
	BackupRestoring     BackupStatus = "restoring"
	BackupDeleting      BackupStatus = "deleting"
	BackupError         BackupStatus = "error"
	BackupErrorDeleting BackupStatus = "error_deleting"
	BackupDeleted       BackupStatus = "deleted"
)

// backupTable is the only way a backup's status moves, but for an
// administrator's os-reset_status. A restore that failed leaves the backup as
// it was: it is the volume that is in error. An available backup fails when the
// repository is found to have lost what it needs.
var backupTable = map[BackupStatus]map[Event]BackupStatus{
	BackupCreating:      {Done: BackupAvailable, Fail: BackupError},
	BackupAvailable:     {Restore: BackupRestoring, Delete: BackupDeleting, Fail: BackupError},
	BackupRestoring:     {Done: BackupAvailable, Fail: BackupAvailable},
	BackupDeleting:      {Done: BackupDeleted, Fail: BackupErrorDeleting},
	BackupError:         {Delete: BackupDeleting},
	BackupErrorDeleting: {},
	BackupDeleted:       {},
}

// After is VolumeStatus.After for backups; the status "deleted" means that the
// row is removed.
func (s BackupStatus) After(e Event) (BackupStatus, error) {
	if e == ForceDelete {
		return BackupDeleting, nil
	}
	to, ok := backupTable[s][e]
	if !ok {
		return s, Errorf(Conflict, "a backup in status %s does not allow %s", s, e)
	}
	return to, nil
}

// Valid reports whether s is a status that a backup can have.
func (s BackupStatus) Valid() bool { _, ok := backupTable[s]; return ok }

// Passing reports whether s ends by itself; see VolumeStatus.Passing.
func (s BackupStatus) Passing() bool { _, ok := backupTable[s][Done]; return ok }

// Backup is what the catalog knows of a backup.
type Backup struct {
	ID                BackupID
	Project           ProjectID
	User              UserID
	VolumeID          VolumeID
	SnapshotID        *SnapshotID // of which it was made; nil for the volume itself
	ParentID          *BackupID   // nil for a full one
	Name, Description *string
	Size              int64 // GiB, of the volume
	Status            BackupStatus
	FailReason        *string // what a tenant may know of why it failed
	Container         *string // as it was asked for; it has no meaning here
	AvailabilityZone  *string
	ObjectCount       int64 // objects that it added to the repository
	Metadata          map[string]string
	DataTimestamp     time.Time // of the content
	RestoreVolumeID   *VolumeID // that it was restored to last

	Location string // in the repository
	Root     string // of the content, as hexadecimal digits; "" until it is known
	Backend  string // where the volume lay

	Bootable      bool              // what the volume was
	ImageMetadata map[string]string // that the volume had
	Encryption    *VolumeEncryption // of the content, with a key of its own; nil if it is clear

	Dependents int64 // backups that have this one as parent; filled in when read

	CreatedAt, UpdatedAt time.Time
}
