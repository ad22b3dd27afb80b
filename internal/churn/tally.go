package churn

import (
	"math"

	"kvol/internal/block"
)

const (
	blockSize = 4096 // bytes
	// sampled is of how many blocks one is looked into.
	sampled = 8
	// dense is the least entropy of a block, in bits a byte, of what can't be
	// compressed: 4 KiB of random bytes have 7.95. loose is the most of what can be
	// compressed well: programs have about 6, texts 5.
	dense = 7.9
	loose = 7.2
)

// Tally counts what a step changes. The zero value is ready; it is for one
// goroutine at a time, and may be kept as JSON where a step is interrupted.
type Tally struct {
	block.PointStats
}

// Wrote counts length bytes that came as sent bytes; data says whether they are
// anything but zeros.
func (t *Tally) Wrote(length, sent int64, data bool) {
	if !data {
		t.Zeroed += length
		return
	}
	t.Changed += length
	t.Sent += sent
}

// Over counts what was at off before, and what is there now; nil for zeros. off
// is a multiple of 4 KiB.
func (t *Tally) Over(off int64, before, now []byte) {
	if now == nil {
		t.Freed += int64(len(before))
		return
	}
	t.Rewritten += int64(len(before))
	for i := int64(0); i+blockSize <= int64(len(before)); i += blockSize {
		if !looksInto(off + i) {
			continue
		}
		if Entropy(now[i:i+blockSize]) >= dense && Entropy(before[i:i+blockSize]) <= loose {
			t.Scrambled += sampled * blockSize
		}
	}
}

// OverKnown counts a block of which is known what it was: at off were length bytes
// before that were no zeros, and Loose or not.
func (t *Tally) OverKnown(off, length int64, wasLoose bool, now []byte) {
	if now == nil {
		t.Freed += length
		return
	}
	t.Rewritten += length
	if wasLoose && length == blockSize && Entropy(now) >= dense {
		t.Scrambled += sampled * blockSize
	}
}

// Loose reports whether a block is one of those that are looked into, and can be
// compressed well.
func Loose(off int64, p []byte) bool {
	return looksInto(off) && len(p) == blockSize && Entropy(p) <= loose
}

// Plus adds what another counted.
func (t *Tally) Plus(u Tally) {
	t.Changed += u.Changed
	t.Zeroed += u.Zeroed
	t.Sent += u.Sent
	t.Rewritten += u.Rewritten
	t.Freed += u.Freed
	t.Scrambled += u.Scrambled
}

// looksInto chooses blocks by a hash of their place, so that no pattern of a
// file system's is missed or hit by each.
func looksInto(off int64) bool {
	const golden = 0x9e3779b97f4a7c15
	return uint64(off/blockSize)*golden>>61 == 0
}

// logs has n * log2(n) for each n that a byte may occur in a block.
var logs = func() (all [blockSize + 1]float64) {
	for n := 1; n <= blockSize; n++ {
		all[n] = float64(n) * math.Log2(float64(n))
	}
	return all
}()

// Entropy is that of a block's bytes, in bits a byte: from 0 for one byte all
// over to 8. p has 4 KiB at most.
func Entropy(p []byte) float64 {
	var count [256]uint16
	for _, b := range p {
		count[b]++
	}
	sum := 0.0
	for _, n := range count {
		sum += logs[n]
	}
	if len(p) == 0 {
		return 0
	}
	return math.Log2(float64(len(p))) - sum/float64(len(p))
}
