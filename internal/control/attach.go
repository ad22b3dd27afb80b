package control

import (
	"context"

	"kvol/internal/block"
	"kvol/internal/catalog"
)

const (
	ruleReserve        = "volume_extension:volume_actions:reserve"
	ruleUnreserve      = "volume_extension:volume_actions:unreserve"
	ruleBeginDetaching = "volume_extension:volume_actions:begin_detaching"
	ruleRollDetaching  = "volume_extension:volume_actions:roll_detaching"
	ruleAttach         = "volume_extension:volume_actions:attach"
	ruleDetach         = "volume_extension:volume_actions:detach"

	attached  = "attached" // cinder/objects/fields.py VolumeAttachStatus
	readWrite = "rw"
	readOnly  = "ro"
)

// Reserve keeps a volume for a host that is about to attach it: "attaching".
func (s *Service) Reserve(ctx context.Context, c block.Caller, id block.VolumeID) error {
	return s.changeVolume(ctx, c, id, ruleReserve, func(tx *catalog.Tx, v block.Volume) error {
		expected := "available"
		if v.Multiattach {
			expected = "available or in-use"
		}
		refused := invalidVolume("Volume status must be %s to reserve, but the status is %s.", expected, v.Status)
		if v.Status != block.VolumeAvailable && !(v.Multiattach && v.Status == block.VolumeInUse) {
			return refused
		}
		_, err := tx.MoveVolume(id, block.Reserve)
		return refusal(err, refused)
	})
}

// Unreserve takes Reserve back. A volume that is not "attaching" stays as it
// is.
func (s *Service) Unreserve(ctx context.Context, c block.Caller, id block.VolumeID) error {
	return s.changeVolume(ctx, c, id, ruleUnreserve, func(tx *catalog.Tx, v block.Volume) error {
		if v.Status != block.VolumeAttaching {
			return nil
		}
		_, err := tx.MoveVolume(id, block.Unreserve)
		return err
	})
}

// BeginDetaching says that a host is about to give an attached volume back.
func (s *Service) BeginDetaching(ctx context.Context, c block.Caller, id block.VolumeID) error {
	return s.changeVolume(ctx, c, id, ruleBeginDetaching, func(tx *catalog.Tx, v block.Volume) error {
		if v.Migrating() { // as Nova does when it swaps volumes (cinder/volume/api.py, begin_detaching)
			return nil
		}
		refused := invalidVolume("Unable to detach volume. Volume status must be 'in-use' and " +
			"attach_status must be 'attached' to detach.")
		if !v.Attached() {
			return refused
		}
		_, err := tx.MoveVolume(id, block.BeginDetaching)
		return refusal(err, refused)
	})
}

// RollDetaching takes BeginDetaching back. A volume that is not "detaching"
// stays as it is.
func (s *Service) RollDetaching(ctx context.Context, c block.Caller, id block.VolumeID) error {
	return s.changeVolume(ctx, c, id, ruleRollDetaching, func(tx *catalog.Tx, v block.Volume) error {
		if v.Status != block.VolumeDetaching {
			return nil
		}
		_, err := tx.MoveVolume(id, block.RollDetaching)
		return err
	})
}

// Attach notes that a server or a host holds the volume now. Noting the same
// holder again changes nothing.
func (s *Service) Attach(ctx context.Context, c block.Caller, id block.VolumeID, req AttachRequest) error {
	var onlyRead bool
	err := s.changeVolume(ctx, c, id, ruleAttach, func(tx *catalog.Tx, v block.Volume) error {
		onlyRead = false
		mode := req.Mode
		if mode == "" {
			mode = readWrite
			if v.Readonly {
				mode = readOnly
			}
		}
		if err := attachable(v, req, mode); err != nil {
			return err
		}
		for _, a := range v.Attachments {
			if a.Status == attached && same(a.ServerID, req.ServerID) && same(a.HostName, req.HostName) {
				return nil
			}
		}
		if v.Attached() && !v.Multiattach {
			return block.Errorf(block.Invalid, "Error attaching volume - InvalidVolume: Invalid volume: volume is already "+
				"attached and multiple attachments are not enabled")
		}
		device := req.Device
		a := block.Attachment{
			ID: block.AttachmentID(block.NewID()), VolumeID: id, ServerID: req.ServerID, HostName: req.HostName,
			Device: &device, Mode: mode, Status: attached, AttachedAt: tx.Now,
		}
		if err := addAttachment(tx, v, a); err != nil {
			return err
		}
		after, err := tx.MoveVolume(id, block.Attach)
		onlyRead = exportedReadOnly(after, block.Connection{})
		return first(refusal(err, invalidVolume("Volume %s status must be available or attaching to attach, "+
			"but the current status is: %s.", id, v.Status)), settleLater(tx, id))
	})
	if err == nil && onlyRead {
		s.exports.revokeWritable(id)
	}
	return err
}

