package simtest

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/cryptotest"
	"testing/synctest"
	"time"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/driver"
	"kvol/internal/driver/mem"
)

const (
	backend  = "main"
	typeName = block.TypeID("gold")
)

// Story is what is played.
type Story struct {
	Seed     uint64
	Sabotage Sabotage // a rule that is broken on purpose; "" for none
	Keep     bool     // all lines of the trace
	Whole    bool     // zones are whole but for their front ends, and volumes move
}

// Outcome is how a story ended.
type Outcome struct {
	Bad   error  // the first promise that was broken; nil if none was
	Trace string // hash of all that happened, in its order
	Lines []string
	Count Count
	Turns int
	Took  time.Duration // of virtual time
}

// cloud is the zones of one story and all that is known of them from outside.
type cloud struct {
	t        *testing.T
	story    Story
	schedule *schedule
	tally    tally
	nodes    map[block.Zone]*node
	names    []block.Zone
	done     chan struct{} // closed when tenants are to stop
	several  bool          // a volume has several targets
	log      *slog.Logger

	mu        sync.Mutex // guards all below; nobody waits for a turn with it
	rnd       *rand.Rand // whoever uses it has a turn, or is the story itself
	faulty    bool       // things go wrong
	conns     int
	acts      int                   // of naming moments of volumes
	instants  map[string]int        // by a group's cut: the act that made it
	newest    map[groupAt]time.Time // true time of the newest instant of which a zone had all
	cuts      map[[2]block.Zone]bool
	books     map[block.VolumeID]*book
	fenced    map[block.VolumeID]block.Recovered
	protected []block.Protection
	promoted  map[block.Zone]map[block.VolumeID]uint64 // sequence of the newest point at the promotion
	seen      map[block.Zone]map[block.VolumeID]map[block.PointID]block.Point
	keepsAll  bool // retention lets no point go
	forgotten bool // a link was lost, so that a full copy may come again
	bad       error
}

// Play plays a story. It can't be called by tests that run in parallel, since
// all chance there is comes from the seed.
func Play(t *testing.T, s Story) (o Outcome) {
	t.Helper()
	cryptotest.SetGlobalRandom(t, s.Seed)
	image := empty(t, s.Sabotage)
	synctest.Test(t, func(t *testing.T) {
		c := newCloud(t, s)
		go c.schedule.run()
		if s.Whole {
			c.move(image)
		} else {
			c.play(image)
		}
		close(c.schedule.stop)
		<-c.schedule.done
		o = Outcome{Bad: c.bad, Trace: c.schedule.sum(), Lines: c.schedule.lines, Count: c.tally.count,
			Turns: c.schedule.turns, Took: time.Since(c.schedule.began)}
	})
	return o
}

func newCloud(t *testing.T, s Story) *cloud {
	c := &cloud{t: t, story: s, schedule: newSchedule(s.Seed, s.Keep), tally: tally{count: Count{}},
		nodes: map[block.Zone]*node{}, names: []block.Zone{"a", "b", "c"}, done: make(chan struct{}),
		rnd: rand.New(rand.NewPCG(s.Seed, 2)), cuts: map[[2]block.Zone]bool{}, books: map[block.VolumeID]*book{},
		fenced: map[block.VolumeID]block.Recovered{}, promoted: map[block.Zone]map[block.VolumeID]uint64{},
		seen:     map[block.Zone]map[block.VolumeID]map[block.PointID]block.Point{},
		instants: map[string]int{}, newest: map[groupAt]time.Time{}}
	c.log = slog.New(slog.DiscardHandler)
	if s.Keep {
		c.log = slog.New(slog.NewTextHandler(c.schedule, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	for _, name := range c.names {
		c.promoted[name], c.seen[name] = map[block.VolumeID]uint64{}, map[block.VolumeID]map[block.PointID]block.Point{}
		c.nodes[name] = &node{cloud: c, name: name, store: mem.New(mem.Options{}), platter: newPlatter(),
			clock: newClock(), rich: c.rnd.IntN(3) > 0 || s.Sabotage != "" || s.Whole, exact: c.rnd.IntN(2) == 0 && !s.Whole}
	}
	return c
}

// images are catalogs that are empty but for their tables, by what is sabotaged.
var images sync.Map

// empty returns an empty catalog.
func empty(t *testing.T, s Sabotage) []byte {
	t.Helper()
	if image, ok := images.Load(s); ok {
		return image.([]byte)
	}
	ctx := context.Background()
	c, err := catalog.Open(ctx, catalog.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	image, err := c.Image(ctx)
	if err == nil {
		image, err = s.spoil(image)
	}
	if err != nil {
		t.Fatal(err)
	}
	images.Store(s, image)
	return image
}

// violated notes that a promise was broken; the first one counts.
func (c *cloud) violated(format string, args ...any) {
	err := fmt.Errorf(format, args...)
	c.schedule.note("BROKEN: %v", err)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.bad == nil {
		c.bad = err
	}
}

func (c *cloud) broken() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.bad != nil
}

// n draws a number below n.
func (c *cloud) n(n int) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.rnd.IntN(n)
}

// chance is true in so many of a hundred cases, while things may go wrong.
func (c *cloud) chance(percent int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.faulty && c.rnd.IntN(100) < percent
}

// nextAct numbers an act of naming moments of volumes.
func (c *cloud) nextAct() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.acts++
	return c.acts
}

func (c *cloud) book(zone block.Zone, id block.VolumeID) *book {
	c.mu.Lock()
	defer c.mu.Unlock()
	if b := c.books[id]; b != nil && b.zone == zone {
		return b
	}
	return nil
}

func (c *cloud) policies() []block.Protection {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.protected)
}

func (c *cloud) isCut(a, b block.Zone) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cuts[[2]block.Zone{min(a, b), max(a, b)}]
}

// cut cuts the link between two zones, or mends it. What is under way breaks.
func (c *cloud) cut(a, b block.Zone, cut bool) {
	c.mu.Lock()
	c.cuts[[2]block.Zone{min(a, b), max(a, b)}] = cut
	c.mu.Unlock()
	if !cut {
		return
	}
	c.happened(Cut, string(a+"-"+b))
	l := c.nodes[a].now()
	if l == nil {
		return
	}
	l.lifeMu.Lock()
	ends := make([]*end, 0, len(l.ends))
	for e := range l.ends {
		ends = append(ends, e)
	}
	l.lifeMu.Unlock()
	slices.SortFunc(ends, func(x, y *end) int { return cmpText(x.out.label, y.out.label) })
	for _, e := range ends {
		if e.in.from.name == b {
			_ = e.Close()
		}
	}
}

func cmpText(a, b string) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// protect has volumes of a zone replicated to another one.
func (c *cloud) protect(from, to block.Zone, keep block.Retention) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.protected = append(c.protected, block.Protection{Seq: int64(len(c.protected) + 1), SourceZone: from,
		SourceType: typeName, Source: block.Backend{Name: backend}, Destination: to, Backup: block.Backend{Name: backend},
		Interval: time.Second, Enabled: true, Retention: keep})
}

// retry does something in a zone until it is done, across the deaths of its
// processes, as a job does. fn may be run again.
func (c *cloud) retry(n *node, fn func(l *life, d driver.Driver) error) {
	for !c.broken() {
		if l := n.now(); l != nil {
			err := fn(l, drive{l})
			if err == nil {
				return
			}
			if l.alive() && !block.Is(err, block.NoSpace) && !block.Is(err, block.Unavailable) {
				c.violated("zone %s: %w", n.name, err)
				return
			}
		}
		time.Sleep(time.Duration(100+c.n(200)) * time.Millisecond)
	}
}
