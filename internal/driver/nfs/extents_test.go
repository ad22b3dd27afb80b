package nfs

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"kvol/internal/block"
	"kvol/internal/driver"
)

const kib4 = driver.BlockSize

// disk is what a file of a model has: for each unit of it a place on the disk, or
// 0 for a hole.
type disk []uint64

// unit is the block of a file system, which may be smaller than ours.
const unit = 1024

func (f disk) spans(rnd *rand.Rand) (all []span) {
	for i := 0; i < len(f); {
		if f[i] == 0 {
			i++
			continue
		}
		n := 1
		for i+n < len(f) && f[i+n] == f[i]+uint64(n) && rnd.IntN(4) > 0 { // or it is told in parts
			n++
		}
		all = append(all, span{off: int64(i) * unit, len: int64(n) * unit, disk: f[i] * unit})
		i += n
	}
	return all
}

// TestCompareSpans: nothing that differs is left out, nothing that is the same
// block by block is named, and zeros are zeros.
func TestCompareSpans(t *testing.T) {
	for seed := range uint64(300) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		perBlock := kib4 / unit
		older := make(disk, perBlock*rnd.IntN(40))
		newer := make(disk, perBlock*(1+rnd.IntN(40)))
		for _, f := range []disk{older, newer} {
			for i := range f {
				if rnd.IntN(3) > 0 {
					f[i] = uint64(1000 + i + 1000*rnd.IntN(2))
				}
			}
		}
		var got []driver.Extent
		compareSpans(older.spans(rnd), newer.spans(rnd), int64(len(newer))*unit, func(e driver.Extent) bool {
			got = append(got, e)
			return true
		})
		named := make([]int, len(newer)/perBlock) // 1: data, 2: zero
		end := int64(0)
		for _, e := range got {
			if e.Off < end || e.Len <= 0 || e.Off%kib4 != 0 || e.Len%kib4 != 0 || e.End() > int64(len(newer))*unit {
				t.Fatalf("seed %d: %v", seed, got)
			}
			end = e.End()
			for b := e.Off / kib4; b < e.End()/kib4; b++ {
				named[b] = 1
				if e.Zero {
					named[b] = 2
				}
			}
		}
		for b := range named {
			differs, zero := false, true
			for i := b * perBlock; i < (b+1)*perBlock; i++ {
				was := uint64(0)
				if i < len(older) {
					was = older[i]
				}
				differs = differs || was != newer[i]
				zero = zero && newer[i] == 0
			}
			if differs != (named[b] > 0) || named[b] == 2 && !zero {
				t.Fatalf("seed %d, block %d: differs %t, zero %t, but it is told %d", seed, b, differs, zero, named[b])
			}
		}
	}
}

func TestUnsureSpansDiffer(t *testing.T) {
	same := []span{{off: 0, len: kib4, disk: 8, unsure: true}}
	var got []driver.Extent
	compareSpans(same, same, kib4, func(e driver.Extent) bool { got = append(got, e); return true })
	if !slices.Equal(got, []driver.Extent{{Len: kib4}}) {
		t.Errorf("got %v", got)
	}
}

// TestReadDiff compares files with holes by reading them, as where nobody says
// where they lie.
func TestReadDiff(t *testing.T) {
	const blocks = 700 // more than are read at once
	for seed := range uint64(20) {
		rnd := rand.New(rand.NewPCG(seed, 2))
		older, was := sparse(t, rnd, blocks-rnd.IntN(blocks))
		newer, is := sparse(t, rnd, blocks)
		for b := range was { // most of it is the same
			if rnd.IntN(8) > 0 {
				is[b] = was[b]
				if _, err := newer.WriteAt(bytes.Repeat([]byte{was[b]}, kib4), int64(b)*kib4); err != nil {
					t.Fatal(err)
				}
			}
		}
		named := map[int64]bool{} // whether it is zero
		err := readDiff(t.Context(), older, int64(len(was))*kib4, newer, blocks*kib4, func(e driver.Extent) bool {
			for off := e.Off; off < e.End(); off += kib4 {
				named[off/kib4] = e.Zero
			}
			return true
		})
		if err != nil {
			t.Fatal(err)
		}
		for b, value := range is {
			before := byte(0)
			if b < len(was) {
				before = was[b]
			}
			if zero, differs := named[int64(b)]; differs != (before != value) || differs && zero != (value == 0) {
				t.Fatalf("seed %d, block %d: %d became %d, but it is told %t (zero %t)", seed, b, before, value, differs, zero)
			}
		}
	}
}

