// Package elsewhere is a store that another process of the zone has open: it knows
// its room, from what that process tells, and says of all else who has it.
package elsewhere

import (
	"context"
	"iter"

	"kvol/internal/block"
	"kvol/internal/driver"
)

// Store is such a store. It implements driver.Driver.
type Store struct {
	Name string
	// Room asks for its capacity; Unavailable where no process has the store open.
	Room func(ctx context.Context, store string) (driver.Capacity, error)
}

var _ driver.Driver = Store{}

func (s Store) refuse() error {
	return block.Errorf(block.Unavailable, "Store %s is open in another process of the zone, try again later.", s.Name)
}

// CreateVolume implements driver.Driver.
func (s Store) CreateVolume(context.Context, block.VolumeID, int64) error { return s.refuse() }

// CloneSnapshot implements driver.Driver.
func (s Store) CloneSnapshot(context.Context, block.VolumeID, driver.SnapshotRef, int64) error {
	return s.refuse()
}

// ExtendVolume implements driver.Driver.
func (s Store) ExtendVolume(context.Context, block.VolumeID, int64) error { return s.refuse() }

// DeleteVolume implements driver.Driver.
func (s Store) DeleteVolume(context.Context, block.VolumeID) error { return s.refuse() }

// CreateSnapshot implements driver.Driver.
func (s Store) CreateSnapshot(context.Context, driver.SnapshotRef) error { return s.refuse() }

// DeleteSnapshot implements driver.Driver.
func (s Store) DeleteSnapshot(context.Context, driver.SnapshotRef) error { return s.refuse() }

// OpenVolume implements driver.Driver.
func (s Store) OpenVolume(context.Context, block.VolumeID) (driver.Device, error) {
	return nil, s.refuse()
}

// OpenSnapshot implements driver.Driver.
func (s Store) OpenSnapshot(context.Context, driver.SnapshotRef) (driver.Reader, error) {
	return nil, s.refuse()
}

// Volumes implements driver.Driver.
func (s Store) Volumes(context.Context) iter.Seq2[driver.VolumeInfo, error] {
	return func(yield func(driver.VolumeInfo, error) bool) { yield(driver.VolumeInfo{}, s.refuse()) }
}

// Snapshots implements driver.Driver.
func (s Store) Snapshots(context.Context, block.VolumeID) ([]driver.SnapshotInfo, error) {
	return nil, s.refuse()
}

// Capacity implements driver.Driver.
func (s Store) Capacity(ctx context.Context) (driver.Capacity, error) { return s.Room(ctx, s.Name) }

// Close implements driver.Driver: there is nothing open.
func (Store) Close() error { return nil }
