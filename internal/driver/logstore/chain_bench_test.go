package logstore

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"kvol/internal/block"
	"kvol/internal/driver"
	"kvol/internal/vfs"
)

const chainLeaves = 64

// chained makes a clone of a clone of a clone and so on, each with a few writes
// of its own, and deletes the ancestors or not. Nothing is tidied up unasked.
func chained(b *testing.B, depth int, alive bool) (*Store, *branch) {
	b.Helper()
	s, err := Open(b.Context(), Options{FS: vfs.NewMem(1<<30, nil), Dir: "s", SegmentSize: 1 << 20, CacheBytes: 64 << 20,
		Log: quiet(), idle: true})
	must(b, err)
	b.Cleanup(func() { endChecked(b, s) })
	rng := rand.New(rand.NewPCG(uint64(depth), 1))
	id := block.VolumeID("v0")
	must(b, s.CreateVolume(b.Context(), id, chainLeaves*leafSize))
	for leaf := range int64(chainLeaves) {
		put(b, s, id, leaf*leafBlocks, 1)
	}
	for i := 1; i < depth; i++ {
		ref := driver.SnapshotRef{Volume: id, Name: "s"}
		must(b, s.CreateSnapshot(b.Context(), ref))
		id = block.VolumeID(fmt.Sprint("v", i))
		must(b, s.CloneSnapshot(b.Context(), id, ref, chainLeaves*leafSize))
		for range 4 {
			put(b, s, id, rng.Int64N(chainLeaves)*leafBlocks+rng.Int64N(8), byte(i))
		}
		if !alive {
			must(b, s.DeleteVolume(b.Context(), ref.Volume))
		}
	}
	must(b, s.flushIndex())
	return s, s.volumes[id].branch
}

// BenchmarkChain looks a leaf up that is not in the cache, in chains of clones:
// of volumes that all live, and of one that lives, before and after it absorbed
// the others.
func BenchmarkChain(b *testing.B) {
	took := map[string]float64{}
	for _, depth := range []int{1, 32, 200} {
		for _, kind := range []string{"all live", "before absorbing", "after absorbing"} {
			name := fmt.Sprintf("%d, %s", depth, kind)
			b.Run(name, func(b *testing.B) {
				s, br := chained(b, depth, kind == "all live")
				if kind == "after absorbing" {
					must(b, s.tidyBranches(b.Context()))
					must(b, s.flushIndex())
				}
				var c cells
				b.ResetTimer()
				start := time.Now()
				for i := range b.N {
					must(b, s.resolve(br, head, uint32(i%chainLeaves), &c))
				}
				took[name] = time.Since(start).Seconds() / float64(b.N)
			})
			b.Logf("%s: %.1f times a chain of one", name, took[name]/took["1, all live"])
		}
	}
}
