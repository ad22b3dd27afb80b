package pace

import "time"

// The most that a Bucket saves up: what it gains in this time, and at least so
// many bytes, so that no sender is woken for a handful.
const (
	burstTime = 50 * time.Millisecond
	burstMin  = 16 << 10
)

// Bucket is a token bucket of bytes. The zero Bucket has no limit. It is used by
// one goroutine at a time.
type Bucket struct {
	rate  int64 // bytes a second; 0 for no limit
	level float64
	at    time.Time // when level was true
}

// SetRate changes the rate from an instant on; 0 for no limit.
func (b *Bucket) SetRate(now time.Time, rate int64) {
	b.fill(now)
	if rate != 0 && b.rate == 0 {
		b.level, b.at = burst(rate), now
	}
	if b.rate = rate; rate != 0 {
		b.level = min(b.level, burst(rate))
	}
}

func burst(rate int64) float64 {
	return max(burstMin, float64(rate)*burstTime.Seconds())
}

func (b *Bucket) fill(now time.Time) {
	if gone := now.Sub(b.at); gone > 0 {
		b.level = min(burst(b.rate), b.level+gone.Seconds()*float64(b.rate))
		b.at = now
	} else if gone < -time.Second { // the clock was set back
		b.at = now
	}
}

// Ready is how long it is until something may be sent; 0 if it may now. What is
// sent then may be more than the bucket has: the rest is a debt that must be
// gained back first.
func (b *Bucket) Ready(now time.Time) time.Duration {
	if b.rate == 0 {
		return 0
	}
	if b.fill(now); b.level > 0 {
		return 0
	}
	// One byte more than the debt, and rounded up: a timer must not come early.
	return time.Duration((1-b.level)/float64(b.rate)*float64(time.Second)) + 1
}

// Take notes that n bytes were sent; a negative n gives back.
func (b *Bucket) Take(n int64) {
	if b.rate != 0 {
		b.level = min(burst(b.rate), b.level-float64(n))
	}
}
