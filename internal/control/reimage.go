package control

import (
	"context"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/driver"
	"kvol/internal/job"
)

type reimageArgs struct {
	createArgs
	Reserved bool `json:"reserved,omitempty"` // the status that the volume had
}

// ReimageVolume states the intent to write an image over a volume that is
// available or in error or, if reserved says so, reserved
// (cinder/volume/api.py, reimage).
func (s *Service) ReimageVolume(ctx context.Context, c block.Caller, id block.VolumeID, image string,
	reserved bool) error {
	v, err := s.Volume(ctx, c, id)
	if err != nil {
		return err
	}
	rule := "volume:reimage"
	if v.Status == block.VolumeReserved {
		rule = "volume:reimage_reserved"
	}
	if err := authorize(c, rule, membersRule, volumeTarget(v)); err != nil {
		return err
	}
	imageID, ok := block.ParseID(image)
	missing := block.Errorf(block.NotFound, "Image %s could not be found.", image)
	if !ok || s.cfg.Images == nil {
		return missing
	}
	img, err := s.cfg.Images.Find(ctx, c, imageID)
	if block.Is(err, block.NotFound) || block.Is(err, block.Forbidden) {
		return missing
	}
	if err := first(err, s.checkSigned(img)); err != nil {
		return err
	}
	return s.changeVolume(ctx, c, id, rule, func(tx *catalog.Tx, v block.Volume) error {
		if len(v.Attachments) > 1 {
			return block.Errorf(block.Conflict, "Cannot re-image a volume which is attached to more than one server.")
		}
		if err := first(notStale(v), notGivenUp(tx, id), checkImageFits(img, v.Size), mayReimage(v, img)); err != nil {
			return err
		}
		was := v.Status
		expected := "available or error"
		if reserved {
			expected = "available or error or reserved"
		}
		refused := invalidVolume("Volume %s status must be %s, but current status is: %s.", id, expected, was)
		if was != block.VolumeAvailable && was != block.VolumeError && (was != block.VolumeReserved || !reserved) ||
			v.Migrating() {
			return refused
		}
		if _, err := tx.MoveVolume(id, block.Download); err != nil {
			return refusal(err, refused)
		}
		return enqueue(tx, jobVolumeReimage, string(id), reimageArgs{
			createArgs: createArgs{Image: img.ID, asker: s.asker(c)}, Reserved: was == block.VolumeReserved})
	})
}

// mayReimage refuses an image that is encrypted with a key of its own, and one
// that can't be encrypted as the volume is.
func mayReimage(v block.Volume, img Image) error {
	if img.Properties[imageKeyProperty] != "" {
		return invalidInput("Image %s is encrypted, and volume %s has another key.", img.ID, v.ID)
	}
	if v.Encryption == nil {
		return nil
	}
	return checkEncryptedImage(v.Encryption, img, v.Size)
}

// runReimage empties the volume, which then is written as a new one is. One
// whose creation failed may have no bytes yet.
func (s *Service) runReimage(ctx context.Context, t *job.Task) error {
	var args reimageArgs
	if err := t.Args(&args); err != nil {
		return err
	}
	v, err := s.wanted(ctx, block.VolumeID(t.Job.Subject), block.VolumeDownloading)
	if err != nil {
		return err
	}
	if err := first(s.alone(ctx, v.ID, t.Job.ID), s.cutOff(ctx, v.ID), s.makeEmpty(ctx, v)); err != nil {
		return err
	}
	err = s.overwrite(ctx, v, func(to driver.Device) error { return to.Zero(0, to.Size()) })
	if err != nil {
		return err
	}
	img, err := s.fillFromImage(ctx, t, v, args.createArgs)
	if err != nil {
		return err
	}
	err = s.finish(ctx, v.ID, []block.VolumeStatus{block.VolumeDownloading}, func(tx *catalog.Tx, v block.Volume) error {
		v.Bootable, v.ImageMetadata = true, img.metadata()
		if err := tx.UpdateVolume(v); err != nil {
			return err
		}
		v, err := tx.MoveVolume(v.ID, block.Done)
		if err != nil || !args.Reserved {
			return err
		}
		return s.tellServers(tx, v, eventReimaged) // the rebuild of a server waits for it
	})
	if err == nil {
		s.changed(v.ID)
	}
	return err
}
