package control

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"time"

	"kvol/internal/backup"
	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/job"
	"kvol/internal/keystore"
)

// BackupService names what wrote a backup, in its exported record.
const BackupService = "kvol.backup.repository"

// maxRecord is how long an exported record may be, in bytes.
const maxRecord = 64 << 10

// record is a backup as it leaves one catalog for another: Cinder's names, and
// two of ours.
type record struct {
	ID               block.BackupID    `json:"id"`
	VolumeID         block.VolumeID    `json:"volume_id"`
	Size             int64             `json:"size"`
	Name             *string           `json:"display_name"`
	Description      *string           `json:"display_description"`
	Container        *string           `json:"container"`
	AvailabilityZone *string           `json:"availability_zone"`
	ParentID         *block.BackupID   `json:"parent_id"`
	SnapshotID       *block.SnapshotID `json:"snapshot_id"`
	ObjectCount      int64             `json:"object_count"`
	Metadata         map[string]string `json:"metadata"`
	DataTimestamp    time.Time         `json:"data_timestamp"`
	Location         string            `json:"location"`
	Root             string            `json:"root"`
	Bootable         bool              `json:"bootable"`
	ImageMetadata    map[string]string `json:"volume_image_metadata"`
	// Encryption is the content's, and Key the key to it, sealed for this zone.
	Encryption *block.VolumeEncryption `json:"encryption,omitempty"`
	Key        []byte                  `json:"encryption_key,omitempty"`
}

// ExportBackup returns a backup's record, from which ImportBackup makes the
// backup again where the repository can be reached. It is for administrators.
func (s *Service) ExportBackup(ctx context.Context, c block.Caller, id block.BackupID) (url string, err error) {
	var b block.Backup
	var key []byte
	err = s.catalog.View(ctx, func(tx *catalog.Tx) error {
		if b, err = backupOf(tx, c, id); err != nil {
			return err
		}
		if err := authorize(c, "backup:export-import", adminsRule, backupTarget(b)); err != nil {
			return err
		}
		key, err = s.exportKey(tx, b)
		return err
	})
	if err != nil {
		return "", err
	}
	if b.Status != block.BackupAvailable {
		return "", invalidBackup("Backup status must be available and not %s.", b.Status)
	}
	text, err := json.Marshal(record{
		ID: b.ID, VolumeID: b.VolumeID, Size: b.Size, Name: b.Name, Description: b.Description, Container: b.Container,
		AvailabilityZone: b.AvailabilityZone, ParentID: b.ParentID, SnapshotID: b.SnapshotID, ObjectCount: b.ObjectCount,
		Metadata: b.Metadata, DataTimestamp: b.DataTimestamp, Location: b.Location, Root: b.Root, Bootable: b.Bootable,
		ImageMetadata: b.ImageMetadata, Encryption: b.Encryption, Key: key,
	})
	return base64.StdEncoding.EncodeToString(text), err
}

var errRecord = invalidInput("Can't parse backup record.")

// parseRecord reads what somebody else wrote.
func parseRecord(url string) (r record, err error) {
	if len(url) > maxRecord {
		return r, errRecord
	}
	text, err := base64.StdEncoding.DecodeString(url)
	if err != nil || json.Unmarshal(text, &r) != nil {
		return r, errRecord
	}
	id, ok := block.ParseID(string(r.ID))
	volume, volumeOK := block.ParseID(string(r.VolumeID))
	_, locationErr := backup.ParseLocation(r.Location)
	_, rootErr := backup.ParseHash(r.Root)
	if !ok || !volumeOK || locationErr != nil || rootErr != nil || r.Size < 1 || r.Size > maxSize ||
		r.ObjectCount < 0 || r.DataTimestamp.Year() < 1970 || r.DataTimestamp.Year() > 9999 {
		return r, errRecord
	}
	for _, text := range []*string{r.Name, r.Description, r.Container, r.AvailabilityZone} {
		if text != nil && len([]rune(*text)) > maxMetadataLength {
			return r, errRecord
		}
	}
	if checkMetadata(r.Metadata) != nil || checkMetadata(r.ImageMetadata) != nil {
		return r, errRecord
	}
	r.ID, r.VolumeID = block.BackupID(id), block.VolumeID(volume)
	return r, nil
}

