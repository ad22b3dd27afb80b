package control

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"slices"
	"sync"
	"time"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/job"
	"kvol/internal/recovery"
	"kvol/internal/rivals"
)

const jobOperation = "dr.operation" // subject: the operation

// defaultParallel is how many volumes an operation fills at once.
const defaultParallel = 16

// besides is how long a job of an operation waits for another one of it.
const besides = 50 * time.Millisecond

// operating keeps the jobs of one operation from working on it at once, counts
// the drills that run, and bounds what is read to prove recoveries.
type operating struct {
	mu     sync.Mutex
	at     map[string]bool // guarded by mu
	proofs int             // guarded by mu
	drills int             // guarded by mu
}

func (o *operating) enter(id string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.at[id] {
		return false
	}
	if o.at == nil {
		o.at = map[string]bool{}
	}
	o.at[id] = true
	return true
}

func (o *operating) leave(id string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.at, id)
}

// runOperation takes an operation on from wherever it is, until it must wait
// for the jobs that fill volumes; the last of them enqueues the next one of it.
func (s *Service) runOperation(ctx context.Context, t *job.Task) error {
	id := t.Job.Subject
	if !s.operating.enter(id) {
		return job.Snooze(besides, nil)
	}
	defer s.operating.leave(id)
	for {
		var op block.Operation
		var steps []block.OperationStep
		err := s.catalog.View(ctx, func(tx *catalog.Tx) (err error) {
			if op, err = tx.Operation(id); err != nil {
				return err
			}
			steps, err = tx.OperationSteps(id)
			return err
		})
		if err != nil || op.Status.Ended() || op.Status == block.OperationConsent {
			return err
		}
		more, err := s.advance(ctx, op, steps)
		if err != nil || !more {
			return err
		}
	}
}

// advance does the next thing that an operation needs. more is false where jobs
// work for it.
func (s *Service) advance(ctx context.Context, op block.Operation, steps []block.OperationStep) (more bool, err error) {
	stage, failed := math.MaxInt, false
	for _, step := range steps {
		if !step.Status.Ended() {
			stage = min(stage, step.Stage)
		}
	}
	for _, step := range steps {
		p, err := paramsOf(step)
		if err != nil {
			return false, err
		}
		failed = failed || step.Stage < stage && step.Status == block.StepFailed && !p.GoOn
	}
	if stage == math.MaxInt {
		return true, s.conclude(ctx, op, steps)
	}
	if failed || op.Cancel != "" {
		if begun := slices.ContainsFunc(steps, func(step block.OperationStep) bool {
			return step.Status == block.StepRunning || step.Status == block.StepQueued
		}); !begun {
			return true, s.skipRest(ctx, op)
		}
	}
	now := slices.DeleteFunc(slices.Clone(steps), func(step block.OperationStep) bool {
		return step.Stage != stage || step.Status.Ended()
	})
	switch step := now[0]; step.Kind {
	case block.StepWait:
		return true, s.waitStep(ctx, op, step)
	case block.StepHook:
		return true, s.hookStep(ctx, op, step, steps)
	default:
		if slices.ContainsFunc(now, func(step block.OperationStep) bool { return step.Status == block.StepWaiting }) {
			return true, s.beginStage(ctx, op.ID, stage)
		}
		return false, nil
	}
}

// started marks an operation as running.
func started(tx *catalog.Tx, op block.Operation) error {
	if op.Status != block.OperationWaiting {
		return nil
	}
	op.Status, op.StartedAt = block.OperationRunning, tx.Now
	return tx.UpdateOperation(op)
}

