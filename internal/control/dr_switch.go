package control

import (
	"context"
	"net/http"
	"slices"
	"time"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/driver"
	"kvol/internal/job"
)

const (
	jobFailover = "dr.failover"

	// switchPoll is how often a planned failover looks for what it waits for, and
	// switchRetry how long it rests after a fault.
	switchPoll  = 20 * time.Millisecond
	switchRetry = time.Second
)

type failoverArgs struct {
	ID string `json:"id"`
}

// runFailover takes a planned failover from wherever it is to its end. It never
// gives up: a volume whose writes are refused is not left so. Each phase may be
// repeated; between two of them only the catalog is believed.
func (s *Service) runFailover(ctx context.Context, t *job.Task) error {
	var args failoverArgs
	if err := t.Args(&args); err != nil {
		return err
	}
	for {
		var f block.Failover
		var v block.Volume
		err := s.catalog.View(ctx, func(tx *catalog.Tx) (err error) {
			if f, err = tx.Failover(args.ID); err != nil || f.Phase.Ended() {
				return err
			}
			v, err = tx.Volume(f.Volume)
			return err
		})
		if err == nil && f.Phase.Ended() {
			t.Evidence(f)
			return nil
		}
		if err == nil {
			t.Progress(string(f.Phase), 0, 0)
			err = s.stepFailover(ctx, f, v)
		}
		if err != nil {
			return job.Snooze(switchRetry, err)
		}
	}
}

// stepFailover does what a phase asks for, up to the commit of the next phase.
func (s *Service) stepFailover(ctx context.Context, f block.Failover, v block.Volume) error {
	switch f.Phase {
	case block.FailoverDraining:
		return s.drainInTime(ctx, f, v)
	case block.FailoverPromoting:
		return s.askToPromote(ctx, f, v)
	default:
		return s.askToLeave(ctx, f, v)
	}
}

// drainInTime drains, and goes back when that still fails after the deadline.
// Nobody was asked to take the volume over yet, so it is safe to; otherwise what
// stays wrong would have its writes refused for ever.
func (s *Service) drainInTime(ctx context.Context, f block.Failover, v block.Volume) error {
	err := s.drain(ctx, f, v)
	if err == nil || ctx.Err() != nil || !s.now().After(f.Deadline) {
		return err
	}
	s.log.Warn("the last point of a planned failover could not be made in time", "volume", f.Volume,
		"peer", f.Destination, "failover", f.ID, "err", err)
	return s.goBack(ctx, f, "The last point could not be made in time.")
}

