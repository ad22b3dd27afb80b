package control

import (
	"bytes"
	"context"
	"encoding/json"
	"slices"
	"strings"

	"kvol/internal/block"
	"kvol/internal/catalog"
)

const (
	ruleAttachmentCreate   = "volume:attachment_create"
	ruleAttachmentUpdate   = "volume:attachment_update"
	ruleAttachmentComplete = "volume:attachment_complete"
	ruleAttachmentDelete   = "volume:attachment_delete"

	// Statuses of attachments (cinder/objects/fields.py VolumeAttachStatus).
	attachReserved  = "reserved"
	attachAttaching = "attaching"
)

// NewAttachment is what CreateAttachment is asked for.
type NewAttachment struct {
	VolumeID  block.VolumeID
	ServerID  *string
	Connector map[string]any // nil while no host is known
	Mode      string         // "rw" or "ro"; "" for the connector's, or "rw"
}

// Attachment is an attachment with the path that its host was given; a nil
// Info means none.
type Attachment struct {
	block.Attachment
	Info *ConnectionInfo
}

// CreateAttachment keeps a volume for a server, and gives its host a path if
// the connector is known. The rules are those of cinder/volume/api.py
// attachment_create.
func (s *Service) CreateAttachment(ctx context.Context, c block.Caller, req NewAttachment) (out Attachment, err error) {
	err = s.changeVolume(ctx, c, req.VolumeID, ruleAttachmentCreate, func(tx *catalog.Tx, v block.Volume) error {
		if v.Multiattach && v.Bootable && v.Status == block.VolumeInUse {
			if err := authorize(c, "volume:multiattach_bootable_volume", membersRule, volumeTarget(v)); err != nil {
				return err
			}
		}
		mode := req.Mode
		if given, ok := req.Connector["mode"].(string); ok && mode == "" {
			mode = given
		}
		if err := first(reservable(v, req.ServerID), usable(v, mode)); err != nil {
			return err
		}
		a := block.Attachment{ID: block.AttachmentID(block.NewID()), VolumeID: v.ID, ServerID: req.ServerID,
			Mode: mode, Status: attachReserved}
		if err := addAttachment(tx, v, a); err != nil {
			return err
		}
		stays := v.Status == block.VolumeDownloading || // whose end finds the attachment
			v.Status == block.VolumeInUse && usedBy(v, req.ServerID) // a server that moves keeps it in use
		if !stays {
			if v, err = tx.MoveVolume(v.ID, block.ReserveHost); err != nil {
				return err
			}
		}
		out = Attachment{Attachment: a}
		if req.Connector == nil {
			return nil
		}
		out, _, err = s.connect(tx, v, a, req.Connector)
		return err
	})
	if err == nil {
		err = s.lend(ctx, req.VolumeID, out.Info)
	}
	return out, err
}

// addAttachment adds an attachment to a volume that hasn't too many.
func addAttachment(tx *catalog.Tx, v block.Volume, a block.Attachment) error {
	if len(v.Attachments) >= maxPaths {
		return block.Errorf(block.OverLimit, "Volume %s has %d attachments already.", v.ID, len(v.Attachments))
	}
	return tx.InsertAttachment(a)
}

// reservable says whether one more attachment of a volume may begin. One that
// an image is downloaded into is judged by what it will be then.
func reservable(v block.Volume, server *string) error {
	if strings.Contains(string(v.Status), "error") {
		return invalidVolume("Volume attachments can not be created if the volume is in an error state. "+
			"The Volume %s currently has a status of: %s ", v.ID, v.Status)
	}
	status, free := v.Status, []block.VolumeStatus{block.VolumeAvailable}
	if status == block.VolumeDownloading {
		status = v.Rest()
	}
	names := "available or downloading"
	if v.Multiattach {
		free, names = append(free, block.VolumeInUse), "available or in-use or downloading"
	}
	again := usedBy(v, server) && (status == block.VolumeInUse || status == block.VolumeReserved)
	if !slices.Contains(free, status) && !again {
		return invalidVolume("Volume %s status must be %s to reserve, but the current status is %s.", v.ID, names, status)
	}
	return nil
}

// usable refuses a mode in which a volume can't be used.
func usable(v block.Volume, mode string) error {
	switch {
	case mode == readOnly:
		return nil
	case mode != "" && mode != readWrite:
		return block.Errorf(block.Invalid, "Invalid attaching mode '%s' for volume %s.", mode, v.ID)
	case v.Readonly && mode == readWrite:
		return block.Errorf(block.Invalid, "Invalid attaching mode '%s' for volume %s.", mode, v.ID)
	case v.Readonly:
		return nil
	}
	return notStale(v)
}

