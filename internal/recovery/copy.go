package recovery

import (
	"bytes"
	"context"
	"errors"

	"kvol/internal/block"
	"kvol/internal/driver"
)

// copying fills a volume from a point that lies in another store. It may be
// repeated: the volume either reads as zeros where nothing was copied yet, or
// as the same point.
type copying struct {
	from, to driver.Driver
	ref      driver.SnapshotRef
	volume   block.VolumeID
	size     int64 // of the volume, bytes
}

// run copies, and compares every byte. progress is told bytes.
func (c copying) run(ctx context.Context, progress func(step string, done, total int64)) (err error) {
	if err := c.to.CreateVolume(ctx, c.volume, c.size); err != nil {
		return err
	}
	from, err := c.from.OpenSnapshot(ctx, c.ref)
	if err != nil {
		return errReplica{err}
	}
	from = source{from}
	defer func() { err = errors.Join(err, from.Close()) }()
	to, err := c.to.OpenVolume(ctx, c.volume)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, to.Close()) }()
	total := from.Size()
	if err := driver.Copy(ctx, to, from, func(done int64) { progress("copy", done, total) }); err != nil {
		return err
	}
	progress("verify", total, total)
	return compare(ctx, to, from)
}

// errReplica is a failure of the store that has the replica. It says nothing against
// the new volume's: no other one would help.
type errReplica struct{ error }

func (e errReplica) Unwrap() error { return e.error }

// source is a point that is read.
type source struct{ driver.Reader }

func (s source) ReadAt(p []byte, off int64) (int, error) {
	n, err := s.Reader.ReadAt(p, off)
	if err != nil {
		err = errReplica{err}
	}
	return n, err
}

const compareSize = 256 * driver.BlockSize

// compare reads both back.
func compare(ctx context.Context, to driver.Device, from driver.Reader) error {
	a, b := make([]byte, compareSize), make([]byte, compareSize)
	for off := int64(0); off < from.Size(); off += compareSize {
		if err := ctx.Err(); err != nil {
			return err
		}
		n := min(compareSize, from.Size()-off)
		if _, err := from.ReadAt(a[:n], off); err != nil {
			return err
		}
		if _, err := to.ReadAt(b[:n], off); err != nil {
			return err
		}
		if !bytes.Equal(a[:n], b[:n]) {
			return block.Errorf(block.Corrupt, "The copy differs from the recovery point at byte %d.", off)
		}
	}
	return nil
}

// checkSize makes sure that a volume is there in its full size.
func checkSize(ctx context.Context, d driver.Driver, id block.VolumeID, size int64) error {
	v, err := d.OpenVolume(ctx, id)
	if err != nil {
		return err
	}
	got := v.Size()
	if err := v.Close(); err != nil {
		return err
	}
	if got != size {
		return block.Errorf(block.Corrupt, "The new volume has %d bytes and not %d.", got, size)
	}
	return nil
}
