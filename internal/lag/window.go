package lag

import (
	"math"
	"time"
)

// Window is what a Meter says of a stretch of time.
type Window struct {
	Known  time.Duration // how much of it is accounted for
	Median time.Duration
	P99    time.Duration
	Worst  time.Duration
	Breach time.Duration // how long the target was missed
}

// Missed is the share of the known time in which the target was missed.
func (w Window) Missed() float64 {
	if w.Known <= 0 {
		return 0
	}
	return float64(w.Breach) / float64(w.Known)
}

// Report is what a Meter says at an instant.
type Report struct {
	Now       time.Duration // the lag; 0 before the first word of the replica
	Hour, Day Window
	Month     Window  // of thirty days; without a distribution
	Burn1h    float64 // how many times faster than allowed the last hour used the budget
	Burn24h   float64
	Used30d   float64 // share of thirty days' budget that is used; above 1 it is overdrawn
}

// Report accounts for the time until now and tells.
func (m *Meter) Report(now time.Time) Report {
	m.account(now)
	var r Report
	if !m.UpTo.IsZero() {
		r.Now = max(0, now.Sub(m.UpTo))
	}
	r.Hour = windowOf([]*Meter{m}, (*Meter).fine, now.Add(-time.Hour))
	r.Day = windowOf([]*Meter{m}, (*Meter).coarse, now.Add(-24*time.Hour))
	r.Month = windowOf([]*Meter{m}, (*Meter).days, now.Add(-30*24*time.Hour))
	r.burn(1)
	return r
}

// burn sets what the windows say of the budget of some replicas.
func (r *Report) burn(replicas int) {
	const allowed = 1 - Objective
	r.Burn1h, r.Burn24h = r.Hour.Missed()/allowed, r.Day.Missed()/allowed
	if replicas > 0 {
		r.Used30d = r.Month.Breach.Seconds() / (allowed * (30 * 24 * time.Hour).Seconds() * float64(replicas))
	}
}

// Together reports several replicas as one: now and the worst are those of the
// one that is the furthest behind, all else is of the time of all of them, so
// that each counts alike. All must be accounted for until now.
func Together(meters []*Meter, now time.Time) Report {
	var r Report
	for _, m := range meters {
		if !m.UpTo.IsZero() {
			r.Now = max(r.Now, now.Sub(m.UpTo))
		}
	}
	r.Hour = windowOf(meters, (*Meter).fine, now.Add(-time.Hour))
	r.Day = windowOf(meters, (*Meter).coarse, now.Add(-24*time.Hour))
	r.Month = windowOf(meters, (*Meter).days, now.Add(-30*24*time.Hour))
	r.burn(len(meters))
	return r
}

func (m *Meter) fine() []slot   { return m.Fine }
func (m *Meter) coarse() []slot { return m.Coarse }
func (m *Meter) days() []slot   { return m.Days }

// windowOf sums the slots up that end after an instant.
func windowOf(meters []*Meter, slots func(*Meter) []slot, after time.Time) Window {
	var w Window
	var held [scaleSteps]float64
	var total float64
	for _, m := range meters {
		kept := slots(m)
		for i, s := range kept {
			end := s.Start + math.MaxInt32
			if i+1 < len(kept) {
				end = kept[i+1].Start
			}
			if end <= after.Unix() {
				continue
			}
			w.Known += time.Duration(s.Total) * time.Millisecond
			w.Breach += time.Duration(s.Breach) * time.Millisecond
			w.Worst = max(w.Worst, time.Duration(s.Worst)*time.Millisecond)
			for step, ms := range s.Held {
				held[step] += float64(ms)
				total += float64(ms)
			}
		}
	}
	w.Median, w.P99 = quantile(held[:], total, 0.5, w.Worst), quantile(held[:], total, 0.99, w.Worst)
	return w
}

// quantile is where a share of the time lies below, between the edges of a step
// as if the time were spread evenly in it.
func quantile(held []float64, total, share float64, worst time.Duration) time.Duration {
	if total == 0 {
		return 0
	}
	left := share * total
	for i, ms := range held {
		if ms > 0 && left <= ms {
			from, to := edge(i), min(edge(i+1), worst.Seconds())
			at := from + max(0, to-from)*left/ms
			return min(worst, time.Duration(at*float64(time.Second)))
		}
		left -= ms
	}
	return worst
}
