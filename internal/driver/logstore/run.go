package logstore

import (
	"encoding/binary"
	"io"

	"github.com/cockroachdb/pebble/v2"

	"kvol/internal/block"
)

// cell tells where one block lies. The zero cell is "nothing known here": an
// older version of the leaf, or the parent branch, may know.
type cell struct {
	segment uint32 // 0: unknown or zero
	off     uint32 // of the block's bytes in the segment
	crc     uint32
	set     bool
}

// zero reports whether a set cell reads as zeros.
func (c cell) zero() bool { return c.segment == 0 }

// cells is a leaf in memory.
type cells [leafBlocks]cell

// run is a range of blocks of a leaf whose bytes lie one after the other.
// count is at least 1; zero runs have segment 0 and no crcs.
type run struct {
	first, count int
	segment, off uint32
	crcs         []byte // 4 bytes each, little endian
}

// appendRun encodes r: start, count and whether it is data, then for data the
// segment, the offset and the checksums.
func appendRun(p []byte, r run) []byte {
	p = binary.AppendUvarint(p, uint64(r.first))
	if r.segment == 0 {
		return binary.AppendUvarint(p, uint64(r.count)<<1)
	}
	p = binary.AppendUvarint(p, uint64(r.count)<<1|1)
	p = binary.AppendUvarint(p, uint64(r.segment))
	p = binary.AppendUvarint(p, uint64(r.off))
	return append(p, r.crcs...)
}

// eachRun decodes a value: one or more operands, older before newer.
func eachRun(p []byte, f func(run)) error {
	d := decoder{p: p}
	for len(d.p) > 0 {
		first, n := d.uint(), d.uint()
		count := n >> 1
		if d.bad || count == 0 || first >= leafBlocks || count > leafBlocks-first {
			return errIndexValue
		}
		r := run{first: int(first), count: int(count)}
		if n&1 == 1 {
			segment, off := d.uint(), d.uint()
			if d.bad || segment == 0 || segment > 1<<32-1 || off > 1<<32-1 || uint64(len(d.p)) < count*4 {
				return errIndexValue
			}
			r.segment, r.off, r.crcs = uint32(segment), uint32(off), d.p[:count*4]
			d.p = d.p[count*4:]
		}
		f(r)
	}
	return nil
}

var errIndexValue = block.Errorf(block.Corrupt, "a value of the store's index can't be read")

// apply lays r over c.
func (c *cells) apply(r run) {
	for i := range r.count {
		n := cell{set: true}
		if r.segment != 0 {
			n.segment, n.off, n.crc = r.segment, r.off+uint32(i)*blockSize, le.Uint32(r.crcs[i*4:])
		}
		c[r.first+i] = n
	}
}

// under lays r beneath c: only what c does not know yet is taken from it.
func (c *cells) under(o *cells) {
	for i := range c {
		if !c[i].set {
			c[i] = o[i]
		}
	}
}

func (c *cells) decode(value []byte) error { return eachRun(value, c.apply) }

// encode appends the runs of c, each as long as it can be.
func (c *cells) encode(p []byte) []byte {
	var crcs [leafBlocks * 4]byte
	for i := 0; i < leafBlocks; {
		if !c[i].set {
			i++
			continue
		}
		r := run{first: i, segment: c[i].segment, off: c[i].off}
		for ; i < leafBlocks && c.continues(&r, i); i++ {
			le.PutUint32(crcs[r.count*4:], c[i].crc)
			r.count++
		}
		if r.segment != 0 {
			r.crcs = crcs[:r.count*4]
		}
		p = appendRun(p, r)
	}
	return p
}

func (c *cells) continues(r *run, i int) bool {
	n := c[i]
	if !n.set || n.segment != r.segment {
		return false
	}
	return n.segment == 0 || n.off == r.off+uint32(i-r.first)*blockSize
}

// leafMerger joins the operands of one version of a leaf. Newer runs win.
func leafMerger() *pebble.Merger {
	return &pebble.Merger{
		Name: "kvol.leaf.1",
		Merge: func(_, value []byte) (pebble.ValueMerger, error) {
			return &merging{newer: [][]byte{append([]byte(nil), value...)}}, nil
		},
	}
}

// merging collects operands; older holds those found later, newest first.
type merging struct{ older, newer [][]byte }

func (m *merging) MergeNewer(value []byte) error {
	m.newer = append(m.newer, append([]byte(nil), value...))
	return nil
}

func (m *merging) MergeOlder(value []byte) error {
	m.older = append(m.older, append([]byte(nil), value...))
	return nil
}

func (m *merging) Finish(bool) ([]byte, io.Closer, error) {
	if len(m.older) == 0 && len(m.newer) == 1 {
		return m.newer[0], nil, nil
	}
	var c cells
	for i := len(m.older) - 1; i >= 0; i-- {
		if err := c.decode(m.older[i]); err != nil {
			return nil, nil, err
		}
	}
	for _, v := range m.newer {
		if err := c.decode(v); err != nil {
			return nil, nil, err
		}
	}
	return c.encode(nil), nil, nil
}
