package control

import (
	"context"
	"encoding/json"
	"time"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/driver"
	"kvol/internal/job"
	"kvol/internal/recovery"
	"kvol/internal/replication"
)

// maxProofs is how many operations read what they recovered at the same time,
// so that recoveries which are asked for meanwhile find workers.
const maxProofs = 2

// stepEvidence is what shows that a recovered volume is its point.
type stepEvidence struct {
	recovery.Evidence
	// Served is the root hash of what the volume began as, read from the new
	// volume itself; nil before that was done, or where Note says why not.
	Served   *block.RootHash `json:"served_root,omitempty"`
	Equal    bool            `json:"equal"`
	ProvedAt time.Time       `json:"proved_at,omitzero"`
	Note     string          `json:"note,omitempty"`
}

// conclude ends an operation whose steps ended: at first all is served, then
// it is proven.
func (s *Service) conclude(ctx context.Context, op block.Operation, steps []block.OperationStep) error {
	if op.Status != block.OperationProving {
		return s.catalog.Update(ctx, func(tx *catalog.Tx) error {
			op, err := tx.Operation(op.ID)
			if err != nil {
				return err
			}
			if op.StartedAt.IsZero() {
				op.StartedAt = tx.Now
			}
			for _, step := range steps {
				if step.Kind == block.StepRecover && step.Status == block.StepSucceeded && step.EndedAt.After(op.ServedAt) {
					op.ServedAt = step.EndedAt
				}
			}
			op.Status = block.OperationProving
			return tx.UpdateOperation(op)
		})
	}
	if err := s.proveSteps(ctx, steps); err != nil {
		return err
	}
	return s.catalog.Update(ctx, func(tx *catalog.Tx) error {
		op, err := tx.Operation(op.ID)
		if err != nil {
			return err
		}
		steps, err := tx.OperationSteps(op.ID)
		if err != nil {
			return err
		}
		op.Status, op.Message = outcome(op, steps)
		op.EndedAt = tx.Now
		return first(tx.UpdateOperation(op), auditOperation(tx, op.User, string(op.Status), op, ""))
	})
}

// outcome is what an operation came to.
func outcome(op block.Operation, steps []block.OperationStep) (block.OperationStatus, string) {
	recovered, other, message := 0, 0, ""
	for _, step := range steps {
		switch {
		case step.Status != block.StepSucceeded:
			other++
			if message == "" || step.Status == block.StepFailed {
				message = step.Name + ": " + step.Error
			}
		case step.Kind == block.StepRecover:
			recovered++
		}
	}
	switch {
	case other == 0:
		return block.OperationSucceeded, ""
	case op.Cancel != "":
		return block.OperationCanceled, "It was canceled; steps that had begun went to their end."
	case recovered == 0:
		return block.OperationFailed, message
	}
	return block.OperationPartly, message
}

// proveSteps compares what recovered volumes began as with their points, one
// after another.
func (s *Service) proveSteps(ctx context.Context, steps []block.OperationStep) error {
	for _, step := range steps {
		var e stepEvidence
		if step.Kind != block.StepRecover || step.Status != block.StepSucceeded {
			continue
		}
		if err := json.Unmarshal(step.Evidence, &e); err != nil {
			return err
		}
		if !e.ProvedAt.IsZero() {
			continue
		}
		s.operating.mu.Lock()
		free := s.operating.proofs < maxProofs
		if free {
			s.operating.proofs++
		}
		s.operating.mu.Unlock()
		if !free {
			return job.Snooze(snoozeTime, nil)
		}
		err := s.prove(ctx, step, e)
		s.operating.mu.Lock()
		s.operating.proofs--
		s.operating.mu.Unlock()
		if err != nil {
			return err
		}
	}
	return nil
}

// prove reads what a volume began as and notes whether that is the point. The
// beginning is a snapshot of the new volume, so writes since don't matter.
func (s *Service) prove(ctx context.Context, step block.OperationStep, e stepEvidence) error {
	var v block.Volume
	err := s.catalog.View(ctx, func(tx *catalog.Tx) (err error) {
		v, err = tx.Volume(step.NewVolume)
		return err
	})
	began := driver.SnapshotRef{Volume: step.NewVolume, Name: step.Point.ID}
	switch {
	case block.Is(err, block.NotFound):
		e.Note = "The volume was deleted before it could be compared."
	case err != nil:
		return err
	case step.Point.Size != v.Size*block.GiB && v.RecoveredFrom == nil:
		e.Note = "The volume is larger than its point."
	default:
		store, err := s.backends.Of(v.Backend)
		if err != nil {
			return err
		}
		root, err := replication.RootOf(ctx, store, began)
		switch {
		case block.Is(err, block.NotFound):
			e.Note = "What the volume began as is not kept any more."
		case block.Is(err, block.Corrupt):
			e.Note = "What the volume began as can't be read."
		case err != nil:
			return err
		default:
			e.Served, e.Equal = &root, root == step.Point.Root
		}
	}
	return s.catalog.Update(ctx, func(tx *catalog.Tx) error {
		now, err := tx.OperationStep(step.Operation, step.Seq)
		if err != nil {
			return err
		}
		e.ProvedAt = tx.Now
		if now.Evidence, err = json.Marshal(e); err != nil {
			return err
		}
		if e.Served != nil && !e.Equal || e.Note == "What the volume began as can't be read." {
			now.Status, now.Error = block.StepFailed, "What the new volume serves is not what the recovery point is."
		}
		last, err := tx.Unpin(began.Volume, began.Name, stepHolder(step))
		if err == nil && last && v.Backend != "" {
			err = dropPoint(tx, v.Backend, began)
		}
		return first(err, tx.UpdateOperationStep(now))
	})
}
