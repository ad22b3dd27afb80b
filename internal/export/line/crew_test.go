package line

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestCrew: all that is given is done, by no more at once than there may be, and
// Close waits for it.
func TestCrew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var done atomic.Int64
		gate := make(chan struct{})
		c := NewCrew(2, 8, func(n int64) { <-gate; done.Add(n) })
		for _, n := range []int64{1, 10, 100, 1000} {
			go c.Give(n)
		}
		synctest.Wait()
		if c.Idle() {
			t.Error("idle with jobs")
		}
		gate <- struct{}{}
		gate <- struct{}{}
		synctest.Wait()
		if n := done.Load(); n == 0 || n == 1111 {
			t.Errorf("done %d", n)
		}
		close(gate)
		c.Close()
		if n := done.Load(); n != 1111 || !c.Idle() {
			t.Errorf("done %d at the end", n)
		}
	})
}

// TestWary: after a slow read reads are left to the crew for a while, but those
// that are alone.
func TestWary(t *testing.T) {
	var w Wary
	never, always := func() bool { return false }, func() bool { return true }
	if !w.Now(never) {
		t.Error("wary from the beginning")
	}
	w.Took(time.Second)
	for range wary {
		if w.Now(never) || !w.Now(always) {
			t.Fatal("not wary after a slow read")
		}
	}
	if !w.Now(never) {
		t.Error("wary for ever")
	}
}
