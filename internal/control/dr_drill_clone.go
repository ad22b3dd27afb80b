package control

import (
	"context"
	"errors"
	"io"
	"time"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/driver"
	"kvol/internal/job"
	"kvol/internal/luks"
	"kvol/internal/recovery"
)

// cloneEvidence is what shows how a clone came to be.
type cloneEvidence struct {
	recovery.Evidence
	Clone  float64 `json:"clone_seconds"`
	Open   float64 `json:"open_seconds"` // until its first and last block were read
	Age    float64 `json:"age_seconds"`  // of what the point has, when the drill began to recover
	Served float64 `json:"served_after_seconds"`
}

// choose picks the points of all clones in one transaction, as a recovery would
// at that moment, pins them, and notes the clones before they are made.
func (r *drillRun) choose(ctx context.Context) error {
	return r.s.catalog.Update(ctx, func(tx *catalog.Tx) error {
		op, err := tx.Operation(r.id)
		if err != nil || op.Cancel != "" {
			return err
		}
		steps, err := tx.OperationSteps(r.id)
		if err != nil {
			return err
		}
		for _, step := range steps {
			if step.Kind != block.StepClone || step.Status != block.StepWaiting {
				continue
			}
			if err := r.chooseOne(tx, step); err != nil {
				return err
			}
		}
		if r.state.Began.IsZero() {
			r.state.Began = tx.Now
		}
		return r.keep(tx, op)
	})
}

// chooseOne is choose for a step; what can't be recovered any more fails.
func (r *drillRun) chooseOne(tx *catalog.Tx, step block.OperationStep) error {
	p, err := drillParamsOf(step)
	if err != nil {
		return err
	}
	fail := func(why error) error {
		step.Status, step.EndedAt, step.Error = block.StepFailed, tx.Now, r.sentence(why)
		return tx.UpdateOperationStep(step)
	}
	replica, err := tx.Replica(step.Replica)
	if block.Is(err, block.NotFound) {
		return fail(block.Errorf(block.NotFound, "The replica is gone."))
	}
	if err != nil {
		return err
	}
	var refused error
	if err := recoveredAlready(tx, replica, false, func(why error) { refused = why }); err != nil {
		return err
	}
	if refused != nil {
		return fail(refused)
	}
	var chosen block.Point
	if p.Named {
		chosen = *step.Point
	}
	point, err := toGoOnWith(tx, replica, !p.Named, chosen)
	if block.Is(err, block.Conflict) {
		return fail(err)
	}
	if err != nil {
		return err
	}
	step.Point = &point
	step.Status, step.BytesTotal = block.StepQueued, step.Point.Size
	clone := block.DrillClone{ID: block.VolumeID(block.NewID()), Operation: r.id, Seq: step.Seq, Backend: p.Backend,
		Replica: step.Replica, Point: step.Point.ID}
	if err := tx.Pin(step.Replica, step.Point.ID, drillPin(r.id, step.Seq)); err != nil {
		return err
	}
	return first(tx.InsertDrillClone(clone), tx.UpdateOperationStep(step))
}

// clone returns the clone of a step and its replica.
func (r *drillRun) clone(ctx context.Context, seq int) (c block.DrillClone, replica block.Replica, err error) {
	err = r.s.catalog.View(ctx, func(tx *catalog.Tx) error {
		all, err := tx.DrillClones(r.id)
		if err != nil {
			return err
		}
		for _, one := range all {
			if one.Seq == seq {
				c = one
			}
		}
		if c.ID == "" {
			return block.Errorf(block.NotFound, "There is no clone of it.")
		}
		replica, err = tx.Replica(c.Replica)
		return err
	})
	return c, replica, err
}

// cloneVolume makes a clone and opens it: when its first and its last block were
// read, a host could use it.
func (r *drillRun) cloneVolume(ctx context.Context, step block.OperationStep) error {
	step, ended, err := r.begin(ctx, step.Seq)
	if err != nil || ended {
		return err
	}
	c, replica, err := r.clone(ctx, step.Seq)
	if err != nil {
		return err
	}
	began := r.s.now()
	order := recovery.Order{Replica: c.Replica, Backup: replica.Backend, Point: c.Point, Volume: c.ID}
	var e cloneEvidence
	e.Evidence, err = recovery.Fill(ctx, r.s.backends, order, c.Backend, *step.Point, r.progress(ctx, step.Seq))
	filled := r.s.now()
	e.Clone = filled.Sub(began).Seconds()
	if err == nil {
		err = r.readEnds(ctx, c, replica)
	}
	served := r.s.now()
	e.Open, e.Served = served.Sub(filled).Seconds(), served.Sub(r.state.Began).Seconds()
	since := step.Point.At
	if replica.Newest.ID == step.Point.ID && replica.Current.After(since) {
		since = replica.Current
	}
	e.Age = max(0, r.state.Began.Add(r.s.clockOf(replica.SourceZone).Certain()).Sub(since).Seconds())
	return r.end(ctx, step, e, err)
}

