package zone

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"kvol/internal/block"
	"kvol/internal/control"
	"kvol/internal/placement"
)

// PlacementConfig says how backends are chosen among; docs/placement.md explains
// it. The names are those of cinder.conf.
type PlacementConfig struct {
	Capacity  *float64 `yaml:"capacity_weight_multiplier"`           // 1 if absent
	Allocated float64  `yaml:"allocated_capacity_weight_multiplier"` // 0 if absent
	Attempts  int      `yaml:"scheduler_max_attempts"`               // 3 if absent
}

func (c *PlacementConfig) check() error {
	if c.Attempts < 0 {
		return fmt.Errorf("placement: scheduler_max_attempts: %d is negative", c.Attempts)
	}
	return nil
}

// OverSubscribe is how many times a store's room its volumes may have: a number
// from 1, or 0 for no bound; Auto has it follow from how full volumes are.
type OverSubscribe struct {
	Ratio float64
	Auto  bool
}

// UnmarshalYAML reads a number or the word auto.
func (o *OverSubscribe) UnmarshalYAML(text []byte) error {
	word := strings.Trim(strings.TrimSpace(string(text)), `"'`)
	if word == "auto" {
		o.Auto = true
		return nil
	}
	n, err := strconv.ParseFloat(word, 64)
	if err != nil || n < 1 || math.IsInf(n, 0) || math.IsNaN(n) {
		return errors.New("max_over_subscription_ratio is a number from 1, or auto")
	}
	o.Ratio = n
	return nil
}

// MarshalYAML writes what UnmarshalYAML reads.
func (o OverSubscribe) MarshalYAML() ([]byte, error) {
	if o.Auto {
		return []byte("auto"), nil
	}
	return strconv.AppendFloat(nil, o.Ratio, 'g', -1, 64), nil
}

// takesNoName are capabilities that backends have by themselves.
var takesNoName = []string{"volume_backend_name", "replication_enabled", "pool_name"}

func (b *BackendConfig) check(zones []string) error {
	for _, z := range b.AvailabilityZones {
		if !slices.Contains(zones, z) {
			return fmt.Errorf("backends: %s: availability zone %q is not among availability_zones", b.Name, z)
		}
	}
	for name := range b.Capabilities {
		if name == "" || slices.Contains(takesNoName, name) {
			return fmt.Errorf("backends: %s: capabilities: %q can't be set here", b.Name, name)
		}
	}
	return nil
}

// named reports whether a type's volume_backend_name means a backend; "" means
// all.
func (c *Config) named(wanted string) bool {
	return wanted == "" || slices.ContainsFunc(c.Backends, func(b BackendConfig) bool {
		return placement.Fits(b.Name, wanted) || b.VolumeBackendName != "" && placement.Fits(b.VolumeBackendName, wanted)
	})
}

// placing is how the zone's rules know all that.
func (c *Config) placing() control.Placing {
	p := control.Placing{Attempts: c.Placement.Attempts, Backends: map[string]control.PlaceRules{},
		Weights: placement.Weights{Capacity: 1, Allocated: c.Placement.Allocated}}
	if c.Placement.Capacity != nil {
		p.Weights.Capacity = *c.Placement.Capacity
	}
	for _, b := range c.Backends {
		rules := control.PlaceRules{Name: b.VolumeBackendName, Zones: b.AvailabilityZones, Capabilities: b.Capabilities}
		i := slices.IndexFunc(c.Stores, func(s StoreConfig) bool { return s.Name == b.Store })
		if i >= 0 {
			rules.Reserved, rules.Ratio, rules.Auto = c.Stores[i].Reserved, c.Stores[i].Ratio.Ratio, c.Stores[i].Ratio.Auto
		}
		p.Backends[b.Name] = rules
	}
	return p
}

// placements tells operators of volumes that found no place at first.
func (s *Server) placements(ctx context.Context, c block.Caller, volume block.VolumeID, limit int) ([]block.Placement,
	error) {
	return s.control.Placements(ctx, c, volume, 0, limit)
}
