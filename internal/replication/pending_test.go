package replication

import (
	"bytes"
	"testing"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/driver"
)

// TestAnotherStepAfterACutOne begins a step, writes a block of it, and breaks
// off; then another step from the same base comes, which knows nothing of that
// block. The point that it commits must not have it: its root would not tell,
// since the block is in no delta. With the rule switched off the stale block is
// there, under a root that was found right.
func TestAnotherStepAfterACutOne(t *testing.T) {
	for _, off := range []bool{false, true} {
		inBubble(t, func(t *testing.T, w *world, a, b *zone) {
			b.receiver.broken = broke{pendingStep: off}
			if stale := staleBlock(t, a, b); stale != off {
				t.Errorf("with the rule switched off (%v), a stale block was committed: %v", off, stale)
			}
		})
	}
}

func staleBlock(t *testing.T, a, b *zone) bool {
	const blocks = 16
	first := noise(blocks * driver.BlockSize)
	id := a.volume("gold", blocks)
	a.write(id, 0, first)
	a.later(0)
	base := b.replica(id).Newest
	var volume block.Volume
	a.view(func(tx *catalog.Tx) (err error) { volume, err = tx.Volume(id); return err })
	point := func() block.Point {
		return block.Point{ID: block.PointID(block.NewID()), Volume: id, Epoch: base.Epoch, Sequence: base.Sequence + 1,
			At: base.At, Size: base.Size, Parent: base.ID}
	}
	changed := bytes.Repeat([]byte{7}, driver.BlockSize)
	begin := func(p block.Point, at int64) Target {
		target := b.receiver.Target("a", func() {})
		_, err := target.Offer(t.Context(), Offer{Volume: id, Protection: 1, Epoch: base.Epoch})
		if err == nil {
			_, err = target.Begin(t.Context(), block.Step{Base: base, Target: p, Epoch: base.Epoch})
		}
		if err == nil {
			err = target.Write(t.Context(), Run{Off: at, Len: driver.BlockSize, Data: changed})
		}
		if err != nil {
			t.Fatal(err)
		}
		return target
	}
	if err := begin(point(), 3*driver.BlockSize).Close(); err != nil {
		t.Fatal(err)
	}
	p, at := point(), int64(5*driver.BlockSize)
	want := bytes.Clone(first)
	copy(want[at:], changed)
	var sum Sum
	sum.Add(0, want)
	target := begin(p, at)
	commit := Commit{Root: sum.Root(p.Size), Entry: block.Entry{Volume: volume}}
	if _, err := target.Commit(t.Context(), commit); err != nil {
		t.Fatal(err)
	}
	if err := target.Close(); err != nil {
		t.Fatal(err)
	}
	got := b.content(driver.SnapshotRef{Volume: b.replica(id).ID, Name: p.ID})
	return !bytes.Equal(got, want)
}
