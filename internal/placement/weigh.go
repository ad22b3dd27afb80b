package placement

import (
	"cmp"
	"math"
	"slices"
)

// Weights say how candidates are compared: each measure is brought to a scale
// from 0 to 1 among them and multiplied, as Cinder's weighers do.
type Weights struct {
	// Capacity is Cinder's capacity_weight_multiplier: above 0, volumes go where
	// most room is; below, where least is.
	Capacity float64
	// Allocated is allocated_capacity_weight_multiplier: below 0, volumes go where
	// the sum of sizes is least.
	Allocated float64
}

// order puts candidates in order, the best first: near what the volume is made
// of, then by weight, and among equals where the fewest GiB and volumes are.
func (w Weights) order(r Request, pools []Pool) []Candidate {
	near := slices.IndexFunc(pools, func(p Pool) bool { return p.Backend == r.Near })
	room, sizes := w.rooms(r, pools), make([]float64, len(pools))
	for i, p := range pools {
		sizes[i] = float64(p.Allocated)
	}
	type weighed struct {
		Pool
		Candidate
		far int
	}
	all := make([]weighed, len(pools))
	capacity, allocated := scaled(room), scaled(sizes)
	for i, p := range pools {
		far := 2
		switch {
		case near >= 0 && p.Backend == r.Near:
			far = 0
		case near >= 0 && p.Store == pools[near].Store:
			far = 1
		}
		all[i] = weighed{p, Candidate{p.Backend, w.Capacity*capacity[i] + w.Allocated*allocated[i]}, far}
	}
	slices.SortFunc(all, func(a, b weighed) int {
		return cmp.Or(cmp.Compare(a.far, b.far), -cmp.Compare(a.Weight, b.Weight), cmp.Compare(a.Allocated, b.Allocated),
			cmp.Compare(a.Volumes, b.Volumes), cmp.Compare(a.Pool.Backend, b.Pool.Backend))
	})
	out := make([]Candidate, len(all))
	for i, one := range all {
		out[i] = one.Candidate
	}
	return out
}

// rooms is what the capacity weigher compares: what may still be promised, where
// that is bounded everywhere, else what is free. A store that does not tell its
// room comes last whichever way is preferred.
func (w Weights) rooms(r Request, pools []Pool) []float64 {
	bounded := !thick(r) && !slices.ContainsFunc(pools, func(p Pool) bool { return p.told() && p.ratio() == 0 })
	out := make([]float64, len(pools))
	worst, some := 0.0, false
	for i, p := range pools {
		switch {
		case !p.told():
			out[i] = math.NaN()
			continue
		case bounded:
			out[i] = p.virtual()
		default:
			out[i] = p.actual()
		}
		if !some || w.Capacity >= 0 && out[i] < worst || w.Capacity < 0 && out[i] > worst {
			worst, some = out[i], true
		}
	}
	for i := range out {
		if math.IsNaN(out[i]) {
			if out[i] = worst - 1; w.Capacity < 0 {
				out[i] = worst + 1
			}
		}
	}
	return out
}

func (p Pool) told() bool { return p.Known && p.Total > 0 }

// scaled brings values to the scale from 0 to 1; all alike are all 0.
func scaled(values []float64) []float64 {
	out := make([]float64, len(values))
	if len(values) == 0 {
		return out
	}
	low, high := slices.Min(values), slices.Max(values)
	if high == low {
		return out
	}
	for i, v := range values {
		out[i] = (v - low) / (high - low)
	}
	return out
}
