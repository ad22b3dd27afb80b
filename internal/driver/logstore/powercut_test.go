package logstore

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"kvol/internal/block"
	"kvol/internal/vfs"
)

// powerCuts names the variable that says how many power cuts to play.
const powerCuts = "KVOL_POWER_CUTS"

// TestPowerCut cuts the power before operations on files of random histories,
// a few thousand times or as often as KVOL_POWER_CUTS says, and sees that it
// was cut in the middle of everything that a store does.
func TestPowerCut(t *testing.T) {
	want := 2000
	if testing.Short() {
		want = 200
	}
	if text := os.Getenv(powerCuts); text != "" {
		var err error
		if want, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	c := cutter{want: want, cuts: map[string]int{}, began: time.Now()}
	recoveryCuts.Store(0)
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() { c.run(t) })
	}
	wg.Wait()
	c.cuts["recovery"] = int(recoveryCuts.Load())
	t.Logf("%d power cuts and %d in recovery from one, in %d histories: %s", c.total, c.cuts["recovery"], c.played,
		c.counts())
	if what := c.missing(); what != "" && !t.Failed() {
		t.Errorf("the power was never cut in %s", what)
	}
}

// cutIn is all that the power has to be cut in.
var cutIn = []string{"open", "close", "create", "write", "writes together", "write of part of a block", "zero", "flush",
	"snapshot", "clone", "extend", "rewind", "delete snapshot", "delete", "getting segments back",
	"sweeping and absorbing"}

// What a store does in the background may take from an operation all that it
// would do on files: as many histories are played as it takes to see the power
// cut in everything, up to a number that is never reached.
const (
	leastHistories = 6
	mostHistories  = 400
)

// cutter plays histories until there were cuts enough.
type cutter struct {
	want  int
	began time.Time

	mu     sync.Mutex // guards all below
	next   uint64     // seed
	played int
	total  int
	shown  int
	cuts   map[string]int
}

func (c *cutter) run(t *testing.T) {
	for {
		c.mu.Lock()
		seed := c.next
		c.next++
		c.mu.Unlock()
		enough := seed >= leastHistories && c.enough(seed)
		if enough || t.Failed() {
			return
		}
		p := []plot{mixedPlot, fullPlot, nounPlot, treePlot, togetherPlot, thinPlot}[seed%6]
		cuts, err := runHistory(seed, p, nil)
		if err != nil {
			t.Errorf("seed %d (%s): %v", seed, p.name, err)
			return
		}
		c.add(cuts)
	}
}

func (c *cutter) enough(seed uint64) bool {
	what := c.missing()
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.total >= c.want && (what == "" || seed >= mostHistories)
}

// missing is something that the power was not cut in yet.
func (c *cutter) missing() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, what := range cutIn {
		if c.cuts[what] == 0 {
			return what
		}
	}
	if recoveryCuts.Load() == 0 {
		return "recovery"
	}
	return ""
}

func (c *cutter) add(cuts map[string]int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.played++
	for what, n := range cuts {
		c.cuts[what] += n
		c.total += n
	}
	if c.total-c.shown >= 10000 {
		c.shown = c.total
		fmt.Fprintf(os.Stderr, "%d power cuts in %v\n", c.total, time.Since(c.began).Round(time.Second))
	}
}

func (c *cutter) counts() string {
	var out []string
	for _, what := range slices.Sorted(maps.Keys(c.cuts)) {
		out = append(out, fmt.Sprintf("%s %d", what, c.cuts[what]))
	}
	return strings.Join(out, ", ")
}

// TestBothEndsOfARecycledSegmentTorn lets the log go through a segment that
// was used before, then takes sectors at its ends back to their old bytes: its
// header, its last records, both, and any.
func TestBothEndsOfARecycledSegmentTorn(t *testing.T) {
	ctx := context.Background()
	h := newHistory(1, plot{}, nil)
	o := crashOptions(h.fs, nil)
	o.indexEvery, o.idle, o.CacheBytes = 1<<30, true, 0
	s, err := Open(ctx, o)
	must(t, err)
	defer endChecked(t, s)
	h.store = s
	seg := intoRecycledSegment(t, h)
	defer s.reclaiming.Unlock()
	letSync := holdSyncs(s) // what was synced is never torn
	before := h.fs.Kill()
	floor := len(h.states) - 1
	for s.log.now().segment == seg {
		must(t, h.write("b", h.now()["b"]))
	}
	after := h.fs.Kill()
	letSync()
	name := segmentName("s", seg)
	rng := rand.New(rand.NewPCG(5, 5))
	const sectors = crashSegment / 512
	last := sectors - 3
	torn := [][]int{{0}, {last}, {last + 1}, {0, last}, {0, last + 1}, {0, 1, 2, last, last + 1, last + 2}}
	for range 60 {
		torn = append(torn, []int{rng.IntN(8), sectors - 1 - rng.IntN(16), rng.IntN(sectors)})
	}
	for _, list := range torn {
		image := after.Kill()
		for _, sector := range list {
			restore(t, image, before, name, int64(sector)*512)
		}
		if err := verifyImage(image, h.states[floor:], 0, nil, rng, 1); err != nil {
			t.Fatalf("sectors %d: %v", list, err)
		}
	}
}

// intoRecycledSegment writes until the log has just gone into a segment that was
// used before. It leaves the store unable to get segments back, which would sync
// the log for the index's sake.
func intoRecycledSegment(t *testing.T, h *history) uint32 {
	ctx, s := context.Background(), h.store
	create := func(id block.VolumeID) {
		h.begin(func(m model) { m[id] = modelVolume{size: crashSize, data: content{}} })
		must(t, h.end2(s.CreateVolume(ctx, id, crashSize)))
	}
	fill := func(id block.VolumeID, segments int) {
		for range segments {
			for seg := s.log.now().segment; s.log.now().segment == seg; {
				if err := h.write(id, h.now()[id]); err != nil {
					t.Error(err)
					return
				}
			}
		}
	}
	create("a")
	create("b")
	fill("a", 10)
	fill("b", 2) // or all would be given back to the file system
	must(t, h.delete("a"))
	must(t, s.tidyBranches(ctx))
	must(t, s.pool.wait(readyTarget))
	s.reclaiming.Lock() // and nothing is given back to the file system
	must(t, s.takeCensus())
	if s.pool.freeCount() < readyTarget {
		t.Fatal("no segment was got back")
	}
	last := slices.Max(s.pool.ids()) // all that are made from now on are recycled
	for s.log.now().segment <= last && !t.Failed() {
		fill("b", 1)
	}
	return s.log.now().segment
}

// holdSyncs waits for a sync of the log that is under way and holds all others.
func holdSyncs(s *Store) (let func()) {
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	for s.log.syncing {
		s.log.idle.Wait()
	}
	s.log.syncing = true
	return func() {
		s.log.mu.Lock()
		defer s.log.mu.Unlock()
		s.log.syncing = false
		s.log.idle.Broadcast()
	}
}

// restore puts a sector back to what it was in another image.
func restore(t *testing.T, image, from *vfs.Mem, name string, off int64) {
	t.Helper()
	src, err := from.Open(name)
	must(t, err)
	dst, err := image.Open(name)
	must(t, err)
	p := make([]byte, 512)
	_, err = src.ReadAt(p, off)
	must(t, err)
	_, err = dst.WriteAt(p, off)
	must(t, err)
}