// drain waits until no write is under way, names that moment, and waits until
// the destination has confirmed a point with all of it. It compares content and
// no clocks.
func (s *Service) drain(ctx context.Context, f block.Failover, v block.Volume) error {
	if v.RecoveredTo != nil {
		return s.goBack(ctx, f, "It was recovered in zone "+string(v.RecoveredTo.Zone)+" meanwhile.")
	}
	s.exports.revokeWritable(v.ID)
	if err := s.settleHosts(ctx, v.ID); err != nil {
		return err
	}
	device, giveBack, err := s.devices.borrow(ctx, v.Backend, v.ID)
	if err != nil {
		return err
	}
	if err := first(device.Flush(), giveBack()); err != nil {
		return err
	}
	store, err := s.backends.Of(v.Backend)
	if err != nil {
		return err
	}
	if err := store.CreateSnapshot(ctx, driver.SnapshotRef{Volume: v.ID, Name: f.Last}); err != nil {
		return err
	}
	if f.Drained.IsZero() {
		f.Drained = s.now().UTC()
	}
	s.changed(v.ID)
	tick := time.NewTicker(switchPoll)
	defer tick.Stop()
	for {
		p, ok, err := s.hasAll(ctx, store, f)
		if err != nil {
			return err
		}
		if ok {
			f.Phase, f.Point, f.Asked = block.FailoverPromoting, &p, s.now().UTC()
			f.Deadline = f.Asked.Add(promoteLimit)
			return s.putFailover(ctx, f)
		}
		if s.now().After(f.Deadline) {
			return s.goBack(ctx, f, "Zone "+string(f.Destination)+" did not confirm the last point in time.")
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// hasAll returns the point that the destination confirmed last, and whether it
// has what the volume has since no write is taken any more.
func (s *Service) hasAll(
	ctx context.Context,
	store driver.Driver,
	f block.Failover,
) (p block.Point, ok bool, err error) {
	var l catalog.Link
	err = s.catalog.View(ctx, func(tx *catalog.Tx) error {
		l, err = tx.Link(f.Volume, f.Protection)
		return err
	})
	p = l.Confirmed
	if err != nil || p.ID == "" || p.Epoch != f.Epoch || l.Target != nil {
		return p, false, err
	}
	if counter, counts := driver.As[driver.ChangeCounter](store); counts {
		// Until the sender has seen that nothing changes any more, another point
		// may be on its way.
		if n, err := counter.Changes(ctx, f.Volume); err != nil || n != l.Changes {
			return p, false, err
		}
	}
	all, err := store.Snapshots(ctx, f.Volume)
	if err != nil {
		return p, false, err
	}
	index := func(name block.PointID) int {
		return slices.IndexFunc(all, func(i driver.SnapshotInfo) bool { return i.Name == name })
	}
	confirmed, last := index(p.ID), index(f.Last)
	if confirmed < 0 || last < 0 || confirmed > last {
		return p, confirmed > last && last >= 0, nil
	}
	if all[confirmed].Size != all[last].Size {
		return p, false, nil
	}
	at := func(name block.PointID) driver.SnapshotRef { return driver.SnapshotRef{Volume: f.Volume, Name: name} }
	for _, err := range driver.Diff(ctx, store, at(p.ID), at(f.Last)) {
		return p, false, err
	}
	return p, true, nil
}

// askToPromote has the destination take the volume over, and waits until it
// has. If it can't, or does not answer, it is asked to leave it.
func (s *Service) askToPromote(ctx context.Context, f block.Failover, v block.Volume) error {
	for {
		var answer Takeover
		err := s.callTakeover(ctx, PathPromote, f, v, &answer)
		if err == nil && answer.Recovered != nil {
			return s.handOver(ctx, f, answer)
		}
		refused := err == nil && answer.Refused != ""
		if err == nil { // it is at it, as when it has to copy the volume to another store
			f.Deadline = s.now().Add(promoteLimit)
		}
		late := s.now().After(f.Deadline) || s.now().After(f.Asked.Add(promoteMost))
		if refused || late || err != nil && !block.Is(err, block.Unavailable) {
			f.Phase, f.Message = block.FailoverReturning, answer.Refused
			if err != nil {
				f.Message, _ = block.UserMessage(err)
			}
			return s.putFailover(ctx, f)
		}
		select { // who is silent is asked again: how long it was so is known here only
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(switchPoll):
		}
	}
}

// askToLeave gives the volume back when the destination has said that it did
// not take it over and never will; if it did, the volume is its own.
func (s *Service) askToLeave(ctx context.Context, f block.Failover, v block.Volume) error {
	var answer Takeover
	if err := s.callTakeover(ctx, PathLeave, f, v, &answer); err != nil {
		return err
	}
	if answer.Recovered != nil {
		return s.handOver(ctx, f, answer)
	}
	return s.goBack(ctx, f, orDefaultText(f.Message, "Zone "+string(f.Destination)+" did not take the volume over."))
}

func orDefaultText(text, otherwise string) string {
	if text == "" {
		return otherwise
	}
	return text
}

func (s *Service) callTakeover(ctx context.Context, path string, f block.Failover, v block.Volume,
	answer *Takeover) error {
	ctx, cancel := context.WithTimeout(ctx, forwardTimeout)
	defer cancel()
	order := TakeoverOrder{ID: f.ID, Epoch: f.Epoch, Request: block.DRRequest{Kind: block.DRRecovery,
		SourceZone: s.cfg.Zone, SourceType: f.SourceType, SourceVolume: f.Volume, Destination: f.Destination,
		Project: f.Project, DestinationType: f.DestinationType, IdempotencyKey: failoverHolder(f)}}
	if f.Point != nil {
		order.Point, order.Root = f.Point.ID, f.Point.Root
	}
	return s.cfg.DR.Peers.Call(ctx, f.Destination, http.MethodPost, path, order, answer)
}

// handOver ends a failover whose volume lives in the destination, or, if that
// refused it, wherever it was recovered meanwhile.
func (s *Service) handOver(ctx context.Context, f block.Failover, answer Takeover) error {
	to := *answer.Recovered
	if err := s.Fence(ctx, block.Fence{SourceZone: s.cfg.Zone, Source: f.Volume, Recovered: to}); err != nil {
		return err
	}
	if answer.Refused != "" || to.Zone != f.Destination {
		return s.goBack(ctx, f, "It was recovered in zone "+string(to.Zone)+" meanwhile.")
	}
	f.Phase, f.Message, f.Recovered = block.FailoverDone, "", &to
	return s.endFailover(ctx, f)
}

// goBack ends a failover whose volume lives here, or was recovered by others.
func (s *Service) goBack(ctx context.Context, f block.Failover, why string) error {
	f.Phase, f.Message = block.FailoverBack, why
	return s.endFailover(ctx, f)
}

// endFailover lets go of what was held. Read-only exports end too, so that
// hosts open them anew and may write again where that is right.
func (s *Service) endFailover(ctx context.Context, f block.Failover) error {
	f.Ended = s.now().UTC()
	err := s.catalog.Update(ctx, func(tx *catalog.Tx) error {
		v, err := tx.Volume(f.Volume)
		if err != nil {
			return err
		}
		v.Switching = ""
		if _, err := tx.Unpin(v.ID, f.Last, failoverHolder(f)); err != nil {
			return err
		}
		code := http.StatusOK
		if f.Phase == block.FailoverBack {
			code = http.StatusConflict
		}
		return first(tx.UpdateVolume(v), tx.TellReplication(v.ID), tx.DeleteCut(v.ID, f.Last), tx.PutFailover(f),
			dropPoint(tx, v.Backend, driver.SnapshotRef{Volume: v.ID, Name: f.Last}), settleLater(tx, v.ID),
			tx.InsertAudit(block.Audit{Call: "failover " + string(f.Phase), Params: "volume=" + string(v.ID), Code: code,
				Project: f.Project, Operation: f.ID, Outcome: f.Message}))
	})
	if err != nil {
		return err
	}
	s.log.Info("a planned failover ended", "volume", f.Volume, "peer", f.Destination, "failover", f.ID,
		"phase", f.Phase, "reason", f.Message)
	s.exports.revoke(f.Volume)
	s.changed(f.Volume)
	return nil
}

func (s *Service) putFailover(ctx context.Context, f block.Failover) error {
	return s.catalog.Update(ctx, func(tx *catalog.Tx) error { return tx.PutFailover(f) })
}
