package nfs

import (
	"context"
	"encoding/json"
	"os"

	"kvol/internal/block"
	"kvol/internal/driver"
)

// mapped is a range as `qemu-img map` prints it.
type mapped struct {
	Start   int64 `json:"start"`
	Length  int64 `json:"length"`
	Depth   int   `json:"depth"` // of the file that has it; 0 is the upper one
	Present bool  `json:"present"`
	Zero    bool  `json:"zero"`
}

// diff implements form: of two snapshots of one volume the newer one stands on
// the older, and what the files between have may differ.
func (l *layered) diff(ctx context.Context, from, to place, yield func(driver.Extent) bool) error {
	c, err := l.d.openChain(to, os.O_RDONLY)
	if err != nil {
		return err
	}
	defer c.close()
	depth := len(c)
	if from != "" {
		if depth, err = l.depth(c, from); err != nil {
			return err
		}
	}
	h, err := readHeader(c[0])
	if err != nil {
		return err
	}
	out, err := l.d.qemuImg(ctx, longest, c, "map", "--output=json", c.name(firstFile))
	if err != nil {
		return err
	}
	return parseMap(out, depth, h.size, yield)
}

// depth is how many files of a chain are above one of them.
func (l *layered) depth(c chain, of place) (int, error) {
	f, err := l.d.openFile(of, os.O_RDONLY)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	is, err := f.Stat()
	if err != nil {
		return 0, failed(err)
	}
	for i, layer := range c {
		if info, err := layer.Stat(); err != nil {
			return 0, failed(err)
		} else if os.SameFile(info, is) {
			return i, nil
		}
	}
	return 0, block.Errorf(block.Invalid, "The snapshots to compare are not an older and a newer one of a volume.")
}

// parseMap yields what files above a depth have. What is whole in zeros is zero.
func parseMap(text []byte, depth int, size int64, yield func(driver.Extent) bool) error {
	var all []mapped
	if err := json.Unmarshal(text, &all); err != nil {
		return block.Wrap(block.Internal, err, "The answer of qemu-img could not be read.")
	}
	out := collector{size: size, yield: yield}
	next := int64(0)
	for _, m := range all {
		if m.Start < next || m.Length <= 0 || m.Start > size-m.Length {
			return block.Errorf(block.Internal, "The answer of qemu-img makes no sense.")
		}
		next = m.Start + m.Length
		if m.Present && m.Depth < depth && !out.over {
			out.add(m.Start, next, m.Zero)
		}
	}
	out.done()
	return nil
}
