package control

import (
	"context"
	"slices"
	"time"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/placement"
)

// Pool is a backend and the room that it has, in the numbers by which places for
// volumes are found.
type Pool struct {
	placement.Pool
	Name       string            // volume_backend_name
	Replicated bool              // volumes of some type on it are protected
	Extra      map[string]string // capabilities beside those of all backends
	At         time.Time
}

// Takes reports whether a type's extra specs let its volumes lie here.
func (p Pool) Takes(t block.VolumeType) bool {
	return placement.Unsatisfied(map[string][]string{"volume_backend_name": p.Capabilities["volume_backend_name"]},
		t.ExtraSpecs) == ""
}

// Ratio is how many times its store's room volumes may have; 0 for no bound.
func (p Pool) Ratio() float64 { return placement.Ratio(p.Pool) }

// Pools lists the backends that answer now, by name.
func (s *Service) Pools(ctx context.Context, c block.Caller) (list []Pool, err error) {
	if err := mustAdminister(c, "scheduler_extension:scheduler_stats:get_pools"); err != nil {
		return nil, err
	}
	if err := s.measureRooms(ctx); err != nil {
		return nil, err
	}
	err = s.catalog.View(ctx, func(tx *catalog.Tx) error {
		list = nil
		types, err := tx.Types(block.ListQuery{Limit: -1}, true)
		if err != nil {
			return err
		}
		pools, err := s.pools(tx, false)
		for _, p := range pools {
			if !p.Known {
				continue // it said so in the log
			}
			name := s.capable[false][p.Backend]["volume_backend_name"][0]
			list = append(list, Pool{p, name, s.replicates(p.Backend, types),
				s.cfg.Placing.Backends[p.Backend].Capabilities, tx.Now})
		}
		return err
	})
	return list, err
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
