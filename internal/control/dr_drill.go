package control

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/drill"
)

const (
	// MaxDrilled is how many volumes one drill has at most.
	MaxDrilled = 1000

	maxProbes        = 8
	maxDrillTime     = 24 * 60 * 60 // seconds
	maxWatch         = 60 * 60
	defaultDrillTime = time.Hour
	defaultWatch     = 6 // seconds: idle volumes are heard of every five
	defaultKept      = 200
	defaultScratch   = 64 << 30

	drillHolder = "drill" // of pins: drill/OPERATION/STEP
)

// Probe is what the operator lets drills look at their clones with: a URL or a
// command, one of the two.
type Probe struct {
	Hook
	Tenants bool // may use it; else administrators only
}

func (d DR) keepDrills() int { return cmp.Or(d.KeepDrills, defaultKept) }

func (d DR) drillScratch() int64 { return cmp.Or(d.DrillScratch, defaultScratch) }

// drillParams is what the steps of a drill need beside what all see.
type drillParams struct {
	Seconds int `json:"seconds,omitempty"` // of a watch

	Name     string   `json:"name,omitempty"`    // of the volume
	Backend  string   `json:"backend,omitempty"` // on which a recovery would put it
	Named    bool     `json:"named,omitempty"`   // the point was chosen for good
	Parallel int      `json:"parallel,omitempty"`
	Problems []string `json:"problems,omitempty"` // that a recovery would be refused for

	Probe *block.DrillProbe `json:"probe,omitempty"`
	Of    int               `json:"of,omitempty"` // the clone's step; -1 for all clones
}

func drillParamsOf(step block.OperationStep) (p drillParams, err error) {
	if len(step.Params) > 0 {
		err = json.Unmarshal(step.Params, &p)
	}
	return p, err
}

// drillState is what a drill knows of itself; it is the operation's evidence.
type drillState struct {
	Schedule     string      `json:"schedule,omitempty"` // id
	ScheduleName string      `json:"schedule_name,omitempty"`
	Lives        int         `json:"lives"`             // of the process, in which it ran
	Began        time.Time   `json:"began_at,omitzero"` // to recover
	Marks        []drillMark `json:"marks,omitempty"`
	Problems     []string    `json:"problems,omitempty"` // of no single volume
	Notes        []string    `json:"notes,omitempty"`
	Verdict      string      `json:"verdict,omitempty"`
}

func drillStateOf(op block.Operation) (st drillState, err error) {
	if len(op.Evidence) > 0 {
		err = json.Unmarshal(op.Evidence, &st)
	}
	return st, err
}

func drillPin(operation string, seq int) string {
	return fmt.Sprintf("%s/%s/%d", drillHolder, operation, seq)
}

// StartDrill begins a drill: what is named is recovered in this zone as isolated
// clones, as a recovery would, which are looked at and deleted. Sources and
// their replication are not touched. NotFound is for a scope without volumes
// that the caller may see, Conflict where none of them could be recovered.
func (s *Service) StartDrill(ctx context.Context, c block.Caller, req block.DrillRequest) (block.Operation, error) {
	return s.startDrill(ctx, c, req, drillState{}, nil)
}

// startDrill is StartDrill for a schedule, too; also runs in the transaction
// that begins the drill, or that finds that it was begun.
func (s *Service) startDrill(ctx context.Context, c block.Caller, req block.DrillRequest, st drillState,
	also func(*catalog.Tx, block.Operation) error) (op block.Operation, err error) {
	if err := first(mayWrite(c, "kvol:drill"), s.checkDrill(c, req)); err != nil {
		return op, err
	}
	op = block.Operation{Kind: block.OperationDrill, Project: c.Project, User: c.User, Key: req.IdempotencyKey}
	asked := req
	asked.IdempotencyKey = ""
	if op.Request, err = json.Marshal(asked); err != nil {
		return op, err
	}
	if op.Key != "" && also == nil {
		if found, again, err := s.begun(ctx, op); again || err != nil {
			return found, err
		}
	}
	// A drill takes nothing over: who else has a replica, and is silent, is no matter.
	f, plan, err := s.forecast(ctx, c, block.RecoveryRequest{Scope: req.Scope, Point: req.Point, Mapping: req.Mapping,
		Parallel: req.Parallel, OverQuota: req.OverQuota, AcceptRivals: s.otherZones()})
	if err != nil {
		return op, err
	}
	if err := refuseDrill(f); err != nil {
		return op, err
	}
	steps, err := s.drillSteps(req, plan, f)
	if err != nil {
		return op, err
	}
	for _, p := range f.Problems {
		st.Problems = append(st.Problems, p.Text)
	}
	if slices.ContainsFunc(
		plan.Waves,
		func(w block.RecoveryWave) bool { return w.Before+w.After != "" || w.WaitSeconds > 0 },
	) {
		st.Notes = append(st.Notes, "The plan's waits and hooks are left out of drills: hooks act on what is real.")
	}
	if op.Evidence, err = json.Marshal(st); err != nil {
		return op, err
	}
	err = s.catalog.Update(ctx, func(tx *catalog.Tx) error { return beginDrill(tx, &op, steps, also) })
	if err == nil {
		s.log.Info("a drill begins", "operation", op.ID, "volumes", len(f.Volumes), "user", c.User)
	}
	return op, err
}

