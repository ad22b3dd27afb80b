package control

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"kvol/internal/block"
	"kvol/internal/catalog"
)

// MaxRecovered is how many volumes one operation recovers at most.
const MaxRecovered = 10000

// maxParallel is how many volumes an operation may fill at once.
const maxParallel = 256

// stepParams is what the steps of a recovery need beside what all see.
type stepParams struct {
	GoOn bool `json:"go_on,omitempty"` // the next stage begins even if this step fails

	Hook    string `json:"hook,omitempty"`
	When    string `json:"when,omitempty"`    // before or after
	Seconds int    `json:"seconds,omitempty"` // that a hook may take, or that are waited

	Parallel  int          `json:"parallel,omitempty"`
	Type      block.TypeID `json:"type,omitempty"`
	Name      string       `json:"name,omitempty"`
	Zone      string       `json:"availability_zone,omitempty"`
	Newest    bool         `json:"newest,omitempty"` // whatever that is when the step begins
	Again     bool         `json:"again,omitempty"`
	OverQuota bool         `json:"over_quota,omitempty"`
	// AcceptRivals are the zones whose silence is no hindrance.
	AcceptRivals []block.Zone `json:"accept_rivals,omitempty"`

	Order json.RawMessage `json:"order,omitempty"` // of the job, once the step began
}

func paramsOf(step block.OperationStep) (p stepParams, err error) {
	if len(step.Params) > 0 {
		err = json.Unmarshal(step.Params, &p)
	}
	return p, err
}

func (p stepParams) text() json.RawMessage {
	text, _ := json.Marshal(p) // it has a JSON form
	return text
}

