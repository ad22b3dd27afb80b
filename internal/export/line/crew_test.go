package line

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestCrewLater: a job waits its time without a worker, others go past it, and
// none is lost when the connection ends meanwhile.
func TestCrewLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var done atomic.Int64
		c := NewCrew(1, 8, func(n int64) { done.Add(n) })
		begin := time.Now()
		c.Later(100, time.Hour)
		c.Give(1)
		synctest.Wait()
		if done.Load() != 1 || c.Idle() {
			t.Fatalf("done %d; a job that waits held another up, or is forgotten", done.Load())
		}
		time.Sleep(time.Hour) // of the bubble's clock
		synctest.Wait()
		if done.Load() != 101 || !c.Idle() {
			t.Fatalf("done %d after its time", done.Load())
		}
		c.Later(1000, time.Hour)
		c.Hurry()
		c.Later(10_000, time.Hour) // over: at once
		c.Close()
		if done.Load() != 11_101 || time.Since(begin) != time.Hour {
			t.Fatalf("done %d after %v", done.Load(), time.Since(begin))
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