// beginDrill writes a drill, and pins the points that were chosen for good.
func beginDrill(tx *catalog.Tx, op *block.Operation, steps []block.OperationStep,
	also func(*catalog.Tx, block.Operation) error) error {
	again, err := startOperation(tx, op, steps, jobDrill)
	if err != nil {
		return err
	}
	for _, step := range steps {
		if again || step.Kind != block.StepClone || step.Status != block.StepWaiting || step.Point == nil {
			continue
		}
		if err := tx.Pin(step.Replica, step.Point.ID, drillPin(op.ID, step.Seq)); err != nil {
			return err
		}
	}
	if also != nil {
		return also(tx, *op)
	}
	return nil
}

// checkDrill refuses a request that can't be meant, and probes that the caller
// may not use.
func (s *Service) checkDrill(c block.Caller, req block.DrillRequest) error {
	if err := checkRecovery(c, block.RecoveryRequest{Scope: req.Scope, Point: req.Point, Parallel: req.Parallel,
		OverQuota: req.OverQuota}); err != nil {
		return err
	}
	switch {
	case len(req.Probes) > maxProbes:
		return block.Errorf(block.Invalid, "A drill has at most %d probes.", maxProbes)
	case req.WatchSeconds < 0 || req.WatchSeconds > maxWatch:
		return block.Errorf(block.Invalid, "watch_seconds must be between 1 and %d.", maxWatch)
	case req.TimeoutSeconds < 0 || req.TimeoutSeconds > maxDrillTime:
		return block.Errorf(block.Invalid, "timeout_seconds must be between 1 and %d.", maxDrillTime)
	}
	for i, p := range req.Probes {
		if err := s.checkProbe(c, p); err != nil {
			text, _ := block.UserMessage(err)
			return block.Errorf(block.KindOf(err), "probes[%d]: %s", i, text)
		}
	}
	return nil
}

func (s *Service) checkProbe(c block.Caller, p block.DrillProbe) error {
	known, ok := s.cfg.DR.Probes[p.Name]
	fits := known.URL != "" && p.Kind == block.ProbeHTTP || len(known.Command) > 0 && p.Kind == block.ProbeCommand
	switch {
	case p.TimeoutSeconds < 0 || p.TimeoutSeconds > maxDrillTime:
		return block.Errorf(block.Invalid, "timeout_seconds must be between 1 and %d.", maxDrillTime)
	case p.Kind == block.ProbeVerify || p.Kind == block.ProbeFsck:
		if p.Name != "" {
			return block.Errorf(block.Invalid, "a probe of kind %s has no name.", p.Kind)
		}
		return nil
	case p.Kind != block.ProbeCommand && p.Kind != block.ProbeHTTP:
		return block.Errorf(block.Invalid, "kind is verify, fsck, command or http.")
	case !ok || !fits || !known.Tenants && !c.Admin():
		return block.Errorf(block.Invalid, "the zone's configuration has no %s called %q for you.", p.Kind, p.Name)
	}
	return nil
}

// refuseDrill refuses a drill in which nothing could be recovered.
func refuseDrill(f Forecast) error {
	if len(f.Volumes) > MaxDrilled {
		return block.Errorf(block.Invalid, "%d volumes are meant, more than %d.", len(f.Volumes), MaxDrilled)
	}
	for _, p := range f.Problems {
		if p.Kind == "room" {
			return block.Errorf(block.Conflict, "%s", p.Text)
		}
	}
	for _, v := range f.Volumes {
		if !v.stuck() {
			return nil
		}
	}
	return block.Errorf(block.Conflict, "Nothing of it could be recovered: %s", f.Volumes[0].Problems[0].Text)
}

// stuck reports whether no clone of the volume can be made.
func (v ForecastVolume) stuck() bool {
	return v.Point == nil || slices.ContainsFunc(v.Problems, func(p Problem) bool { return p.Kind != "quota" })
}

