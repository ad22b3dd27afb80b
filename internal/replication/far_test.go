package replication

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"kvol/internal/block"
	"kvol/internal/driver"
	"kvol/internal/driver/mem"
)

// far is a store of which several ranges are read and written at once.
type far struct{ driver.Driver }

// Depth implements driver.Distant.
func (far) Depth() int { return 4 }

// Unwrap implements driver.Unwrapper.
func (f far) Unwrap() driver.Driver { return f.Driver }

// scatter writes, zeros and rewrites at random, and keeps what should be there.
func scatter(r *rand.Rand, want []byte, write func(off int64, p []byte)) {
	for range 1 + r.IntN(40) {
		n := (1 + r.IntN(8)) * driver.BlockSize
		off := r.IntN(len(want)/driver.BlockSize-8) * driver.BlockSize
		p := make([]byte, n)
		if r.IntN(4) > 0 {
			for i := range p {
				p[i] = byte(r.Uint32())
			}
			clear(p[:r.IntN(2)*driver.BlockSize])
		}
		write(int64(off), p)
		copy(want[off:], p)
	}
}

// TestFarTarget replicates to a store that is far away: each point is what was
// written.
func TestFarTarget(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world, a, b *zone) {
		b.far = true
		b.start(0)
		r := rand.New(rand.NewPCG(2, 7))
		const blocks = 2048
		want := make([]byte, blocks*driver.BlockSize)
		id := a.volume("gold", blocks)
		for range 6 {
			scatter(r, want, func(off int64, p []byte) { a.write(id, off, p) })
			a.later(time.Minute)
			rep := b.replica(id)
			if !bytes.Equal(b.content(driver.SnapshotRef{Volume: rep.ID, Name: rep.Newest.ID}), want) {
				t.Fatal("the replica is not what was written")
			}
		}
	})
}

// TestFarStoreSendsTheSame: what goes over the wire and its root are the same
// whether a store is far away or not, from wherever a step goes on.
func TestFarStoreSendsTheSame(t *testing.T) {
	ctx, d := t.Context(), mem.New(mem.Options{})
	const size, id = 2048 * driver.BlockSize, block.VolumeID("v")
	if err := d.CreateVolume(ctx, id, size); err != nil {
		t.Fatal(err)
	}
	dev, err := d.OpenVolume(ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	defer dev.Close()
	r, want := rand.New(rand.NewPCG(1, 7)), make([]byte, size)
	last := block.Point{}
	for n := range 20 {
		scatter(r, want, func(off int64, p []byte) {
			if _, err := dev.WriteAt(p, off); err != nil {
				t.Fatal(err)
			}
		})
		p := block.Point{ID: block.PointID(fmt.Sprint("p", n)), Size: size}
		if err := d.CreateSnapshot(ctx, driver.SnapshotRef{Volume: id, Name: p.ID}); err != nil {
			t.Fatal(err)
		}
		step := block.Step{Base: last, Target: p}
		from := int64(r.IntN(2) * r.IntN(2048) * driver.BlockSize)
		near, nearSum := deltaOf(t, d, step, from)
		runs, sum := deltaOf(t, far{d}, step, from)
		if sum != nearSum || len(runs) != len(near) {
			t.Fatalf("step %d: %d runs and sum %x, near by %d and %x", n, len(runs), sum, len(near), nearSum)
		}
		for i := range runs {
			if runs[i].Off != near[i].Off || runs[i].Len != near[i].Len || !bytes.Equal(runs[i].Data, near[i].Data) {
				t.Fatalf("step %d: run %d is %d, %d", n, i, runs[i].Off, runs[i].Len)
			}
		}
		last = p
	}
}

func deltaOf(t *testing.T, d driver.Driver, step block.Step, from int64) (runs []Run, sum Sum) {
	t.Helper()
	sum, err := store{d, "v"}.Delta(context.WithoutCancel(t.Context()), step, Sum{}, from, func(r Run) error {
		r.Data = bytes.Clone(r.Data)
		runs = append(runs, r)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return runs, sum
}
