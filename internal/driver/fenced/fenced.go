// Package fenced stands before a store that other processes can change too: each
// change asks first whether it is this process's turn, and says when it is done, so
// that nothing is under way here when another process goes on with the store.
// Reading asks nobody.
package fenced

import (
	"context"
	"iter"

	"kvol/internal/block"
	"kvol/internal/driver"
)

// Turn is the right to change a store; duty.Turn is one.
type Turn interface {
	// Enter waits until it is this process's turn, and is an error when it is
	// another's for good.
	Enter(ctx context.Context) error
	// Leave follows each Enter that returned nil, when the change is done.
	Leave()
}

// Inner is what a store that several processes reach has to be.
type Inner interface {
	driver.Driver
	driver.Reverter
	driver.GroupSnapshotter
	driver.Lender
}

// Store is a store with its changes fenced. What only looks is found in the inner
// one. Its methods may be called at once.
type Store struct {
	Inner
	turn Turn
	ctx  context.Context //nolint:containedctx // devices are given none; theirs ends with the turn
}

var _ driver.Unwrapper = (*Store)(nil)

// New fences a store for as long as ctx lives. It is a driver.Mirrorer if the store
// is one.
func New(ctx context.Context, inner Inner, turn Turn) Inner {
	s := &Store{Inner: inner, turn: turn, ctx: ctx}
	if m, ok := driver.As[driver.Mirrorer](inner); ok {
		return &mirrored{s, m}
	}
	return s
}

// mirrored is a store whose cluster has volumes copied.
type mirrored struct {
	*Store
	inner driver.Mirrorer
}

// Mirror implements driver.Mirrorer.
func (m *mirrored) Mirror(ctx context.Context, id block.VolumeID) (moment uint64, err error) {
	err = m.change(ctx, func() error { moment, err = m.inner.Mirror(ctx, id); return err })
	return moment, err
}

// Mirrored implements driver.Mirrorer.
func (m *mirrored) Mirrored(ctx context.Context, id block.VolumeID, moment uint64) (driver.MirrorState, error) {
	return m.inner.Mirrored(ctx, id, moment)
}

// Unmirror implements driver.Mirrorer.
func (m *mirrored) Unmirror(ctx context.Context, id block.VolumeID) error {
	return m.change(ctx, func() error { return m.inner.Unmirror(ctx, id) })
}

// Unwrap implements driver.Unwrapper.
func (s *Store) Unwrap() driver.Driver { return s.Inner }

// change carries out a change in this process's turn.
func (s *Store) change(ctx context.Context, do func() error) error { return In(ctx, s.turn, do) }

// In carries out a change in this process's turn. It fails with Unavailable, and does
// nothing, when the turn is another's.
func In(ctx context.Context, turn Turn, do func() error) error {
	if err := turn.Enter(ctx); err != nil {
		return block.Wrap(block.Unavailable, err, "The store is another process's by now.")
	}
	defer turn.Leave()
	return do()
}

// CreateVolume implements driver.Driver.
func (s *Store) CreateVolume(ctx context.Context, id block.VolumeID, size int64) error {
	return s.change(ctx, func() error { return s.Inner.CreateVolume(ctx, id, size) })
}

// CloneSnapshot implements driver.Driver.
func (s *Store) CloneSnapshot(ctx context.Context, id block.VolumeID, from driver.SnapshotRef, size int64) error {
	return s.change(ctx, func() error { return s.Inner.CloneSnapshot(ctx, id, from, size) })
}

// ExtendVolume implements driver.Driver.
func (s *Store) ExtendVolume(ctx context.Context, id block.VolumeID, size int64) error {
	return s.change(ctx, func() error { return s.Inner.ExtendVolume(ctx, id, size) })
}

// DeleteVolume implements driver.Driver.
func (s *Store) DeleteVolume(ctx context.Context, id block.VolumeID) error {
	return s.change(ctx, func() error { return s.Inner.DeleteVolume(ctx, id) })
}

