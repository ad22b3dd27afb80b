package control

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/job"
)

const (
	jobDrill      = "dr.drill"       // subject: the operation
	jobDrillClean = "dr.drill.clean" // the operation, of a drill that could not clean up itself

	// maxDrills is how many drills run at once, so that recoveries which are asked
	// for meanwhile find workers.
	maxDrills = 2
	drillTurn = time.Second // that a drill waits before it asks for its turn again
	drillLook = 50 * time.Millisecond
)

// drillHandler gives a drill as many lives as a process may need: each end of
// the process is one.
type drillHandler struct{ handler }

// Retries implements job.Patience.
func (drillHandler) Retries() job.Retries {
	return job.Retries{Attempts: 100, First: 200 * time.Millisecond, Max: time.Minute}
}

// drillRun is one process's work on a drill. Its steps may be repeated.
type drillRun struct {
	s       *Service
	id      string
	project block.ProjectID
	request block.DrillRequest
	meter   drillMeter
	state   drillState // as it was when this life began, with what is measured since
}

// runDrill takes a drill from wherever it is to its end. What fails in it is
// what it is to find out: only the zone's own trouble has it tried again.
func (s *Service) runDrill(ctx context.Context, t *job.Task) error {
	id := t.Job.Subject
	if !s.operating.enterDrill(id) {
		return job.Snooze(drillTurn, nil)
	}
	defer s.operating.leaveDrill(id)
	r := drillRun{s: s, id: id}
	var ended bool
	err := s.catalog.Update(ctx, func(tx *catalog.Tx) error {
		op, err := tx.Operation(id)
		if err != nil {
			return err
		}
		if ended = op.Status.Ended(); ended {
			return nil
		}
		r.project = op.Project
		if err := json.Unmarshal(op.Request, &r.request); err != nil {
			return err
		}
		if op.Status == block.OperationWaiting {
			op.Status, op.StartedAt = block.OperationRunning, tx.Now
		}
		if r.state, err = drillStateOf(op); err != nil {
			return err
		}
		r.state.Lives++
		return r.keep(tx, op)
	})
	if err != nil || ended {
		return err
	}
	return r.run(ctx)
}

// keep writes the drill's state with the operation.
func (r *drillRun) keep(tx *catalog.Tx, op block.Operation) (err error) {
	if op.Evidence, err = json.Marshal(r.state); err != nil {
		return err
	}
	return tx.UpdateOperation(op)
}

func (o *operating) enterDrill(id string) bool {
	o.mu.Lock()
	if o.drills >= maxDrills {
		o.mu.Unlock()
		return false
	}
	o.drills++
	o.mu.Unlock()
	if o.enter(id) {
		return true
	}
	o.mu.Lock()
	o.drills--
	o.mu.Unlock()
	return false
}

func (o *operating) leaveDrill(id string) {
	o.leave(id)
	o.mu.Lock()
	o.drills--
	o.mu.Unlock()
}

// errDrillOver ends the work of a drill that was canceled or took too long.
var errDrillOver = errors.New("the drill is over")

// run does all that is left. Whatever becomes of the clones, they are deleted.
func (r *drillRun) run(ctx context.Context) error {
	rehearsing, stop := context.WithCancelCause(ctx)
	looking, enough := context.WithCancel(ctx)
	var looks sync.WaitGroup
	defer func() { stop(nil); enough(); looks.Wait() }()
	if _, err := r.s.assess(ctx); err != nil { // there is a gauge of each replica from now on
		return err
	}
	r.meter.start(r.state.Marks)
	looks.Go(func() { r.look(looking, stop) })
	err := r.stages(rehearsing)
	switch {
	case ctx.Err() != nil:
		return ctx.Err() // the process stops; the next one goes on
	case err != nil && !errors.Is(context.Cause(rehearsing), errDrillOver):
		return err
	}
	if err := r.dropRest(ctx); err != nil {
		return err
	}
	if err := r.clean(ctx); err != nil {
		return err
	}
	if err := r.watchAfter(ctx); err != nil {
		return err
	}
	return r.conclude(ctx)
}

