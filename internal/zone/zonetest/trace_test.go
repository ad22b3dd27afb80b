package zonetest_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"kvol/internal/client"
	"kvol/internal/drmodel"
	"kvol/internal/zone/zonetest"
)

// machine is the model for a volume that goes to another zone, by force or not,
// and back.
var machine = sync.OnceValue(func() *drmodel.Machine {
	return drmodel.Scope{Zones: 2, Volumes: 3, Moves: 1, Forced: 1}.Machine()
})

// TestRunsAreTracesOfTheModel plays failovers, forced recoveries and ways back
// with faults from a seed, and holds everything that the zones write down
// meanwhile against the model.
func TestRunsAreTracesOfTheModel(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			t.Parallel()
			trace(t, seed)
		})
	}
}

func trace(t *testing.T, seed uint64) {
	rnd := rand.New(rand.NewPCG(seed, 17))
	c := zonetest.New(t)
	j := zonetest.NewJourney(t, c, source, 32, seed)
	j.WriteHere(0, 32)
	j.AwaitReplica("kilo1")
	w := &watch{o: c.Observe(j.Volume, source, "kilo1"), trace: machine().Trace()}
	look := func() {
		t.Helper()
		if err := w.look(t.Context()); err != nil {
			t.Fatalf("%v\nseen so far: %+v", err, w.seen)
		}
	}
	look()
	defer w.close(t)
	if seed%2 == 0 {
		j.WriteHere(0, 4)
		planned(t, c, j, w, rnd)
	} else {
		forced(c, j, w, rnd)
	}
	look()
	if j.Zone != source {
		j.WriteHere(8, 8)
		look()
		j.AwaitReplica(source)
		look()
		planned(t, c, j, w, rnd)
		look()
	}
	j.Check()
	t.Logf("%d different observations", len(w.seen))
}

// forced recovers a volume whose zone is dead, cut off or alive.
func forced(c *zonetest.Cloud, j *zonetest.Journey, w *watch, rnd *rand.Rand) {
	switch rnd.IntN(3) {
	case 0:
		w.kill(c, source)
		j.Recover("kilo1")
		c.Start(source)
	case 1:
		c.Cut(source, "kilo1")
		j.Recover("kilo1")
		c.Mend(source, "kilo1")
	default:
		j.Recover("kilo1")
	}
}

// planned moves the volume to the other zone with a fault somewhere on the way,
// and looks all the time. It may go back.
func planned(t *testing.T, c *zonetest.Cloud, j *zonetest.Journey, w *watch, rnd *rand.Rand) {
	t.Helper()
	from, to := j.Zone, source
	if from == source {
		to = "kilo1"
	}
	f, err := j.BeginFailover(c.Session(from, zonetest.Alice), to)
	if err != nil {
		t.Fatal(err)
	}
	for range rnd.IntN(4) {
		if err := w.look(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	switch victim := []string{from, to, ""}[rnd.IntN(3)]; victim {
	case "":
		c.Cut(from, to)
		c.Mend(from, to)
	default:
		w.kill(c, victim)
		if err := w.look(t.Context()); err != nil {
			t.Fatal(err)
		}
		c.Start(victim)
	}
	s := c.Session(from, zonetest.Alice)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	err = client.Poll(ctx, time.Millisecond, func() (bool, error) {
		if err := w.look(ctx); err != nil {
			return false, err
		}
		f, err = s.FailoverByID(ctx, f.ID)
		return f.Status != "running", err
	})
	if err != nil {
		t.Fatalf("%v\nseen so far: %+v", err, w.seen)
	}
	if f.Status == "success" {
		j.Zone, j.Volume = to, f.NewVolume
	}
}

// watch follows a run through the model.
type watch struct {
	o     *zonetest.Observer
	trace *drmodel.Trace
	seen  []drmodel.Seen
}

func (w *watch) look(ctx context.Context) error {
	seen, err := w.o.Look(ctx)
	if err != nil || len(w.seen) > 0 && w.seen[len(w.seen)-1] == seen {
		return err
	}
	w.seen = append(w.seen, seen)
	return w.trace.See(seen)
}

// kill kills a zone, whose catalog is a new file after it.
func (w *watch) kill(c *zonetest.Cloud, zone string) {
	if err := w.o.Close(zone); err != nil {
		panic(err)
	}
	c.Kill(zone)
}

func (w *watch) close(t *testing.T) {
	for _, zone := range []string{source, "kilo1"} {
		if err := w.o.Close(zone); err != nil {
			t.Error(err)
		}
	}
}
