package simtest

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"slices"
	"sync"
	"time"

	"kvol/internal/block"
	"kvol/internal/driver"
)

// book is what is known of a tenant's volume from outside: every state that it
// was in, when its writes were acknowledged, and what it held when a snapshot of
// it was made. It is what all copies are measured by.
type book struct {
	zone block.Zone
	id   block.VolumeID

	mu     sync.Mutex // guards all below
	cloned bool       // the volume began as a copy of another one
	blocks []uint64   // fingerprints of what is in the store now
	states []state    // from old to new
	cuts   map[block.PointID]cut
}

// state is what a volume held after a write, or after a power cut.
type state struct {
	print uint64    // of all blocks
	acked time.Time // true time; zero while it is not acknowledged
}

// cut is what a volume held when a snapshot was made.
type cut struct {
	at     time.Time // true time
	act    int       // number of the act that made it: one for all volumes of a group
	state  int       // index
	blocks []uint64
}

// watched is how many bytes of a volume are looked at: all of a small one.
const watched = 64 * driver.BlockSize

// keepBook begins a volume's book, unless there is one.
func (c *cloud) keepBook(zone block.Zone, id block.VolumeID, blocks []uint64) *book {
	c.mu.Lock()
	defer c.mu.Unlock()
	if b := c.books[id]; b != nil {
		return b
	}
	b := &book{zone: zone, id: id, blocks: blocks, cuts: map[block.PointID]cut{}}
	b.states = []state{{print: printOf(b.blocks), acked: time.Now()}}
	c.books[id] = b
	return b
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// fingerprint tells blocks apart; that of zeros is 0.
func fingerprint(p []byte) uint64 {
	if driver.IsZero(p) {
		return 0
	}
	return uint64(crc32.Checksum(p, castagnoli))<<32 | uint64(crc32.ChecksumIEEE(p)) | 1
}

// printOf tells contents apart.
func printOf(blocks []uint64) uint64 {
	p := make([]byte, 0, 8*len(blocks))
	for _, b := range blocks {
		p = binary.LittleEndian.AppendUint64(p, b)
	}
	return uint64(crc32.Checksum(p, castagnoli))<<32 | uint64(crc32.ChecksumIEEE(p))
}

// fingerprints reads a snapshot or volume.
func (c *cloud) fingerprints(r driver.Reader) ([]uint64, error) {
	p := make([]byte, c.watch(r.Size()))
	if _, err := r.ReadAt(p, 0); err != nil {
		return nil, err
	}
	all := make([]uint64, 0, len(p)/driver.BlockSize)
	for b := range slices.Chunk(p, driver.BlockSize) {
		all = append(all, fingerprint(b))
	}
	return all, nil
}

// watch is how much of a volume of a size is looked at, in bytes.
func (c *cloud) watch(size int64) int64 {
	if c.story.Whole {
		return min(size, watched)
	}
	return size
}

// wrote notes a write that is in the store, and returns the number of the state
// that it led to.
func (b *book) wrote(off int64, p []byte, length int64) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range min(length, int64(len(b.blocks))*driver.BlockSize-off) / driver.BlockSize {
		print := uint64(0)
		if p != nil {
			print = fingerprint(p[i*driver.BlockSize : (i+1)*driver.BlockSize])
		}
		b.blocks[off/driver.BlockSize+i] = print
	}
	return b.noteLocked(time.Time{})
}

func (b *book) noteLocked(acked time.Time) int {
	b.states = append(b.states, state{printOf(b.blocks), acked})
	return len(b.states) - 1
}

// acknowledged notes that whoever wrote was told so.
func (b *book) acknowledged(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.states[n].acked = time.Now()
}

// replace notes that the content is another one, after a power cut or an
// extension.
func (b *book) replace(blocks []uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.blocks = blocks
	b.noteLocked(time.Now())
}

// mark notes that a snapshot was made, by an act of naming.
func (b *book) mark(name block.PointID, act int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, known := b.cuts[name]; !known {
		b.cuts[name] = cut{at: time.Now(), act: act, state: len(b.states) - 1, blocks: slices.Clone(b.blocks)}
	}
}

// actOf is the number of the act that made a snapshot; 0 for none.
func (b *book) actOf(name block.PointID) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.cuts[name].act
}

// atOf is the true time at which a snapshot was made; zero for none.
func (b *book) atOf(name block.PointID) time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.cuts[name].at
}

// origin reports whether a snapshot is what a recovered volume began as.
func (b *book) origin(name block.PointID) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.cloned && b.cuts[name].state == 0
}

func (b *book) size() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return int64(len(b.blocks)) * driver.BlockSize
}

// same holds what a copy has against what the source had at a snapshot.
func (b *book) same(name block.PointID, have []uint64, size int64) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	c, known := b.cuts[name]
	if !known {
		return fmt.Errorf("point %s was never cut", name)
	}
	n := len(c.blocks)
	if int64(n)*driver.BlockSize != size || len(have) < n {
		return fmt.Errorf("point %s has %d bytes in %d blocks, the source had %d blocks", name, size, len(have), n)
	}
	for i, print := range have {
		if (i < n && print != c.blocks[i]) || (i >= n && print != 0) {
			return fmt.Errorf("point %s differs from the source in block %d", name, i)
		}
	}
	return nil
}

// covers checks a claim: that the content at a snapshot is, or is as good as,
// the content at a later instant, so that no write that was acknowledged before
// it is missing.
func (b *book) covers(name block.PointID, upTo time.Time) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	c, known := b.cuts[name]
	if !known {
		return fmt.Errorf("point %s was never cut", name)
	}
	least := 0
	for i, s := range b.states {
		if !s.acked.IsZero() && s.acked.Before(upTo) {
			least = i
		}
	}
	print := printOf(c.blocks)
	for i := least; i < len(b.states); i++ {
		if b.states[i].print == print {
			return nil
		}
	}
	return fmt.Errorf("point %s, cut %s before, lacks acknowledged writes: it has %d of %d states",
		name, upTo.Sub(c.at), c.state, least)
}
