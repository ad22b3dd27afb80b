package logstore

import (
	"bytes"
	"context"
	"math/rand/v2"
	"testing"

	"kvol/internal/block"
	"kvol/internal/driver"
	"kvol/internal/vfs"
)

// TestWriteMany writes many blocks of few leaves together, some twice, with
// parts of blocks and writes over the ends of leaves between them, and reads all
// back; also from a store that was opened again.
func TestWriteMany(t *testing.T) {
	ctx := context.Background()
	fsys := vfs.NewMem(1<<30, rand.New(rand.NewPCG(3, 3)))
	o := Options{FS: fsys, Dir: "s", SegmentSize: 1 << 20, Log: quiet()}
	s, err := Open(ctx, o)
	must(t, err)
	const size = 3 * leafSize
	must(t, s.CreateVolume(ctx, "v", size))
	d, err := s.OpenVolume(ctx, "v")
	must(t, err)
	rng := rand.New(rand.NewPCG(4, 4))
	want := make([]byte, size)
	for range 60 {
		parts := someParts(rng, size)
		for _, p := range parts {
			copy(want[p.Off:], p.Data)
		}
		n, err := driver.WriteMany(d, parts)
		if err != nil || n != len(parts) {
			t.Fatalf("%d of %d: %v", n, len(parts), err)
		}
	}
	parts := someParts(rng, size)
	copy(want[parts[0].Off:], parts[0].Data)
	parts[1].Off = size
	if n, err := driver.WriteMany(d, parts); n != 1 || !block.Is(err, block.Invalid) {
		t.Errorf("%d were written before one beyond the end: %v", n, err)
	}
	seeAll(t, d, want)
	must(t, d.Close())
	must(t, s.Check(ctx))
	must(t, s.Close())
	s, err = Open(ctx, o)
	must(t, err)
	defer endChecked(t, s)
	d, err = s.OpenVolume(ctx, "v")
	must(t, err)
	defer d.Close()
	seeAll(t, d, want)
}

// someParts are mostly blocks of few leaves, so that one leaf is
// written often.
func someParts(rng *rand.Rand, size int64) (parts []driver.Part) {
	for range 4 + rng.IntN(60) {
		off := rng.Int64N(size/leafSize)*leafSize + rng.Int64N(500)*blockSize
		n := blockSize * (1 + rng.Int64N(3))
		switch rng.IntN(20) {
		case 0:
			off, n = off+512, 1024
		case 1:
			off = max(0, off/leafSize*leafSize-blockSize)
			n = 2 * blockSize
		}
		parts = append(parts, driver.Part{Off: off, Data: randomBytes(rng, int(n))})
	}
	return parts
}

func seeAll(t *testing.T, d driver.Device, want []byte) {
	t.Helper()
	got := make([]byte, len(want))
	_, err := d.ReadAt(got, 0)
	must(t, err)
	if !bytes.Equal(got, want) {
		i := 0
		for got[i] == want[i] {
			i++
		}
		t.Errorf("the volume differs at %d (block %d)", i, i/blockSize)
	}
}
