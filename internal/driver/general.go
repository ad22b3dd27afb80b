package driver

import (
	"bytes"
	"context"
	"iter"

	"kvol/internal/block"
)

// Diff yields what may differ between two snapshots of one volume: from the
// driver where it knows, else by reading both. See Differ.
func Diff(ctx context.Context, d Driver, from, to SnapshotRef) iter.Seq2[Extent, error] {
	if differ, ok := As[Differ](d); ok {
		return differ.Diff(ctx, from, to)
	}
	return func(yield func(Extent, error) bool) {
		if err := diffByReading(ctx, d, from, to, func(e Extent) bool { return yield(e, nil) }); err != nil {
			yield(Extent{}, err)
		}
	}
}

const copySize = 256 * BlockSize

func diffByReading(ctx context.Context, d Driver, from, to SnapshotRef, yield func(Extent) bool) error {
	newer, err := d.OpenSnapshot(ctx, to)
	if err != nil {
		return err
	}
	defer newer.Close()
	var older Reader = zeros(0)
	if !from.Zero() {
		if older, err = d.OpenSnapshot(ctx, from); err != nil {
			return err
		}
		defer older.Close()
	}
	a, b := make([]byte, BlockSize), make([]byte, BlockSize)
	for off := int64(0); off < newer.Size(); off += BlockSize {
		if err := ctx.Err(); err != nil {
			return err
		}
		n := min(BlockSize, newer.Size()-off)
		if _, err := newer.ReadAt(b[:n], off); err != nil {
			return err
		}
		clear(a)
		if m := min(n, older.Size()-off); m > 0 {
			if _, err := older.ReadAt(a[:m], off); err != nil {
				return err
			}
		}
		if !bytes.Equal(a[:n], b[:n]) && !yield(Extent{Off: off, Len: n, Zero: IsZero(b[:n])}) {
			return nil
		}
	}
	return nil
}

// Copy writes a snapshot's data into a device that reads as zeros, and flushes
// it. progress, if not nil, is told the bytes that were dealt with so far.
func Copy(ctx context.Context, to Device, from Reader, progress func(done int64)) error {
	buf := make([]byte, copySize)
	for off := int64(0); off < from.Size(); off += copySize {
		if err := ctx.Err(); err != nil {
			return err
		}
		p := buf[:min(copySize, from.Size()-off)]
		if _, err := from.ReadAt(p, off); err != nil {
			return err
		}
		if !IsZero(p) {
			if _, err := to.WriteAt(p, off); err != nil {
				return err
			}
		}
		if progress != nil {
			progress(off + int64(len(p)))
		}
	}
	return to.Flush()
}

var zeroBlock [BlockSize]byte

// IsZero reports whether all bytes of p are zero.
func IsZero(p []byte) bool {
	for len(p) > BlockSize {
		if !bytes.Equal(p[:BlockSize], zeroBlock[:]) {
			return false
		}
		p = p[BlockSize:]
	}
	return bytes.Equal(p, zeroBlock[:len(p)])
}

// zeros is the Reader of a volume before it was.
type zeros int64

func (z zeros) Size() int64                           { return int64(z) }
func (z zeros) Close() error                          { return nil }
func (z zeros) ReadAt(p []byte, _ int64) (int, error) { clear(p); return len(p), nil }

// CheckRange is the rule of Device for offsets: it returns Invalid unless
// [off, off+length) lies within size.
func CheckRange(off, length, size int64) error {
	if off < 0 || length < 0 || off > size-length {
		return block.Errorf(block.Invalid, "bytes %d to %d lie outside a volume of %d bytes", off, off+length, size)
	}
	return nil
}

// WriteMany writes parts to a device in their order, together where it can, and
// tells how many were written whole. An error is about the one after those.
func WriteMany(d Device, parts []Part) (done int, err error) {
	if m, ok := d.(ManyWriter); ok {
		return m.WriteMany(parts)
	}
	for i, p := range parts {
		if _, err := d.WriteAt(p.Data, p.Off); err != nil {
			return i, err
		}
	}
	return len(parts), nil
}
