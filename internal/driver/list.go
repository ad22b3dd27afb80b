package driver

import (
	"context"
	"iter"

	"kvol/internal/block"
)

// Lister is a driver that tells which volumes it has for less than Volumes costs.
type Lister interface {
	VolumeIDs(ctx context.Context) iter.Seq2[block.VolumeID, error]
}

// VolumeIDs lists the ids of a store's volumes, in any order. Volumes that come or go
// meanwhile may be among them or not. After an error there is nothing more.
func VolumeIDs(ctx context.Context, d Driver) iter.Seq2[block.VolumeID, error] {
	if l, ok := As[Lister](d); ok {
		return l.VolumeIDs(ctx)
	}
	return func(yield func(block.VolumeID, error) bool) {
		for info, err := range d.Volumes(ctx) {
			if !yield(info.ID, err) {
				return
			}
		}
	}
}

// Finder is a driver that looks one volume up for less than Volumes costs.
type Finder interface {
	// Find fails with NotFound if there is none.
	Find(ctx context.Context, id block.VolumeID) (VolumeInfo, error)
}

// Find looks a volume of a store up; it fails with NotFound if there is none.
func Find(ctx context.Context, d Driver, id block.VolumeID) (VolumeInfo, error) {
	if f, ok := As[Finder](d); ok {
		return f.Find(ctx, id)
	}
	for info, err := range d.Volumes(ctx) {
		if err != nil {
			return VolumeInfo{}, err
		}
		if info.ID == id {
			return info, nil
		}
	}
	return VolumeInfo{}, block.Errorf(block.NotFound, "There is no volume %s in the store.", id)
}
