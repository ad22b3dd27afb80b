package control

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/job"
)

// The volumes of a backend come back by the planned failover of each, in the
// zone where they live. That zone is asked to begin them, again and again until
// all have come: what it did before is in its catalog.

const (
	jobBackendFailback = "backend.failback" // subject: the backend

	// PathBringBack is where a zone asks another one to give up what it took over.
	PathBringBack = "/peer/v1/failback"

	// returningAtOnce is how many volumes one such request names at most.
	returningAtOnce = 500
	maxReason       = 255 // letters of a service's disabled_reason, as in Cinder
)

// ReturnOrder asks a zone to move volumes back to the one that asks.
type ReturnOrder struct {
	Volumes []Returning `json:"volumes"`
	Begin   int         `json:"begin"` // how many may be on their way
}

// Returning is a volume under its ids in both zones.
type Returning struct {
	Volume block.VolumeID `json:"volume"` // in the zone that is asked
	Source block.VolumeID `json:"source"` // in the zone that asks
}

// How far a volume is on its way back.
const (
	ReturnDone    = "done"    // it is back, or there is nothing that could come back
	ReturnMoving  = "moving"  // its planned failover is under way
	ReturnWaiting = "waiting" // it was not begun with yet
	ReturnRefused = "refused" // it can't be begun with as things are
)

// ReturnState is the answer for one volume.
type ReturnState struct {
	State   string `json:"state"`
	Message string `json:"message,omitempty"` // why it waits or was refused
}