// progress notes how far a copy is, now and then.
func (r *drillRun) progress(ctx context.Context, seq int) recovery.Progress {
	const pause = 500 * time.Millisecond
	last := r.s.now()
	return func(_ string, done, _ int64) {
		if now := r.s.now(); now.Sub(last) < pause {
			return
		} else {
			last = now
		}
		err := r.s.catalog.Update(ctx, func(tx *catalog.Tx) error {
			step, err := tx.OperationStep(r.id, seq)
			if err != nil || step.Status != block.StepRunning {
				return err
			}
			step.BytesDone = done
			return tx.UpdateOperationStep(step)
		})
		if err != nil && ctx.Err() == nil {
			r.s.log.Warn("the progress of a drill could not be noted", "operation", r.id, "err", err)
		}
	}
}

// openClone opens a clone as hosts would see the volume. The function gives it
// back.
func (s *Service) openClone(ctx context.Context, c block.DrillClone, from block.Replica) (driver.Device, func() error,
	error) {
	d, giveBack, err := s.devices.borrow(ctx, c.Backend, c.ID)
	if err != nil || !from.Entry.Volume.Encryption.ByZone() {
		return d, giveBack, err
	}
	key, err := s.sealer.OpenFor(from.Source, from.Entry.Key)
	if err != nil {
		return nil, nil, errors.Join(err, giveBack())
	}
	cipher, err := luks.NewCipher(key)
	if err != nil {
		return nil, nil, errors.Join(err, giveBack())
	}
	return luks.NewDevice(d, cipher, s.guards.of(c.ID)), giveBack, nil
}

func (r *drillRun) readEnds(ctx context.Context, c block.DrillClone, from block.Replica) (err error) {
	d, giveBack, err := r.s.openClone(ctx, c, from)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, giveBack()) }()
	p := make([]byte, driver.BlockSize)
	for _, off := range []int64{0, d.Size() - driver.BlockSize} {
		if _, err := d.ReadAt(p, off); err != nil && !errors.Is(err, io.EOF) {
			return err
		}
	}
	return nil
}

// clean deletes the clones, and lets go of the points that were pinned for them.
func (r *drillRun) clean(ctx context.Context) error {
	steps, err := r.steps(ctx)
	if err != nil {
		return err
	}
	seq := -1
	for _, step := range steps {
		if step.Kind == block.StepClean && !step.Status.Ended() {
			seq = step.Seq
		}
	}
	if seq < 0 {
		return nil // done in a former life
	}
	step, _, err := r.begin(ctx, seq)
	if err != nil {
		return err
	}
	if err := r.s.cleanDrill(ctx, r.id); err != nil {
		return err // it is tried again, for ever
	}
	return r.end(ctx, step, nil, nil)
}

// cleanDrill deletes what a drill made in stores. It may be repeated, also when
// the drill is forgotten.
func (s *Service) cleanDrill(ctx context.Context, id string) error {
	var clones []block.DrillClone
	var steps []block.OperationStep
	err := s.catalog.View(ctx, func(tx *catalog.Tx) (err error) {
		if clones, err = tx.DrillClones(id); err != nil {
			return err
		}
		steps, err = tx.OperationSteps(id)
		return err
	})
	if err != nil {
		return err
	}
	for _, c := range clones {
		store, err := s.backends.Of(c.Backend)
		if err == nil {
			err = ignoring(block.NotFound, store.DeleteVolume(ctx, c.ID))
		}
		if err != nil {
			return err
		}
		err = s.catalog.Update(ctx, func(tx *catalog.Tx) error {
			return first(tx.DeleteDrillClone(c.ID), unpinDrill(tx, c.Operation, c.Seq, c.Replica, c.Point))
		})
		if err != nil {
			return err
		}
	}
	return s.catalog.Update(ctx, func(tx *catalog.Tx) error {
		for _, step := range steps { // points of clones that were never begun
			if step.Kind != block.StepClone || step.Point == nil {
				continue
			}
			if err := unpinDrill(tx, id, step.Seq, step.Replica, step.Point.ID); err != nil {
				return err
			}
		}
		return nil
	})
}

// unpinDrill lets go of a point, and deletes it where it was kept for the drill
// alone.
func unpinDrill(tx *catalog.Tx, id string, seq int, replica block.VolumeID, point block.PointID) error {
	last, err := tx.Unpin(replica, point, drillPin(id, seq))
	if err != nil || !last {
		return err
	}
	from, err := tx.Replica(replica)
	if err != nil {
		return ignoring(block.NotFound, err)
	}
	return dropPoint(tx, from.Backend, driver.SnapshotRef{Volume: replica, Name: point})
}

// runDrillClean cleans up after a drill whose own job could not. When it is given
// up, sweepDrills begins it anew while clones are left.
func (s *Service) runDrillClean(ctx context.Context, t *job.Task) error {
	if !s.operating.enter(t.Job.Subject) {
		return job.Snooze(drillTurn, nil)
	}
	defer s.operating.leave(t.Job.Subject)
	return s.cleanDrill(ctx, t.Job.Subject)
}