func usedBy(v block.Volume, server *string) bool {
	return server != nil && slices.ContainsFunc(v.Attachments, func(a block.Attachment) bool {
		return same(a.ServerID, server)
	})
}

// connect gives an attachment's host its path, in the place of an older one,
// whose id it returns.
func (s *Service) connect(tx *catalog.Tx, v block.Volume, a block.Attachment,
	connector map[string]any) (out Attachment, gone []string, err error) {
	if slices.Contains(unconnectable, v.Status) {
		return out, nil, invalidVolume("Volume %s can't be connected while it is %s.", v.ID, v.Status)
	}
	var conn block.Connection
	if a.ConnectionID != "" {
		old, err := tx.Connection(a.ConnectionID)
		switch {
		case err == nil && equalJSON(old.Connector, connector):
			conn = old
		case err == nil:
			gone = append(gone, old.ID)
			err = dropConnection(tx, old)
		}
		if err = ignoring(block.NotFound, err); err != nil {
			return out, nil, err
		}
	}
	if conn.ID == "" {
		if conn, err = s.newConnection(tx, v, connector, a.Mode == readOnly); err != nil {
			return out, nil, err
		}
	}
	if a.Status == attachReserved {
		a.Status = attachAttaching
	}
	a.ConnectionID, a.HostName, a.Device = conn.ID, textOf(connector, "host"), textOf(connector, "mountpoint")
	if err := tx.UpdateAttachment(a); err != nil {
		return out, nil, err
	}
	if v.Status == block.VolumeReserved {
		if v, err = tx.MoveVolume(v.ID, block.Reserve); err != nil {
			return out, nil, err
		}
	}
	info, err := s.connectionInfo(tx, v, conn)
	return Attachment{a, &info}, gone, err
}

func equalJSON(a, b map[string]any) bool {
	x, err1 := json.Marshal(a)
	y, err2 := json.Marshal(b)
	return err1 == nil && err2 == nil && bytes.Equal(x, y)
}

func textOf(m map[string]any, key string) *string {
	if text, ok := m[key].(string); ok {
		return &text
	}
	return nil
}

// attachmentOf returns an attachment of a volume that the caller may see.
func attachmentOf(
	tx *catalog.Tx,
	c block.Caller,
	id block.AttachmentID,
) (a block.Attachment, v block.Volume, err error) {
	if a, err = tx.Attachment(id); err != nil {
		return a, v, err
	}
	if v, err = volumeOf(tx, c, a.VolumeID); block.Is(err, block.NotFound) {
		err = block.Errorf(block.NotFound, "Volume attachment could not be found with filter: attachment_id = %s.", id)
	}
	return a, v, err
}

// changeAttachment is changeVolume for attachments.
func (s *Service) changeAttachment(ctx context.Context, c block.Caller, id block.AttachmentID, rule string,
	fn func(*catalog.Tx, block.Volume, block.Attachment) error) error {
	return s.catalog.Update(ctx, func(tx *catalog.Tx) error {
		a, v, err := attachmentOf(tx, c, id)
		if err != nil {
			return err
		}
		if err := authorize(c, rule, membersRule, volumeTarget(v)); err != nil {
			return err
		}
		return fn(tx, v, a)
	})
}

// UpdateAttachment gives the host that a connector describes a path. A volume
// in error, or one that is not for several hosts and is used by another one, is
// a Conflict.
func (s *Service) UpdateAttachment(ctx context.Context, c block.Caller, id block.AttachmentID,
	connector map[string]any) (out Attachment, err error) {
	var gone []string
	err = s.changeAttachment(
		ctx,
		c,
		id,
		ruleAttachmentUpdate,
		func(tx *catalog.Tx, v block.Volume, a block.Attachment) error {
			if strings.Contains(string(v.Status), "error") {
				return block.Errorf(block.Conflict, "Volume attachments can not be updated if the volume is in an error "+
					"state. The Volume %s currently has a status of: %s ", v.ID, v.Status)
			}
			if !v.Multiattach && slices.ContainsFunc(v.Attachments, func(b block.Attachment) bool {
				return b.ID != a.ID && b.HostName != nil && !same(b.HostName, textOf(connector, "host")) &&
					!same(b.ServerID, a.ServerID)
			}) {
				return block.Errorf(block.Conflict, "Invalid volume: Volume %s is already connected to another host.", v.ID)
			}
			if mode, ok := connector["mode"].(string); ok && a.Mode == "" {
				a.Mode = mode
			}
			if err := usable(v, a.Mode); err != nil {
				return err
			}
			out, gone, err = s.connect(tx, v, a, connector)
			return err
		},
	)
	if err == nil {
		s.exports.revokeConnections(gone)
		err = s.lend(ctx, out.VolumeID, out.Info)
	}
	return out, err
}

