package zone

import (
	"errors"
	"fmt"
	"time"

	"kvol/internal/duty"
)

// ProcessConfig makes a process one of several that serve a zone together, on one
// PostgreSQL. All have the same configuration but for this, Listen, DataDir and the
// addresses of exports.
type ProcessConfig struct {
	Name  string        `yaml:"name"`  // of this process among the zone's; one process serves the zone if empty
	URL   string        `yaml:"url"`   // where the others reach its APIs; http://Listen if empty
	CA    string        `yaml:"ca"`    // PEM file of who signed the others' certificates; the system's if empty
	Lease time.Duration `yaml:"lease"` // how long one may be silent before others do its work; 10s if absent
	// Drain is how long a process that ends says so at /healthz before it takes no
	// more requests; 5s if absent.
	Drain time.Duration `yaml:"drain"`
	// Unguarded lets the process live when it stood still for longer than its lease
	// while it led; else the kernel kills it where a store is one that others reach.
	Unguarded bool `yaml:"unguarded"`
}

const defaultDrain = 5 * time.Second

func (c *ProcessConfig) check(catalog string) error {
	if *c == (ProcessConfig{}) {
		return nil
	}
	if c.Lease == 0 {
		c.Lease = duty.DefaultLease
	}
	if c.Drain == 0 {
		c.Drain = defaultDrain
	}
	switch {
	case c.Name == "":
		return errors.New("process.name: what this process is called among those of the zone is missing")
	case catalog == "":
		return errors.New("process: several processes need one PostgreSQL database, as catalog.url")
	case c.Lease < duty.MinLease || c.Lease > duty.MaxLease:
		return fmt.Errorf("process.lease: %s is not between %s and %s", c.Lease, duty.MinLease, duty.MaxLease)
	case c.Drain < 0:
		return fmt.Errorf("process.drain: %s is negative", c.Drain)
	}
	return nil
}
