package control

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"kvol/internal/block"
	"kvol/internal/catalog"
)

// The services that Cinder's API knows and this process has: one that makes
// backups if a repository is configured, one that keeps volumes for each
// backend, and one that chooses among backends.
const (
	BackupsService   = "cinder-backup"
	VolumeService    = "cinder-volume"
	SchedulerService = "cinder-scheduler"
)

// capacityTimeout bounds what is asked of a store to learn whether it works.
const capacityTimeout = 5 * time.Second

// ServiceInfo is a service as administrators see it.
type ServiceInfo struct {
	catalog.ServiceState
	Zone      string // availability zone
	Up        bool   // its store answers now, or its process shows itself
	Process   string // of which it is, where several serve the zone; "" for all of them
	UpdatedAt time.Time
}

// Services lists the process's services: that of backups, those of the backends
// by name, then the scheduler.
func (s *Service) Services(ctx context.Context, c block.Caller) ([]ServiceInfo, error) {
	if err := mustAdminister(c, "volume_extension:services:index"); err != nil {
		return nil, err
	}
	return s.services(ctx)
}

func (s *Service) services(ctx context.Context) ([]ServiceInfo, error) {
	var states []catalog.ServiceState
	var processes []catalog.Process
	var types []block.VolumeType
	var now time.Time
	err := s.catalog.View(ctx, func(tx *catalog.Tx) (err error) {
		now = tx.Now
		if states, err = tx.Services(); err != nil {
			return err
		}
		if processes, err = tx.Processes(); err != nil {
			return err
		}
		types, err = tx.Types(block.ListQuery{Limit: -1}, true)
		return err
	})
	if err != nil {
		return nil, err
	}
	zone := ""
	if len(s.cfg.AvailabilityZones) > 0 {
		zone = s.cfg.AvailabilityZones[0]
	}
	var all []ServiceInfo
	if s.cfg.Backups != nil {
		all = append(all, ServiceInfo{stateOf(states, BackupsService, ""), zone, true, "", now})
	}
	ask, cancel := context.WithTimeout(ctx, capacityTimeout)
	defer cancel()
	rooms := s.backends.Rooms(ask)
	for _, b := range s.sortedBackends() {
		st := stateOf(states, VolumeService, b.Name)
		st.Replication = s.replicationOf(st, types)
		in := zone
		if own := s.cfg.Placing.Backends[b.Name].Zones; len(own) > 0 {
			in = own[0]
		}
		all = append(all, ServiceInfo{st, in, rooms[b.Name].Err == nil, "", now})
	}
	schedules := stateOf(states, SchedulerService, "")
	for _, p := range processes { // each of them takes requests
		all = append(all, ServiceInfo{schedules, zone, p.Live, p.Name, p.Seen})
	}
	if len(processes) == 0 {
		all = append(all, ServiceInfo{schedules, zone, true, "", now})
	}
	return all, nil
}

// sortedBackends are the backends by name.
func (s *Service) sortedBackends() []block.Backend {
	all := slices.Clone(s.backends.Backends())
	slices.SortFunc(all, func(a, b block.Backend) int { return strings.Compare(a.Name, b.Name) })
	return all
}

func stateOf(states []catalog.ServiceState, kind, backend string) catalog.ServiceState {
	for _, st := range states {
		if st.Kind == kind && st.Backend == backend {
			return st
		}
	}
	return catalog.ServiceState{Kind: kind, Backend: backend}
}

// SetService enables or disables a service. A disabled backend takes no new
// volumes, and while that of backups is disabled nothing is asked of the
// repository. A nil reason leaves the one there was.
func (s *Service) SetService(ctx context.Context, c block.Caller, kind, backend string, disabled bool,
	reason *string) error {
	if err := s.mayChangeServices(c, kind, backend); err != nil {
		return err
	}
	return s.changeService(ctx, kind, backend, func(st *catalog.ServiceState) error {
		st.Disabled = disabled
		if reason != nil {
			st.Reason = reason
		}
		return nil
	})
}

func (s *Service) mayChangeServices(c block.Caller, kind, backend string) error {
	if err := mustAdminister(c, "volume_extension:services:update"); err != nil {
		return err
	}
	_, known := s.backends.Backend(backend)
	if kind == VolumeService && known || backend == "" &&
		(kind == SchedulerService || kind == BackupsService && s.cfg.Backups != nil) {
		return nil
	}
	return block.Errorf(block.NotFound, "Service %s could not be found.", kind)
}

func (s *Service) changeService(ctx context.Context, kind, backend string,
	fn func(*catalog.ServiceState) error) error {
	return s.catalog.Update(ctx, func(tx *catalog.Tx) error {
		states, err := tx.Services()
		if err != nil {
			return err
		}
		st := stateOf(states, kind, backend)
		if err := fn(&st); err != nil {
			return err
		}
		return tx.PutService(st)
	})
}

// FreezeBackend keeps a backend as it is: it takes no new volumes, and nobody
// creates or deletes snapshots or deletes volumes on it. Thawing lets it go. A
// backend that is so already is Invalid (cinder/volume/api.py, freeze_host).
// host is how the API calls the backend.
func (s *Service) FreezeBackend(ctx context.Context, c block.Caller, backend, host string, frozen bool) error {
	rule, expected := "volume:thaw_host", "True"
	reason := ""
	if frozen {
		rule, expected, reason = "volume:freeze_host", "False", "frozen"
	}
	if err := first(mustAdminister(c, "volume_extension:services:update"), mustAdminister(c, rule)); err != nil {
		return err
	}
	if err := s.hasHost(backend, host); err != nil {
		return err
	}
	return s.changeService(ctx, VolumeService, backend, func(st *catalog.ServiceState) error {
		if st.Frozen == frozen {
			return invalidInput("No service could be changed: frozen in ['%s'] must be %s to failover.", host, expected)
		}
		st.Frozen, st.Disabled, st.Reason = frozen, frozen, &reason
		return nil
	})
}

// MayAdminister asks whether a caller may do what is answered here without any
// service, as reading the levels of logs.
func (s *Service) MayAdminister(_ context.Context, c block.Caller, rule string) error {
	return mustAdminister(c, rule)
}

func (s *Service) hasHost(backend, host string) error {
	if _, ok := s.backends.Backend(backend); !ok {
		return block.Errorf(block.Invalid, "No service found with host=%s", host)
	}
	return nil
}

// notFrozen refuses to change things on a frozen backend.
func notFrozen(tx *catalog.Tx, backend string) error {
	states, err := tx.Services()
	if err == nil && stateOf(states, VolumeService, backend).Frozen {
		return invalidInput("Modification operations are not allowed on frozen storage backends.")
	}
	return err
}

// notFrozenOf is notFrozen for the backends of volumes.
func notFrozenOf(tx *catalog.Tx, volumes []block.Volume) error {
	for _, v := range volumes {
		if err := notFrozen(tx, v.Backend); err != nil {
			return err
		}
	}
	return nil
}

// errNoBackend is why a volume is not made on a disabled backend.
var errNoBackend = block.Errorf(block.NoSpace, "No backend takes new volumes.")

// schedule lets a new volume onto its backend unless that is disabled.
func (s *Service) schedule(ctx context.Context, backend string) error {
	return s.catalog.View(ctx, func(tx *catalog.Tx) error {
		states, err := tx.Services()
		if err == nil && slices.ContainsFunc(states, func(st catalog.ServiceState) bool {
			return st.Disabled && (st.Kind == SchedulerService || st.Kind == VolumeService && st.Backend == backend)
		}) {
			return fmt.Errorf("backend %s: %w", backend, errNoBackend)
		}
		return err
	})
}