// CompleteAttachment says that the host uses the volume now, be it while a job
// works on the volume.
func (s *Service) CompleteAttachment(ctx context.Context, c block.Caller, id block.AttachmentID) error {
	var volume block.VolumeID
	var onlyRead bool
	err := s.changeAttachment(ctx, c, id, ruleAttachmentComplete,
		func(tx *catalog.Tx, v block.Volume, a block.Attachment) error {
			if a.Mode == "" {
				a.Mode = readWrite
				if v.Readonly {
					a.Mode = readOnly
				}
			}
			if a.Status != attached {
				a.AttachedAt = tx.Now
			}
			a.Status = attached
			if err := tx.UpdateAttachment(a); err != nil {
				return err
			}
			after, err := tx.MoveVolume(v.ID, block.Attach)
			volume, onlyRead = v.ID, exportedReadOnly(after, block.Connection{})
			if v.Status.Rests() || v.Status == block.VolumeDetaching || v.Status == block.VolumeErrorExtending {
				err = ignoring(block.Conflict, err) // the job's end, or the other host's, finds the attachment
			}
			return first(refusal(err, invalidVolume("Volume %s can't be attached while it is %s.", v.ID, v.Status)),
				settleLater(tx, v.ID))
		})
	if err == nil && onlyRead {
		s.exports.revokeWritable(volume)
	}
	return err
}

// Attachment returns an attachment with its path. Cinder has no rule for it:
// who may look at a volume may look at how it is attached.
func (s *Service) Attachment(ctx context.Context, c block.Caller, id block.AttachmentID) (out Attachment, err error) {
	err = s.catalog.View(ctx, func(tx *catalog.Tx) error {
		a, v, err := attachmentOf(tx, c, id)
		if err := first(err, authorize(c, "volume:get", readersRule, volumeTarget(v))); err != nil {
			return err
		}
		out, err = s.withPath(tx, v, a)
		return err
	})
	return out, err
}

// withPath adds the path that an attachment's host was given, as it is now.
func (s *Service) withPath(tx *catalog.Tx, v block.Volume, a block.Attachment) (Attachment, error) {
	out := Attachment{Attachment: a}
	if a.ConnectionID == "" {
		return out, nil
	}
	conn, err := tx.Connection(a.ConnectionID)
	if err != nil {
		return out, ignoring(block.NotFound, err)
	}
	info, err := s.connectionInfo(tx, v, conn)
	if block.Is(err, block.Unavailable) { // no exports are served now
		return out, nil
	}
	out.Info = &info
	return out, err
}

// Attachments returns a page of attachments, as Volumes does of volumes, with
// their paths.
func (s *Service) Attachments(ctx context.Context, c block.Caller, q block.ListQuery) (list []Attachment, err error) {
	if err := mayRead(c, "volume:get_all"); err != nil {
		return nil, err
	}
	if !c.Admin() {
		q.Project = c.Own()
	}
	err = s.catalog.View(ctx, func(tx *catalog.Tx) error {
		list = nil
		rows, err := tx.ListAttachments(q)
		if err != nil {
			return err
		}
		volumes := map[block.VolumeID]block.Volume{}
		for _, a := range rows {
			v, known := volumes[a.VolumeID]
			if !known {
				if v, err = tx.Volume(a.VolumeID); err != nil {
					return err
				}
				volumes[v.ID] = v
			}
			one, err := s.withPath(tx, v, a)
			if err != nil {
				return err
			}
			list = append(list, one)
		}
		return nil
	})
	return list, err
}

// DeleteAttachment takes the volume back from a host, whose path ends at once,
// and returns the attachments that the volume has still.
func (s *Service) DeleteAttachment(ctx context.Context, c block.Caller,
	id block.AttachmentID) (left []block.Attachment, err error) {
	var gone []string
	err = s.changeAttachment(
		ctx,
		c,
		id,
		ruleAttachmentDelete,
		func(tx *catalog.Tx, v block.Volume, a block.Attachment) error {
			gone = nil
			if err := mayDetach(c, v, &a.ID); err != nil {
				return err
			}
			if a.ConnectionID != "" {
				gone = append(gone, a.ConnectionID)
				if err := dropConnectionOf(tx, a); err != nil {
					return err
				}
			}
			if err := tx.DeleteAttachment(a.ID); err != nil {
				return err
			}
			if left, err = tx.Attachments(v.ID); err != nil {
				return err
			}
			// One that a job works on keeps its status until the job ends.
			_, err = tx.MoveVolume(v.ID, block.Detach)
			return ignoring(block.Conflict, err)
		},
	)
	if err == nil {
		s.exports.revokeConnections(gone)
	}
	return left, err
}
