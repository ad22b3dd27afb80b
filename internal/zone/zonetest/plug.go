package zonetest

import (
	"context"
	"iter"
	"sync/atomic"

	"kvol/internal/block"
	"kvol/internal/driver"
)

// plug stands between one life of a zone and its store. Once it is pulled,
// nothing that is left of that life can touch the store any more: what a
// killed process's goroutines would still do in this one.
type plug struct {
	driver.Driver
	pulled atomic.Bool
}

// Unwrap lets capabilities be found; those that change the store are wrapped
// below.
func (p *plug) Unwrap() driver.Driver { return p.Driver }

func (p *plug) err() error {
	if p.pulled.Load() {
		return block.Errorf(block.Unavailable, "this process was killed")
	}
	return nil
}

func (p *plug) CreateVolume(ctx context.Context, id block.VolumeID, size int64) error {
	if err := p.err(); err != nil {
		return err
	}
	return p.Driver.CreateVolume(ctx, id, size)
}

func (p *plug) CloneSnapshot(ctx context.Context, id block.VolumeID, from driver.SnapshotRef, size int64) error {
	if err := p.err(); err != nil {
		return err
	}
	return p.Driver.CloneSnapshot(ctx, id, from, size)
}

func (p *plug) ExtendVolume(ctx context.Context, id block.VolumeID, size int64) error {
	if err := p.err(); err != nil {
		return err
	}
	return p.Driver.ExtendVolume(ctx, id, size)
}

func (p *plug) DeleteVolume(ctx context.Context, id block.VolumeID) error {
	if err := p.err(); err != nil {
		return err
	}
	return p.Driver.DeleteVolume(ctx, id)
}

func (p *plug) CreateSnapshot(ctx context.Context, ref driver.SnapshotRef) error {
	if err := p.err(); err != nil {
		return err
	}
	return p.Driver.CreateSnapshot(ctx, ref)
}

func (p *plug) DeleteSnapshot(ctx context.Context, ref driver.SnapshotRef) error {
	if err := p.err(); err != nil {
		return err
	}
	return p.Driver.DeleteSnapshot(ctx, ref)
}

func (p *plug) Snapshots(ctx context.Context, id block.VolumeID) ([]driver.SnapshotInfo, error) {
	if err := p.err(); err != nil {
		return nil, err
	}
	return p.Driver.Snapshots(ctx, id)
}

func (p *plug) Volumes(ctx context.Context) iter.Seq2[driver.VolumeInfo, error] {
	return p.Driver.Volumes(ctx)
}

func (p *plug) OpenVolume(ctx context.Context, id block.VolumeID) (driver.Device, error) {
	if err := p.err(); err != nil {
		return nil, err
	}
	d, err := p.Driver.OpenVolume(ctx, id)
	if err != nil {
		return nil, err
	}
	return &pluggedDevice{Device: d, plug: p}, nil
}

// Close leaves the store itself open for the next life.
func (p *plug) Close() error { return nil }

// CreateSnapshots implements driver.GroupSnapshotter where the store does.
func (p *plug) CreateSnapshots(ctx context.Context, refs []driver.SnapshotRef) error {
	if err := p.err(); err != nil {
		return err
	}
	g, ok := driver.As[driver.GroupSnapshotter](p.Driver)
	if !ok {
		return block.Errorf(block.Unsupported, "the store can't name one instant of many volumes")
	}
	return g.CreateSnapshots(ctx, refs)
}

// Revert implements driver.Reverter where the store does.
func (p *plug) Revert(ctx context.Context, to driver.SnapshotRef) error {
	if err := p.err(); err != nil {
		return err
	}
	r, ok := driver.As[driver.Reverter](p.Driver)
	if !ok {
		return block.Errorf(block.Unsupported, "the store can't revert")
	}
	return r.Revert(ctx, to)
}

// pluggedDevice is a device of one life.
type pluggedDevice struct {
	driver.Device
	plug *plug
}

func (d *pluggedDevice) WriteAt(b []byte, off int64) (int, error) {
	if err := d.plug.err(); err != nil {
		return 0, err
	}
	return d.Device.WriteAt(b, off)
}

func (d *pluggedDevice) Zero(off, length int64) error {
	if err := d.plug.err(); err != nil {
		return err
	}
	return d.Device.Zero(off, length)
}

func (d *pluggedDevice) Flush() error {
	if err := d.plug.err(); err != nil {
		return err
	}
	return d.Device.Flush()
}