// skipRest ends the steps that never began.
func (s *Service) skipRest(ctx context.Context, op block.Operation) error {
	return s.catalog.Update(ctx, func(tx *catalog.Tx) error {
		steps, err := tx.OperationSteps(op.ID)
		if err != nil {
			return err
		}
		to, why := block.StepSkipped, "An earlier step failed."
		if op.Cancel != "" {
			to, why = block.StepCanceled, "It was canceled before it began."
		}
		for _, step := range steps {
			if step.Status == block.StepWaiting {
				if err := endStep(tx, step, to, why); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// waitStep lets time pass. It stays cancelable meanwhile.
func (s *Service) waitStep(ctx context.Context, op block.Operation, step block.OperationStep) error {
	p, err := paramsOf(step)
	if err != nil {
		return err
	}
	var rest time.Duration
	err = s.catalog.Update(ctx, func(tx *catalog.Tx) error {
		now, err := tx.OperationStep(op.ID, step.Seq)
		if err != nil || now.Status.Ended() {
			return err
		}
		if now.StartedAt.IsZero() {
			now.StartedAt = tx.Now
		}
		rest = now.StartedAt.Add(time.Duration(p.Seconds) * time.Second).Sub(tx.Now)
		if rest <= 0 {
			return endStep(tx, now, block.StepSucceeded, "")
		}
		return first(started(tx, op), tx.UpdateOperationStep(now))
	})
	if err == nil && rest > 0 {
		return job.Snooze(min(rest, time.Second), nil) // a cancellation is noticed soon
	}
	return err
}

// stepFault is what keeps one step from beginning.
type stepFault struct {
	step block.OperationStep
	err  error
}

func (f *stepFault) Error() string { return f.err.Error() }

func (f *stepFault) Unwrap() error { return f.err }

// beginStage begins all volumes of a stage in one transaction: in it the right
// to write them is taken over, so that a group or a zone is never recovered by
// halves. One that can't be begun fails by itself, and the others are tried
// anew.
func (s *Service) beginStage(ctx context.Context, id string, stage int) error {
	won, release, err := s.bidForStage(ctx, id, stage)
	if err != nil {
		return err
	}
	defer release()
	for {
		err := s.catalog.Update(ctx, func(tx *catalog.Tx) error {
			op, err := tx.Operation(id)
			if err != nil || op.Cancel != "" {
				return err
			}
			if err := started(tx, op); err != nil {
				return err
			}
			steps, err := tx.OperationSteps(id)
			for _, step := range steps {
				if step.Stage != stage || step.Status != block.StepWaiting {
					continue
				}
				if err := s.beginStep(tx, step, won[foreign{step.SourceZone, step.Source}]); err != nil {
					return &stepFault{step, err}
				}
			}
			return first(err, takeTurns(tx, id))
		})
		var fault *stepFault
		if !errors.As(err, &fault) || !hopeless(fault.err) && !block.Is(fault.err, block.Conflict) {
			s.DRChanged()
			return err
		}
		why, _ := block.UserMessage(fault.err)
		err = s.catalog.Update(ctx, func(tx *catalog.Tx) error {
			return endStep(tx, fault.step, block.StepFailed, why)
		})
		if err != nil {
			return err
		}
	}
}

// beginStep takes the right to write a volume over, and writes the new one.
func (s *Service) beginStep(tx *catalog.Tx, step block.OperationStep, won rivals.Outcome) error {
	p, err := paramsOf(step)
	if err != nil {
		return err
	}
	r, err := tx.Replica(step.Replica)
	if err != nil {
		return err
	}
	point, err := toGoOnWith(tx, r, p.Newest, *step.Point)
	if err != nil {
		return err
	}
	var refused error
	err = recoveredAlready(tx, r, p.Again, func(why error) { refused = why })
	if err := first(err, refused); err != nil {
		return err
	}
	t, err := usableType(tx, block.Caller{Project: step.Project}, p.Type)
	if err != nil {
		return err
	}
	own, _ := s.backends.Backend(r.Backend)
	d := drStart{s: s, step: &step, won: won,
		pairs: []block.Protection{{Seq: r.Protection, Backup: own, Lease: s.leaseOf(r)}},
		req: block.DRRequest{Kind: block.DRRecovery, SourceZone: r.SourceZone, SourceType: r.Entry.Volume.TypeID,
			SourceVolume: r.Source, Destination: s.cfg.Zone, Project: step.Project, DestinationType: t.ID}}
	j, err := d.newJob(tx, t)
	if err != nil {
		return err
	}
	j.ReplicaSVM = own.SVMName
	if p.OverQuota {
		j.Notes = append(j.Notes, "recovered over quota where that was exceeded")
	}
	v := ForecastVolume{}
	v.at(point, tx.Now, r, nil)
	if step.Loss != nil {
		v.Loss.Later, v.Loss.Unreplicated = step.Loss.Later, step.Loss.Unreplicated
	}
	step.Loss, step.Rowkey = v.Loss, j.Rowkey
	return d.begin(tx, j, t, r, point)
}

// ofStep finishes what a step begins: the volume's name and the pin on what it
// began as, until that is proven; and the job waits for its turn.
func (d *drStart) ofStep(tx *catalog.Tx, v block.Volume, o recovery.Order, p block.Point) error {
	step := *d.step
	params, err := paramsOf(step)
	if err != nil {
		return err
	}
	o.Operation, o.Step = step.Operation, step.Seq
	if params.Order, err = json.Marshal(o); err != nil {
		return err
	}
	if v.RecoveredFrom != nil {
		err = tx.Pin(v.ID, p.ID, stepHolder(step))
	}
	_, unpinned := tx.Unpin(o.Replica, p.ID, stepHolder(step)) // the order has its own
	step.Point, step.NewVolume, step.Params, step.Status = &p, v.ID, params.text(), block.StepQueued
	step.StartedAt, step.BytesTotal = tx.Now, p.Size
	return first(err, unpinned, tx.UpdateOperationStep(step))
}

// takeTurns enqueues the jobs of steps that have begun, as many as may run at
// once; where none is left the operation goes on.
func takeTurns(tx *catalog.Tx, id string) error {
	counts, err := tx.CountOperationSteps(id, math.MaxInt32)
	if err != nil {
		return err
	}
	for running := counts[block.StepRunning]; ; running++ {
		step, ok, err := tx.NextOperationStep(id, block.StepQueued)
		if err != nil {
			return err
		}
		if !ok {
			if running == 0 {
				err = enqueue(tx, jobOperation, id, nil)
			}
			return err
		}
		p, err := paramsOf(step)
		if err != nil || running >= max(1, p.Parallel) {
			return err
		}
		step.Status = block.StepRunning
		if err := tx.UpdateOperationStep(step); err != nil {
			return err
		}
		var order recovery.Order
		if err := json.Unmarshal(p.Order, &order); err != nil {
			return err
		}
		if _, err = tx.EnqueueJob(order.Job(p.Order, step.BytesTotal)); err != nil {
			return err
		}
	}
}

// stepEnded is told of the end of a job of an operation's step, in the
// transaction that ends it.
func stepEnded(tx *catalog.Tx, o recovery.Order, row block.DRJob, e *recovery.Evidence) error {
	step, err := tx.OperationStep(o.Operation, o.Step)
	if err != nil || step.Status.Ended() {
		return err
	}
	step.Rowkey, step.BytesDone = row.Rowkey, row.BytesDone
	to, why := block.StepSucceeded, ""
	if row.Status != block.DRSuccess {
		to, why = block.StepFailed, row.Message
	}
	if e != nil {
		if step.Evidence, err = json.Marshal(stepEvidence{Evidence: *e}); err != nil {
			return err
		}
	}
	if err := endStep(tx, step, to, why); err != nil {
		return err
	}
	return takeTurns(tx, o.Operation)
}
