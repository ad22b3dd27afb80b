package line

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// track is lanes of jobs that wait as many seconds as their number: what was
// counted, and what became of the jobs. It is guarded by the lanes' mu.
type track struct {
	*Lanes[int]
	counted, due, dropped []int
}

func newTrack() *track {
	k := &track{}
	k.Lanes = NewLanes(LanesConfig[int]{
		Ask: func(n int) time.Duration {
			k.counted = append(k.counted, n)
			return time.Duration(n) * time.Second
		},
		GiveBack: func(n int) { k.counted = slices.DeleteFunc(k.counted, func(m int) bool { return m == n }) },
		Due:      func(n int) { k.due = append(k.due, n) },
		Drop:     func(n int) { k.dropped = append(k.dropped, n) },
	})
	return k
}

// put asks for jobs and has those wait that must.
func (k *track) put(in Lane, jobs ...int) {
	for _, n := range jobs {
		if turn := k.Ask(in, n); turn.Waits() {
			k.Wait(in, n, turn)
		} else {
			k.mu.Lock()
			k.due = append(k.due, n)
			k.mu.Unlock()
		}
	}
}

// is checks which jobs were counted, and which went, in order.
func (k *track) is(t *testing.T, counted []int, due ...int) {
	t.Helper()
	synctest.Wait()
	k.mu.Lock()
	defer k.mu.Unlock()
	if !slices.Equal(k.counted, counted) || !slices.Equal(k.due, due) {
		t.Fatalf("%v are counted, %v went; want %v and %v", k.counted, k.due, counted, due)
	}
}

// TestLanes: jobs of a lane go in order, each when those before it went and it has
// waited its time; only the first that waits is counted, and no lane holds up the
// other.
func TestLanes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newTrack()
		k.put(Reads, 0, 5, 0, 7, 8)
		k.put(Changes, 6)
		k.is(t, []int{0, 5, 6}, 0)
		time.Sleep(5 * time.Second) // of the bubble's clock
		k.is(t, []int{0, 5, 6, 0, 7}, 0, 5, 0)
		time.Sleep(time.Second)
		k.is(t, []int{0, 5, 6, 0, 7}, 0, 5, 0, 6)
		time.Sleep(6*time.Second + 8*time.Second)
		k.is(t, []int{0, 5, 6, 0, 7, 8}, 0, 5, 0, 6, 7, 8)
		k.put(Reads, 0)
		k.is(t, []int{0, 5, 6, 0, 7, 8, 0}, 0, 5, 0, 6, 7, 8, 0)
	})
}

// TestLanesLate: a job that was behind others when it asked is counted when it
// begins to wait, if they went meanwhile.
func TestLanesLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newTrack()
		k.put(Reads, 5)
		turn := k.Ask(Reads, 6)
		time.Sleep(5 * time.Second)
		k.is(t, []int{5}, 5)
		k.Wait(Reads, 6, turn)
		k.is(t, []int{5, 6}, 5)
		time.Sleep(6 * time.Second)
		k.is(t, []int{5, 6}, 5, 6)
	})
}

// TestLanesTake: what is taken out is not counted any more and does not hold up
// those behind it.
func TestLanesTake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newTrack()
		k.put(Reads, 50, 6, 70)
		k.put(Changes, 9)
		if taken := k.Take(func(n int) bool { return n >= 50 }); !slices.Equal(taken, []int{50, 70}) {
			t.Errorf("%v were taken", taken)
		}
		k.is(t, []int{9, 6})
		time.Sleep(9 * time.Second)
		k.is(t, []int{9, 6}, 6, 9)
	})
}

// TestLanesEnd: at the end nothing waits any more, nor does what comes late. What
// is dropped is not counted any more.
func TestLanesEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newTrack()
		k.put(Reads, 5, 6)
		behind := k.Ask(Reads, 7)
		k.Hurry()
		k.Wait(Reads, 7, behind)
		k.put(Changes, 8)
		k.is(t, []int{5}, 5, 6, 7, 8)

		k = newTrack()
		k.put(Reads, 5, 6)
		behind, counted := k.Ask(Reads, 7), k.Ask(Changes, 8)
		k.Drop()
		k.Wait(Reads, 7, behind)
		k.Wait(Changes, 8, counted)
		k.put(Changes, 9)
		k.Hurry()
		k.is(t, []int{})
		if want := []int{5, 6, 7, 8, 9}; !slices.Equal(k.dropped, want) {
			t.Errorf("%v were dropped, want %v", k.dropped, want)
		}
		time.Sleep(time.Minute)
		k.is(t, []int{})
	})
}
