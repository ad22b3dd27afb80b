package nbd

import (
	"iter"
	"math/rand/v2"
	"slices"
	"testing"

	"kvol/internal/driver"
)

func extents(list []driver.Extent) iter.Seq2[driver.Extent, error] {
	return func(yield func(driver.Extent, error) bool) {
		for _, e := range list {
			if !yield(e, nil) {
				return
			}
		}
	}
}

// TestGatherNeverLeavesOut: however many ranges there are, the few that are
// kept cover them all, in order and without overlap.
func TestGatherNeverLeavesOut(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		var in []driver.Extent
		off := int64(0)
		for range rnd.IntN(300) {
			off += int64(rnd.IntN(1<<rnd.IntN(12))) * driver.BlockSize
			n := int64(1+rnd.IntN(8)) * driver.BlockSize
			in = append(in, driver.Extent{Off: off, Len: n})
			off += n
		}
		most := 1 + rnd.IntN(50)
		got, err := gather(extents(in), most)
		if err != nil || len(got) > most {
			t.Fatalf("%d ranges, %v; want %d at most", len(got), err, most)
		}
		for i, s := range got {
			if s.end <= s.off || i > 0 && s.off < got[i-1].end {
				t.Fatalf("ranges %v", got)
			}
		}
		for _, e := range in {
			if !slices.ContainsFunc(got, func(s span) bool { return s.off <= e.Off && e.End() <= s.end }) {
				t.Fatalf("%v is left out of %v", e, got)
			}
		}
	}
}
