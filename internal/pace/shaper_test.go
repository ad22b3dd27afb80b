package pace

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"
)

// clock is time that a test moves, with the timers that wait for it.
type clock struct {
	mu     sync.Mutex
	now    time.Time
	timers map[int]timer
	n      int
}

type timer struct {
	at time.Time
	f  func()
}

func newClock() *clock {
	return &clock{now: time.Date(2026, 1, 14, 3, 0, 0, 0, time.UTC), timers: map[int]timer{}}
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) after(d time.Duration, f func()) func() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n++
	n := c.n
	c.timers[n] = timer{c.now.Add(d), f}
	return func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		_, there := c.timers[n]
		delete(c.timers, n)
		return there
	}
}

// step goes on to the next timer and rings it; false if there is none before
// an instant, which is then now.
func (c *clock) step(until time.Time) bool {
	c.mu.Lock()
	first := 0
	for n, t := range c.timers {
		if !t.at.After(until) && (first == 0 || t.at.Before(c.timers[first].at)) {
			first = n
		}
	}
	if first == 0 {
		c.now = until
		c.mu.Unlock()
		return false
	}
	f := c.timers[first].f
	if c.timers[first].at.After(c.now) {
		c.now = c.timers[first].at
	}
	delete(c.timers, first)
	c.mu.Unlock()
	f()
	return true
}

// sender sends without end, so much at once, unless it has only so many bytes.
type sender struct {
	flow *Flow
	size int64
	real int64 // what is sent of size
	sent int64
	left int64 // bytes; negative for no end
	wait chan error
}

// ask begins a wait, and returns when it counts.
func (s *sender) ask(t *testing.T, ctx context.Context) {
	t.Helper()
	before := s.flow.shaper.turns()
	s.wait = make(chan error, 1)
	go func() { s.wait <- s.flow.Wait(ctx, s.size) }()
	for s.flow.shaper.turns() == before {
		time.Sleep(time.Microsecond)
	}
}

func (s *Shaper) turns() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.turn
}

func (f *Flow) waits() bool {
	f.shaper.mu.Lock()
	defer f.shaper.mu.Unlock()
	for _, w := range f.shaper.waiting {
		if w == f {
			return true
		}
	}
	return false
}

// run has senders send for a stretch of the clock's time.
func run(t *testing.T, c *clock, d time.Duration, all ...*sender) {
	t.Helper()
	until := c.Now().Add(d)
	for more := true; more; {
		for again := true; again; {
			again = false
			for _, s := range all {
				if s.left == 0 {
					continue
				}
				if s.wait == nil {
					s.ask(t, t.Context())
				}
				if s.flow.waits() {
					continue
				}
				if err := <-s.wait; err != nil {
					t.Fatal(err)
				}
				s.flow.Done(s.real)
				s.wait, s.sent, s.left, again = nil, s.sent+s.real, s.left-s.real, true
			}
		}
		more = c.step(until)
	}
}

func endless(f *Flow, size int64) *sender { return &sender{flow: f, size: size, real: size, left: -1} }

func TestBucketToTheByte(t *testing.T) {
	at := newClock().now
	var b Bucket
	if b.Take(1 << 40); b.Ready(at) != 0 {
		t.Error("a bucket without a rate limits")
	}
	b.SetRate(at, 2_000_000)
	if b.level != 100_000 {
		t.Errorf("a new bucket holds %v bytes", b.level)
	}
	b.Take(100_000 + 2_000_000 - 1) // a byte less than a second's worth of debt
	wait := b.Ready(at)
	if wait < time.Second || wait > time.Second+2*time.Nanosecond {
		t.Errorf("a second's debt is paid in %s", wait)
	}
	if left := b.Ready(at.Add(wait / 2)); left < wait/2-1 || left > wait/2+2 {
		t.Errorf("half of the debt is paid in %s", left)
	}
	if b.Ready(at.Add(wait)) != 0 {
		t.Error("a debt that is paid keeps on")
	}
	if b.Ready(at.Add(time.Hour)); b.level != 100_000 {
		t.Errorf("an hour saves %v bytes up", b.level)
	}
	b.Take(2_000_000)
	b.SetRate(at.Add(time.Hour), 1<<30)
	if wait := b.Ready(at.Add(time.Hour)); wait > 2*time.Millisecond {
		t.Errorf("a rate a thousand times as high leaves %s to wait", wait)
	}
	if b.Ready(at); b.at != at { // the clock was set back by an hour
		t.Error("a bucket waits for the time of before")
	}
}

func TestShaperHoldsItsRate(t *testing.T) {
	c := newClock()
	s := NewShaper(c.Now, c.after)
	s.Set(Limit{Rate: 1 << 20}, nil)
	one, two := endless(s.Flow(1, false), 64<<10), endless(s.Flow(2, false), 16<<10)
	two.real = 4 << 10 // what it asks for is compressed by four
	run(t, c, 10*time.Second, one, two)
	sent := one.sent + two.sent
	if sent < 10<<20 || sent > 10<<20+1<<20/20+64<<10+16<<10 {
		t.Errorf("%d bytes in 10 s at 1 MiB/s", sent)
	}
	if diff := one.sent - two.sent; diff < -128<<10 || diff > 128<<10 {
		t.Errorf("of equal weight one sent %d bytes and the other %d", one.sent, two.sent)
	}
	if s.Set(Limit{}, nil); s.Rate(0) != 0 {
		t.Errorf("a limit that was taken off is %d", s.Rate(0))
	}
}

