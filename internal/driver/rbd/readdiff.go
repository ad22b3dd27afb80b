package rbd

import (
	"bufio"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
	"slices"

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
	d.mu.Lock()
	disordered := d.of(to.Volume).disordered
	d.mu.Unlock()
	if size > exactSize || disordered || to.Name == "" {
		return nil
	}
	return func(yield func(driver.Piece, error) bool) {
		err := d.readDiff(ctx, from, to, size, func(p driver.Piece) bool { return yield(p, nil) })
		if err != nil && !errors.Is(err, errEnough) {
			yield(driver.Piece{}, err)
		}
	}
}

// errEnough says that nobody wants the rest.
var errEnough = errors.New("enough")

func (d *Driver) readDiff(
	ctx context.Context,
	from, to driver.SnapshotRef,
	size int64,
	yield func(driver.Piece) bool,
) error {
	v := d.volume(to.Volume)
	d.mu.Lock()
	v.reading = append(v.reading, string(to.Name)) // it keeps the snapshot from removal
	d.mu.Unlock()
	defer func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		i := slices.Index(v.reading, string(to.Name))
		v.reading = slices.Delete(v.reading, i, i+1)
	}()
	args := []string{"export-diff", "--no-progress", "--rbd_concurrent_management_ops", fmt.Sprint(depth)}
	if !from.Zero() {
		args = append(args, "--from-snap", string(from.Name))
	}
	c := d.rbdWithin(d.o.IOTimeout, append(args, d.snapSpec(to), "-")...)
	err := d.stream(ctx, c, func(out io.Reader) error {
		x := exported{r: bufio.NewReaderSize(out, exportBuffer), size: size, yield: yield}
		return x.read()
	})
	if errors.Is(err, errDisorder) {
		d.mu.Lock()
		v.disordered = true
		d.mu.Unlock()
		return block.Wrap(block.Unavailable, err, "The volume's changes come in no order; the next attempt reads them otherwise.")
	}
	return err
}

// exportBuffer is how much of what the command writes is on its way at most, in
// bytes: the pipe's room, and that of who reads it.
const exportBuffer = 1 << 20

// exported reads what `rbd export-diff` writes, format 1 of Ceph's
// doc/dev/rbd-diff.rst, and makes pieces of it: in whole blocks, in order, each block
// once.
type exported struct {
	r     *bufio.Reader
	size  int64 // of the volume, in bytes
	yield func(driver.Piece) bool

	seen int64         // where the last record ends
	at   int64         // where the last piece ends
	zero driver.Extent // that was not handed on yet; its Len may be 0
}

const (
	exportBanner = "rbd diff v1\n"
	mostName     = 4096 // bytes of a snapshot's name
)

var (
	errForm     = errors.New("it is no difference of an image")
	errDisorder = errors.New("records are not in order")
)

// read reads all of it. errEnough says that yield wants no more.
func (x *exported) read() error {
	banner := make([]byte, len(exportBanner))
	if _, err := io.ReadFull(x.r, banner); err != nil || string(banner) != exportBanner {
		return x.wrong(cmp.Or(err, errForm))
	}
	for {
		tag, err := x.r.ReadByte()
		if err != nil {
			return x.wrong(err)
		}
		switch tag {
		case 'e':
			return x.end()
		case 'f', 't':
			err = x.name()
		case 's':
			err = x.checkSize()
		case 'w', 'z':
			err = x.record(tag == 'z')
		default:
			err = errForm
		}
		if err != nil {
			return x.wrong(err)
		}
	}
}

// wrong gives errors of the form a kind.
func (x *exported) wrong(err error) error {
	if errors.Is(err, errEnough) || errors.Is(err, errDisorder) {
		return err
	}
	return block.Wrap(block.Unavailable, err, "The storage cluster's answer could not be read.")
}

func (x *exported) end() error {
	if _, err := x.r.ReadByte(); !errors.Is(err, io.EOF) {
		return x.wrong(errForm)
	}
	return x.flush()
}

// number reads a number as the format has it: eight bytes, little-endian.
func (x *exported) number() (int64, error) {
	var b [8]byte
	if _, err := io.ReadFull(x.r, b[:]); err != nil {
		return 0, err
	}
	n := binary.LittleEndian.Uint64(b[:])
	if n > math.MaxInt64 {
		return 0, errForm
	}
	return int64(n), nil
}

// name passes over the name of a snapshot.
func (x *exported) name() error {
	var b [4]byte
	if _, err := io.ReadFull(x.r, b[:]); err != nil {
		return err
	}
	n := binary.LittleEndian.Uint32(b[:])
	if n > mostName {
		return errForm
	}
	_, err := x.r.Discard(int(n))
	return err
}

func (x *exported) checkSize() error {
	n, err := x.number()
	if err == nil && n != x.size {
		err = fmt.Errorf("it is of %d bytes, and %d were expected", n, x.size)
	}
	return err
}

// record reads a range that was written, or discarded.
func (x *exported) record(zero bool) error {
	off, err := x.number()
	if err != nil {
		return err
	}
	length, err := x.number()
	if err != nil {
		return err
	}
	switch {
	case length == 0:
		return nil
	case off < x.seen:
		return errDisorder
	case length > x.size-off:
		return errForm
	}
	x.seen = off + length
	first, last := ceil(off), floor(x.seen)
	if x.seen == x.size {
		last = x.size
	}
	if first > last { // within one block
		first, last = min(ceil(x.seen), x.size), min(ceil(x.seen), x.size)
	}
	if err := x.part(floor(off), first); err != nil {
		return err
	}
	if zero {
		err = x.zeros(first, last)
	} else {
		err = x.data(off, first, last)
	}
	if err != nil {
		return err
	}
	return x.part(last, min(ceil(x.seen), x.size))
}

// data reads the bytes of the last record, which begins at off, and hands on what is
// whole blocks of them.
func (x *exported) data(off, first, last int64) error {
	if err := x.skip(min(first, x.seen) - off); err != nil {
		return err
	}
	for at := first; at < last; {
		n := min(last-at, driver.MaxPiece)
		p := make([]byte, n)
		if _, err := io.ReadFull(x.r, p); err != nil {
			return err
		}
		if err := x.hand(driver.Piece{Extent: driver.Extent{Off: at, Len: n}, Data: p}); err != nil {
			return err
		}
		at += n
	}
	return x.skip(max(0, x.seen-last))
}

func (x *exported) skip(n int64) error {
	_, err := x.r.Discard(int(n)) // less than a block
	return err
}

// part hands on a block of which a part changed, unless another record's part of it
// came before.
func (x *exported) part(off, end int64) error {
	off = max(off, x.at)
	if off >= end {
		return nil
	}
	return x.hand(driver.Piece{Extent: driver.Extent{Off: off, Len: end - off}})
}

// zeros notes a range of zeros, to be handed on with what follows it.
func (x *exported) zeros(off, end int64) error {
	if off >= end {
		return nil
	}
	if x.zero.Len > 0 && x.zero.End() == off {
		x.zero.Len, x.at = end-x.zero.Off, end
		return nil
	}
	err := x.flush()
	x.zero, x.at = driver.Extent{Off: off, Len: end - off, Zero: true}, end
	return err
}

func (x *exported) flush() error {
	z := x.zero
	x.zero = driver.Extent{}
	if z.Len > 0 && !x.yield(driver.Piece{Extent: z}) {
		return errEnough
	}
	return nil
}

func (x *exported) hand(p driver.Piece) error {
	if err := x.flush(); err != nil {
		return err
	}
	x.at = p.End()
	if !x.yield(p) {
		return errEnough
	}
	return nil
}
