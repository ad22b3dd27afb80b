package rbd

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"iter"
	"math"
	"slices"
	"time"

	"kvol/internal/block"
	"kvol/internal/driver"
)

// longest is how long a command may take whose time grows with the volume.
const longest = time.Hour

// exactSize is up to which size, in bytes, a volume's difference is asked for
// exactly: the command asks the OSDs about each object, of 4 MiB as a rule. For
// larger volumes it takes the object map, and what changed within an object is found
// by reading.
const exactSize = 1 << 16 * 4 << 20

// Diff implements driver.Differ.
func (d *Driver) Diff(ctx context.Context, from, to driver.SnapshotRef) iter.Seq2[driver.Extent, error] {
	return func(yield func(driver.Extent, error) bool) {
		extents, err := d.diff(ctx, from, to)
		if err != nil {
			yield(driver.Extent{}, err)
			return
		}
		for _, e := range extents {
			if !yield(e, nil) {
				return
			}
		}
	}
}

// change is an extent as `rbd diff` prints it.
type change struct {
	Offset int64  `json:"offset"`
	Length int64  `json:"length"`
	Exists string `json:"exists"` // "true" or "false"
}

func (d *Driver) diff(ctx context.Context, from, to driver.SnapshotRef) ([]driver.Extent, error) {
	all, err := d.snaps(ctx, to.Volume)
	if err != nil {
		return nil, err
	}
	end, err := find(all, to)
	if err != nil {
		return nil, err
	}
	if !from.Zero() {
		if _, err := find(all, from); err != nil {
			return nil, err
		}
	}
	return d.calls.diff(ctx, from.Name, to, end.Size > exactSize, end.Size)
}

// parseDiff makes extents of what `rbd diff` prints, as it prints it.
func parseDiff(from io.Reader, size int64) ([]driver.Extent, error) {
	changes, err := readChanges(json.NewDecoder(from))
	if err != nil {
		return nil, block.Wrap(block.Internal, err, "The storage cluster's answer could not be read.")
	}
	return extentsOf(changes, size), nil
}

// readChanges reads a list of changes. Data that follows on data is one change: of
// large ranges the command prints each object by itself.
func readChanges(d *json.Decoder) (all []change, err error) {
	begin, err := d.Token()
	if err != nil || begin != json.Delim('[') {
		return nil, errors.Join(errors.New("it is no list"), err)
	}
	for d.More() {
		var c change
		if err := d.Decode(&c); err != nil {
			return nil, err
		}
		if c.Exists != "false" {
			c.Exists = "true" // and nothing of what was read is held by it
		}
		if n := len(all); n > 0 && all[n-1].followedBy(c) {
			all[n-1].Length += c.Length
			continue
		}
		all = append(all, c)
	}
	if _, err := d.Token(); err != nil { // the list's end
		return nil, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.Join(errors.New("something follows the list"), err)
	}
	return all, nil
}

// followedBy reports whether next is data that begins where this data ends.
func (c change) followedBy(next change) bool {
	return c.Exists == "true" && next.Exists == "true" && c.Offset >= 0 && c.Length > 0 && next.Length > 0 &&
		c.Length == next.Offset-c.Offset && next.Length <= math.MaxInt64-next.Offset
}

// extentsOf makes extents of changes: in whole blocks, in order, each block once,
// none beyond size. A block of which only a part became a hole is data.
func extentsOf(changes []change, size int64) []driver.Extent {
	slices.SortFunc(changes, func(a, b change) int { return cmp.Compare(a.Offset, b.Offset) })
	var out extents
	for _, c := range changes {
		if c.Offset < 0 || c.Length <= 0 || c.Offset >= size || c.Length > math.MaxInt64-c.Offset {
			continue
		}
		end := min(c.Offset+c.Length, size)
		if c.Exists != "false" {
			out.add(floor(c.Offset), min(ceil(end), size), false)
			continue
		}
		first, last := ceil(c.Offset), floor(end)
		if end == size {
			last = size
		}
		if first > last { // within one block
			first, last = min(ceil(end), size), min(ceil(end), size)
		}
		out.add(floor(c.Offset), first, false)
		out.add(first, last, true)
		out.add(last, min(ceil(end), size), false)
	}
	return out
}

func floor(off int64) int64 { return off / driver.BlockSize * driver.BlockSize }

func ceil(off int64) int64 { return floor(off + driver.BlockSize - 1) }

// extents are in order and without overlap.
type extents []driver.Extent

// add appends [off, end), which is not before the last one begins, and may share
// a block with it where both are data.
func (x *extents) add(off, end int64, zero bool) {
	if n := len(*x); n > 0 {
		last := &(*x)[n-1]
		if off <= last.End() && last.Zero == zero {
			last.Len = max(last.End(), end) - last.Off
			return
		}
		off = max(off, last.End())
	}
	if off < end {
		*x = append(*x, driver.Extent{Off: off, Len: end - off, Zero: zero})
	}
}
