package lag

import (
	"math"
	"time"
)

// Objective is the share of time in which a replica is to be within its
// target; what is left of the time is the budget that breaches use up.
const Objective = 0.99

// The windows of a Meter. The last hour is kept in slots of ten minutes, the
// last day in slots of an hour, thirty days in slots of a day; so a window may
// reach back one slot further than it says.
const (
	fineStep, fineSlots     = 10 * time.Minute, 7
	coarseStep, coarseSlots = time.Hour, 25
	dayStep, daySlots       = 24 * time.Hour, 31
	maxGap                  = daySlots * dayStep
)

// Meter accounts for one replica's lag: at each instant, how much older the
// replica is than the present. The lag grows with time and falls when the
// replica advances; the Meter counts how long it was how large, so that time in
// which no point came counts in full, and not only the points that did come.
// The zero Meter is ready. It takes about 4 KiB, and survives a restart as JSON.
type Meter struct {
	At     time.Time     `json:"at"`    // until when it is accounted
	UpTo   time.Time     `json:"up_to"` // how far the replica is
	Target time.Duration `json:"target"`
	Fine   []slot        `json:"fine"`
	Coarse []slot        `json:"coarse"`
	Days   []slot        `json:"days"` // without a distribution
}

// slot is a stretch of time, in milliseconds but for Start.
type slot struct {
	Start  int64    `json:"s"` // Unix seconds
	Total  int64    `json:"t"`
	Breach int64    `json:"b,omitempty"` // of Total, with a lag above the target
	Worst  int64    `json:"w,omitempty"` // the largest lag
	Held   []uint32 `json:"h,omitempty"` // how long the lag was within each step of the scale
}

// The scale of lags: the first step ends at 100 ms, each further one is half as
// long again, the last has no end.
const (
	scaleSteps = 44
	scaleFirst = 0.1
	scaleRatio = 1.5
)

// edge is where a step of the scale begins, in seconds.
func edge(i int) float64 {
	switch {
	case i <= 0:
		return 0
	case i >= scaleSteps:
		return math.Inf(1)
	}
	return scaleFirst * math.Pow(scaleRatio, float64(i-1))
}

func stepOf(lag float64) int {
	if lag < scaleFirst {
		return 0
	}
	i := 1 + int(math.Log(lag/scaleFirst)/math.Log(scaleRatio))
	for i > 0 && lag < edge(i) { // the logarithm may be off by one
		i--
	}
	for i < scaleSteps-1 && lag >= edge(i+1) {
		i++
	}
	return min(i, scaleSteps-1)
}

// Advance accounts for the time until now, in which the replica stood still,
// and notes how far it is from now on. An older now accounts for nothing; the
// replica never goes back.
func (m *Meter) Advance(now, upTo time.Time) {
	m.account(now)
	if upTo.After(m.UpTo) {
		m.UpTo = upTo
	}
}

// Resume goes on after a restart. Of the time since the Meter was kept nothing
// is known but how far the replica got: until that instant the lag counts as
// what it was, from there on it grows.
func (m *Meter) Resume(now, upTo time.Time) {
	if upTo.After(now) {
		upTo = now
	}
	if !m.At.IsZero() && upTo.After(m.At) {
		lag := m.At.Sub(m.UpTo)
		for m.At.Before(upTo) {
			m.step(upTo, lag, lag)
		}
		m.UpTo = upTo
	}
	m.Advance(now, upTo)
}

func (m *Meter) account(now time.Time) {
	if m.At.IsZero() || m.UpTo.IsZero() {
		m.At = now
		return
	}
	if old := now.Add(-maxGap); m.At.Before(old) {
		m.At = old
	}
	for m.At.Before(now) {
		m.step(now, m.At.Sub(m.UpTo), -1)
	}
}

// step accounts for the time until end, or until the slot ends, in which the
// lag stays at to, or grows from from where to is negative.
func (m *Meter) step(end time.Time, from, to time.Duration) {
	until := m.At.Truncate(fineStep).Add(fineStep)
	if until.After(end) {
		until = end
	}
	took := until.Sub(m.At)
	if to < 0 {
		to = from + took
	}
	m.Fine = put(m.Fine, m.At, fineStep, fineSlots, from, to, took, m.Target, true)
	m.Coarse = put(m.Coarse, m.At, coarseStep, coarseSlots, from, to, took, m.Target, true)
	m.Days = put(m.Days, m.At, dayStep, daySlots, from, to, took, m.Target, false)
	m.At = until
}

// put adds a stretch to the slot that it lies in, and lets old slots go.
func put(slots []slot, at time.Time, step time.Duration, keep int, from, to, took, target time.Duration,
	scaled bool,
) []slot {
	start := at.Truncate(step).Unix()
	if n := len(slots); n == 0 || slots[n-1].Start != start {
		if n == keep {
			slots = append(slots[:0], slots[1:]...)
		}
		slots = append(slots, slot{Start: start})
	}
	s := &slots[len(slots)-1]
	from, to = max(0, from), max(0, to)
	s.Total += took.Milliseconds()
	s.Worst = max(s.Worst, to.Milliseconds())
	if target > 0 {
		s.Breach += time.Duration(above(target, from, to) * float64(took)).Milliseconds()
	}
	if scaled {
		s.spread(from.Seconds(), to.Seconds(), float64(took.Milliseconds()))
	}
	return slots
}

// above is the share of a growth from one lag to another that is above a limit.
func above(limit, from, to time.Duration) float64 {
	switch {
	case from >= limit && to > limit, from > limit:
		return 1
	case to <= limit:
		return 0
	}
	return float64(to-limit) / float64(to-from)
}

// spread shares ms milliseconds out among the steps between two lags.
func (s *slot) spread(from, to, ms float64) {
	low, high := stepOf(from), stepOf(to)
	if n := high + 1; n > len(s.Held) {
		s.Held = append(s.Held, make([]uint32, n-len(s.Held))...)
	}
	if low == high || to <= from {
		s.Held[low] += uint32(math.Round(ms))
		return
	}
	for i := low; i <= high; i++ {
		part := min(to, edge(i+1)) - max(from, edge(i))
		s.Held[i] += uint32(math.Round(ms * part / (to - from)))
	}
}
