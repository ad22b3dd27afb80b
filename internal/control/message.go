package control

import (
	"context"
	"errors"
	"time"

	"kvol/internal/block"
	"kvol/internal/catalog"
)

// messageTTL is how long a message is kept at least (cinder/message/api.py,
// message_ttl).
const messageTTL = 30 * 24 * time.Hour

// happening is one half of what a message says: a number and the words that
// tenants read. The numbers below 900 are those of
// cinder/message/message_field.py; the others are ours.
type happening struct{ id, words string }

// What failed.
var (
	actionSchedule       = happening{"001", "schedule allocate volume"}
	actionAttach         = happening{"002", "attach volume"}
	actionUpload         = happening{"003", "copy volume to image"}
	actionUpdateAttached = happening{"004", "update attachment"}
	actionDownload       = happening{"005", "copy image to volume"}
	actionExtend         = happening{"007", "extend volume"}
	actionCreate         = happening{"008", "create volume from backend storage"}
	actionSnapshot       = happening{"009", "create snapshot"}
	actionSnapshotDelete = happening{"010", "delete snapshot"}
	actionBackup         = happening{"013", "create backup"}
	actionBackupDelete   = happening{"014", "delete backup"}
	actionRestore        = happening{"015", "restore backup"}
	actionReimage        = happening{"016", "reimage volume"}
	actionDelete         = happening{"901", "delete volume"}
	actionRetype         = happening{"902", "retype volume"}
	actionRevert         = happening{"903", "revert volume to snapshot"}
	actionMigrate        = happening{"904", "migrate volume"}
)

// Why, as far as a tenant may know.
var (
	detailUnknown        = happening{"001", "An unknown error occurred."}
	detailNoBackend      = happening{"003", "Could not find any available weighted backend."}
	detailUpload         = happening{"004", "Failed to upload volume to image at backend."}
	detailMode           = happening{"005", "Volume's attach mode is invalid."}
	detailQuota          = happening{"006", "Not enough quota resource for operation."}
	detailImageTooBig    = happening{"007", "Image used for creating volume exceeds available space."}
	detailComputeExtend  = happening{"009", "Compute service failed to extend volume."}
	detailExtend         = happening{"010", "Volume Driver failed to extend volume."}
	detailCreate         = happening{"012", "Driver failed to create the volume."}
	detailSnapshot       = happening{"013", "Snapshot failed to create."}
	detailSnapshotDelete = happening{"016", "Snapshot failed to delete."}
	detailBackup         = happening{"020", "Backup driver failed to create backup."}
	detailBackupDelete   = happening{"025", "Backup driver failed to delete backup."}
	detailRestore        = happening{"026", "Backup driver failed to restore backup."}
	detailComputeReimage = happening{"028", "Compute service failed to reimage volume."}
	detailDelete         = happening{"901", "Volume Driver failed to delete volume."}
	detailRevert         = happening{"903", "Volume Driver failed to revert volume to snapshot."}
	detailMove           = happening{"904", "Volume Driver failed to move volume to another backend."}
	detailSnapshots      = happening{
		"905",
		"The volume has snapshots, or belongs to a group or replication, and must stay on its backend.",
	}
	detailOutrun     = happening{"906", "The volume was written to faster than it could be copied."}
	detailMigration  = happening{"907", "Retype requires migration but is not allowed."}
	detailHeaderRoom = happening{"908", "The volume is in use up to its end, where a LUKS header takes room; extend it."}
	detailContainer  = happening{"909", "What lies on the volume is no LUKS container that can be read here."}
)

// Types of what messages are about.
const (
	aboutVolume   = "VOLUME"
	aboutSnapshot = "VOLUME_SNAPSHOT"
	aboutBackup   = "VOLUME_BACKUP"
)