// drillSteps are the steps of a drill: it watches, makes the clones wave by wave,
// looks at them, deletes them, and watches again.
func (s *Service) drillSteps(req block.DrillRequest, plan block.RecoveryPlan, f Forecast) (
	steps []block.OperationStep, err error,
) {
	stage := 0
	add := func(step block.OperationStep, p drillParams) {
		step.Seq, step.Stage = len(steps), stage
		step.Status = cmp.Or(step.Status, block.StepWaiting)
		text, failed := json.Marshal(p)
		step.Params, err = text, first(err, failed)
		steps = append(steps, step)
	}
	watch := func(name string) {
		add(block.OperationStep{Kind: block.StepWatch, Name: name},
			drillParams{Seconds: cmp.Or(req.WatchSeconds, defaultWatch)})
		stage++
	}
	watch("watch replication before")
	clones := s.cloneSteps(req, plan, f)
	for _, one := range clones {
		stage = one.step.Wave // after the watch
		add(one.step, one.params)
	}
	stage = len(plan.Waves) + 1
	probes := req.Probes
	if len(probes) == 0 {
		probes = []block.DrillProbe{{Kind: block.ProbeVerify}}
	}
	for _, p := range probes {
		if p.Kind == block.ProbeCommand || p.Kind == block.ProbeHTTP {
			add(block.OperationStep{Kind: block.StepProbe, Name: string(p.Kind) + " " + p.Name}, drillParams{Probe: &p, Of: -1})
			stage++
			continue
		}
		for i, one := range clones {
			step := block.OperationStep{Kind: block.StepProbe, Wave: one.step.Wave, SourceZone: one.step.SourceZone,
				Source: one.step.Source, Name: string(p.Kind) + " " + cmp.Or(one.params.Name, string(one.step.Source))}
			if one.step.Status == block.StepFailed {
				step.Status, step.Error = block.StepSkipped, "There is no clone of it."
			}
			add(step, drillParams{Probe: &p, Of: i + 1, Parallel: one.params.Parallel})
		}
		stage++
	}
	add(block.OperationStep{Kind: block.StepClean, Name: "delete the clones"}, drillParams{})
	stage++
	watch("watch replication after")
	return steps, err
}

type cloneStep struct {
	step   block.OperationStep
	params drillParams
}

// cloneSteps are the steps of the clones, wave by wave. Where a recovery could
// not begin, the step has failed already.
func (s *Service) cloneSteps(req block.DrillRequest, plan block.RecoveryPlan, f Forecast) (all []cloneStep) {
	for wave := 1; wave <= len(plan.Waves); wave++ {
		for _, v := range f.Volumes {
			if v.Wave != wave {
				continue
			}
			step := block.OperationStep{Kind: block.StepClone, Wave: wave, SourceZone: v.SourceZone, Source: v.Source,
				Replica: v.replica.ID, Name: "volume " + cmp.Or(v.Name, string(v.Source))}
			p := drillParams{Name: v.Name, Named: v.named, Parallel: cmp.Or(plan.Waves[wave-1].Parallel, req.Parallel,
				s.cfg.DR.parallel())}
			for _, problem := range v.Problems {
				p.Problems = append(p.Problems, problem.Text)
			}
			if backend, err := s.nearest(&v.Type, v.replica.Backend); err == nil {
				p.Backend = backend
			}
			switch {
			case v.stuck():
				step.Status, step.Error = block.StepFailed, v.Problems[0].Text
			case v.named:
				step.Point = v.Point
			}
			all = append(all, cloneStep{step, p})
		}
	}
	return all
}

// cancelDrill has a drill stop, from whatever step it is at. It cleans up.
func cancelDrill(tx *catalog.Tx, c block.Caller, op block.Operation) (block.Operation, error) {
	if op.Status.Ended() {
		return op, block.Errorf(block.Conflict, "Drill %s is %s, and can't be canceled any more.", op.ID, op.Status)
	}
	if op.Cancel != "" {
		return op, nil
	}
	op.Cancel, op.Message = cmp.Or(c.User, "?"), "It was canceled."
	return op, first(tx.UpdateOperation(op), auditOperation(tx, c.User, "cancel", op, ""))
}

// byRecovery is who canceled a drill that made way for a real recovery.
const byRecovery = "a recovery"

// yieldDrills has drills that have a clone of a replica stop, since its source
// is recovered in earnest. Nothing waits for them.
func yieldDrills(tx *catalog.Tx, r block.Replica) error {
	ids, err := tx.DrillsOf(r.ID)
	for _, id := range ids {
		op, err := tx.Operation(id)
		if err != nil || op.Status.Ended() || op.Cancel != "" {
			if err := ignoring(block.NotFound, err); err != nil {
				return err
			}
			continue
		}
		op.Cancel = byRecovery
		op.Message = fmt.Sprintf("Volume %s of zone %s is recovered in earnest.", r.Source, r.SourceZone)
		if err := tx.UpdateOperation(op); err != nil {
			return err
		}
	}
	return err
}

// drillOf returns a drill that the caller may see.
func drillOf(tx *catalog.Tx, c block.Caller, id string) (block.Operation, error) {
	op, err := operationOf(tx, c, id)
	if err == nil && op.Kind != block.OperationDrill {
		err = errNoOperation(id)
	}
	return op, err
}

// DrillReport returns the report of a drill that ended.
func (s *Service) DrillReport(ctx context.Context, c block.Caller, id string) (r drill.Report, err error) {
	err = s.catalog.View(ctx, func(tx *catalog.Tx) error {
		op, err := drillOf(tx, c, id)
		if err != nil {
			return err
		}
		if !op.Status.Ended() {
			return block.Errorf(block.Conflict, "Drill %s is %s; its report is made when it ends.", id, op.Status)
		}
		kept, err := tx.DrillReport(id)
		if err != nil {
			return err
		}
		r, err = drill.Read(kept.Report)
		return err
	})
	return r, err
}