// StartRecovery begins to recover volumes of other zones in this one, and
// returns the operation; with DryRun only what it would do. Everything that can
// be known is checked before anything begins: OverLimit for a quota, Conflict
// for volumes that can't be recovered and for a loss that was not accepted,
// NotFound for a scope without volumes that the caller may see. With an
// idempotency key one operation is begun however often it is asked for.
func (s *Service) StartRecovery(ctx context.Context, c block.Caller, req block.RecoveryRequest) (
	op block.Operation, f Forecast, err error,
) {
	if err := first(mayWrite(c, "kvol:recover"), checkRecovery(c, req)); err != nil {
		return op, f, err
	}
	op = block.Operation{Kind: block.OperationRecover, Project: c.Project, User: c.User, Key: req.IdempotencyKey}
	asked := req
	asked.IdempotencyKey, asked.DryRun = "", false
	if op.Request, err = json.Marshal(asked); err != nil {
		return op, f, err
	}
	if op.Key != "" && !req.DryRun {
		found, again, err := s.begun(ctx, op)
		if again || err != nil {
			return found, f, err
		}
	}
	f, plan, err := s.forecast(ctx, c, req)
	if err != nil || req.DryRun {
		return op, f, err
	}
	if err := f.refuse(req, s.cfg.Zone); err != nil {
		return op, f, err
	}
	if s.cfg.DR.SecondConsent && f.Loss.Seconds > 0 {
		op.Status, op.Message = block.OperationConsent, "Another administrator must agree, since writes may be lost."
	}
	steps := s.stepsOf(req, plan, f)
	err = s.catalog.Update(ctx, func(tx *catalog.Tx) error {
		again, err := startOperation(tx, &op, steps, jobOperation)
		if again || err != nil {
			return err
		}
		for _, step := range steps {
			if step.Kind == block.StepRecover && step.Status == block.StepWaiting && !f.named(step.Source) {
				continue
			}
			if step.Kind == block.StepRecover && step.Status == block.StepWaiting {
				if err := tx.Pin(step.Replica, step.Point.ID, stepHolder(step)); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err == nil {
		s.log.Info("a recovery begins", "operation", op.ID, "volumes", len(f.Volumes), "status", op.Status, "user", c.User)
	}
	return op, f, err
}

// named reports whether a volume's point was chosen for good.
func (f Forecast) named(id block.VolumeID) bool {
	return slices.ContainsFunc(f.Volumes, func(v ForecastVolume) bool { return v.Source == id && v.named })
}

// begun finds the operation that was begun with the same key.
func (s *Service) begun(ctx context.Context, op block.Operation) (found block.Operation, again bool, err error) {
	err = s.catalog.View(ctx, func(tx *catalog.Tx) error {
		found = op
		again, err = operationAgain(tx, &found)
		return err
	})
	return found, again, err
}

func stepHolder(step block.OperationStep) string {
	return fmt.Sprintf("operation/%s/%d", step.Operation, step.Seq)
}

// checkRecovery refuses a request that can't be meant.
func checkRecovery(c block.Caller, req block.RecoveryRequest) error {
	named := 0
	for _, is := range []bool{len(req.Scope.Volumes) > 0, req.Scope.Group != "", req.Scope.Project != "",
		req.Scope.Plan != ""} {
		if is {
			named++
		}
	}
	points := 0
	for _, is := range []bool{req.Point.At != nil, req.Point.Name != "", req.Point.LastClean} {
		if is {
			points++
		}
	}
	switch {
	case req.Scope.Empty():
		return block.Errorf(block.Invalid, "scope must name volumes, a group, a project, a plan or a zone.")
	case named > 1:
		return block.Errorf(block.Invalid, "scope names one of volumes, group, project and plan.")
	case len(req.Scope.Volumes) > MaxRecovered:
		return block.Errorf(block.Invalid, "scope names more than %d volumes.", MaxRecovered)
	case points > 1:
		return block.Errorf(block.Invalid, "point names one of at, name and last_clean.")
	case req.Parallel < 0 || req.Parallel > maxParallel:
		return block.Errorf(block.Invalid, "parallel must be between 1 and %d.", maxParallel)
	case req.OverQuota && !c.Admin():
		return block.Errorf(block.Forbidden, "Only an administrator may recover over quota.")
	case len(req.AcceptRivals) > 0 && !c.Admin():
		return block.Errorf(block.Forbidden, "Only an administrator may say of other zones that they are lost.")
	case len(req.AcceptRivals) > block.EpochClasses:
		return block.Errorf(block.Invalid, "accept_rivals names more than %d zones.", block.EpochClasses)
	}
	return nil
}

// refuse says what stands in the way.
func (f Forecast) refuse(req block.RecoveryRequest, zone block.Zone) error {
	if len(f.Volumes) > MaxRecovered {
		return block.Errorf(block.Invalid, "%d volumes are meant, more than %d.", len(f.Volumes), MaxRecovered)
	}
	kind, count := block.Conflict, 0
	var texts []string
	say := func(p Problem) {
		if p.Kind == "quota" {
			kind = block.OverLimit
		}
		if len(texts) < 3 && !slices.Contains(texts, p.Text) {
			texts = append(texts, p.Text)
		}
	}
	for _, p := range f.Problems {
		say(p)
	}
	for _, v := range f.Volumes {
		if len(v.Problems) == 0 {
			continue
		}
		count++
		if !req.SkipUnrecoverable {
			say(v.Problems[0])
		}
	}
	switch {
	case len(f.Problems) > 0:
		return block.Errorf(kind, "It does not fit into zone %s: %s", zone, strings.Join(texts, " "))
	case count > 0 && (!req.SkipUnrecoverable || count == len(f.Volumes)):
		if len(texts) == 0 {
			say(f.Volumes[0].Problems[0])
		}
		return block.Errorf(kind, "%d of %d volumes can't be recovered so: %s dry_run lists all, skip_unrecoverable leaves "+
			"them out.", count, len(f.Volumes), strings.Join(texts, " "))
	case f.Loss.Seconds+float64(f.Loss.Later) > 0 && !req.AcceptLoss:
		return block.Errorf(
			block.Conflict,
			"What was written since %s (up to %.1f seconds) may be lost; accept_loss must say "+
				"that it may. dry_run tells more.",
			f.Loss.Since.UTC().Format("2006-01-02T15:04:05.000Z"),
			f.Loss.Seconds,
		)
	}
	return nil
}

// stepsOf are the steps of a recovery: for each wave what is waited, a hook, the
// volumes, and a hook.
func (s *Service) stepsOf(
	req block.RecoveryRequest,
	plan block.RecoveryPlan,
	f Forecast,
) (steps []block.OperationStep) {
	stage := 0
	add := func(step block.OperationStep, p stepParams) {
		step.Seq, step.Stage, step.Params = len(steps), stage, p.text()
		step.Status = cmp.Or(step.Status, block.StepWaiting)
		steps = append(steps, step)
	}
	for i, w := range plan.Waves {
		about := func(kind block.StepKind, name string) block.OperationStep {
			return block.OperationStep{Kind: kind, Name: name, Wave: i + 1}
		}
		if w.WaitSeconds > 0 {
			add(about(block.StepWait, fmt.Sprintf("wait %d s", w.WaitSeconds)), stepParams{Seconds: w.WaitSeconds})
			stage++
		}
		if w.Before != "" {
			add(about(block.StepHook, "hook "+w.Before), stepParams{Hook: w.Before, When: "before", Seconds: w.HookSeconds,
				GoOn: w.GoOn})
			stage++
		}
		for _, v := range f.Volumes {
			if v.Wave == i+1 {
				step := about(block.StepRecover, "volume "+cmp.Or(v.Name, string(v.Source)))
				p := stepParams{GoOn: w.GoOn || len(v.Problems) > 0, Parallel: cmp.Or(w.Parallel, req.Parallel,
					s.cfg.DR.parallel()), Again: req.Again, OverQuota: req.OverQuota, AcceptRivals: req.AcceptRivals}
				add(v.step(step, &p), p)
			}
		}
		stage++
		if w.After != "" {
			add(about(block.StepHook, "hook "+w.After), stepParams{Hook: w.After, When: "after", Seconds: w.HookSeconds,
				GoOn: w.GoOn})
			stage++
		}
	}
	return steps
}

// step completes the step of a volume. One that can't be recovered is skipped.
func (v ForecastVolume) step(step block.OperationStep, p *stepParams) block.OperationStep {
	step.SourceZone, step.Source, step.Replica, step.Project = v.SourceZone, v.Source, v.replica.ID, v.Project
	step.Point, step.Loss = v.Point, v.Loss
	if v.Point != nil {
		step.BytesTotal = v.Point.Size
	}
	p.Type, p.Name, p.Zone, p.Newest = v.Type.ID, v.Name, v.Zone, !v.named
	if len(v.Problems) > 0 {
		step.Status, step.Error = block.StepSkipped, v.Problems[0].Text
	}
	return step
}

// ConsentOperation lets an operation begin that waits for a second
// administrator: another one than who asked for it.
func (s *Service) ConsentOperation(ctx context.Context, c block.Caller, id string) (op block.Operation, err error) {
	err = s.catalog.Update(ctx, func(tx *catalog.Tx) error {
		if op, err = operationOf(tx, c, id); err != nil {
			return err
		}
		if !c.Admin() {
			return forbid("kvol:consent")
		}
		if op.Consent == c.User && c.User != "" {
			return nil
		}
		switch {
		case op.Status != block.OperationConsent:
			return block.Errorf(block.Conflict, "Operation %s does not wait for consent; it is %s.", id, op.Status)
		case !tx.Now.Before(op.CreatedAt.Add(s.cfg.DR.consentFor())):
			return errConsentLate(id)
		case c.User == op.User:
			return block.Errorf(block.Forbidden, "Another person than who asked for it must agree.")
		}
		op.Consent, op.Status, op.Message = c.User, block.OperationWaiting, ""
		return first(tx.UpdateOperation(op), auditOperation(tx, c.User, "consent", op, ""),
			enqueue(tx, jobOperation, op.ID, nil))
	})
	return op, err
}