// CreateSnapshot implements driver.Driver.
func (s *Store) CreateSnapshot(ctx context.Context, ref driver.SnapshotRef) error {
	return s.change(ctx, func() error { return s.Inner.CreateSnapshot(ctx, ref) })
}

// CreateSnapshots implements driver.GroupSnapshotter.
func (s *Store) CreateSnapshots(ctx context.Context, refs []driver.SnapshotRef) error {
	return s.change(ctx, func() error { return s.Inner.CreateSnapshots(ctx, refs) })
}

// DeleteSnapshot implements driver.Driver.
func (s *Store) DeleteSnapshot(ctx context.Context, ref driver.SnapshotRef) error {
	return s.change(ctx, func() error { return s.Inner.DeleteSnapshot(ctx, ref) })
}

// Revert implements driver.Reverter.
func (s *Store) Revert(ctx context.Context, to driver.SnapshotRef) error {
	return s.change(ctx, func() error { return s.Inner.Revert(ctx, to) })
}

// Lend implements driver.Lender.
func (s *Store) Lend(ctx context.Context, id block.VolumeID) error {
	return s.change(ctx, func() error { return s.Inner.Lend(ctx, id) })
}

// Cut implements driver.Lender.
func (s *Store) Cut(ctx context.Context, id block.VolumeID, who []driver.Borrower) error {
	return s.change(ctx, func() error { return s.Inner.Cut(ctx, id, who) })
}

// Withhold implements driver.Lender.
func (s *Store) Withhold(ctx context.Context, id block.VolumeID) error {
	return s.change(ctx, func() error { return s.Inner.Withhold(ctx, id) })
}

// Reclaim implements driver.Lender.
func (s *Store) Reclaim(ctx context.Context, id block.VolumeID) error {
	return s.change(ctx, func() error { return s.Inner.Reclaim(ctx, id) })
}

// OpenVolume implements driver.Driver. It is a change too: it may cut off who had
// the volume open before.
func (s *Store) OpenVolume(ctx context.Context, id block.VolumeID) (d driver.Device, err error) {
	err = s.change(ctx, func() error { d, err = s.Inner.OpenVolume(ctx, id); return err })
	if err != nil {
		return nil, err
	}
	if _, ok := d.(driver.ExtentReader); ok {
		return extents{device{d, s}}, nil
	}
	return device{d, s}, nil
}

// OpenSnapshot implements driver.Driver. It may cut off who had the volume open
// before, as OpenVolume; reading is no change then.
func (s *Store) OpenSnapshot(ctx context.Context, ref driver.SnapshotRef) (r driver.Reader, err error) {
	err = s.change(ctx, func() error { r, err = s.Inner.OpenSnapshot(ctx, ref); return err })
	return r, err
}

// device is a volume of which each write is a change.
type device struct {
	driver.Device
	s *Store
}

// WriteAt implements io.WriterAt.
func (d device) WriteAt(p []byte, off int64) (n int, err error) {
	err = d.s.change(d.s.ctx, func() error { n, err = d.Device.WriteAt(p, off); return err })
	return n, err
}

// WriteMany implements driver.ManyWriter.
func (d device) WriteMany(parts []driver.Part) (done int, err error) {
	err = d.s.change(d.s.ctx, func() error { done, err = driver.WriteMany(d.Device, parts); return err })
	return done, err
}

// Zero implements driver.Device.
func (d device) Zero(off, length int64) error {
	return d.s.change(d.s.ctx, func() error { return d.Device.Zero(off, length) })
}

// extents is a device that knows where its data is.
type extents struct{ device }

// Extents implements driver.ExtentReader.
func (e extents) Extents(off, length int64) iter.Seq2[driver.Extent, error] {
	inner, _ := e.Device.(driver.ExtentReader) // OpenVolume has looked
	return inner.Extents(off, length)
}