func TestASmallSenderIsNeverBehindABigOne(t *testing.T) {
	c := newClock()
	s := NewShaper(c.Now, c.after)
	s.Set(Limit{Rate: 1 << 20}, nil)
	var all []*sender
	for range 4 {
		all = append(all, endless(s.Flow(1, true), 64<<10)) // copies of terabytes
	}
	run(t, c, time.Second, all...)
	for round := range 20 {
		for n := range 100 { // heartbeats of 100 volumes, of 1 KiB each
			f := s.Flow(1, false)
			small := &sender{flow: f, size: 1 << 10, real: 1 << 10, left: 1 << 10}
			began := c.Now()
			for small.left > 0 {
				run(t, c, time.Millisecond, append(all, small)...)
				if c.Now().Sub(began) > time.Second/4 {
					t.Fatalf("heartbeat %d of round %d waits for a first copy", n, round)
				}
			}
		}
	}
}

func TestWeightsShareOut(t *testing.T) {
	c := newClock()
	s := NewShaper(c.Now, c.after)
	s.Set(Limit{Rate: 10 << 20}, map[int64]Limit{1: {Weight: 300}})
	heavy, light, first := endless(s.Flow(1, false), 32<<10), endless(s.Flow(2, false), 32<<10),
		endless(s.Flow(2, true), 32<<10)
	run(t, c, 20*time.Second, heavy, light, first)
	if r := float64(heavy.sent) / float64(light.sent); r < 2.8 || r > 3.2 {
		t.Errorf("a weight of 300 gets %.2f times what one of 100 gets", r)
	}
	if r := float64(light.sent) / float64(first.sent); r < 7 || r > 9 {
		t.Errorf("an update gets %.2f times what a first copy gets", r)
	}
	alone := first.sent
	run(t, c, 10*time.Second, first)
	if got := first.sent - alone; got < 99<<20 {
		t.Errorf("a first copy alone gets %d bytes in 10 s at 10 MiB/s", got)
	}
}

func TestPartsAndCopiesHaveLimitsOfTheirOwn(t *testing.T) {
	c := newClock()
	s := NewShaper(c.Now, c.after)
	s.Set(Limit{Rate: 8 << 20, CopyRate: 1 << 20}, map[int64]Limit{2: {Rate: 2 << 20}})
	free, held, first := endless(s.Flow(1, false), 16<<10), endless(s.Flow(2, false), 16<<10),
		endless(s.Flow(1, true), 16<<10)
	run(t, c, 10*time.Second, held, first)
	near := func(what string, got, want int64) {
		t.Helper()
		if got < want-want/20 || got > want+want/20 {
			t.Errorf("%s: %d bytes, want about %d", what, got, want)
		}
	}
	near("a part that is limited", held.sent, 20<<20)
	near("first copies that are limited", first.sent, 10<<20)
	held.sent, first.sent = 0, 0
	run(t, c, 10*time.Second, free, held, first)
	near("all together", free.sent+held.sent+first.sent, 80<<20)
	near("the part still", held.sent, 20<<20)
}

func TestHoursChangeTheRateOfWhoWaits(t *testing.T) {
	c := newClock() // 03:00
	s := NewShaper(c.Now, c.after)
	s.Set(Limit{Rate: 1 << 20, Schedule: Schedule{Windows: []Window{{From: "03:01", To: "03:02", Rate: 4 << 20}}}}, nil)
	one := endless(s.Flow(1, false), 64<<10)
	for minute, want := range []int64{60 << 20, 240 << 20, 60 << 20} {
		before := one.sent
		run(t, c, time.Minute, one)
		if got := one.sent - before; got < want-8<<20 || got > want+8<<20 {
			t.Errorf("in minute %d %d bytes went out, want about %d", minute, got, want)
		}
	}
}

func TestWhoGivesUpOwesNothing(t *testing.T) {
	c := newClock()
	s := NewShaper(c.Now, c.after)
	s.Set(Limit{Rate: 1 << 20}, nil)
	one := endless(s.Flow(1, false), 64<<10)
	run(t, c, time.Second, one)
	ctx, cancel := context.WithCancel(t.Context())
	gone := endless(s.Flow(1, false), 1<<30)
	gone.ask(t, ctx)
	cancel()
	if err := <-gone.wait; !errors.Is(err, context.Canceled) {
		t.Fatalf("the wait ended with %v", err)
	}
	before := one.sent
	run(t, c, time.Second, one)
	if one.sent-before < 900<<10 {
		t.Errorf("%d bytes in a second after somebody gave up", one.sent-before)
	}
	if n := s.Waiting(); n > 1 {
		t.Errorf("%d wait", n)
	}
}
