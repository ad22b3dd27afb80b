package zonetest

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"sync"

	"kvol/internal/client/nbd"
)

// BlockSize is the unit in which a Writer writes, in bytes.
const BlockSize = 4096

// Writer writes numbered blocks to a volume, one after the other, and
// remembers what was acknowledged: the oracle of everything that may be read
// back.
type Writer struct {
	blocks int64 // that it spreads over, from the volume's beginning
	rnd    *rand.Rand

	mu      sync.Mutex
	offsets []int64 // of write n; guarded by mu, as all below
	acked   int     // writes that were acknowledged
	flushed int     // writes that a flush covers
}

// NewWriter makes a Writer over the first blocks blocks.
func NewWriter(seed uint64, blocks int64) *Writer {
	return &Writer{blocks: blocks, rnd: rand.New(rand.NewPCG(seed, 7))}
}

// content is what write n puts at its place.
func (w *Writer) content(n int) []byte {
	rnd := rand.New(rand.NewPCG(uint64(n), 11))
	p := make([]byte, BlockSize)
	for i := 0; i < BlockSize; i += 8 {
		binary.LittleEndian.PutUint64(p[i:], rnd.Uint64())
	}
	binary.LittleEndian.PutUint64(p, uint64(n)+1)
	return p
}

// Write makes n writes with a flush now and then, until one fails or ctx ends.
func (w *Writer) Write(ctx context.Context, c *nbd.Conn, n int) error {
	for range n {
		if err := ctx.Err(); err != nil {
			return err
		}
		off := w.rnd.Int64N(w.blocks) * BlockSize
		w.mu.Lock()
		number := len(w.offsets)
		w.offsets = append(w.offsets, off)
		w.mu.Unlock()
		if _, err := c.WriteAt(w.content(number), off); err != nil {
			return err
		}
		w.mu.Lock()
		w.acked = number + 1
		w.mu.Unlock()
		if w.rnd.IntN(16) > 0 {
			continue
		}
		if err := c.Flush(); err != nil {
			return err
		}
		w.mu.Lock()
		w.flushed = number + 1
		w.mu.Unlock()
	}
	return nil
}

// Acknowledged returns how many writes were acknowledged. After a connection
// broke, the one write that was under way may or may not be there: it counts
// as sent, not as acknowledged, until a later one is.
func (w *Writer) Acknowledged() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.acked
}

// Prefix finds which of the writes content holds and proves that it is the
// first so many and nothing else. Writes that were sent and never acknowledged
// may be missing in the middle: each broken connection leaves one.
func (w *Writer) Prefix(content []byte, lost map[int]bool) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	kept := 0
	for b := range w.blocks {
		kept = max(kept, int(binary.LittleEndian.Uint64(content[b*BlockSize:])))
	}
	if kept > len(w.offsets) {
		return 0, fmt.Errorf("write %d of %d is there", kept, len(w.offsets))
	}
	last := map[int64][]int{} // candidates by offset, the newest first
	for n := kept - 1; n >= 0; n-- {
		off := w.offsets[n]
		have := last[off]
		if len(have) == 0 || lost[have[len(have)-1]] {
			last[off] = append(have, n)
		}
	}
	zero := make([]byte, BlockSize)
	for b := range w.blocks {
		got := content[b*BlockSize : (b+1)*BlockSize]
		candidates := last[b*BlockSize]
		ok := len(candidates) == 0 && bytes.Equal(got, zero)
		for _, n := range candidates {
			ok = ok || bytes.Equal(got, w.content(n))
		}
		if n := len(candidates); n > 0 && lost[candidates[n-1]] {
			ok = ok || bytes.Equal(got, zero)
		}
		if !ok {
			return 0, fmt.Errorf("block %d is not what the first %d writes leave", b, kept)
		}
	}
	return kept, nil
}

// Unacknowledged are the numbers of writes that were sent and of which nobody
// said whether they happened.
func (w *Writer) Unacknowledged(known map[int]bool) map[int]bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for n := w.acked; n < len(w.offsets); n++ {
		known[n] = true
	}
	return known
}