// look measures replication, and ends the work when the drill is canceled or its
// time is over, until ctx ends.
func (r *drillRun) look(ctx context.Context, stop context.CancelCauseFunc) {
	tick := time.NewTicker(drillLook)
	defer tick.Stop()
	for {
		r.meter.measure(r.s)
		over, err := r.over(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			r.s.log.Error("it can't be read whether a drill was canceled", "operation", r.id, "err", err)
		case over:
			stop(errDrillOver)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// over reports whether the drill is to stop. One that takes too long is canceled
// by nobody, and its message says so.
func (r *drillRun) over(ctx context.Context) (over bool, err error) {
	var op block.Operation
	err = r.s.catalog.View(ctx, func(tx *catalog.Tx) (err error) {
		op, err = tx.Operation(r.id)
		return err
	})
	limit := cmp.Or(time.Duration(r.request.TimeoutSeconds)*time.Second, defaultDrillTime)
	late := err == nil && r.s.now().Sub(op.StartedAt) > limit
	if err != nil || op.Cancel != "" || !late || op.Message != "" {
		return err == nil && (op.Cancel != "" || late), err
	}
	return true, r.s.catalog.Update(ctx, func(tx *catalog.Tx) error {
		op, err := tx.Operation(r.id)
		if err != nil || op.Message != "" || op.Status.Ended() {
			return err
		}
		op.Message = fmt.Sprintf("It took longer than %s.", limit)
		return tx.UpdateOperation(op)
	})
}

// steps reads the drill's steps as they are.
func (r *drillRun) steps(ctx context.Context) (all []block.OperationStep, err error) {
	err = r.s.catalog.View(ctx, func(tx *catalog.Tx) error {
		all, err = tx.OperationSteps(r.id)
		return err
	})
	return all, err
}

// stages does one stage after another, up to the cleaning.
func (r *drillRun) stages(ctx context.Context) error {
	for {
		steps, err := r.steps(ctx)
		if err != nil {
			return err
		}
		stage := math.MaxInt
		for _, step := range steps {
			if !step.Status.Ended() {
				stage = min(stage, step.Stage)
			}
		}
		steps = slices.DeleteFunc(steps, func(step block.OperationStep) bool {
			return step.Stage != stage || step.Status.Ended()
		})
		if len(steps) == 0 || steps[0].Kind == block.StepClean {
			return nil
		}
		if err := r.stage(ctx, steps); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
}

// stage does the steps of a stage, as many at once as they say.
func (r *drillRun) stage(ctx context.Context, steps []block.OperationStep) error {
	first, err := drillParamsOf(steps[0])
	if err != nil {
		return err
	}
	if steps[0].Kind == block.StepClone {
		if err := r.choose(ctx); err != nil {
			return err
		}
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(max(1, first.Parallel))
	for _, step := range steps {
		g.Go(func() error {
			switch step.Kind {
			case block.StepWatch:
				return r.watchBefore(ctx, step)
			case block.StepClone:
				return r.cloneVolume(ctx, step)
			}
			return r.probe(ctx, step)
		})
	}
	return g.Wait()
}

// begin marks a step as running, unless it ended meanwhile. One that ran when
// the process ended runs again.
func (r *drillRun) begin(ctx context.Context, seq int) (step block.OperationStep, ended bool, err error) {
	err = r.s.catalog.Update(ctx, func(tx *catalog.Tx) error {
		if step, err = tx.OperationStep(r.id, seq); err != nil {
			return err
		}
		if ended = step.Status.Ended(); ended {
			return nil
		}
		step.Status = block.StepRunning
		if step.StartedAt.IsZero() {
			step.StartedAt = tx.Now
		}
		return tx.UpdateOperationStep(step)
	})
	return step, ended, err
}

// end writes how a step ended; a failure is a sentence. What was cut short has
// no end: it is dropped, or runs again.
func (r *drillRun) end(ctx context.Context, step block.OperationStep, evidence any, failed error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	text, err := json.Marshal(evidence)
	if err != nil {
		return err
	}
	return r.s.catalog.Update(ctx, func(tx *catalog.Tx) error {
		now, err := tx.OperationStep(r.id, step.Seq)
		if err != nil || now.Status.Ended() {
			return err
		}
		now.Evidence, now.Point, now.Status, now.EndedAt = text, step.Point, block.StepSucceeded, tx.Now
		if now.BytesDone = now.BytesTotal; failed != nil {
			now.Status, now.BytesDone, now.Error = block.StepFailed, 0, r.sentence(failed)
		}
		return tx.UpdateOperationStep(now)
	})
}

// sentence is what a failure says to the user.
func (r *drillRun) sentence(failed error) string {
	text, ok := block.UserMessage(failed)
	if !ok {
		r.s.log.Error("a step of a drill failed", "operation", r.id, "err", failed)
		return "A fault of this zone; its log says more."
	}
	return text
}

// dropRest ends the steps before the cleaning that have not ended.
func (r *drillRun) dropRest(ctx context.Context) error {
	return r.s.catalog.Update(ctx, func(tx *catalog.Tx) error {
		op, err := tx.Operation(r.id)
		if err != nil {
			return err
		}
		steps, err := tx.OperationSteps(r.id)
		if err != nil {
			return err
		}
		for _, step := range steps {
			if step.Kind == block.StepClean {
				return nil
			}
			if step.Status.Ended() {
				continue
			}
			step.Status, step.Error, step.EndedAt = block.StepSkipped, op.Message, tx.Now
			if op.Cancel != "" {
				step.Status = block.StepCanceled
			}
			if err := tx.UpdateOperationStep(step); err != nil {
				return err
			}
		}
		return nil
	})
}
