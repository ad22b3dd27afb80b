package rbd

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"

	"kvol/internal/block"
	"kvol/internal/driver"
)

// ReadDiff implements driver.DiffReader by what `rbd export-diff` writes: one process
// that reads many objects at once, where asking and reading takes two, one after the
// other. Blocks that changed in part come without their bytes: only the changed part
// of them is in there.
func (d *Driver) ReadDiff(
	ctx context.Context,
	from, to driver.SnapshotRef,
	size int64,
) iter.Seq2[driver.Piece, error] {
	if size > exactSize || to.Name == "" || !d.worthReading(to.Volume) {
		return nil
	}
	return func(yield func(driver.Piece, error) bool) {
		err := d.readDiff(ctx, from, to, size, func(p driver.Piece) bool { return yield(p, nil) })
		if err != nil && !errors.Is(err, errEnough) {
			yield(driver.Piece{}, err)
		}
	}
}

// exportedAtOnce is how many objects `rbd export-diff` reads at once, of 4 MiB at most
// each; 10 unless it is told.
const exportedAtOnce = 16

// worthReading reports whether a volume's differences are to be read as a stream.
func (d *Driver) worthReading(id block.VolumeID) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	v := d.of(id)
	if v.scattered > 0 {
		v.scattered--
		return false
	}
	return !v.disordered
}

// errEnough says that nobody wants the rest.
var errEnough = errors.New("enough")

func (d *Driver) readDiff(
	ctx context.Context,
	from, to driver.SnapshotRef,
	size int64,
	yield func(driver.Piece) bool,
) (err error) {
	v, err := d.keep(to)
	if err != nil {
		return err
	}
	defer func() {
		if d.letGo(v, to); block.Is(err, block.NotFound) {
			d.forget(to.Volume)
		}
	}()
	args := []string{"export-diff", "--no-progress", "--rbd_concurrent_management_ops", fmt.Sprint(exportedAtOnce)}
	if !from.Zero() {
		args = append(args, "--from-snap", string(from.Name))
	}
	c := d.rbdWithin(d.o.IOTimeout, append(args, d.snapSpec(to), "-")...)
	x := exported{size: size, yield: yield}
	err = d.stream(ctx, c, func(out io.Reader) error {
		x.r = bufio.NewReaderSize(out, exportBuffer)
		return x.read()
	})
	d.mu.Lock()
	v.disordered = v.disordered || errors.Is(err, errDisorder)
	if errors.Is(err, errScattered) {
		v.scattered = scatteredFor
	}
	d.mu.Unlock()
	switch {
	case errors.Is(err, errScattered):
		return d.goOn(ctx, from, to, &x)
	case errors.Is(err, errDisorder):
		return block.Wrap(
			block.Unavailable,
			err,
			"The volume's changes come in no order; the next attempt reads them otherwise.",
		)
	}
	return err
}

// goOn hands on the rest of a difference without its bytes.
func (d *Driver) goOn(ctx context.Context, from, to driver.SnapshotRef, x *exported) error {
	if err := x.flush(); err != nil {
		return err
	}
	for e, err := range d.Diff(ctx, from, to) {
		if err != nil {
			return err
		}
		for at := max(e.Off, x.at); at < e.End(); at = x.at {
			n := e.End() - at
			if !e.Zero {
				n = min(n, driver.MaxPiece) // whoever reads it does so at once
			}
			if err := x.hand(driver.Piece{Extent: driver.Extent{Off: at, Len: n, Zero: e.Zero}}); err != nil {
				return err
			}
		}
	}
	return nil
}
