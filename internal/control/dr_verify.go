package control

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/job"
	"kvol/internal/proof"
)

const jobVerify = "dr.verify" // subject: the operation

// verifyTurn is what verifications wait for: one runs at a time, so that they
// leave workers to recoveries.
const (
	verifyTurn = "verification"
	verifyRest = 2 * time.Second
)

// VerifyRequest asks for the replicas of a volume of another zone to be read and
// compared now. Zone is "" for whichever zone the volume is of.
type VerifyRequest struct {
	Zone   block.Zone     `json:"zone,omitempty"`
	Volume block.VolumeID `json:"volume_id"`
	Key    string         `json:"idempotency_key,omitempty"`
}

// VerifyEvidence is what a verification found out about one replica.
type VerifyEvidence struct {
	Point   block.PointID   `json:"point"`
	PointAt time.Time       `json:"point_at,omitzero"`
	Root    block.RootHash  `json:"root"`   // as committed, and as read here now
	Bytes   int64           `json:"bytes"`  // of data that were read here
	Points  int             `json:"points"` // that were compared
	Seconds float64         `json:"seconds"`
	Damaged []block.PointID `json:"damaged,omitempty"`
	Blocks  int             `json:"repaired_blocks"`
	Source  *VerifiedSource `json:"source,omitempty"`
	Note    string          `json:"note,omitempty"` // why the source was not compared, or what could not be repaired
}

// VerifiedSource is what the volume's own zone has, read there now.
type VerifiedSource struct {
	Point   block.PointID  `json:"point"`
	PointAt time.Time      `json:"point_at"`
	Root    block.RootHash `json:"root"`      // as read there
	Meant   block.RootHash `json:"committed"` // that it should be
	Equal   bool           `json:"equal"`
	Bytes   int64          `json:"bytes"` // of the volume that it went over
	Seconds float64        `json:"seconds"`
}

// keepVerifications is how many verifications of a project are kept that ended.
const keepVerifications = 200

// StartVerify begins to read all replicas in this zone of a volume, and the
// volume's own bytes where its zone answers.
func (s *Service) StartVerify(ctx context.Context, c block.Caller, req VerifyRequest) (op block.Operation, err error) {
	if s.cfg.DR.Prover == nil {
		return op, block.Errorf(block.Unavailable, "This zone keeps no replicas.")
	}
	asked := req
	asked.Key = ""
	op = block.Operation{Kind: block.OperationVerify, Project: c.Project, User: c.User, Key: req.Key}
	if op.Request, err = json.Marshal(asked); err != nil {
		return op, err
	}
	err = s.catalog.Update(ctx, func(tx *catalog.Tx) error {
		all, err := tx.Replicas(req.Zone)
		if err != nil {
			return err
		}
		var steps []block.OperationStep
		for _, r := range all {
			if r.Source != req.Volume || !sees(c, r.Entry.Volume.Project) {
				continue
			}
			if err := authorize(c, "kvol:verify", membersRule, owned(r.Entry.Volume.Project, "")); err != nil {
				return err
			}
			steps = append(steps, block.OperationStep{Seq: len(steps), Stage: len(steps), Kind: block.StepVerify,
				Name: fmt.Sprintf("replica under protection %d", r.Protection), Status: block.StepWaiting,
				SourceZone: r.SourceZone, Source: r.Source, Replica: r.ID, Project: r.Entry.Volume.Project,
				BytesTotal: r.Newest.Size})
		}
		if len(steps) == 0 {
			return block.Errorf(block.NotFound, "A replica of volume %s could not be found.", req.Volume)
		}
		_, err = startOperation(tx, &op, steps, jobVerify)
		return err
	})
	return op, err
}

// runVerify takes a verification to its end. What was read is not read again when
// it is interrupted.
func (s *Service) runVerify(ctx context.Context, t *job.Task) error {
	if !s.operating.enter(verifyTurn) {
		return job.Snooze(verifyRest, nil)
	}
	defer s.operating.leave(verifyTurn)
	var op block.Operation
	var steps []block.OperationStep
	err := s.catalog.Update(ctx, func(tx *catalog.Tx) (err error) {
		if op, err = tx.Operation(t.Job.Subject); err != nil {
			return err
		}
		if steps, err = tx.OperationSteps(op.ID); err != nil {
			return err
		}
		return started(tx, op)
	})
	if err != nil || op.Status.Ended() {
		return err
	}
	for _, step := range steps {
		if step.Status.Ended() {
			continue
		}
		if err := s.verifyStep(ctx, step); err != nil {
			return err
		}
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
		op.Status, op.EndedAt = block.OperationSucceeded, tx.Now
		for _, step := range steps {
			if step.Status == block.StepFailed {
				op.Status, op.Message = block.OperationFailed, step.Name+": "+step.Error
			} else if step.Status == block.StepCanceled && op.Status == block.OperationSucceeded {
				op.Status, op.Message = block.OperationCanceled, "It was canceled."
			}
		}
		return first(tx.UpdateOperation(op), auditOperation(tx, op.User, string(op.Status), op, ""),
			tx.ForgetOperations(op.Project, op.Kind, keepVerifications))
	})
}

