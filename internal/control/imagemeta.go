package control

import (
	"context"

	"kvol/internal/block"
	"kvol/internal/catalog"
)

// ImageMetadata returns what a volume remembers of the image it came from.
func (s *Service) ImageMetadata(ctx context.Context, c block.Caller, id block.VolumeID) (map[string]string, error) {
	v, err := s.Volume(ctx, c, id)
	if err := first(err, authorize(c, "volume_extension:volume_image_metadata:show", readersRule,
		volumeTarget(v))); err != nil {
		return nil, err
	}
	return merged(v.ImageMetadata, nil, false), nil
}

// SetImageMetadata adds to a volume's image metadata and returns what it is
// then.
func (s *Service) SetImageMetadata(ctx context.Context, c block.Caller, id block.VolumeID,
	metadata map[string]string) (after map[string]string, err error) {
	err = s.changeVolume(ctx, c, id, "volume_extension:volume_image_metadata:set",
		func(tx *catalog.Tx, v block.Volume) error {
			if err := metadataOpen(v); err != nil {
				return err
			}
			after = merged(v.ImageMetadata, metadata, false)
			if err := checkMetadata(after); err != nil {
				return err
			}
			v.ImageMetadata = after
			return tx.UpdateVolume(v)
		})
	return after, err
}

// UnsetImageMetadata removes one item; NotFound if there is none.
func (s *Service) UnsetImageMetadata(ctx context.Context, c block.Caller, id block.VolumeID, key string) error {
	return s.changeVolume(ctx, c, id, "volume_extension:volume_image_metadata:remove",
		func(tx *catalog.Tx, v block.Volume) error {
			if err := metadataOpen(v); err != nil {
				return err
			}
			if _, ok := v.ImageMetadata[key]; !ok {
				return block.Errorf(block.NotFound, "Glance metadata for volume/snapshot %s cannot be found.", id)
			}
			delete(v.ImageMetadata, key)
			return tx.UpdateVolume(v)
		})
}
