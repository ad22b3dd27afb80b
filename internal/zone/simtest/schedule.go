package simtest

import (
	"cmp"
	"encoding/hex"
	"fmt"
	"hash"
	"hash/fnv"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"testing/synctest"
	"time"
)

// schedule decides in which order things happen that happen at once. Whoever is
// about to do something that others could see waits for a turn; turns are drawn
// from the seed, and the next one is given when all that the one before began
// stands still again. Goroutines that were begun together run as far as their
// first turn in the order of the runtime: stories want GOMAXPROCS to be
// 1. It also gives everything its time: disks and networks are as slow as the
// schedule says.
type schedule struct {
	rnd  *rand.Rand    // of run alone
	bell chan struct{} // rung when somebody wants a turn
	stop chan struct{}
	done chan struct{}

	began time.Time
	keep  bool // all lines of the trace, not only their hash

	mu    sync.Mutex // guards all below; nobody waits for a turn with it
	fresh []*turn
	trace hash.Hash
	lines []string
	turns int
}

// turn is somebody's wish to go on.
type turn struct {
	label string
	who   int // rises in the order in which goroutines were made
	at    time.Time
	given chan struct{}
}

func newSchedule(seed uint64, keep bool) *schedule {
	return &schedule{rnd: rand.New(rand.NewPCG(seed, 1)), bell: make(chan struct{}, 1), stop: make(chan struct{}),
		done: make(chan struct{}), began: time.Now(), trace: fnv.New128a(), keep: keep}
}

// wait waits for a turn. The label says what for. No lock may be held.
func (s *schedule) wait(label string) { s.queue(&turn{label: label}) }

// waitAmong is wait where others may want a turn for the same.
func (s *schedule) waitAmong(label string) { s.queue(&turn{label: label, who: goroutine()}) }

func (s *schedule) queue(t *turn) {
	t.given = make(chan struct{})
	s.mu.Lock()
	s.fresh = append(s.fresh, t)
	s.mu.Unlock()
	select {
	case s.bell <- struct{}{}:
	default:
	}
	<-t.given
}

// note writes a line of the trace.
func (s *schedule) note(format string, args ...any) {
	line := fmt.Sprintf("%v "+format, append([]any{time.Since(s.began)}, args...)...)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.trace.Write([]byte(line))
	if s.keep {
		s.lines = append(s.lines, line)
	}
}

// Write keeps a line of somebody's log beside the trace. It is no part of it,
// since it may tell how long something took.
func (s *schedule) Write(line []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lines = append(s.lines, fmt.Sprint(time.Since(s.began), " LOG ", string(line)))
	return len(line), nil
}

// sum is the hash of the trace so far.
func (s *schedule) sum() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return hex.EncodeToString(s.trace.Sum(nil))
}

// run gives turns until stop is closed; then it gives all that are wanted.
func (s *schedule) run() {
	defer close(s.done)
	var queue []*turn
	for {
		synctest.Wait()
		queue = s.take(queue)
		var due <-chan time.Time
		var timer *time.Timer
		if len(queue) > 0 {
			pause := time.Until(queue[0].at)
			if pause <= 0 {
				s.give(queue[0])
				queue = queue[1:]
				continue
			}
			timer = time.NewTimer(pause)
			due = timer.C
		}
		select {
		case <-s.bell:
		case <-due:
		case <-s.stop:
			for _, t := range s.take(queue) {
				close(t.given)
			}
			return
		}
		if timer != nil {
			timer.Stop()
		}
	}
}

func (s *schedule) give(t *turn) {
	s.note("%s", t.label)
	s.mu.Lock()
	s.turns++
	s.mu.Unlock()
	close(t.given)
}

// take takes up who came since the last time. Their labels decide their order,
// since it is chance in which they came.
func (s *schedule) take(queue []*turn) []*turn {
	s.mu.Lock()
	fresh := s.fresh
	s.fresh = nil
	s.mu.Unlock()
	slices.SortFunc(fresh, func(a, b *turn) int {
		return cmp.Or(cmp.Compare(a.label, b.label), cmp.Compare(a.who, b.who))
	})
	for _, t := range fresh {
		t.at = time.Now().Add(s.latency())
		i, _ := slices.BinarySearchFunc(queue, t, func(a, b *turn) int { return a.at.Compare(b.at) })
		queue = slices.Insert(queue, i, t)
	}
	return queue
}

// goroutine is the number of the goroutine that calls. With one processor they
// are numbered as they are made.
func goroutine() (n int) {
	var stack [32]byte // "goroutine 123 [running]"
	for _, c := range stack[len("goroutine "):runtime.Stack(stack[:], false)] {
		if c < '0' || c > '9' {
			break
		}
		n = 10*n + int(c-'0')
	}
	return n
}

// latency is how long something takes: mostly little.
func (s *schedule) latency() time.Duration {
	switch n := s.rnd.IntN(100); {
	case n < 90:
		return 10*time.Microsecond + time.Duration(s.rnd.Int64N(int64(200*time.Microsecond)))
	case n < 99:
		return time.Duration(s.rnd.Int64N(int64(5 * time.Millisecond)))
	default:
		return time.Duration(s.rnd.Int64N(int64(200 * time.Millisecond)))
	}
}
