package control

import (
	"context"
	"slices"
	"strings"

	"kvol/internal/block"
	"kvol/internal/catalog"
)

// UploadImage states the intent to make an image of a volume; a job sends the
// bytes, as they are now. A volume in use needs req.Force. A disk format that
// nothing here can write is refused at once. Public images are for
// administrators.
func (s *Service) UploadImage(ctx context.Context, c block.Caller, id block.VolumeID,
	req UploadRequest) (up Upload, err error) {
	const rule = "volume_extension:volume_actions:upload_image"
	v, err := s.Volume(ctx, c, id)
	if err != nil {
		return Upload{}, err
	}
	req = req.withDefaults()
	if err := first(mayMake(c, rule), uploadable(v, req.Force)); err != nil {
		return Upload{}, err
	}
	if req.Visibility == "public" {
		if err := mustAdminister(c, "volume_extension:volume_actions:upload_public"); err != nil {
			return Upload{}, err
		}
	}
	if req.ContainerFormat == "compressed" {
		return Upload{}, invalidInput("Image compression upload disallowed, but container_format is compressed")
	}
	if err := s.canWrite(req.DiskFormat); err != nil {
		return Upload{}, err
	}
	if s.cfg.Images == nil {
		return Upload{}, block.Errorf(block.Unavailable, "This zone has no image service.")
	}
	if v.Encrypted && (req.DiskFormat != "raw" || req.ContainerFormat != "bare") {
		return Upload{}, invalidInput("An image of an encrypted volume must have the disk format raw and the container " +
			"format bare.")
	}
	properties, key := imageProperties(v.ImageMetadata), block.SecretID("")
	if v.Encryption != nil {
		key = block.SecretID(block.NewID())
		properties[imageKeyProperty], properties[imageKeyPolicy] = string(key), withImage
	}
	img, err := s.cfg.Images.Create(ctx, c, Image{
		ID: block.NewID(), Name: req.ImageName, DiskFormat: req.DiskFormat, ContainerFormat: req.ContainerFormat,
		Visibility: req.Visibility, Protected: req.Protected, Properties: properties,
	})
	if err != nil {
		return Upload{}, err
	}
	args := uploadArgs{Image: img.ID, Format: req.DiskFormat, asker: s.asker(c), Project: c.Project, User: c.User}
	err = s.changeVolume(ctx, c, id, rule, func(tx *catalog.Tx, v block.Volume) error {
		if err := uploadable(v, req.Force); err != nil {
			return err
		}
		if up.Type, err = typeByID(tx, v.TypeID); err != nil {
			return err
		}
		up.UpdatedAt = v.UpdatedAt
		if key != "" {
			if err := s.sealer.CopyKeyAs(tx, key, v.Encryption.Key, c.Project, c.User); err != nil {
				return err
			}
		}
		if up.Volume, err = tx.MoveVolume(id, block.Upload); err != nil {
			return refusal(err, uploadable(v, false))
		}
		return enqueue(tx, jobVolumeUpload, string(id), args)
	})
	if err != nil { // what was just made is of no use to anybody; the first error says why
		_ = s.cfg.Images.Delete(context.WithoutCancel(ctx), c, img.ID)
		return Upload{}, err
	}
	up.ImageID, up.ImageName = img.ID, req.ImageName
	up.DiskFormat, up.ContainerFormat = req.DiskFormat, req.ContainerFormat
	up.Visibility, up.Protected = req.Visibility, req.Protected
	return up, nil
}

func (r UploadRequest) withDefaults() UploadRequest {
	if r.DiskFormat == "" {
		r.DiskFormat = "raw"
	}
	if r.ContainerFormat == "" {
		r.ContainerFormat = "bare"
	}
	if r.Visibility == "" {
		r.Visibility = "private"
	}
	return r
}

// uploadable is the rule of cinder/volume/api.py copy_volume_to_image.
func uploadable(v block.Volume, force bool) error {
	if v.Status == block.VolumeAvailable || force && v.Status == block.VolumeInUse {
		return nil
	}
	if force {
		return invalidVolume("Volume %s status must be available or in-use", v.ID)
	}
	return invalidVolume("Volume %s status must be available", v.ID)
}

// coreImageFields are those of an image that are no properties of the user's
// (cinder/volume/api.py, glance_core_properties).
var coreImageFields = map[string]bool{
	"image_id": true, "image_name": true, "checksum": true, "container_format": true, "disk_format": true,
	"min_disk": true, "min_ram": true, "size": true, "visibility": true, "protected": true, "status": true,
}

// reservedNames begin the names of what is true of the image that a volume came
// from, and not of one that is made of the volume (cinder/image/image_utils.py,
// GLANCE_RESERVED_NAMESPACES). An image of an encrypted volume has a key of its own,
// with which it is deleted.
var reservedNames = []string{"os_glance", "img_signature", "signature_verified", imageKeyProperty, imageKeyPolicy}

func imageProperties(metadata map[string]string) map[string]string {
	properties := map[string]string{}
	for k, v := range metadata {
		reserved := slices.ContainsFunc(reservedNames, func(prefix string) bool { return strings.HasPrefix(k, prefix) })
		if !coreImageFields[k] && !reserved {
			properties[k] = v
		}
	}
	return properties
}
