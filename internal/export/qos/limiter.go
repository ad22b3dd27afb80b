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

// Set changes the limits. What was taken before still counts.
func (l *Limiter) Set(limits Limits) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.limits = limits
	for i, k := range []Kind{limits.Total, limits.Read, limits.Write} {
		l.buckets[0][i].set(k.Requests)
		l.buckets[1][i].set(k.Bytes)
	}
}

// Take counts a request of some bytes, and returns how long it has to wait
// before it is carried out. Requests that wait are counted already, so that
// later ones wait longer: in the order of the calls, none is starved.
func (l *Limiter) Take(write bool, bytes int64) time.Duration {
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
	var wait time.Duration
	for i, n := range []int64{requests, bytes} {
		wait = max(wait, l.buckets[i][0].take(now, n), l.buckets[i][kind].take(now, n))
	}
	return wait
}

// bucket leaks at a rate. What does not fit into it waits until it does.
type bucket struct {
	rate  float64 // units a second; 0: no limit
	depth float64 // at least one request goes at once
	level float64
	at    time.Time // when level was right
}

func (b *bucket) set(r Rate) {
	b.rate = float64(r.PerSecond)
	b.depth = max(b.rate/10, float64(r.Burst), 1)
}

func (b *bucket) take(now time.Time, n int64) time.Duration {
	if b.rate == 0 || n == 0 {
		return 0
	}
	if passed := now.Sub(b.at); passed > 0 {
		b.level = max(0, b.level-b.rate*passed.Seconds())
		b.at = now
	}
	b.level += float64(n)
	over := b.level - b.depth
	if over <= 0 {
		return 0
	}
	return time.Duration(over / b.rate * float64(time.Second))
}
