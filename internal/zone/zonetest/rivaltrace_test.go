package zonetest_test

import (
	"fmt"
	"sync"
	"testing"

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

func traceRivals(t *testing.T, cut bool) {
	c := zonetest.New(t)
	j := contested(t, c, 41)
	zones := []string{source, "kilo1", "kilo2"}
	w := &watch{o: c.Observe(j.Volume, zones...), trace: contest().Trace()}
	defer func() {
		for _, z := range zones {
			if err := w.o.Close(z); err != nil {
				t.Error(err)
			}
		}
	}()
	look := func() {
		t.Helper()
		if err := w.look(t.Context()); err != nil {
			t.Fatalf("%v\nseen so far: %+v", err, w.seen)
		}
	}
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
		primaries := 0
		for _, v := range w.seen[len(w.seen)-1].Volumes {
			if v.Role == drmodel.Primary {
				primaries++
			}
		}
		return primaries == 1
	})
	t.Logf("%d different observations; the last: %+v", len(w.seen), w.seen[len(w.seen)-1].Volumes)
}