// attachable checks who and how (cinder/api/contrib/volume_actions.py _attach
// and cinder/volume/manager.py attach_volume).
func attachable(v block.Volume, req AttachRequest, mode string) error {
	switch {
	case (req.ServerID == nil) == (req.HostName == nil):
		return invalidInput("Invalid request to attach volume to an instance %s and/or host %s.",
			text(req.ServerID), text(req.HostName))
	case mode != readWrite && mode != readOnly:
		return block.Errorf(block.Invalid, "Invalid input for field/attribute mode. Value: %s. "+
			"'%s' is not one of ['rw', 'ro']", mode, mode)
	case v.Status == block.VolumeMaintenance:
		return invalidVolume("The volume cannot be attached in maintenance mode.")
	case v.Readonly && mode == readWrite:
		return block.Errorf(block.Invalid, "Invalid attaching mode '%s' for volume %s.", mode, v.ID)
	case mode == readWrite:
		return notStale(v)
	}
	return nil
}

func text(s *string) string {
	if s == nil {
		return "None"
	}
	return *s
}

func same(a, b *string) bool { return a == b || a != nil && b != nil && *a == *b }

// Detach notes that a host gave the volume back: the attachment with the id,
// or the only one there is. When the last one goes, the connections go too.
// Without attachments it only takes the volume out of "attaching" and the
// like. A volume that a job works on keeps its status until the job ends.
func (s *Service) Detach(ctx context.Context, c block.Caller, id block.VolumeID,
	attachmentID *block.AttachmentID) error {
	var free bool
	err := s.changeVolume(ctx, c, id, ruleDetach, func(tx *catalog.Tx, v block.Volume) error {
		if err := mayDetach(c, v, attachmentID); err != nil {
			return err
		}
		if v.Status == block.VolumeMaintenance {
			return invalidVolume("The volume cannot be detached in maintenance mode.")
		}
		if err := dropAttachment(tx, v, attachmentID); err != nil {
			return err
		}
		left, err := tx.Attachments(id)
		if err != nil {
			return err
		}
		if free = len(left) == 0; free {
			if err := forgetConnections(tx, id); err != nil {
				return err
			}
		}
		_, err = tx.MoveVolume(id, block.Detach)
		if v.Status.Passing() {
			return ignoring(block.Conflict, err)
		}
		return refusal(err, invalidVolume("Unable to detach volume. Volume status must be 'in-use' and "+
			"attach_status must be 'attached' to detach."))
	})
	if err == nil && free {
		s.exports.revoke(id)
	}
	return err
}

func dropAttachment(tx *catalog.Tx, v block.Volume, id *block.AttachmentID) error {
	if id != nil {
		for _, a := range v.Attachments {
			if a.ID == *id {
				return tx.DeleteAttachment(a.ID)
			}
		}
		return block.Errorf(block.NotFound, "Volume attachment could not be found with filter: attachment_id = %s.", *id)
	}
	switch len(v.Attachments) {
	case 0:
		return nil
	case 1:
		return tx.DeleteAttachment(v.Attachments[0].ID)
	}
	return block.Errorf(block.Invalid, "Error detaching volume - InvalidVolume: Invalid volume: Detach volume failed: "+
		"More than one attachment, but no attachment_id provided.")
}
