package simtest

import (
	"sync"
	"time"
)

// clock is a zone's: the true time and what it is wrong by.
type clock struct {
	mu    sync.Mutex // guards spans
	spans []span
}

// span is a stretch of the true time in which a clock is wrong by one amount.
type span struct {
	from time.Time
	by   time.Duration
}

func newClock() *clock { return &clock{spans: []span{{from: time.Now()}}} }

// now is what the clock shows.
func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.spans[len(c.spans)-1].by)
}

// jump moves the clock.
func (c *clock) jump(by time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	last := c.spans[len(c.spans)-1]
	c.spans = append(c.spans, span{time.Now(), last.by + by})
}

// first is the true time at which the clock showed an instant, or a later one,
// for the first time: the least that a claim about that instant says.
func (c *clock) first(shown time.Time) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, s := range c.spans {
		if i+1 < len(c.spans) && c.spans[i+1].from.Add(s.by).Before(shown) {
			continue
		}
		if at := shown.Add(-s.by); at.After(s.from) {
			return at
		}
		return s.from
	}
	return time.Time{}
}
