// Package placement chooses the backend of a volume: filters say which backends
// can take it, and why the others can't; weighers say which of those takes it.
// It follows Cinder's scheduler (cinder/scheduler) and does nothing but reckon:
// who calls it gives it all numbers, and keeps what was promised.
//
// docs/placement.md is for operators.
package placement

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"kvol/internal/block"
)

// Pool is a backend as the filters see it. Sizes are GiB.
type Pool struct {
	Backend string
	Store   string // backends on one store share its room
	// Zones are the availability zones that it is in; none for all.
	Zones        []string
	Capabilities map[string][]string // by the names that Cinder's drivers report; one has one value or several

	// Known says that the store told its room. Total is 0 where it has no bound.
	Known       bool
	Total, Free float64
	// Placed is what was promised on the store since Free was measured, which has
	// none of it yet.
	Placed int64
	// Promised is the sizes of all that lies on the store or moves there, Allocated
	// and Volumes are the volumes of this backend alone.
	Promised, Allocated, Volumes int64
	Reserved                     int     // percents of Total that no volume may take
	Ratio                        float64 // Promised may be so many times Total; 0 for no bound
	// Auto has Ratio follow from how full volumes are, see Pool.ratio.
	Auto bool
	// Closed says why nothing is placed here, whatever it is; "" if something is.
	Closed string
}

// Request is a volume that wants a place. It is kept with the job that makes the
// volume, so that another place can be found for it later.
type Request struct {
	Size  int64             `json:"size"`            // GiB that are added; 0 for none
	Specs map[string]string `json:"specs,omitempty"` // the type's extra specs
	// Zones are the availability zones that will do; none for all.
	Zones []string `json:"zones,omitempty"`
	// Only and Stores name what will do; nil for all.
	Only   []string `json:"only,omitempty"`
	Stores []string `json:"stores,omitempty"`
	// Same and Different are the backends of volumes that hints name. Bound says
	// that Same was asked for, even if no such volume is there.
	Same      []string `json:"same,omitempty"`
	Different []string `json:"different,omitempty"`
	Bound     bool     `json:"bound,omitempty"`
	// Near is the backend of what the volume is made of: it is best there.
	Near string `json:"near,omitempty"`
	// Tried are the stores on which it could not be made.
	Tried []string `json:"tried,omitempty"`
	// At is the backend where the volume is already. Its room is not asked for.
	At string `json:"-"`
}

// Refusal says why a backend is not chosen.
type Refusal = block.BackendRefusal

// Candidate is a backend that can take a volume.
type Candidate struct {
	Backend string
	Weight  float64
}

// Decision is what became of a Request.
type Decision struct {
	Candidates []Candidate // the best first
	Refused    []Refusal   // by backend
}

// Backend is the chosen one; "" if there is none.
func (d Decision) Backend() string {
	if len(d.Candidates) == 0 {
		return ""
	}
	return d.Candidates[0].Backend
}

// String says for a log why backends were refused.
func (d Decision) String() string {
	parts := make([]string, 0, len(d.Refused))
	for _, r := range d.Refused {
		parts = append(parts, r.Backend+": "+r.Filter+": "+r.Reason)
	}
	return strings.Join(parts, "; ")
}

// filter says why a pool can't take a volume; "" if it can.
type filter struct {
	name string
	why  func(Request, Pool) string
}

// filters are asked in this order; the first that refuses is told. Those that cost
// least and say most come first.
var filters = []filter{
	{"ServiceFilter", func(_ Request, p Pool) string { return p.Closed }},
	{"BackendFilter", meant},
	{"AvailabilityZoneFilter", inZone},
	{"CapabilitiesFilter", capable},
	{"IgnoreAttemptedHostsFilter", untried},
	{"SameBackendFilter", same},
	{"DifferentBackendFilter", different},
	{CapacityFilter, roomy},
}

// CapacityFilter is the name of the filter that looks at room.
const CapacityFilter = "CapacityFilter"

// Choose filters and weighs. The order of pools does not matter.
func Choose(r Request, pools []Pool, w Weights) Decision {
	d := Decision{Refused: []Refusal{}}
	var left []Pool
	for _, p := range pools {
		if name, why := refused(r, p); why != "" {
			d.Refused = append(d.Refused, Refusal{Backend: p.Backend, Filter: name, Reason: why})
			continue
		}
		left = append(left, p)
	}
	slices.SortFunc(d.Refused, func(a, b Refusal) int { return cmp.Compare(a.Backend, b.Backend) })
	d.Candidates = w.order(r, left)
	return d
}

func refused(r Request, p Pool) (name, why string) {
	for _, f := range filters {
		if why := f.why(r, p); why != "" {
			return f.name, why
		}
	}
	return "", ""
}

func meant(r Request, p Pool) string {
	switch {
	case r.Only != nil && !slices.Contains(r.Only, p.Backend):
		return fmt.Sprintf("only %s will do", list(r.Only))
	case r.Stores != nil && !slices.Contains(r.Stores, p.Store):
		return fmt.Sprintf("it lies on store %s, and only stores %s will do", p.Store, list(r.Stores))
	}
	return ""
}

// inZone is cinder/scheduler/filters/availability_zone_filter.py.
func inZone(r Request, p Pool) string {
	if len(r.Zones) == 0 || len(p.Zones) == 0 {
		return ""
	}
	if slices.ContainsFunc(r.Zones, func(z string) bool { return slices.Contains(p.Zones, z) }) {
		return ""
	}
	return fmt.Sprintf("it is in availability zones %s, and wanted are %s", list(p.Zones), list(r.Zones))
}

func capable(r Request, p Pool) string { return Unsatisfied(p.Capabilities, r.Specs) }

func untried(r Request, p Pool) string {
	if slices.Contains(r.Tried, p.Store) {
		return "its store failed before"
	}
	return ""
}

// same and different are cinder/scheduler/filters/affinity_filter.py.
func same(r Request, p Pool) string {
	if r.Bound && !slices.Contains(r.Same, p.Backend) {
		return fmt.Sprintf("volumes that same_host names are on %s", list(r.Same))
	}
	return ""
}

func different(r Request, p Pool) string {
	if slices.Contains(r.Different, p.Backend) {
		return "a volume that different_host names is here"
	}
	return ""
}

func list(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}
