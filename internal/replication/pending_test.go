package replication

import (
	"bytes"
	"fmt"
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

// TestStrayBlockOfTheSameStep writes a block where a step writes nothing, as when
// its offset was damaged before a checksum was made of it, and breaks off. The
// same step is then sent again as it should be, from its beginning or from the
// last note of progress. The point must not have the block: its root would not
// tell. Nor may it where the store was asked to name it before, and does that late.
func TestStrayBlockOfTheSameStep(t *testing.T) {
	for name, c := range map[string]struct {
		whole     bool
		markEvery int64
	}{
		"difference from the beginning": {false, 1 << 30},
		"difference from a note":        {false, driver.BlockSize},
		"whole copy from the beginning": {true, 1 << 30},
		"whole copy from a note":        {true, driver.BlockSize},
	} {
		for n := range 8 {
			t.Run(fmt.Sprint(name, " rich ", n&1 > 0, " far ", n&2 > 0, " late ", n&4 > 0), func(t *testing.T) {
				inBubble(t, func(t *testing.T, w *world, a, b *zone) {
					b.rich, b.far = n&1 > 0, n&2 > 0
					b.start(0)
					b.receiver.markEvery = c.markEvery
					strayBlock(t, a, b, c.whole, n&4 > 0)
				})
			})
		}
	}
}

func strayBlock(t *testing.T, a, b *zone, whole, late bool) {
	const blocks = 64
	want := make([]byte, blocks*driver.BlockSize)
	id := a.volume("gold", blocks)
	base := block.Point{Epoch: 1, Size: int64(len(want))}
	if !whole {
		copy(want, noise(len(want)))
		a.write(id, 0, want)
		a.later(0)
		base = b.replica(id).Newest
	}
	var volume block.Volume
	a.view(func(tx *catalog.Tx) (err error) { volume, err = tx.Volume(id); return err })
	p := block.Point{ID: block.PointID(block.NewID()), Volume: id, Epoch: 1, Sequence: base.Sequence + 1, At: base.At,
		Size: base.Size, Parent: base.ID}
	send := func(offsets ...int64) Target {
		target := b.receiver.Target("a", func() {})
		_, err := target.Offer(t.Context(), Offer{Volume: id, Protection: 1, Epoch: 1})
		from := int64(0)
		if err == nil {
			from, err = target.Begin(t.Context(), block.Step{Base: base, Target: p, Epoch: 1})
		}
		for _, at := range offsets {
			run := Run{Off: at, Len: driver.BlockSize, Data: bytes.Repeat([]byte{byte(at>>12) + 1}, driver.BlockSize)}
			if err == nil && at >= from {
				err = target.Write(t.Context(), run)
			}
			if at != stray && at != farStray {
				copy(want[at:], run.Data)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
		return target
	}
	if err := send(0, driver.BlockSize).Close(); err != nil {
		t.Fatal(err)
	}
	b.receiver.markEvery = 1 << 30
	if err := send(stray, farStray).Close(); err != nil {
		t.Fatal(err)
	}
	named := driver.SnapshotRef{Volume: b.replica(id).ID, Name: p.ID}
	if late {
		if err := b.store.CreateSnapshot(t.Context(), named); err != nil {
			t.Fatal(err)
		}
	}
	target := send(0, driver.BlockSize, 12*driver.BlockSize)
	var sum Sum
	sum.Add(0, want)
	commit := Commit{Root: sum.Root(p.Size), Entry: block.Entry{Volume: volume}}
	if _, err := target.Commit(t.Context(), commit); err != nil {
		t.Fatal(err)
	}
	if err := target.Close(); err != nil {
		t.Fatal(err)
	}
	if got := b.content(named); !bytes.Equal(got, want) {
		t.Error("a stray block was committed")
	}
}

// stray and farStray are where strayBlock's step writes nothing. They are too far
// apart to be written together: where runs are gathered, the second has the first
// one carried out.
const (
	stray    = 9 * driver.BlockSize
	farStray = stray + spanGap + 2*driver.BlockSize
)

// TestWrongPointRaisesDoubt: a point that comes out with another root than was
// meant is taken back, and the replica's bytes are to be looked at.
func TestWrongPointRaisesDoubt(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world, a, b *zone) {
		b.start(0)
		id := a.volume("gold", 4)
		a.write(id, 0, noise(4*driver.BlockSize))
		a.later(0)
		base := b.replica(id).Newest
		p := block.Point{ID: block.PointID(block.NewID()), Volume: id, Epoch: 1, Sequence: base.Sequence + 1, At: base.At,
			Size: base.Size, Parent: base.ID}
		target := b.receiver.Target("a", func() {})
		_, err := target.Offer(t.Context(), Offer{Volume: id, Protection: 1, Epoch: 1})
		if err == nil {
			_, err = target.Begin(t.Context(), block.Step{Base: base, Target: p, Epoch: 1})
		}
		if err != nil {
			t.Fatal(err)
		}
		if len(b.doubted) != 0 {
			t.Fatalf("%v were doubted before", b.doubted)
		}
		if _, err := target.Commit(t.Context(), Commit{Root: base.Root}); err != nil {
			t.Fatalf("a point that changes nothing: %v", err)
		}
		p.ID, p.Sequence = block.PointID(block.NewID()), p.Sequence+1
		p.Parent = b.replica(id).Newest.ID
		if _, err := target.Begin(t.Context(), block.Step{Base: b.replica(id).Newest, Target: p, Epoch: 1}); err != nil {
			t.Fatal(err)
		}
		_, err = target.Commit(t.Context(), Commit{Root: [32]byte{1}})
		if !block.Is(err, block.Corrupt) || len(b.doubted) != 1 || b.doubted[0] != b.replica(id).ID {
			t.Errorf("%v, %v doubted", err, b.doubted)
		}
		if err := target.Close(); err != nil {
			t.Fatal(err)
		}
	})
}
