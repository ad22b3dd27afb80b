package replication

import (
	"bytes"
	"context"
	"encoding/binary"
	"math/big"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/zeebo/blake3"
	"pgregory.net/rapid"

	"kvol/internal/block"
	"kvol/internal/driver"
	"kvol/internal/driver/mem"
)

// bigRoot is the root hash as the ADR has it, by the book.
func bigRoot(content []byte) [32]byte {
	sum := new(big.Int)
	for i := 0; i*driver.BlockSize < len(content); i++ {
		b := make([]byte, driver.BlockSize)
		copy(b, content[i*driver.BlockSize:])
		if bytes.Equal(b, make([]byte, driver.BlockSize)) {
			continue
		}
		h := blake3.Sum256(append(binary.LittleEndian.AppendUint64(nil, uint64(i)), b...))
		slices.Reverse(h[:])
		sum.Add(sum, new(big.Int).SetBytes(h[:]))
	}
	sum.Mod(sum, new(big.Int).Lsh(big.NewInt(1), 256))
	h := sum.FillBytes(make([]byte, 32))
	slices.Reverse(h)
	return blake3.Sum256(binary.LittleEndian.AppendUint64(h, uint64(len(content))))
}

func TestSumByTheBook(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		blocks := rapid.IntRange(1, 12).Draw(t, "blocks")
		content := make([]byte, blocks*driver.BlockSize)
		var sum Sum
		for range rapid.IntRange(0, 20).Draw(t, "writes") {
			i := rapid.IntRange(0, blocks-1).Draw(t, "block")
			at := content[i*driver.BlockSize:][:driver.BlockSize]
			sum.Sub(int64(i)*driver.BlockSize, at)
			at[rapid.IntRange(0, driver.BlockSize-1).Draw(t, "byte")] = rapid.Byte().Draw(t, "value")
			sum.Add(int64(i)*driver.BlockSize, at)
		}
		if got, want := sum.Root(int64(len(content))), bigRoot(content); got != want {
			t.Fatalf("incremental %x, by the book %x", got, want)
		}
		if SumFrom(sum.Bytes()) != sum {
			t.Fatal("a sum did not survive being written down")
		}
	})
}

// TestSumTellsApart: what must give different roots.
func TestSumTellsApart(t *testing.T) {
	a := make([]byte, 2*driver.BlockSize)
	a[0] = 1
	b := make([]byte, 2*driver.BlockSize)
	b[driver.BlockSize] = 1
	if bigRoot(a) == bigRoot(b) {
		t.Error("a block at another place has the same root")
	}
	if bigRoot(a) == bigRoot(a[:driver.BlockSize]) {
		t.Error("another size has the same root")
	}
	if got := blockRoot(a).String(); got != golden {
		t.Errorf("the root hash is defined otherwise than it was: %s", got)
	}
}

// golden is the root of two blocks, the first of which is a 1 and zeros.
const golden = "73e512476cc8d59b5a02028825c10c5342ef89fdca4da6d24d0d1e117af131f3"

func blockRoot(content []byte) block.RootHash {
	var sum Sum
	sum.Add(0, content)
	return sum.Root(int64(len(content)))
}

func TestSumOf(t *testing.T) {
	ctx := context.Background()
	s := mem.New(mem.Options{})
	const size = 3*sumPart/2 + 5*driver.BlockSize
	if err := s.CreateVolume(ctx, "v", size); err != nil {
		t.Fatal(err)
	}
	dev, err := s.OpenVolume(ctx, "v")
	if err != nil {
		t.Fatal(err)
	}
	defer dev.Close()
	r := rand.New(rand.NewPCG(1, 2))
	var want Sum
	written := map[int64]bool{}
	for range 200 {
		off := r.Int64N(size/driver.BlockSize) * driver.BlockSize
		if written[off] {
			continue
		}
		written[off] = true
		p := make([]byte, driver.BlockSize)
		binary.LittleEndian.PutUint64(p, r.Uint64())
		if _, err := dev.WriteAt(p, off); err != nil {
			t.Fatal(err)
		}
		want.Add(off, p)
	}
	ref := driver.SnapshotRef{Volume: "v", Name: "p"}
	if err := s.CreateSnapshot(ctx, ref); err != nil {
		t.Fatal(err)
	}
	reader, err := s.OpenSnapshot(ctx, ref)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	got, err := SumOf(ctx, reader)
	if err != nil || got != want {
		t.Fatalf("%x, want %x: %v", got.Bytes(), want.Bytes(), err)
	}
	root, err := RootOf(ctx, s, ref)
	if err != nil || root != want.Root(size) {
		t.Fatal(root, err)
	}
	if plain, err := SumOf(ctx, onlyReader{reader}); err != nil || plain != want {
		t.Fatal("without extents:", err)
	}
}

// onlyReader hides that a reader knows its extents.
type onlyReader struct{ r driver.Reader }

func (o onlyReader) ReadAt(p []byte, off int64) (int, error) { return o.r.ReadAt(p, off) }
func (o onlyReader) Size() int64                             { return o.r.Size() }
func (o onlyReader) Close() error                            { return nil }

func BenchmarkSum(b *testing.B) {
	p := bytes.Repeat([]byte{1}, 1<<20)
	b.SetBytes(int64(len(p)))
	for b.Loop() {
		var s Sum
		s.Add(0, p)
	}
}
