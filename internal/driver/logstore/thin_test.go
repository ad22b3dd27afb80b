package logstore

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"kvol/internal/block"
	"kvol/internal/driver"
	"kvol/internal/vfs"
)

// pointed makes a volume with many points, before each of which a block was
// written, in a store in which nothing is tidied up unasked.
func pointed(t testing.TB, points int) *Store {
	t.Helper()
	ctx := context.Background()
	o := Options{FS: vfs.NewMem(4<<30, nil), Dir: "s", SegmentSize: 16 << 20, Log: quiet(), idle: true}
	s, err := Open(ctx, o)
	must(t, err)
	t.Cleanup(func() { endChecked(t, s) })
	must(t, s.CreateVolume(ctx, "v", 4096*leafSize))
	d, err := s.OpenVolume(ctx, "v")
	must(t, err)
	rng := rand.New(rand.NewPCG(1, uint64(points)))
	p := make([]byte, blockSize)
	for i := range points {
		le.PutUint64(p, uint64(i)+1)
		_, err := d.WriteAt(p, rng.Int64N(4096)*leafSize)
		must(t, err)
		body := encoder(nil).uint(1).uint(s.volumes["v"].num).text(string(pointName(i)))
		must(t, s.do(forWriting, func() error { return s.commit(&header{op: opSnapshot}, body, nil, forWriting) }))
	}
	must(t, d.Close())
	must(t, s.sweepAll(ctx))
	return s
}

func pointName(i int) block.PointID { return block.PointID(fmt.Sprint("p", i)) }

// thin deletes points one by one and sweeps after each.
func thin(t testing.TB, s *Store, points []int) {
	for _, i := range points {
		must(t, s.DeleteSnapshot(context.Background(), driver.SnapshotRef{Volume: "v", Name: pointName(i)}))
		must(t, s.sweepAll(context.Background()))
	}
}

// everySecond is the order in which thinning out takes points away: the oldest
// first, each second one kept.
func everySecond(points, n int) (out []int) {
	for i := points / 4; len(out) < n; i += 2 {
		out = append(out, i)
	}
	return out
}

// TestThinningCostsWhatChanged: taking a point away looks at as many keys of the
// index among tens of thousands of points as among a thousand, and at so many
// more as there were more changes.
func TestThinningCostsWhatChanged(t *testing.T) {
	const removed = 100
	var keys []int64
	for _, points := range []int{1000, 50000} {
		s := pointed(t, points)
		before := s.swept.keys.Load()
		thin(t, s, everySecond(points, removed))
		n := s.swept.keys.Load() - before
		t.Logf("%d points: %d keys for %d removed", points, n, removed)
		if n > 8*removed || s.swept.gaps.Load() != removed {
			t.Errorf("%d points: %d keys in %d gaps for %d removed points", points, n, s.swept.gaps.Load(), removed)
		}
		keys = append(keys, n)
	}
	if keys[0] != keys[1] {
		t.Errorf("%d keys among the many points, %d among the few", keys[1], keys[0])
	}
}

// TestThinningInAnyOrder: whatever the order in which points go, joining what is
// left costs in total no more than the changes times their logarithm.
func TestThinningInAnyOrder(t *testing.T) {
	const points = 512
	for name, at := range map[string]func(i int) int{
		"old to new": func(i int) int { return i },
		"new to old": func(i int) int { return points - 2 - i },
		"at random":  func(i int) int { return i * 201 % (points - 1) },
	} {
		s := pointed(t, points)
		before := s.swept.keys.Load()
		var order []int
		for i := range points - 1 {
			order = append(order, at(i))
		}
		thin(t, s, order)
		n := s.swept.keys.Load() - before
		t.Logf("%s: %d keys", name, n)
		if n > points*4*9 {
			t.Errorf("%s: %d keys of the index for %d points", name, n, points)
		}
	}
}

// BenchmarkThinning prints how long taking away one point among many takes.
func BenchmarkThinning(b *testing.B) {
	took := map[int]float64{}
	for _, points := range []int{1000, 50000} {
		b.Run(fmt.Sprintf("%d points", points), func(b *testing.B) {
			s := pointed(b, points)
			order := everySecond(points, 300)
			b.ResetTimer()
			start := time.Now()
			for range b.N {
				if len(order) == 0 {
					b.StopTimer()
					b.Skip("run with -benchtime=300x or less")
				}
				thin(b, s, order[:1])
				order = order[1:]
			}
			took[points] = time.Since(start).Seconds() / float64(b.N)
		})
	}
	b.Logf("a point among 50000 takes %.2f times as long as one among 1000", took[50000]/took[1000])
}
