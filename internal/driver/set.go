package driver

import (
	"errors"

	"kvol/internal/block"
)

// Set is the stores of a zone and the backends that share them. It is built
// once, and may be used by many goroutines.
type Set struct {
	stores   map[string]Driver
	backends map[string]block.Backend
	rooms    rooms
}

// NewSet makes a Set from stores by name and the backends that lie on them.
// A backend on an unknown store is Invalid.
func NewSet(stores map[string]Driver, backends []block.Backend) (*Set, error) {
	s := &Set{stores: stores, backends: map[string]block.Backend{}}
	for _, b := range backends {
		if _, ok := stores[b.Store]; !ok {
			return nil, block.Errorf(block.Invalid, "backend %s lies on store %q, which is not configured", b.Name, b.Store)
		}
		if _, twice := s.backends[b.Name]; twice {
			return nil, block.Errorf(block.Invalid, "backend %s is configured twice", b.Name)
		}
		s.backends[b.Name] = b
	}
	return s, nil
}

// Of returns the driver that holds a backend's bytes; NotFound for an unknown
// backend.
func (s *Set) Of(backend string) (Driver, error) {
	b, ok := s.backends[backend]
	if !ok {
		return nil, block.Errorf(block.NotFound, "this zone has no backend %q", backend)
	}
	return s.stores[b.Store], nil
}

// Backend returns a backend by name.
func (s *Set) Backend(name string) (block.Backend, bool) {
	b, ok := s.backends[name]
	return b, ok
}

// Backends returns all backends, in no order.
func (s *Set) Backends() []block.Backend {
	out := make([]block.Backend, 0, len(s.backends))
	for _, b := range s.backends {
		out = append(out, b)
	}
	return out
}

// Shared reports whether two backends lie on one store, so that a clone from
// one to the other costs no copy.
func (s *Set) Shared(a, b string) bool {
	x, okX := s.backends[a]
	y, okY := s.backends[b]
	return okX && okY && x.Store == y.Store
}

// Close closes all stores and returns what went wrong, joined.
func (s *Set) Close() error {
	var errs []error
	for _, d := range s.stores {
		errs = append(errs, d.Close())
	}
	return errors.Join(errs...)
}
