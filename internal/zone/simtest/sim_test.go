package simtest_test

import (
	"flag"
	"os"
	"runtime"
	"runtime/debug"
	"testing"
	"time"

	"kvol/internal/zone/simtest"
)

var (
	seeds = flag.Int("seeds", 2000, "how many seeds TestStories plays")
	first = flag.Uint64("seed", 1, "the first of them")
	tell  = flag.Bool("tell", false, "TestTell tells the story of -seed")
	whole = flag.Bool("whole", false, "TestTell tells of whole zones")
	moves = flag.Int("moves", 40, "how many seeds TestMoves plays")
)

func TestMain(m *testing.M) {
	flag.Parse()
	runtime.GOMAXPROCS(1)   // see schedule
	debug.SetGCPercent(400) // a story leaves nothing behind
	os.Exit(m.Run())
}

// all is when enough seeds were played for everything to have happened.
const all = 900

// TestStories plays many seeds. Everything that can go wrong must have gone wrong
// in some of them.
func TestStories(t *testing.T) {
	n := *seeds
	if testing.Short() {
		n = min(n, 50)
	}
	total, turns, began := simtest.Count{}, 0, time.Now()
	var virtual time.Duration
	for i := range n {
		seed := *first + uint64(i)
		o := simtest.Play(t, simtest.Story{Seed: seed})
		if o.Bad != nil {
			t.Errorf("seed %d: %v; to see it again: "+
				"go test ./internal/zone/simtest -run TestTell -v -tell -seed %d", seed, o.Bad, seed)
		}
		total.Add(o.Count)
		turns += o.Turns
		virtual += o.Took
	}
	for _, name := range total.Names() {
		t.Logf("%6d %s", total[name], name)
	}
	t.Logf("%d seeds, %d turns, %v of the zones' time in %v", n, turns, virtual.Round(time.Second),
		time.Since(began).Round(time.Second))
	if n < all {
		return
	}
	for _, f := range simtest.Faults {
		if total[string(f)] == 0 {
			t.Errorf("it never happened that %s", f)
		}
	}
	for _, p := range simtest.FailPoints {
		if total["killed "+p] == 0 {
			t.Errorf("no process died %s", p)
		}
	}
	if total["points"] < n || total["promotions"] == 0 {
		t.Errorf("%d points, %d promotions: the stories tell of nothing", total["points"], total["promotions"])
	}
}

// TestMoves plays seeds of whole zones, in which a volume is recovered by force
// or moved as planned.
func TestMoves(t *testing.T) {
	n := *moves
	if testing.Short() {
		n = min(n, 10)
	}
	total, began := simtest.Count{}, time.Now()
	for i := range n {
		seed := *first + uint64(i)
		o := simtest.Play(t, simtest.Story{Seed: seed, Whole: true})
		if o.Bad != nil {
			t.Errorf("seed %d: %v; to see it again: "+
				"go test ./internal/zone/simtest -run TestTell -v -tell -whole -seed %d", seed, o.Bad, seed)
		}
		total.Add(o.Count)
	}
	for _, name := range total.Names() {
		t.Logf("%6d %s", total[name], name)
	}
	t.Logf("%d seeds in %v", n, time.Since(began).Round(time.Second))
	for _, some := range []string{"recoveries succeeded", "failovers done", "writes", "points"} {
		if n >= 40 && total[some] < n/5 {
			t.Errorf("%d %s in %d stories", total[some], some, n)
		}
	}
}

// TestTell plays one seed and tells its story.
func TestTell(t *testing.T) {
	if !*tell {
		t.Skip("nobody asked for it: -tell")
	}
	o := simtest.Play(t, simtest.Story{Seed: *first, Keep: true, Whole: *whole})
	for _, line := range o.Lines {
		t.Log(line)
	}
	if o.Bad != nil {
		t.Error(o.Bad)
	}
}

// TestReplay plays a seed again, and it must be the same story. The runtime may
// take the processor away between two goroutines that were begun together, and
// then they run in another order: three stories have to be alike of nine.
func TestReplay(t *testing.T) {
	for _, whole := range []bool{false, true} {
		alike, same := map[string]int{}, false
		for i := 0; i < 9 && !same; i++ {
			o := simtest.Play(t, simtest.Story{Seed: *first, Whole: whole})
			alike[o.Trace]++
			same = alike[o.Trace] == 3
		}
		if !same {
			t.Errorf("no three of nine stories of seed %d, whole zones %v, are alike: %v", *first, whole, alike)
		}
		if other := simtest.Play(t, simtest.Story{Seed: *first + 1, Whole: whole}); alike[other.Trace] > 0 {
			t.Errorf("seeds %d and %d tell one story", *first, *first+1)
		}
	}
}

// TestSabotagesAreNoticed breaks one rule after the other, and each must be
// noticed.
func TestSabotagesAreNoticed(t *testing.T) {
	for _, s := range simtest.Sabotages {
		t.Run(string(s), func(t *testing.T) {
			for seed := uint64(1); seed <= 400; seed++ {
				if o := simtest.Play(t, simtest.Story{Seed: seed, Sabotage: s}); o.Bad != nil {
					t.Logf("seed %d: %v", seed, o.Bad)
					return
				}
			}
			t.Error("nobody noticed in 400 seeds")
		})
	}
}
