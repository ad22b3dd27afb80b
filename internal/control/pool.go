package control

import (
	"context"
	"slices"
	"time"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/driver"
)

// Pool is a backend and the room that it has.
type Pool struct {
	Backend    string
	Capacity   driver.Capacity
	Allocated  int64 // GiB of the volumes on it
	Replicated bool  // volumes of some type on it are protected
	At         time.Time
}

// Pools lists the backends that answer now, by name.
func (s *Service) Pools(ctx context.Context, c block.Caller) (pools []Pool, err error) {
	if err := mustAdminister(c, "scheduler_extension:scheduler_stats:get_pools"); err != nil {
		return nil, err
	}
	var uses []catalog.BackendUse
	var types []block.VolumeType
	var now time.Time
	err = s.catalog.View(ctx, func(tx *catalog.Tx) error {
		now = tx.Now
		if uses, err = tx.BackendUses(); err != nil {
			return err
		}
		types, err = tx.Types(block.ListQuery{Limit: -1}, true)
		return err
	})
	if err != nil {
		return nil, err
	}
	for _, b := range s.sortedBackends() {
		ask, cancel := context.WithTimeout(ctx, capacityTimeout)
		capacity, err := s.backends.Capacity(ask, b.Name)
		cancel()
		if err != nil {
			s.log.Warn("a store does not tell its room", "backend", b.Name, "err", err)
			continue
		}
		p := Pool{Backend: b.Name, Capacity: capacity, At: now}
		for _, u := range uses {
			if u.Backend == b.Name {
				p.Allocated += u.VolumeGiB
			}
		}
		p.Replicated = s.replicates(b.Name, types)
		pools = append(pools, p)
	}
	return pools, nil
}

// Capabilities says whether a backend is there, to whom may know.
func (s *Service) Capabilities(_ context.Context, c block.Caller, backend, host string) error {
	if err := mustAdminister(c, "volume_extension:capabilities"); err != nil {
		return err
	}
	if _, ok := s.backends.Backend(backend); !ok {
		return block.Errorf(block.NotFound, "Can't find service: %s", host)
	}
	return nil
}

// Hosts lists the services that are not disabled.
func (s *Service) Hosts(ctx context.Context, c block.Caller) ([]ServiceInfo, error) {
	if err := mustAdminister(c, "volume_extension:hosts"); err != nil {
		return nil, err
	}
	all, err := s.services(ctx)
	return slices.DeleteFunc(all, func(i ServiceInfo) bool { return i.Disabled }), err
}

// HostUse is what a project has on a backend.
type HostUse = catalog.BackendUse

// HostUses adds up what projects have on a backend.
func (s *Service) HostUses(ctx context.Context, c block.Caller, backend, host string) ([]HostUse, error) {
	if err := mustAdminister(c, "volume_extension:hosts"); err != nil {
		return nil, err
	}
	if _, ok := s.backends.Backend(backend); !ok {
		return nil, block.Errorf(block.NotFound, "Host %s could not be found.", host)
	}
	var uses []catalog.BackendUse
	err := s.catalog.View(ctx, func(tx *catalog.Tx) (err error) {
		uses, err = tx.BackendUses()
		return err
	})
	return slices.DeleteFunc(uses, func(u catalog.BackendUse) bool { return u.Backend != backend }), err
}
