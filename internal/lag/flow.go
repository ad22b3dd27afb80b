package lag

import (
	"math"
	"time"
)

// halfLife is how fast a Flow forgets.
const halfLife = 5 * time.Minute

// Flow measures what a volume changes and what its link moves, with the recent
// past counting most. The zero Flow is ready.
type Flow struct {
	At    time.Time     `json:"at"`    // of the newest step
	Bytes float64       `json:"bytes"` // that steps carried
	Span  float64       `json:"span"`  // seconds of the source's time that they covered
	Took  float64       `json:"took"`  // seconds that carrying them took
	Wire  float64       `json:"wire"`  // bytes that went over the link for them
	Whole time.Duration `json:"whole"` // span that was ever seen
}

// Step is one transfer: what changed in a stretch of the source's time, and how
// long it took to carry that. A heartbeat is one without bytes.
type Step struct {
	Bytes int64
	Span  time.Duration // 0 for the first copy, which is no churn
	Took  time.Duration
	Wire  int64 // bytes on the link, after compression
}

// Add takes a step in.
func (f *Flow) Add(at time.Time, s Step) {
	if gap := at.Sub(f.At); gap > 0 && !f.At.IsZero() {
		fade := math.Exp2(-gap.Seconds() / halfLife.Seconds())
		f.Bytes, f.Span, f.Took, f.Wire = f.Bytes*fade, f.Span*fade, f.Took*fade, f.Wire*fade
	}
	f.At = at
	if s.Span <= 0 {
		return
	}
	f.Bytes += float64(s.Bytes)
	f.Span += s.Span.Seconds()
	f.Took += s.Took.Seconds()
	f.Wire += float64(s.Wire)
	f.Whole += s.Span
}

// Churn is how many different bytes change in a second.
func (f Flow) Churn() float64 { return ratio(f.Bytes, f.Span) }

// Needs is how many bytes a second the changes take of the link.
func (f Flow) Needs() float64 { return ratio(f.Wire, f.Span) }

// Throughput is how many bytes the link moves in a second while it moves any; 0
// where nothing was moved lately.
func (f Flow) Throughput() float64 { return ratio(f.Bytes, f.Took) }

// Busy is the share of the time that carrying the changes takes; from 1 on they
// can't be carried.
func (f Flow) Busy() float64 { return ratio(f.Took, f.Span) }

func ratio(a, b float64) float64 {
	if b <= 0 {
		return 0
	}
	return a / b
}

// Forecast says whether a link will hold a target.
type Forecast struct {
	Known    bool          // enough was measured to tell
	Holds    bool          // true where it is not known
	Expected time.Duration // the largest lag of a steady state; 0 if there is none
	// BreachIn is when the target will be missed, counted from now; negative if
	// it won't be, 0 if it is missed.
	BreachIn time.Duration
	CatchUp  time.Duration // how long it takes to carry what is behind; negative if it is never done
}

// leastSeen is how much of the source's time must have been measured before a
// forecast is made of it.
const leastSeen = 10 * time.Second

// Never is a stretch of time that does not end.
const Never time.Duration = -1

// Predict says what a link's measured flow means for a target: lag is how old
// the replica is now, behind how many bytes it lacks, and others the share of
// the link's time that all volumes together need of it.
func Predict(f Flow, interval, target, lag time.Duration, behind int64, others float64) Forecast {
	out := Forecast{Holds: true, BreachIn: Never}
	if lag > target {
		out.BreachIn = 0
	}
	if f.Whole < leastSeen {
		return out
	}
	out.Known = true
	busy := max(f.Busy(), others)
	if speed := f.Throughput(); speed > 0 {
		free := speed * (1 - busy)
		if out.CatchUp = Never; free > 0 {
			out.CatchUp = time.Duration(float64(behind) / free * float64(time.Second))
		}
	}
	if busy < 1 {
		out.Expected = interval + time.Duration(busy*float64(interval))
		out.Holds = out.Expected <= target
		if !out.Holds && out.BreachIn != 0 {
			out.BreachIn = interval
		}
		return out
	}
	out.Holds = false
	if out.BreachIn == 0 || busy == 1 {
		return out
	}
	// In a second the link carries what changed in 1/busy seconds.
	grows := 1 - 1/busy
	out.BreachIn = time.Duration(float64(target-lag) / grows)
	return out
}
