package control

import (
	"context"
	"strings"
	"time"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/driver"
)

// MaxOperations is how many operations a list has at most.
const MaxOperations = 1000

// maxKey is how long an idempotency key may be, in bytes.
const maxKey = 255

// startOperation writes an operation, its steps, and the job that carries it
// out (its subject is the operation's id), or no job for one that waits for
// consent. Where the project began one with the same idempotency key already,
// op becomes that one, again is true and nothing is written; another request
// with that key is a Conflict.
func startOperation(tx *catalog.Tx, op *block.Operation, steps []block.OperationStep, jobKind string) (
	again bool, err error,
) {
	if again, err := operationAgain(tx, op); again || err != nil {
		return again, err
	}
	if op.ID == "" {
		op.ID = block.NewID()
	}
	if op.Status == "" {
		op.Status = block.OperationWaiting
	}
	err = first(tx.InsertOperation(op, steps), auditOperation(tx, op.User, string(op.Kind), *op, string(op.Request)))
	if err == nil && op.Status != block.OperationConsent {
		err = enqueue(tx, jobKind, op.ID, nil)
	}
	return false, err
}

// errKeyUsed is said of an idempotency key that comes with another request than
// the first time.
func errKeyUsed() error {
	return block.Errorf(block.Conflict, "The idempotency key was used for another request.")
}

// operationAgain is the part of startOperation that finds what was begun
// already.
func operationAgain(tx *catalog.Tx, op *block.Operation) (again bool, err error) {
	if len(op.Key) > maxKey {
		return false, block.Errorf(block.Invalid, "An idempotency key has at most %d bytes.", maxKey)
	}
	if op.Key == "" {
		return false, nil
	}
	found, err := tx.OperationWithKey(op.Project, op.Key)
	if block.Is(err, block.NotFound) {
		return false, nil
	}
	if err == nil && (found.Kind != op.Kind || string(found.Request) != string(op.Request)) {
		err = errKeyUsed()
	}
	if err == nil {
		*op = found
	}
	return err == nil, err
}

// auditOperation notes who did what to an operation.
func auditOperation(tx *catalog.Tx, user block.UserID, call string, op block.Operation, params string) error {
	return tx.InsertAudit(block.Audit{User: string(user), Call: "operation " + call, Params: params, Code: 202,
		Operation: op.ID, Consent: op.Consent, Project: op.Project,
		Outcome: strings.TrimSpace(string(op.Status) + " " + op.Message)})
}

// OperationView is an operation with its steps and what follows from them.
type OperationView struct {
	block.Operation
	Steps      []block.OperationStep // empty in lists
	Cancelable bool                  // some step has not begun
	BytesDone  int64
	BytesTotal int64
	ETA        time.Time // zero where nothing is known yet, and after the end
}

// errNoOperation is said of an operation that is not there for a caller.
func errNoOperation(id string) error {
	return block.Errorf(block.NotFound, "Operation %s could not be found.", id)
}

// Operations lists the newest operations of a kind, or of all for "": of all
// projects for administrators, for others those of their own.
func (s *Service) Operations(ctx context.Context, c block.Caller, kind block.OperationKind) (
	list []block.Operation, err error,
) {
	project := c.Project
	if c.Admin() {
		project = ""
	}
	err = s.catalog.View(ctx, func(tx *catalog.Tx) error {
		list, err = tx.Operations(project, kind, MaxOperations)
		return err
	})
	return list, err
}

// Operation returns an operation that the caller may see, with its steps as
// they are now.
func (s *Service) Operation(ctx context.Context, c block.Caller, id string) (v OperationView, err error) {
	err = s.catalog.View(ctx, func(tx *catalog.Tx) error {
		if v.Operation, err = operationOf(tx, c, id); err != nil {
			return err
		}
		if v.Steps, err = tx.OperationSteps(id); err != nil {
			return err
		}
		for i := range v.Steps {
			if err := withProgress(tx, &v.Steps[i]); err != nil {
				return err
			}
		}
		return nil
	})
	v.look(s.now())
	return v, err
}

