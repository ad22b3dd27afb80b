package control

import (
	"context"
	"encoding/json"
	"net/url"
	"slices"
	"time"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/job"
)

// A failover of a backend is the planned failover of each of its volumes that is
// replicated to a zone. The backend takes no new volumes from then on.

const (
	jobBackendFailover = "backend.failover" // subject: the backend

	// FailBack is the name of the place that a backend had at first
	// (cinder/volume/manager.py, FAILBACK_SENTINEL).
	FailBack = "default"

	// failoversAtOnce is how many volumes of a backend are on their way, and
	// failoverPatience how long it is tried to begin with one that is busy or has no
	// whole copy yet.
	failoversAtOnce  = 16
	failoverPatience = 10 * time.Minute
	refusedRest      = 2 * time.Second
)

// backendOrder is what a job has to do: to move the volumes of some types on a
// backend. The rest is how the service was before.
type backendOrder struct {
	Backend string         `json:"backend"`
	Zone    block.Zone     `json:"zone"`
	Types   []block.TypeID `json:"types"`
	Begun   time.Time      `json:"begun"`
	User    block.UserID   `json:"user"`
	Roles   []string       `json:"roles"`

	Disabled    bool    `json:"disabled"`
	Reason      *string `json:"reason"`
	Replication string  `json:"replication"`
}

// FailOverBackend moves the replicated volumes of a backend to another zone, as a
// job; to is that zone, "" if there is one only, or FailBack, by which those that
// live in the zone to which the backend failed over come back, and it takes new
// ones again. A zone to which nothing on the backend is replicated changes
// nothing and is no error: Cinder, too, finds that later. A backend of which
// nothing is replicated is Invalid, and so is failing back from a zone that has
// no way back.
func (s *Service) FailOverBackend(ctx context.Context, c block.Caller, backend, host, to string) error {
	err := first(mustAdminister(c, "volume_extension:services:update"), mustAdminister(c, "volume:failover_host"),
		s.hasHost(backend, host))
	if err != nil {
		return err
	}
	return s.catalog.Update(ctx, func(tx *catalog.Tx) error {
		states, err := tx.Services()
		if err != nil {
			return err
		}
		types, err := tx.Types(block.ListQuery{Limit: -1}, true)
		if err != nil {
			return err
		}
		st := stateOf(states, VolumeService, backend)
		now := s.replicationOf(st, types)
		if now == block.ReplicationDisabled || now == block.FailingOver {
			return invalidInput("No service could be changed: replication_status in ['%s'] must be "+
				"['enabled', 'failed-over'] and must be up to failover.", host)
		}
		order := backendOrder{Backend: backend, Begun: tx.Now, User: c.User, Roles: c.Roles, Disabled: st.Disabled,
			Reason: st.Reason, Replication: now}
		if to == FailBack {
			return first(s.failBack(tx, st, order), auditBackend(tx, c, backend, to))
		}
		if order.Zone, order.Types = s.waysOut(backend, types, block.Zone(to)); order.Zone == "" {
			s.log.Error("a backend's failover names no zone to which it is replicated", "backend", backend, "peer", to)
			return nil
		}
		reason := block.FailingOver
		st.Replication, st.Disabled, st.Reason = block.FailingOver, true, &reason
		return first(tx.PutService(st), enqueue(tx, jobBackendFailover, backend, order), auditBackend(tx, c, backend, to))
	})
}

func auditBackend(tx *catalog.Tx, c block.Caller, backend, to string) error {
	return tx.InsertAudit(block.Audit{User: string(c.User), Call: "failover of a backend", Code: 202, Project: c.Project,
		Params: url.Values{"backend": {backend}, "to": {to}}.Encode()})
}

// replicationOf is how the replication of a backend stands.
func (s *Service) replicationOf(st catalog.ServiceState, types []block.VolumeType) string {
	if st.Replication != "" {
		return st.Replication
	}
	if s.replicates(st.Backend, types) {
		return block.ReplicationEnabled
	}
	return block.ReplicationDisabled
}

// replicates reports whether volumes of some type on a backend are protected.
func (s *Service) replicates(backend string, types []block.VolumeType) bool {
	return slices.ContainsFunc(types, func(t block.VolumeType) bool {
		return s.holds(backend, t) && s.protected(t.ID)
	})
}