// stepUpdate changes a step of an operation.
func (s *Service) stepUpdate(ctx context.Context, of block.OperationStep,
	change func(*catalog.Tx, *block.OperationStep) error) error {
	return s.catalog.Update(ctx, func(tx *catalog.Tx) error {
		step, err := tx.OperationStep(of.Operation, of.Seq)
		if err != nil {
			return err
		}
		if err := change(tx, &step); err != nil {
			return err
		}
		return tx.UpdateOperationStep(step)
	})
}

func (s *Service) verifyStep(ctx context.Context, step block.OperationStep) error {
	canceled := false
	err := s.stepUpdate(ctx, step, func(tx *catalog.Tx, now *block.OperationStep) error {
		canceled = now.Status.Ended()
		if now.Status == block.StepWaiting {
			now.Status, now.StartedAt = block.StepRunning, tx.Now
		}
		return nil
	})
	if err != nil || canceled {
		return err
	}
	progress := func(done, total int64) {
		err := s.stepUpdate(ctx, step, func(_ *catalog.Tx, now *block.OperationStep) error {
			now.BytesDone, now.BytesTotal = done, total
			return nil
		})
		if err != nil && ctx.Err() == nil {
			s.log.Error("progress could not be noted", "operation", step.Operation, "err", err)
		}
	}
	began := s.now()
	res, err := s.cfg.DR.Prover.Prove(ctx, step.Replica, progress)
	if err != nil {
		return err
	}
	e := VerifyEvidence{Damaged: res.Damaged, Blocks: res.Repaired, Note: res.Proof.Note,
		Seconds: s.now().Sub(began).Seconds()}
	if last := res.Proof.Last; !last.At.Before(step.StartedAt) && !last.At.IsZero() {
		e.Point, e.PointAt, e.Root, e.Bytes, e.Points = last.Point, last.PointAt, last.Root, last.Bytes, last.Points
	}
	if res.Whole {
		s.compareSource(ctx, step, &e)
	}
	return s.stepUpdate(ctx, step, func(tx *catalog.Tx, now *block.OperationStep) (err error) {
		now.Status, now.EndedAt, now.BytesDone = block.StepSucceeded, tx.Now, now.BytesTotal
		now.Error = verdictOf(res, e)
		if now.Error != "" {
			now.Status = block.StepFailed
		}
		now.Evidence, err = json.Marshal(e)
		return err
	})
}

// compareSource has the volume's zone read its own bytes, if it answers.
func (s *Service) compareSource(ctx context.Context, step block.OperationStep, e *VerifyEvidence) {
	c, err := s.cfg.DR.Prover.Compare(ctx, step.Replica, func(int64, int64) {})
	if err != nil {
		message, ok := block.UserMessage(err)
		if !ok {
			message = "the log of this zone says why"
			s.log.Error("a volume's own zone could not be compared", "replica", step.Replica, "err", err)
		}
		e.Note = "The volume's own zone was not compared: " + message
		return
	}
	e.Source = &VerifiedSource{Point: c.Point, PointAt: c.PointAt, Root: c.Source, Meant: c.Root, Equal: c.Equal(),
		Bytes: c.Bytes, Seconds: c.Took.Seconds()}
}

// verdictOf is what is wrong; "" for nothing.
func verdictOf(res proof.Result, e VerifyEvidence) string {
	switch {
	case e.Source != nil && !e.Source.Equal:
		return "The volume's own zone has other bytes than were committed; the replica is whole."
	case res.Whole:
		return ""
	case e.Point != "" && len(res.Damaged) > 0:
		return fmt.Sprintf("The newest point is whole, and %d older points are damaged.", len(res.Damaged))
	case len(res.Damaged) > 0:
		return fmt.Sprintf("%d points are damaged. %s", len(res.Damaged), e.Note)
	}
	return "There is nothing to be read: the volume was deleted, or has no point."
}

// gaveUpVerify ends a verification that could not go on.
func gaveUpVerify(tx *catalog.Tx, j block.Job, _ error) error {
	op, err := tx.Operation(j.Subject)
	if err != nil || op.Status.Ended() {
		return ignoring(block.NotFound, err)
	}
	steps, err := tx.OperationSteps(op.ID)
	if err != nil {
		return err
	}
	for _, step := range steps {
		if !step.Status.Ended() {
			step.Status, step.Error, step.EndedAt = block.StepFailed, "It could not go on; the zone's log says why.", tx.Now
			if err := tx.UpdateOperationStep(step); err != nil {
				return err
			}
		}
	}
	op.Status, op.EndedAt, op.Message = block.OperationFailed, tx.Now, "It could not go on."
	return tx.UpdateOperation(op)
}
