package driver_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"kvol/internal/block"
	"kvol/internal/driver"
	"kvol/internal/driver/mem"
)

// away does not tell its room before it is let go, whatever the context.
type away struct {
	driver.Driver
	asked *atomic.Int32
	back  chan struct{}
}

func (a away) Capacity(ctx context.Context) (driver.Capacity, error) {
	a.asked.Add(1)
	<-a.back
	return a.Driver.Capacity(ctx)
}

// TestRoomOfAStoreThatIsAway: nobody waits for it longer than he wants to, it is asked
// once however many do, and the others' room is told.
func TestRoomOfAStoreThatIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := away{mem.New(mem.Options{Capacity: 1 << 30}), &atomic.Int32{}, make(chan struct{})}
		s, err := driver.NewSet(map[string]driver.Driver{"near": mem.New(mem.Options{Capacity: 1 << 20}), "away": a},
			[]block.Backend{{Name: "n", Store: "near"}, {Name: "a1", Store: "away"}, {Name: "a2", Store: "away"}})
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			began := time.Now()
			all := s.Rooms(ctx)
			cancel()
			if len(all) != 3 || all["n"].Err != nil || all["n"].Total != 1<<20 || !block.Is(all["a1"].Err, block.Unavailable) ||
				!block.Is(all["a2"].Err, block.Unavailable) || time.Since(began) != time.Second {
				t.Errorf("after %s: %+v", time.Since(began), all)
			}
		}
		if n := a.asked.Load(); n != 1 {
			t.Errorf("it is asked %d times at once", n)
		}
		close(a.back)
		if c, err := s.Capacity(t.Context(), "a2"); err != nil || c.Total != 1<<30 {
			t.Errorf("when it is back: %+v, %v", c, err)
		}
		if _, err := s.Capacity(t.Context(), "a1"); err != nil || a.asked.Load() != 2 {
			t.Errorf("it is asked %d times in all: %v", a.asked.Load(), err)
		}
	})
}