// sparse makes a file of blocks that have one value each, with holes.
func sparse(t *testing.T, rnd *rand.Rand, blocks int) (*os.File, []byte) {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "f"))
	if err == nil {
		err = f.Truncate(int64(blocks) * kib4)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	values := make([]byte, blocks)
	for b := 0; b < blocks; b += 1 + rnd.IntN(90) {
		for n := rnd.IntN(20); n > 0 && b < blocks; n, b = n-1, b+1 {
			values[b] = byte(rnd.IntN(3))
			if _, err := f.WriteAt(bytes.Repeat([]byte{values[b]}, kib4), int64(b)*kib4); err != nil {
				t.Fatal(err)
			}
		}
	}
	return f, values
}

func FuzzEntry(f *testing.F) {
	for _, s := range []string{"0000000000000001.a", "0000000000000001.a._b", "1.x", "0000000000000001._2e_2e",
		"00000000000000ff.a.6a21db69-dc6b-4423-834c-679ae153a638", "0000000000000001._2E"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		e, ok := parseEntry(name)
		if !ok {
			return
		}
		again, err := e.file()
		if err != nil || again != name {
			t.Fatalf("%q is read as %+v, which is written %q, %v", name, e, again, err)
		}
	})
}

func FuzzEncode(f *testing.F) {
	for _, s := range []string{"a", "..", "/etc/passwd", "ä b", "_", "."} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, id string) {
		name, err := encode(id)
		if err != nil {
			return
		}
		for _, c := range []byte(name) {
			if !plain(c) && c != '_' {
				t.Fatalf("%q names the file %q", id, name)
			}
		}
		if back, ok := decode(name); !ok || back != id {
			t.Fatalf("%q becomes %q and that %q", id, name, back)
		}
	})
}

// aHeader is a qcow2 header that stands on a file.
func aHeader(size uint64, on string) []byte {
	text := make([]byte, 104, 512)
	copy(text, "QFI\xfb")
	binary.BigEndian.PutUint32(text[4:], 3)
	binary.BigEndian.PutUint64(text[24:], size)
	if on != "" {
		binary.BigEndian.PutUint64(text[8:], uint64(len(text)))
		binary.BigEndian.PutUint32(text[16:], uint32(len(on)))
	}
	return append(text, on...)
}

func FuzzHeader(f *testing.F) {
	layer := block.NewID()
	for _, text := range [][]byte{nil, aHeader(1<<20, ""), aHeader(1<<20, "layer-"+layer), aHeader(1<<63, ""),
		aHeader(5, "/etc/passwd"), aHeader(5, "layer-../../x"), aHeader(1<<20, "layer-"+layer)[:130]} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		h, err := parseHeader(text)
		if err == nil && (h.size < 0 || h.layer != "" && !isLayer(h.layer)) {
			t.Fatalf("%q is read as %+v", text, h)
		}
		if err != nil && !block.Is(err, block.Corrupt) {
			t.Fatal(err)
		}
	})
}

func FuzzSpans(f *testing.F) {
	extent := func(off, disk, length uint64, flags uint32) []byte {
		p := make([]byte, fiemapExtent)
		binary.NativeEndian.PutUint64(p, off)
		binary.NativeEndian.PutUint64(p[8:], disk)
		binary.NativeEndian.PutUint64(p[16:], length)
		binary.NativeEndian.PutUint32(p[40:], flags)
		return p
	}
	f.Add(append(extent(0, 4096, 4096, 0), extent(8192, 1<<20, 1<<40, 1)...), 2, int64(0), int64(1<<20))
	f.Add(extent(0, 0, 1<<63, 8), 1, int64(100), int64(5000))
	f.Add(extent(1<<63, 0, 1<<63, 8), 7, int64(0), int64(5000))
	f.Fuzz(func(t *testing.T, text []byte, n int, off, size int64) {
		if off < 0 || size < off {
			return
		}
		all, next, _ := parseSpans(text, n, off, size)
		end := off
		for _, s := range all {
			if s.off < end || s.len <= 0 || s.end() > size {
				t.Fatalf("%+v of [%d, %d)", all, off, size)
			}
			end = s.end()
		}
		if next < end || next > max(size, off) {
			t.Fatalf("next is %d after %d", next, end)
		}
	})
}

func FuzzMap(f *testing.F) {
	text, err := json.Marshal([]mapped{{0, 4096, 0, true, false}, {4096, 100, 1, true, true}, {4196, 1, 0, false, true}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text, 1, int64(8192))
	f.Add([]byte(`[{"start":9223372036854775807,"length":9223372036854775807}]`), 2, int64(4096))
	f.Fuzz(func(t *testing.T, text []byte, depth int, size int64) {
		if size < 0 || size > 1<<50 {
			return
		}
		size = floor(size)
		end := int64(0)
		err := parseMap(text, depth, size, func(e driver.Extent) bool {
			if e.Off < end || e.Len <= 0 || e.End() > size || e.Off%kib4 != 0 || e.Len%kib4 != 0 {
				t.Errorf("%+v after %d of %d", e, end, size)
			}
			end = e.End()
			return true
		})
		if err != nil && !block.Is(err, block.Internal) {
			t.Fatal(err)
		}
	})
}
