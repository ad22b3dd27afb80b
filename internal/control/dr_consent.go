package control

import (
	"context"
	"time"

	"kvol/internal/block"
	"kvol/internal/catalog"
)

func (d DR) consentFor() time.Duration { return orDefault(d.ConsentFor, 24*time.Hour) }

// errConsentLate is said to who agrees too late.
func errConsentLate(id string) error {
	return block.Errorf(block.Conflict, "Operation %s waited for consent for too long; it must be asked for again.", id)
}

// expireConsents ends operations that nobody agreed to in time: what was to be
// lost is another thing by then. The points that were kept for them are let go.
func (s *Service) expireConsents(ctx context.Context) error {
	return s.catalog.Update(ctx, func(tx *catalog.Tx) error {
		// The oldest: what is ended here makes room for those that are left over.
		all, err := tx.OperationsIn(block.OperationConsent, tx.Now.Add(-s.cfg.DR.consentFor()), MaxOperations)
		if err != nil {
			return err
		}
		for _, op := range all {
			steps, err := tx.OperationSteps(op.ID)
			if err != nil {
				return err
			}
			for _, step := range steps {
				if step.Status != block.StepWaiting {
					continue
				}
				if err := endStep(tx, step, block.StepCanceled, "Nobody agreed in time."); err != nil {
					return err
				}
			}
			op.Status, op.EndedAt, op.Message = block.OperationCanceled, tx.Now, "Nobody agreed in time."
			if err := first(tx.UpdateOperation(op), auditOperation(tx, "", "expired", op, "")); err != nil {
				return err
			}
		}
		return nil
	})
}
