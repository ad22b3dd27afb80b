package zonetest_test

import (
	"fmt"
	"sync"
	"testing"

	"kvol/internal/block"
	"kvol/internal/client"
	"kvol/internal/drmodel"
	"kvol/internal/zone/zonetest"
)

// contest is the model for a volume that two zones recover.
var contest = sync.OnceValue(func() *drmodel.Machine {
	return drmodel.Scope{Zones: 3, Volumes: 3, Cuts: 2, Forced: 2, NoDrills: true, Narrow: true, Whole: true}.Machine()
})

// TestRivalsAreTracesOfTheModel recovers a volume in two zones at once, which
// see each other or not, and holds what all three zones write down against the
// model until one volume is left that takes writes.
func TestRivalsAreTracesOfTheModel(t *testing.T) {
	for _, cut := range []bool{false, true} {
		t.Run(fmt.Sprintf("cut %v", cut), func(t *testing.T) {
			t.Parallel()
			traceRivals(t, cut)
		})
	}
}

// watchAll holds what all three zones write down of a volume against the model,
// whenever look is called.
func watchAll(t *testing.T, c *zonetest.Cloud, volume string) (w *watch, look func()) {
	t.Helper()
	zones := []string{source, "kilo1", "kilo2"}
	w = &watch{o: c.Observe(volume, zones...), trace: contest().Trace()}
	t.Cleanup(func() {
		for _, z := range zones {
			if err := w.o.Close(z); err != nil {
				t.Error(err)
			}
		}
	})
	return w, func() {
		t.Helper()
		if err := w.look(t.Context()); err != nil {
			t.Fatalf("%v\nseen so far: %+v", err, w.seen)
		}
	}
}

// primaries are the volumes that took writes when the zones were last looked at.
func (w *watch) primaries() (n int) {
	for _, v := range w.seen[len(w.seen)-1].Volumes {
		if v.Role == drmodel.Primary {
			n++
		}
	}
	return n
}

// TestFailedRecoveryIsATraceOfTheModel: what a recovery by force leaves that
// fails for good, and another one after it, the model knows.
func TestFailedRecoveryIsATraceOfTheModel(t *testing.T) {
	t.Parallel()
	x := gated(t, 42)
	w, look := watchAll(t, x.c, x.j.Volume)
	look()
	came, open := x.gates["kilo1"].Shut(zonetest.BeforeClone)
	ended := make(chan client.KvolJob)
	go func() { ended <- kvolRecovery(t, x.c, x.j, "kilo1") }()
	x.arrived(came)
	look()
	open(block.Errorf(block.NotFound, "The point is gone."))
	if job := <-ended; job.Status != "FAIL" {
		t.Fatalf("%+v", job)
	}
	look()
	x.recover("SUCCESS", "OK")
	eventually(t, "one volume takes writes", func() bool {
		look()
		return w.primaries() == 1 && w.seen[len(w.seen)-1].Volumes[0].Role == drmodel.Stale
	})
	if v := w.seen[len(w.seen)-1].Volumes[1]; v.Role != drmodel.Failed {
		t.Errorf("%+v", v)
	}
}

func traceRivals(t *testing.T, cut bool) {
	c := zonetest.New(t)
	j := contested(t, c, 41)
	w, look := watchAll(t, c, j.Volume)
	look()
	if cut {
		c.Cut("kilo1", "kilo2")
	}
	var wg sync.WaitGroup
	for here, there := range map[string]string{"kilo1": "kilo2", "kilo2": "kilo1"} {
		s := c.Session(here, zonetest.Admin)
		wg.Go(func() {
			op, _, err := s.Recover(t.Context(), client.Recovery{AcceptLoss: true, AcceptRivals: []string{there},
				Scope: client.RecoveryScope{Volumes: []string{j.Volume}}})
			if err == nil {
				_, _ = s.WaitDurable(t.Context(), op.ID, nil) // that it is refused is seen
			}
		})
	}
	ended := make(chan struct{})
	go func() {
		wg.Wait()
		close(ended)
	}()
	for over := false; !over; {
		look()
		select {
		case <-ended:
			over = true
		default:
		}
	}
	if cut {
		c.Mend("kilo1", "kilo2")
	}
	eventually(t, "one volume takes writes", func() bool {
		look()
		return w.primaries() == 1
	})
	t.Logf("%d different observations; the last: %+v", len(w.seen), w.seen[len(w.seen)-1].Volumes)
}
