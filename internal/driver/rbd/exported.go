package rbd

import (
	"bufio"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"

	"kvol/internal/block"
	"kvol/internal/driver"
)

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
	some run           // of records
	at   int64         // where the last piece ends
	zero driver.Extent // that was not handed on yet; its Len may be 0
}

const (
	exportBanner = "rbd diff v1\n"
	mostName     = 4096 // bytes of a snapshot's name
)

// Of small changes that lie near to each other, reading whole stretches is less work
// for a cluster than what the command does, which is a request for each. That is so
// where scatteredRun changes of at most scatteredMost bytes lie in less than
// scatteredRun times scatteredStride bytes. The next scatteredFor differences of the volume are not
// tried as a stream then.
const (
	scatteredRun    = 256
	scatteredMost   = 16 << 10
	scatteredStride = 64 << 10
	scatteredFor    = 16
)

// run is a few changes in a row.
type run struct {
	begin int64
	n     int
}

// errScattered says that the rest is to be read in stretches.
var errScattered = errors.New("changes are small and many")

// scattered counts a change that ends at end, and reports whether the last ones
// were scattered.
func (r *run) scattered(end int64) bool {
	if r.n++; r.n < scatteredRun {
		return false
	}
	near := end-r.begin < scatteredRun*scatteredStride
	*r = run{begin: end}
	return near
}

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
	if errors.Is(err, errEnough) || errors.Is(err, errDisorder) || errors.Is(err, errScattered) {
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
	if err := x.part(last, min(ceil(x.seen), x.size)); err != nil {
		return err
	}
	if !zero && length <= scatteredMost && x.some.scattered(x.seen) {
		return errScattered
	}
	return nil
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
