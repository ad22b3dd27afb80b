package control

import (
	"context"
	"maps"

	"kvol/internal/block"
	"kvol/internal/catalog"
)

// Volume returns a volume with its attachments.
func (s *Service) Volume(ctx context.Context, c block.Caller, id block.VolumeID) (v block.Volume, err error) {
	err = s.catalog.View(ctx, func(tx *catalog.Tx) error {
		if v, err = volumeOf(tx, c, id); err != nil {
			return err
		}
		return authorize(c, "volume:get", readersRule, volumeTarget(v))
	})
	return v, err
}

// Volumes returns a page of volumes with their attachments. Whoever is no
// administrator sees those of its project, whatever q.Project says; a marker
// that the caller may not see is NotFound.
func (s *Service) Volumes(ctx context.Context, c block.Caller, q block.ListQuery) (list []block.Volume, err error) {
	if err := mayRead(c, "volume:get_all"); err != nil {
		return nil, err
	}
	if !c.Admin() {
		q.Project = c.Own()
	}
	err = s.catalog.View(ctx, func(tx *catalog.Tx) error {
		if q.Marker != "" {
			if _, err := volumeOf(tx, c, block.VolumeID(q.Marker)); err != nil {
				return err
			}
		}
		list, err = tx.Volumes(q)
		return err
	})
	return list, err
}

// UpdateVolume changes name, description and metadata. It is Invalid during
// maintenance.
func (s *Service) UpdateVolume(ctx context.Context, c block.Caller, id block.VolumeID,
	change VolumeChange) (changed block.Volume, err error) {
	if change.Metadata != nil {
		if err := checkMetadata(*change.Metadata); err != nil {
			return block.Volume{}, err
		}
	}
	err = s.changeVolume(ctx, c, id, "volume:update", func(tx *catalog.Tx, v block.Volume) error {
		if v.Status == block.VolumeMaintenance {
			return invalidVolume("The volume cannot be updated during maintenance.")
		}
		if change.Name.Set {
			v.Name = change.Name.Value
		}
		if change.Description.Set {
			v.Description = change.Description.Value
		}
		if change.Metadata != nil {
			v.Metadata = *change.Metadata
		}
		if err := tx.UpdateVolume(v); err != nil {
			return err
		}
		changed, err = tx.Volume(id)
		return err
	})
	return changed, err
}

// VolumeEncryption says how a volume is encrypted; nil for not at all.
func (s *Service) VolumeEncryption(ctx context.Context, c block.Caller, id block.VolumeID) (*block.VolumeEncryption,
	error) {
	v, err := s.Volume(ctx, c, id)
	return v.Encryption, first(err,
		authorize(c, "volume_extension:volume_encryption_metadata", readersRule, volumeTarget(v)))
}

// VolumeMetadata returns a volume's metadata.
func (s *Service) VolumeMetadata(ctx context.Context, c block.Caller, id block.VolumeID) (map[string]string, error) {
	v, err := s.Volume(ctx, c, id)
	if err := first(err, authorize(c, "volume:get_volume_metadata", readersRule, volumeTarget(v))); err != nil {
		return nil, err
	}
	return v.Metadata, nil
}

// SetVolumeMetadata adds to a volume's metadata, or replaces all of it, and
// returns what it is then. It is Invalid during maintenance and while the
// volume is uploaded.
func (s *Service) SetVolumeMetadata(ctx context.Context, c block.Caller, id block.VolumeID,
	metadata map[string]string, replace bool) (after map[string]string, err error) {
	return s.setVolumeMetadata(ctx, c, id, "volume:update_volume_metadata", metadata, replace)
}

// AddVolumeMetadata is SetVolumeMetadata by the rule for adding to it.
func (s *Service) AddVolumeMetadata(ctx context.Context, c block.Caller, id block.VolumeID,
	metadata map[string]string) (after map[string]string, err error) {
	return s.setVolumeMetadata(ctx, c, id, "volume:create_volume_metadata", metadata, false)
}

func (s *Service) setVolumeMetadata(ctx context.Context, c block.Caller, id block.VolumeID, rule string,
	metadata map[string]string, replace bool) (after map[string]string, err error) {
	err = s.changeVolume(ctx, c, id, rule, func(tx *catalog.Tx, v block.Volume) error {
		if err := metadataOpen(v); err != nil {
			return err
		}
		after = merged(v.Metadata, metadata, replace)
		if err := checkMetadata(after); err != nil {
			return err
		}
		v.Metadata = after
		return tx.UpdateVolume(v)
	})
	return after, err
}

// DeleteVolumeMetadata removes one item; NotFound if there is none.
func (s *Service) DeleteVolumeMetadata(ctx context.Context, c block.Caller, id block.VolumeID, key string) error {
	return s.changeVolume(ctx, c, id, "volume:delete_volume_metadata", func(tx *catalog.Tx, v block.Volume) error {
		if err := metadataOpen(v); err != nil {
			return err
		}
		if _, ok := v.Metadata[key]; !ok {
			return block.Errorf(block.NotFound, "Volume %s has no metadata with key %s.", id, key)
		}
		delete(v.Metadata, key)
		return tx.UpdateVolume(v)
	})
}

// metadataOpen is the rule of cinder/volume/api.py update_volume_metadata.
func metadataOpen(v block.Volume) error {
	if v.Status == block.VolumeMaintenance || v.Status == block.VolumeUploading {
		return invalidVolume("Updating volume metadata is not allowed for volumes in %s status.", v.Status)
	}
	return nil
}

// merged returns a new map: changes over old, or changes alone.
func merged(old, changes map[string]string, replace bool) map[string]string {
	after := map[string]string{}
	if !replace {
		maps.Copy(after, old)
	}
	maps.Copy(after, changes)
	return after
}

// SetBootable sets the volume's flag.
func (s *Service) SetBootable(ctx context.Context, c block.Caller, id block.VolumeID, bootable bool) error {
	return s.changeVolume(ctx, c, id, "volume:update", func(tx *catalog.Tx, v block.Volume) error {
		if v.Status == block.VolumeMaintenance {
			return invalidVolume("The volume cannot be updated during maintenance.")
		}
		v.Bootable = bootable
		return tx.UpdateVolume(v)
	})
}

// SetReadonly sets the volume's flag; the volume must be available. Hosts that
// reach it meanwhile through a connection reach it again under the new rule.
func (s *Service) SetReadonly(ctx context.Context, c block.Caller, id block.VolumeID, readonly bool) error {
	err := s.changeVolume(ctx, c, id, "volume:update_readonly_flag", func(tx *catalog.Tx, v block.Volume) error {
		if v.Status != block.VolumeAvailable {
			return invalidVolume("Volume %s status must be available to update readonly flag, "+
				"but current status is: %s.", id, v.Status)
		}
		v.Readonly = readonly
		return first(tx.UpdateVolume(v), settleLater(tx, id))
	})
	if err == nil && readonly {
		s.exports.revokeWritable(id)
	}
	return err
}