// waysOut finds the zone that to means and the types of a backend that are
// replicated there; "" if there is none, or if to is "" and there are several.
func (s *Service) waysOut(backend string, types []block.VolumeType, to block.Zone) (zone block.Zone,
	ways []block.TypeID) {
	for _, t := range types {
		if !s.holds(backend, t) {
			continue
		}
		for _, p := range s.ownProtections() {
			if p.SourceType != t.ID || !p.Enabled || to != "" && p.Destination != to {
				continue
			}
			if zone != "" && zone != p.Destination {
				return "", nil
			}
			zone = p.Destination
			if !slices.Contains(ways, t.ID) {
				ways = append(ways, t.ID)
			}
		}
	}
	return zone, ways
}

// runBackendFailover begins the failovers of a backend's volumes, some at once,
// and ends when each has ended or could not be begun with in time. What was begun
// is in the catalog, so that it may be run again at any point.
func (s *Service) runBackendFailover(ctx context.Context, t *job.Task) error {
	var order backendOrder
	if err := t.Args(&order); err != nil {
		return err
	}
	moving, left, cause := s.moveAway(ctx, order)
	if moving < 0 {
		return cause
	}
	late := s.now().After(order.Begun.Add(failoverPatience))
	if moving > 0 || left > 0 && !late {
		rest := snoozeTime
		if cause != nil {
			rest = refusedRest
		}
		return job.Snooze(rest, cause)
	}
	return s.endBackendFailover(ctx, order)
}

// moveAway begins with as many volumes as may be on their way. It returns how
// many are, how many are still to be begun with (those that are refused for good
// are not), and why the last of them was refused; -1 if the catalog could not be asked.
func (s *Service) moveAway(ctx context.Context, order backendOrder) (moving, left int, cause error) {
	var waiting []block.VolumeID
	err := s.catalog.View(ctx, func(tx *catalog.Tx) (err error) {
		if moving, err = tx.CountSwitching(order.Backend); err != nil {
			return err
		}
		waiting, err = tx.Unmoved(order.Backend, order.Types, order.Begun)
		return err
	})
	if err != nil {
		return -1, 0, err
	}
	if len(waiting) == 0 || moving >= failoversAtOnce {
		return moving, len(waiting), nil
	}
	if err := s.exchange(ctx, order.Zone); err != nil { // asked once, not for each of them
		return moving, len(waiting), err
	}
	caller := s.Admit(block.Caller{User: order.User, Roles: order.Roles})
	left = len(waiting)
	for _, id := range waiting {
		if moving >= failoversAtOnce || ctx.Err() != nil {
			break
		}
		_, err := s.Failover(ctx, caller, FailoverRequest{Volume: id, Destination: order.Zone})
		if err != nil {
			if cause = err; s.forGood(ctx, id, err) {
				left--
			}
			continue
		}
		moving, left = moving+1, left-1
	}
	return moving, left, cause
}

// endBackendFailover says what came of it. The backend of which nothing could be
// moved goes on as it was.
func (s *Service) endBackendFailover(ctx context.Context, order backendOrder) error {
	return s.catalog.Update(ctx, func(tx *catalog.Tx) error {
		states, err := tx.Services()
		if err != nil {
			return err
		}
		left, err := tx.Unmoved(order.Backend, order.Types, order.Begun)
		if err != nil {
			return err
		}
		done, failed, err := tx.CountFailovers(order.Backend, order.Begun)
		if err != nil {
			return err
		}
		st := stateOf(states, VolumeService, order.Backend)
		if failed += len(left); failed > 0 && done == 0 {
			st.Replication, st.Disabled, st.Reason = block.FailoverError, order.Disabled, order.Reason
		} else {
			reason, zone := block.FailedOver, string(order.Zone)
			st.Replication, st.Active, st.Disabled, st.Reason = block.FailedOver, &zone, true, &reason
		}
		s.log.Info("a backend's failover ended", "backend", order.Backend, "peer", order.Zone, "moved", done,
			"stayed", failed)
		return tx.PutService(st)
	})
}

// gaveUpBackend lets the backend of a job that can't be done go on.
func gaveUpBackend(tx *catalog.Tx, j block.Job, _ error) error {
	var order backendOrder
	if err := json.Unmarshal(j.Args, &order); err != nil {
		return err
	}
	states, err := tx.Services()
	if err != nil {
		return err
	}
	st := stateOf(states, VolumeService, order.Backend)
	st.Replication, st.Disabled, st.Reason = block.FailoverError, order.Disabled, order.Reason
	return tx.PutService(st)
}