// actions and details are all of the above, to be read by number.
var (
	actions = numbered(actionSchedule, actionAttach, actionUpload, actionUpdateAttached, actionDownload, actionExtend,
		actionCreate, actionSnapshot, actionSnapshotDelete, actionBackup, actionBackupDelete, actionRestore,
		actionReimage, actionDelete, actionRetype, actionRevert, actionMigrate)
	details = numbered(detailUnknown, detailNoBackend, detailUpload, detailMode, detailQuota, detailImageTooBig,
		detailExtend, detailCreate, detailSnapshot, detailSnapshotDelete, detailBackup, detailBackupDelete,
		detailRestore, detailDelete, detailRevert, detailMove, detailSnapshots,
		detailOutrun, detailComputeExtend, detailComputeReimage, detailMigration, detailHeaderRoom, detailContainer)
)

func numbered(all ...happening) map[string]string {
	m := map[string]string{}
	for _, h := range all {
		m[h.id] = h.words
	}
	return m
}

// tell writes a message for a project: what failed on which of its things, and
// why. Handlers of jobs call it in GaveUp, in the transaction that fails the
// job, so that the message is there if and only if the thing is in error. cause
// is never shown; from it follows a more exact reason where Cinder has one.
func tell(tx *catalog.Tx, project block.ProjectID, request, about, id string, what, why happening, cause error) error {
	kind := block.KindOf(cause)
	if errors.Is(cause, errNoBackend) {
		kind, what, why = block.Internal, actionSchedule, detailNoBackend
	}
	switch kind {
	case block.OverLimit:
		why = detailQuota
	case block.NoSpace:
		switch what {
		case actionCreate:
			what, why = actionSchedule, detailNoBackend
		case actionDownload, actionReimage:
			why = detailImageTooBig
		}
	}
	return tx.InsertMessage(block.Message{ID: block.NewID(), Project: project, RequestID: request, ResourceType: about,
		ResourceID: id, Action: what.id, Detail: why.id, EventID: "VOLUME_" + about + "_" + what.id + "_" + why.id,
		Level: "ERROR", ExpiresAt: tx.Now.Add(messageTTL)})
}

// tellOfVolume is tell for a job on a volume.
func tellOfVolume(tx *catalog.Tx, v block.Volume, j block.Job, what, why happening, cause error) error {
	return tell(tx, v.Project, j.RequestID, aboutVolume, string(v.ID), what, why, cause)
}

// Message is a message with the sentence that a tenant reads.
type Message struct {
	block.Message
	Text string
}

func readable(m block.Message) Message {
	what, why := actions[m.Action], details[m.Detail]
	if what == "" {
		what = "unknown action"
	}
	if why == "" {
		why = detailUnknown.words
	}
	return Message{m, what + ":" + why}
}

// Messages returns a page of messages: those of the caller's project, to
// administrators those of all projects or of the query's.
func (s *Service) Messages(ctx context.Context, c block.Caller, q block.ListQuery) (list []Message, err error) {
	if err := mayRead(c, "message:get_all"); err != nil {
		return nil, err
	}
	if !c.Admin() {
		q.Project = c.Own()
	}
	err = s.catalog.View(ctx, func(tx *catalog.Tx) error {
		rows, err := tx.Messages(q)
		list = make([]Message, 0, len(rows))
		for _, m := range rows {
			list = append(list, readable(m))
		}
		return err
	})
	return list, err
}

// Message returns a message.
func (s *Service) Message(ctx context.Context, c block.Caller, id string) (m Message, err error) {
	err = s.catalog.View(ctx, func(tx *catalog.Tx) error {
		row, err := messageOf(tx, c, id, "message:get", readersRule)
		m = readable(row)
		return err
	})
	return m, err
}

// DeleteMessage removes a message.
func (s *Service) DeleteMessage(ctx context.Context, c block.Caller, id string) error {
	return s.catalog.Update(ctx, func(tx *catalog.Tx) error {
		if _, err := messageOf(tx, c, id, "message:delete", membersRule); err != nil {
			return err
		}
		return tx.DeleteMessage(id)
	})
}

func messageOf(tx *catalog.Tx, c block.Caller, id, rule, otherwise string) (block.Message, error) {
	m, err := tx.Message(id)
	if err == nil && !sees(c, m.Project) {
		err = block.Errorf(block.NotFound, "Message %s could not be found.", id)
	}
	if err != nil {
		return block.Message{}, err
	}
	return m, authorize(c, rule, otherwise, owned(m.Project, ""))
}