// ImportBackup states the intent to make a backup of a record that ExportBackup
// gave, here or in another zone; it becomes the caller's project's. A job looks
// whether the repository has it. It is for administrators.
func (s *Service) ImportBackup(ctx context.Context, c block.Caller, service, url string) (b block.Backup, err error) {
	if err := first(mustAdminister(c, "backup:backup-import"), inProject(c)); err != nil {
		return b, err
	}
	r, err := parseRecord(url)
	if err != nil {
		return b, err
	}
	if service != BackupService {
		return b, invalidInput("Backup service %s is not the one of this zone, which is %s.", service, BackupService)
	}
	err = s.catalog.Update(ctx, func(tx *catalog.Tx) error {
		if err := s.backupsServed(tx); err != nil {
			return err
		}
		if _, err := tx.Backup(r.ID); !block.Is(err, block.NotFound) {
			return first(err, invalidBackup("Backup already exists in database."))
		}
		if err := checkQuota(tx, c.Project, backupDelta(r.Size)); err != nil {
			return err
		}
		b = block.Backup{ID: r.ID, Project: c.Project, User: c.User, VolumeID: r.VolumeID, SnapshotID: r.SnapshotID,
			ParentID: nil, Name: r.Name, Description: r.Description, Size: r.Size, Status: block.BackupCreating,
			Container: r.Container, AvailabilityZone: r.AvailabilityZone, ObjectCount: r.ObjectCount,
			Metadata: merged(r.Metadata, nil, false), DataTimestamp: r.DataTimestamp, Location: r.Location,
			Bootable: r.Bootable, ImageMetadata: r.ImageMetadata}
		if b.Encryption, err = s.importKey(tx, c, r); err != nil {
			return err
		}
		if r.ParentID != nil { // one that is not here can't depend on this one
			switch _, err := tx.Backup(*r.ParentID); {
			case err == nil:
				b.ParentID = r.ParentID
			case !block.Is(err, block.NotFound):
				return err
			}
		}
		if err := first(tx.InsertBackup(b), enqueue(tx, jobBackupImport, string(b.ID), importArgs{r.Root})); err != nil {
			return err
		}
		b, err = tx.Backup(b.ID)
		return err
	})
	return b, err
}

// exportKey seals a backup's key for this zone: the record, wherever it is kept,
// is of use to nobody else.
func (s *Service) exportKey(tx *catalog.Tx, b block.Backup) ([]byte, error) {
	if b.Encryption == nil {
		return nil, nil
	}
	key, err := s.sealer.Key(tx, b.Encryption.Key)
	if err != nil {
		return nil, err
	}
	return keystore.SealFor(s.sealer.Box(), b.VolumeID, key)
}

func (s *Service) importKey(tx *catalog.Tx, c block.Caller, r record) (*block.VolumeEncryption, error) {
	if r.Encryption == nil {
		return nil, nil
	}
	key, err := s.sealer.OpenFor(r.VolumeID, r.Key)
	if err != nil {
		return nil, invalidInput("The key of the backup was not sealed for this zone.")
	}
	e := *r.Encryption
	e.Key, err = s.sealer.AddKey(tx, c.Project, c.User, algorithm(&e), key)
	return &e, err
}

type importArgs struct {
	Root string `json:"root"`
}

// runBackupImport looks whether the repository has what a record says.
func (s *Service) runBackupImport(ctx context.Context, t *job.Task) error {
	var args importArgs
	if err := t.Args(&args); err != nil {
		return err
	}
	id := block.BackupID(t.Job.Subject)
	b, err := s.backupWanted(ctx, id, block.BackupCreating)
	if err != nil {
		return err
	}
	m, err := s.cfg.Backups.Manifest(ctx, backup.Location(b.Location), id)
	if err != nil {
		return err
	}
	if m.Root.String() != args.Root || m.Volume != b.VolumeID || m.Size != b.Size*block.GiB {
		return block.Errorf(block.Invalid, "The record and the repository say different things of the backup.")
	}
	return s.catalog.Update(ctx, func(tx *catalog.Tx) error {
		b, err := backupWanted(tx, id, block.BackupCreating)
		if err != nil {
			return err
		}
		b.Root = args.Root
		if err := tx.UpdateBackup(b); err != nil {
			return err
		}
		_, err = tx.MoveBackup(id, block.Done)
		return err
	})
}

func gaveUpBackupImport(tx *catalog.Tx, j block.Job, cause error) error {
	b, err := backupWanted(tx, block.BackupID(j.Subject), block.BackupCreating)
	if errors.Is(err, errUnwanted) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := failBackup(tx, b, cause); err != nil {
		return err
	}
	_, err = tx.MoveBackup(b.ID, block.Fail)
	return err
}