// operationOf returns an operation that the caller may see.
func operationOf(tx *catalog.Tx, c block.Caller, id string) (block.Operation, error) {
	op, err := tx.Operation(id)
	if err == nil && !sees(c, op.Project) {
		err = errNoOperation(id)
	}
	if err != nil {
		return block.Operation{}, err
	}
	return op, nil
}

// withProgress takes over how far the job is that fills a step's volume.
func withProgress(tx *catalog.Tx, step *block.OperationStep) error {
	if step.Status != block.StepRunning || step.NewVolume == "" {
		return nil
	}
	jobs, err := tx.JobsOf(string(step.NewVolume))
	for _, j := range jobs {
		step.BytesDone = max(step.BytesDone, j.Done)
	}
	return err
}

// look derives what follows from the steps.
func (v *OperationView) look(now time.Time) {
	done, count := 0.0, 0.0
	for _, step := range v.Steps {
		v.Cancelable = v.Cancelable || step.Status == block.StepWaiting && !v.Status.Ended()
		v.BytesDone += step.BytesDone
		v.BytesTotal += step.BytesTotal
		count++
		switch {
		case step.Status.Ended():
			done++
		case step.BytesTotal > 0:
			done += float64(step.BytesDone) / float64(step.BytesTotal)
		}
	}
	if !v.EndedAt.IsZero() || v.StartedAt.IsZero() || done == 0 {
		return
	}
	spent := now.Sub(v.StartedAt)
	v.ETA = now.Add(time.Duration(float64(spent) * (count - done) / done)).UTC()
}

// CancelOperation sees to it that no further step of an operation begins. Steps
// that began go to their end, since a right to write that was taken over is not
// given back by halves. An operation without a step that may be canceled is a
// Conflict.
func (s *Service) CancelOperation(ctx context.Context, c block.Caller, id string) (op block.Operation, err error) {
	err = s.catalog.Update(ctx, func(tx *catalog.Tx) error {
		if op, err = operationOf(tx, c, id); err != nil {
			return err
		}
		if err := authorize(c, "kvol:cancel", membersRule, owned(op.Project, op.User)); err != nil {
			return err
		}
		if op.Kind == block.OperationDrill {
			op, err = cancelDrill(tx, c, op)
			return err
		}
		steps, err := tx.OperationSteps(id)
		if err != nil {
			return err
		}
		canceled := 0
		for _, step := range steps {
			if step.Status == block.StepWaiting {
				canceled++
				if err := endStep(tx, step, block.StepCanceled, "It was canceled before it began."); err != nil {
					return err
				}
			}
		}
		if op.Status.Ended() || canceled == 0 && op.Cancel == "" {
			return block.Errorf(block.Conflict, "Operation %s is %s, and no step of it can be canceled any more.",
				id, op.Status)
		}
		if op.Cancel == "" {
			op.Cancel = c.User
		}
		if op.Status == block.OperationConsent { // no job looks after it
			op.Status, op.EndedAt = block.OperationCanceled, tx.Now
		}
		return first(tx.UpdateOperation(op), auditOperation(tx, c.User, "cancel", op, ""))
	})
	return op, err
}

// endStep writes the end of a step. One that never began lets go of the point
// that was kept for it.
func endStep(tx *catalog.Tx, step block.OperationStep, to block.StepStatus, why string) error {
	if step.Kind == block.StepRecover && step.NewVolume == "" && step.Point != nil {
		last, err := tx.Unpin(step.Replica, step.Point.ID, stepHolder(step))
		if err == nil && last {
			r, err := tx.Replica(step.Replica)
			if err := first(err, dropPoint(tx, r.Backend, driver.SnapshotRef{Volume: r.ID, Name: step.Point.ID})); err != nil {
				return err
			}
		}
		if err != nil {
			return err
		}
	}
	step.Status, step.Error, step.EndedAt = to, why, tx.Now
	return tx.UpdateOperationStep(step)
}
