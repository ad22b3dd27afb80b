package qos

import (
	"sync"
	"time"
)

// Limiter counts the requests of one volume, of all its connections together.
// Its methods may be called at once from many goroutines.
type Limiter struct {
	now func() time.Time

	mu      sync.Mutex // guards below
	limits  Limits
	buckets [2][3]bucket // of requests and bytes; for all, reads and writes
}

// NewLimiter returns a Limiter that limits nothing until Set. now is the clock;
// nil means time.Now.
func NewLimiter(now func() time.Time) *Limiter {
	if now == nil {
		now = time.Now
	}
	return &Limiter{now: now}
}

// Set changes the limits. What was taken before still counts, but no more of it
// than the new limits let through at once: what came in a burst of the old ones
// does not have to be waited for at a lower rate.
func (l *Limiter) Set(limits Limits) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.limits = limits
	now := l.now()
	for i, k := range []Kind{limits.Total, limits.Read, limits.Write} {
		l.buckets[0][i].set(now, k.Requests)
		l.buckets[1][i].set(now, k.Bytes)
	}
}

// Take counts a request of some bytes, and returns how long it has to wait
// before it is carried out. Requests that wait are counted already, so that
// later ones wait longer, in the order of the calls. Who has many should ask for
// one after the other, so that it does not put the others behind all of them.
func (l *Limiter) Take(write bool, bytes int64) (wait time.Duration) {
	l.each(write, bytes, func(b *bucket, n int64) { wait = max(wait, b.take(n)) })
	return wait
}

// GiveBack takes back what Take counted, for a request that is not carried out.
func (l *Limiter) GiveBack(write bool, bytes int64) {
	l.each(write, bytes, func(b *bucket, n int64) { b.level = max(0, b.level-float64(n)) })
}

// each calls do with what a request is for each bucket that counts it.
func (l *Limiter) each(write bool, bytes int64, do func(b *bucket, n int64)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	requests := int64(1)
	if l.limits.RequestSize > 0 {
		requests = max(1, (bytes+l.limits.RequestSize-1)/l.limits.RequestSize)
	}
	kind := 1
	if write {
		kind = 2
	}
	for i, n := range []int64{requests, bytes} {
		for _, k := range []int{0, kind} {
			if b := &l.buckets[i][k]; b.rate > 0 && n > 0 {
				b.leak(now)
				do(b, n)
			}
		}
	}
}

// bucket leaks at a rate. What does not fit into it waits until it does.
type bucket struct {
	rate  float64 // units a second; 0: no limit
	depth float64 // at least one request goes at once
	level float64
	at    time.Time // when level was right
}

func (b *bucket) set(now time.Time, r Rate) {
	rate, depth := float64(r.PerSecond), max(float64(r.PerSecond)/10, float64(r.Burst), 1)
	if rate == b.rate && depth == b.depth { // an export was opened
		return
	}
	if b.rate > 0 {
		b.leak(now)
	}
	b.rate, b.depth, b.level = rate, depth, min(b.level, depth)
}

func (b *bucket) leak(now time.Time) {
	if passed := now.Sub(b.at); passed > 0 {
		b.level = max(0, b.level-b.rate*passed.Seconds())
		b.at = now
	}
}

func (b *bucket) take(n int64) time.Duration {
	b.level += float64(n)
	over := b.level - b.depth
	if over <= 0 {
		return 0
	}
	return time.Duration(over / b.rate * float64(time.Second))
}