// BringBack begins the planned failovers of volumes to the zone that asks, from
// which they were recovered, and tells how far each is.
func (s *Service) BringBack(ctx context.Context, from block.Zone, o ReturnOrder) ([]ReturnState, error) {
	if len(o.Volumes) > returningAtOnce {
		return nil, block.Errorf(block.Invalid, "One request names up to %d volumes.", returningAtOnce)
	}
	states := make([]ReturnState, len(o.Volumes))
	err := s.catalog.View(ctx, func(tx *catalog.Tx) error {
		for i, r := range o.Volumes {
			var err error
			if states[i], err = returnOf(tx, from, r); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	moving := 0
	for _, st := range states {
		if st.State == ReturnMoving {
			moving++
		}
	}
	caller := s.Admit(block.Caller{User: block.UserID("zone " + string(from)), Roles: []string{"admin"}})
	for i, st := range states {
		if st.State != ReturnWaiting || moving >= min(o.Begin, failoversAtOnce) || ctx.Err() != nil {
			continue
		}
		_, err := s.Failover(ctx, caller, FailoverRequest{Volume: o.Volumes[i].Volume, Destination: from, Back: true})
		if err == nil {
			states[i].State = ReturnMoving
			moving++
			continue
		}
		message, ok := block.UserMessage(err)
		if !ok {
			return nil, err
		}
		states[i].Message = message
		if s.forGood(ctx, o.Volumes[i].Volume, err) {
			states[i].State = ReturnRefused
		}
	}
	return states, nil
}

// returnOf is how far one volume is. What did not come from the zone that asks is
// none of its concern.
func returnOf(tx *catalog.Tx, from block.Zone, r Returning) (ReturnState, error) {
	v, err := tx.Volume(r.Volume)
	switch {
	case block.Is(err, block.NotFound), err == nil && v.Status == block.VolumeDeleting:
		return ReturnState{State: ReturnDone}, nil
	case err != nil:
		return ReturnState{}, err
	case v.RecoveredFrom == nil || v.RecoveredFrom.Zone != from || v.RecoveredFrom.Volume != r.Source:
		return ReturnState{State: ReturnRefused, Message: fmt.Sprintf("Volume %s did not come from zone %s.", r.Volume,
			from)}, nil
	case v.RecoveredTo != nil && v.RecoveredTo.Zone == from:
		return ReturnState{State: ReturnDone}, nil
	case v.RecoveredTo != nil:
		return ReturnState{State: ReturnRefused, Message: fmt.Sprintf("Volume %s lives in zone %s now.", r.Volume,
			v.RecoveredTo.Zone)}, nil
	case v.Switching == from:
		return ReturnState{State: ReturnMoving}, nil
	}
	return ReturnState{State: ReturnWaiting}, nil
}

// forGood reports whether a planned failover that was refused will be refused
// again: nothing that passes by itself is in its way.
func (s *Service) forGood(ctx context.Context, id block.VolumeID, refusal error) bool {
	switch block.KindOf(refusal) {
	case block.Invalid, block.NotFound, block.Forbidden:
	default:
		return false
	}
	passing := false
	err := s.catalog.View(ctx, func(tx *catalog.Tx) error {
		v, err := tx.Volume(id)
		passing = v.Status.Passing()
		return err
	})
	return err == nil && !passing || block.Is(err, block.NotFound)
}

// failBack states the intent to bring the volumes of a backend back from the zone
// to which they were moved. Where none is there, the backend is at once what it
// was; where that zone has no way back, it is refused.
func (s *Service) failBack(tx *catalog.Tx, st catalog.ServiceState, order backendOrder) error {
	if st.Active != nil {
		order.Zone = block.Zone(*st.Active)
	}
	left, err := tx.LivingIn(st.Backend, order.Zone, "", 1)
	if err != nil {
		return err
	}
	if order.Zone == "" || len(left) == 0 {
		return tx.PutService(thawed(st))
	}
	if err := s.leadsBack(tx, order.Zone); err != nil {
		return err
	}
	reason := block.FailingOver
	st.Replication, st.Disabled, st.Reason = block.FailingOver, true, &reason
	return first(tx.PutService(st), enqueue(tx, jobBackendFailback, st.Backend, order))
}

// thawed is a backend that takes volumes again, unless it is frozen.
func thawed(st catalog.ServiceState) catalog.ServiceState {
	st.Replication, st.Active, st.Disabled, st.Reason = "", new(string), st.Frozen, new(string)
	if st.Frozen {
		*st.Reason = "frozen"
	}
	return st
}

// leadsBack refuses a zone that, as far as is known, replicates nothing to this
// one.
func (s *Service) leadsBack(tx *catalog.Tx, zone block.Zone) error {
	docs, err := tx.PeerDocuments()
	if err != nil {
		return err
	}
	i := slices.IndexFunc(docs, func(d catalog.PeerDocument) bool { return d.Zone == zone })
	if i < 0 {
		return invalidInput("Zone %s is not known here; volumes can't be brought back from it.", zone)
	}
	d, err := documentOf(docs[i])
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(d.Protections, func(p DocumentProtection) bool {
		return p.Protection.Enabled && p.Protection.Destination == s.cfg.Zone
	}) {
		return invalidInput("Zone %s has no protection whose destination is zone %s: what lives there can't be brought "+
			"back without loss. Add one there, or recover the volumes here.", zone, s.cfg.Zone)
	}
	return nil
}

// runBackendFailback asks the other zone for all volumes of a backend that live
// there until each has come back or is refused, or nothing more is begun in time.
func (s *Service) runBackendFailback(ctx context.Context, t *job.Task) error {
	var order backendOrder
	if err := t.Args(&order); err != nil {
		return err
	}
	late := s.now().After(order.Begun.Add(failoverPatience))
	done, moving := 0, 0
	var left []ReturnState
	for after := block.VolumeID(""); ; {
		some, err := s.returning(ctx, order, after)
		if err != nil {
			return err
		}
		if len(some) == 0 {
			break
		}
		after = some[len(some)-1].Source
		begin := failoversAtOnce
		if late {
			begin = 0
		}
		states, err := s.askBack(ctx, order.Zone, ReturnOrder{Volumes: some, Begin: begin - min(moving, begin)})
		if block.Is(err, block.Unavailable) && !late {
			return job.Snooze(refusedRest, err)
		}
		if err != nil { // for each of them
			message, _ := block.UserMessage(err)
			states = slices.Repeat([]ReturnState{{State: ReturnRefused, Message: message}}, len(some))
		}
		for _, st := range states {
			switch st.State {
			case ReturnDone:
				done++
			case ReturnMoving:
				moving++
			default:
				left = append(left, st)
			}
		}
	}
	waits := slices.IndexFunc(left, func(st ReturnState) bool { return st.State == ReturnWaiting })
	switch {
	case moving > 0:
		return job.Snooze(snoozeTime, nil)
	case waits >= 0 && !late:
		return job.Snooze(refusedRest, block.Errorf(block.Unavailable, "%s", left[waits].Message))
	}
	return s.endBackendFailback(ctx, order, done, left)
}

// returning lists volumes of a backend that live in another zone, with their ids
// there.
func (s *Service) returning(
	ctx context.Context,
	order backendOrder,
	after block.VolumeID,
) (some []Returning, err error) {
	err = s.catalog.View(ctx, func(tx *catalog.Tx) error {
		ids, err := tx.LivingIn(order.Backend, order.Zone, after, returningAtOnce)
		if err != nil {
			return err
		}
		some = nil
		for _, id := range ids {
			v, err := tx.Volume(id)
			if err != nil {
				return err
			}
			some = append(some, Returning{Volume: v.RecoveredTo.Volume, Source: id})
		}
		return nil
	})
	return some, err
}

func (s *Service) askBack(ctx context.Context, zone block.Zone, o ReturnOrder) (states []ReturnState, err error) {
	if s.cfg.DR.Peers == nil {
		return nil, block.Errorf(block.Invalid, "This zone has no peers.")
	}
	ctx, cancel := context.WithTimeout(ctx, forwardTimeout)
	defer cancel()
	err = s.cfg.DR.Peers.Call(ctx, zone, http.MethodPost, PathBringBack, o, &states)
	if err == nil && len(states) != len(o.Volumes) {
		err = block.Errorf(block.Unavailable, "Zone %s answers for %d volumes, not %d.", zone, len(states), len(o.Volumes))
	}
	return states, err
}

// endBackendFailback says what came of it, and why volumes stay where they are.
func (s *Service) endBackendFailback(ctx context.Context, order backendOrder, done int, left []ReturnState) error {
	return s.catalog.Update(ctx, func(tx *catalog.Tx) error {
		states, err := tx.Services()
		if err != nil {
			return err
		}
		st := stateOf(states, VolumeService, order.Backend)
		s.log.Info("a backend's failback ended", "backend", order.Backend, "peer", order.Zone, "back", done,
			"stayed", len(left))
		if len(left) == 0 {
			return tx.PutService(thawed(st))
		}
		st.Replication, st.Disabled = block.FailedOver, true
		if done == 0 {
			st.Replication = block.FailoverError
		}
		reason := []rune(fmt.Sprintf("%s: %d volumes stay in zone %s: %s", st.Replication, len(left), order.Zone,
			strings.TrimSpace(left[0].Message)))
		text := string(reason[:min(len(reason), maxReason)])
		st.Reason = &text
		return tx.PutService(st)
	})
}

// gaveUpFailback leaves the backend's volumes where they are.
func gaveUpFailback(tx *catalog.Tx, j block.Job, _ error) error {
	states, err := tx.Services()
	if err != nil {
		return err
	}
	st := stateOf(states, VolumeService, j.Subject)
	reason := block.FailoverError
	st.Replication, st.Disabled, st.Reason = block.FailoverError, true, &reason
	return tx.PutService(st)
}
