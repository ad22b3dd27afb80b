package pace

import (
	"context"
	"math"
	"sync"
	"time"
)

// copyShare is the weight of a first copy beside that of an update: a copy takes
// what the others leave, and an eighth of a share where they leave nothing.
const copyShare = 1.0 / 8

// Shaper shares a way out. Its methods may be called by many goroutines at
// once.
type Shaper struct {
	now   func() time.Time
	after func(time.Duration, func()) (stop func() bool)

	mu      sync.Mutex      // guards all below, and every Flow
	limit   Limit           // of the whole way
	limits  map[int64]Limit // of its parts
	read    time.Time       // when the rates of this hour were looked up
	whole   buckets
	parts   map[int64]*buckets
	waiting []*Flow
	virtual float64 // bytes for each unit of weight that the last who went on had
	turn    uint64
	stop    func() bool // of the timer; nil if none runs
}

// buckets are those of the whole way or of a part: of everything, and of first
// copies.
type buckets struct{ all, copies Bucket }

func (b *buckets) set(now time.Time, l Limit) {
	b.all.SetRate(now, l.At(now))
	b.copies.SetRate(now, l.CopyRate)
}

// NewShaper makes a Shaper that limits nothing. now is the clock, and after what
// time.AfterFunc is to it; both may be nil for those of the system.
func NewShaper(now func() time.Time, after func(time.Duration, func()) (stop func() bool)) *Shaper {
	if now == nil {
		now = time.Now
	}
	if after == nil {
		after = func(d time.Duration, f func()) func() bool { return time.AfterFunc(d, f).Stop }
	}
	return &Shaper{now: now, after: after, parts: map[int64]*buckets{}}
}

// Set changes the limits, from now on: that of the whole way, and those of its
// parts.
func (s *Shaper) Set(whole Limit, part map[int64]Limit) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.limit, s.limits, s.read = whole, part, time.Time{}
	s.pump()
}

// rates looks up what the limits say at this hour, once in a while.
func (s *Shaper) rates(now time.Time) {
	if gone := now.Sub(s.read); gone >= 0 && gone < longest && !s.read.IsZero() {
		return
	}
	s.read = now
	s.whole.set(now, s.limit)
	for n, b := range s.parts {
		b.set(now, s.limits[n])
	}
}

// Rate is how much the limits let through in a second right now, of all or of a
// part: 0 for no limit.
func (s *Shaper) Rate(part int64) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	rate := s.limit.At(now)
	if own := s.limits[part].At(now); own != 0 && (rate == 0 || own < rate) {
		rate = own
	}
	return rate
}

// Waiting is how many wait for their turn.
func (s *Shaper) Waiting() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.waiting)
}

// Flow is one sender. Wait and Done are called in turn by one goroutine.
type Flow struct {
	shaper *Shaper
	part   int64
	copy   bool

	// Guarded by the Shaper's mu.
	finish float64 // where on the scale of virtual its bytes end
	start  float64 // where those that it asks for begin
	turn   uint64
	asked  int64
	goOn   chan struct{}
}

// Flow makes a sender that belongs to a part; first says that it sends a first
// copy.
func (s *Shaper) Flow(part int64, first bool) *Flow {
	return &Flow{shaper: s, part: part, copy: first}
}

func (f *Flow) weight() float64 {
	w := f.shaper.limits[f.part].weight()
	if f.copy {
		w *= copyShare
	}
	return w
}

// Wait waits until it is the sender's turn to send n bytes.
func (f *Flow) Wait(ctx context.Context, n int64) error {
	s := f.shaper
	s.mu.Lock()
	s.turn++
	f.asked, f.turn, f.goOn = n, s.turn, make(chan struct{})
	f.start = max(s.virtual, f.finish)
	s.waiting = append(s.waiting, f)
	s.pump()
	goOn := f.goOn
	s.mu.Unlock()
	select {
	case <-goOn:
		return nil
	case <-ctx.Done():
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, w := range s.waiting {
		if w == f {
			s.waiting = append(s.waiting[:i], s.waiting[i+1:]...)
			return ctx.Err()
		}
	}
	f.settle(0) // it was its turn just now, and nothing is sent
	return ctx.Err()
}

// Done notes how many bytes were sent in truth in the turn that Wait gave.
func (f *Flow) Done(n int64) {
	f.shaper.mu.Lock()
	defer f.shaper.mu.Unlock()
	f.settle(n)
}

// Sent notes bytes that went out without a turn, such as answers: they are owed
// by all, and wait for nobody.
func (f *Flow) Sent(n int64) {
	f.shaper.mu.Lock()
	defer f.shaper.mu.Unlock()
	for _, b := range f.buckets(f.shaper.now()) {
		b.Take(n)
	}
	f.finish = max(f.shaper.virtual, f.finish) + float64(n)/f.weight()
}

// settle corrects what was asked for to what was sent.
func (f *Flow) settle(n int64) {
	for _, b := range f.buckets(f.shaper.now()) {
		b.Take(n - f.asked)
	}
	f.finish = f.start + float64(n)/f.weight()
	f.shaper.pump()
}

// buckets are what the flow's bytes count against, at the rates of an instant.
func (f *Flow) buckets(now time.Time) []*Bucket {
	s := f.shaper
	s.rates(now)
	p := s.parts[f.part]
	if p == nil {
		p = &buckets{}
		p.set(now, s.limits[f.part])
		s.parts[f.part] = p
	}
	if !f.copy {
		return []*Bucket{&s.whole.all, &p.all}
	}
	return []*Bucket{&s.whole.all, &p.all, &s.whole.copies, &p.copies}
}

// longest is how long nobody is woken at most, and how long rates that were
// looked up are used: the hours may change them.
const longest = time.Second

// pump lets everybody go on whose turn it is. The caller holds s.mu.
func (s *Shaper) pump() {
	if s.stop != nil {
		s.stop()
		s.stop = nil
	}
	for len(s.waiting) > 0 {
		next, wait := s.next(s.now())
		if next < 0 {
			s.stop = s.after(min(wait, longest), func() {
				s.mu.Lock()
				defer s.mu.Unlock()
				s.pump()
			})
			return
		}
		f := s.waiting[next]
		s.waiting = append(s.waiting[:next], s.waiting[next+1:]...)
		s.virtual = max(s.virtual, f.start)
		f.finish = f.start + float64(f.asked)/f.weight()
		close(f.goOn)
	}
}

// next is who goes on, of those that may: the one with the least start, which
// has paid for what it takes; or -1 and how long nobody may.
func (s *Shaper) next(now time.Time) (best int, wait time.Duration) {
	best, wait = -1, math.MaxInt64
	for i, f := range s.waiting {
		var own time.Duration
		for _, b := range f.buckets(now) {
			own = max(own, b.Ready(now))
		}
		if own > 0 {
			wait = min(wait, own)
			continue
		}
		if best < 0 || f.start < s.waiting[best].start ||
			f.start == s.waiting[best].start && f.turn < s.waiting[best].turn {
			best = i
		}
	}
	if best >= 0 {
		for _, b := range s.waiting[best].buckets(now) {
			b.Take(s.waiting[best].asked)
		}
	}
	return best, wait
}
