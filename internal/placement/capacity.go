package placement

import (
	"fmt"
	"math"
)

// firstRatio is the automatic ratio of a store that has promised nothing yet.
const firstRatio = 20

// ratio is how many times the store's room may be promised; 0 for no bound. The
// automatic one follows from how much of what was promised is in use
// (cinder/volume/volume_utils.py, get_max_over_subscription_ratio).
func (p Pool) ratio() float64 {
	switch {
	case !p.Auto:
		return p.Ratio
	case p.Promised == 0:
		return firstRatio
	}
	return 1 + float64(p.Promised)/(p.Total-p.Free+1)
}

// Ratio is the bound that holds now, for who shows it; 0 for none.
func Ratio(p Pool) float64 { return p.ratio() }

// kept is what no volume may take.
func (p Pool) kept() float64 { return math.Floor(p.Total * float64(p.Reserved) / 100) }

// thick reports whether a type wants its whole size to be free.
func thick(r Request) bool { return r.Specs["provisioning:type"] == "thick" }

// roomy is cinder/scheduler/filters/capacity_filter.py, and one rule more: where
// nothing bounds what is promised, a volume takes no room before it is written
// to, and a store that is not full can take it.
func roomy(r Request, p Pool) string {
	ratio := p.ratio()
	switch {
	case r.Size == 0 || r.At == p.Backend || !p.Known:
		return ""
	case p.Total <= 0 && p.Reserved > 0:
		return "its store has no bound, so that nothing of it can be reserved"
	case p.Total <= 0:
		return ""
	}
	size, free := float64(r.Size), p.Free-p.kept()
	switch after := float64(p.Promised + r.Size); {
	case thick(r):
		if left := free - float64(p.Placed); left < size {
			return lacks(left, r.Size)
		}
	case ratio == 0:
		if free <= 0 {
			return lacks(free, r.Size)
		}
	case ratio < 1:
		return fmt.Sprintf("its max_over_subscription_ratio of %.2f is less than 1", ratio)
	case after/p.Total > ratio:
		return fmt.Sprintf("volumes of its store would have %d GiB in all, which is %.2f times the %.1f GiB that there are; "+
			"max_over_subscription_ratio is %.2f", p.Promised+r.Size, after/p.Total, p.Total, ratio)
	case free*ratio < size+float64(p.Placed):
		return lacks(free, r.Size) + fmt.Sprintf(", after %d GiB since that was measured; "+
			"max_over_subscription_ratio is %.2f", p.Placed, ratio)
	}
	return ""
}

func lacks(free float64, size int64) string {
	return fmt.Sprintf("%.1f GiB are free beyond what is reserved, and %d GiB are wanted", free, size)
}

// virtual is the room that a pool has for promises
// (cinder/scheduler/utils.py, calculate_virtual_free_capacity).
func (p Pool) virtual() float64 { return p.Total*p.ratio() - float64(p.Promised) - p.kept() }

// actual is the room that a pool has, if all that was promised since it was
// measured is taken.
func (p Pool) actual() float64 { return p.Free - float64(p.Placed) - p.kept() }
