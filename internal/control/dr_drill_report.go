package control

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/drill"
)

// DrillFailed is what a DREvent says of a drill that did not pass.
const DrillFailed block.HealthState = "drill-failed"

// conclude makes the report and ends the drill, in one transaction.
func (r *drillRun) conclude(ctx context.Context) error {
	return r.s.catalog.Update(ctx, func(tx *catalog.Tx) error {
		op, err := tx.Operation(r.id)
		if err != nil || op.Status.Ended() {
			return err
		}
		report, err := r.report(tx, op)
		if err != nil {
			return err
		}
		if err := r.s.keepRTOsOf(tx, op, report); err != nil {
			return err
		}
		return r.s.endDrill(tx, op, r.state, report)
	})
}

// endDrill writes a drill's end with its report.
func (s *Service) endDrill(tx *catalog.Tx, op block.Operation, st drillState, report drill.Report) error {
	text, err := report.JSON()
	if err != nil {
		return err
	}
	op.Status = map[string]block.OperationStatus{block.DrillPassed: block.OperationSucceeded,
		block.DrillFailed: block.OperationFailed, block.DrillCanceled: block.OperationCanceled}[report.Verdict]
	op.EndedAt, op.Message = tx.Now, ""
	if len(report.Reasons) > 0 {
		op.Message = report.Reasons[0]
	}
	if report.ServedAt != nil {
		op.ServedAt = *report.ServedAt
	}
	st.Verdict = report.Verdict
	if op.Evidence, err = json.Marshal(st); err != nil {
		return err
	}
	event := block.DREvent{Kind: "drill", SourceZone: s.cfg.Zone, Project: op.Project, To: block.HealthOK,
		Text: fmt.Sprintf("Drill %s passed.", op.ID)}
	switch report.Verdict {
	case block.DrillFailed:
		event.To, event.Text = DrillFailed, fmt.Sprintf("Drill %s failed: %s", op.ID, op.Message)
	case block.DrillCanceled:
		event.Text = fmt.Sprintf("Drill %s ended before its time: %s", op.ID, op.Message)
	}
	s.log.Info("a drill ended", "operation", op.ID, "verdict", report.Verdict, "text", op.Message)
	return first(tx.UpdateOperation(op), auditOperation(tx, op.User, string(op.Status), op, ""),
		tx.InsertDREvents([]block.DREvent{event}),
		tx.InsertDrillReport(block.DrillReport{Operation: op.ID, Project: op.Project, Schedule: st.Schedule,
			Verdict: report.Verdict, Report: text}, s.cfg.DR.keepDrills()))
}

// keepRTOsOf keeps how long the volumes of a drill took. Those of a drill during
// which the process ended say nothing.
func (s *Service) keepRTOsOf(tx *catalog.Tx, op block.Operation, report drill.Report) error {
	for i, v := range report.Volumes {
		if v.Served == nil || report.Restarts > 0 {
			continue
		}
		err := tx.InsertRTO(block.RTO{Kind: block.RTODrill, Subject: fmt.Sprintf("%s/%d", op.ID, i), At: tx.Now, Way: v.Way,
			Bytes: v.Size, Took: time.Duration((v.Clone + v.Open) * float64(time.Second))})
		if err != nil {
			return err
		}
	}
	return nil
}

// report sums a drill up.
func (r *drillRun) report(tx *catalog.Tx, op block.Operation) (out drill.Report, err error) {
	steps, err := tx.OperationSteps(r.id)
	if err != nil {
		return out, err
	}
	out = r.s.reportOf(op, r.state, tx.Now)
	subjects := map[int]int{} // by the clone's step
	for _, step := range steps {
		p, err := drillParamsOf(step)
		if err != nil {
			return out, err
		}
		out.Steps = append(out.Steps, stepReport(step))
		switch step.Kind {
		case block.StepClone:
			subjects[step.Seq] = len(out.Volumes)
			v, err := volumeReport(step, p)
			if err != nil {
				return out, err
			}
			out.Volumes = append(out.Volumes, v)
		case block.StepProbe:
			one, err := probeReport(step, p)
			if err != nil {
				return out, err
			}
			if i, ok := subjects[p.Of]; ok {
				out.Volumes[i].Probes = append(out.Volumes[i].Probes, one)
			} else {
				out.Probes = append(out.Probes, one)
			}
		}
	}
	if out.Pairs, out.CopiedAgain, err = r.pairs(tx); err != nil {
		return out, err
	}
	left, err := tx.DrillClones(r.id)
	out.ClonesLeft = len(left)
	sumUp(&out)
	judgeDrill(&out, op, r.state, steps)
	return out, err
}

// reportOf begins a report.
func (s *Service) reportOf(op block.Operation, st drillState, now time.Time) drill.Report {
	out := drill.Report{ID: op.ID, Zone: s.cfg.Zone, Project: op.Project, User: op.User, Schedule: st.ScheduleName,
		Reasons: []string{}, Notes: append([]string{}, st.Notes...), CreatedAt: op.CreatedAt, EndedAt: now,
		Restarts: max(0, st.Lives-1), Steps: []drill.Step{}, Volumes: []drill.Subject{}, Probes: []drill.Probe{},
		Pairs: []drill.Pair{}}
	if err := json.Unmarshal(op.Request, &out.Request); err != nil {
		s.log.Error("the request of a drill can't be read", "operation", op.ID, "err", err)
	}
	if !st.Began.IsZero() {
		out.StartedAt = &st.Began
	}
	return out
}

func took(step block.OperationStep) float64 {
	if step.StartedAt.IsZero() || step.EndedAt.IsZero() {
		return 0
	}
	return step.EndedAt.Sub(step.StartedAt).Seconds()
}

func stepReport(step block.OperationStep) drill.Step {
	out := drill.Step{Name: step.Name, Kind: step.Kind, Wave: step.Wave, Status: step.Status, Seconds: took(step),
		Error: step.Error}
	if !step.StartedAt.IsZero() {
		out.Begun = &step.StartedAt
	}
	return out
}

func volumeReport(step block.OperationStep, p drillParams) (drill.Subject, error) {
	v := drill.Subject{SourceZone: step.SourceZone, Source: step.Source, Name: p.Name, Wave: step.Wave,
		Status: step.Status, Error: step.Error, Probes: []drill.Probe{}}
	if step.Point != nil {
		v.Point, v.At, v.Root, v.Size = step.Point.ID, &step.Point.At, step.Point.Root.String(), step.Point.Size
	}
	if step.Status != block.StepSucceeded {
		return v, nil
	}
	var e cloneEvidence
	if err := json.Unmarshal(step.Evidence, &e); err != nil {
		return v, err
	}
	v.Way, v.Clone, v.Open, v.Age, v.Served = e.Way, e.Clone, e.Open, e.Age, &e.Served
	return v, nil
}

func probeReport(step block.OperationStep, p drillParams) (drill.Probe, error) {
	out := drill.Probe{Kind: p.Probe.Kind, Name: p.Probe.Name, Status: step.Status, Seconds: took(step), Text: step.Error}
	var e probeEvidence
	if len(step.Evidence) > 0 {
		if err := json.Unmarshal(step.Evidence, &e); err != nil {
			return out, err
		}
	}
	if out.Output = e.Output; out.Text == "" {
		out.Text = e.Text
	}
	return out, nil
}

// sumUp derives the figures of all volumes together.
func sumUp(out *drill.Report) {
	var points []time.Time
	served, last := len(out.Volumes) > 0, 0.0
	for _, v := range out.Volumes {
		if v.At != nil {
			points = append(points, *v.At)
		}
		if v.Served == nil {
			served = false
			continue
		}
		out.ClonesMade++
		last = max(last, *v.Served)
		if v.Way == "copy" {
			out.Copied += v.Size
		}
	}
	out.Spread = drill.Spread(points).Seconds()
	out.OneInstant = len(points) == len(out.Volumes) && out.Spread == 0
	if served && out.StartedAt != nil {
		at := out.StartedAt.Add(time.Duration(last * float64(time.Second)))
		out.RTO, out.ServedAt = &last, &at
	}
	if out.Restarts > 0 {
		out.Notes = append(out.Notes, "The zone's process ended and began again while the drill ran: the times include "+
			"that, and replication was measured since then only.")
	}
}

// judgeDrill gives the verdict: pass only where everything was shown.
func judgeDrill(out *drill.Report, op block.Operation, st drillState, steps []block.OperationStep) {
	say := func(text string, args ...any) {
		const most = 100
		if len(out.Reasons) < most {
			out.Reasons = append(out.Reasons, fmt.Sprintf(text, args...))
		}
	}
	if op.Message != "" {
		say("%s", op.Message)
	}
	probed := 0
	for _, step := range steps {
		switch {
		case step.Status == block.StepFailed:
			say("%s: %s", step.Name, step.Error)
		case step.Status != block.StepSucceeded && op.Message == "" && step.Kind != block.StepClean:
			say("%s was left out: %s", step.Name, step.Error)
		case step.Kind == block.StepProbe && step.Status == block.StepSucceeded:
			probed++
		}
		if p, err := drillParamsOf(step); err == nil && step.Status != block.StepFailed {
			for _, problem := range p.Problems {
				say("%s: a recovery would be refused: %s", step.Name, problem)
			}
		}
	}
	for _, problem := range st.Problems {
		say("A recovery would be refused: %s", problem)
	}
	for _, p := range out.Pairs {
		if p.Whole > 0 {
			say("Replication of protection %d had to send %d volumes whole while the drill ran.", p.Protection, p.Whole)
		}
		if p.Target > 0 && p.During.P99 > p.Target && p.Before.P99 <= p.Target {
			say("Replication of protection %d fell behind its target while the drill ran.", p.Protection)
		}
		if p.During.Seconds == 0 {
			out.Notes = append(out.Notes, fmt.Sprintf("How old the replicas of protection %d were was not measured.",
				p.Protection))
		}
	}
	switch {
	case out.ClonesLeft > 0:
		say("%d clones are not deleted yet.", out.ClonesLeft)
	case probed == 0 && len(out.Reasons) == 0:
		say("Nothing was looked at.")
	}
	switch {
	case op.Cancel != "":
		out.Verdict = block.DrillCanceled
	case len(out.Reasons) > 0:
		out.Verdict = block.DrillFailed
	default:
		out.Verdict = block.DrillPassed
	}
}

// gaveUpDrill fails a drill that can't go on, with a report, and has its clones
// deleted.
func (s *Service) gaveUpDrill(tx *catalog.Tx, j block.Job, cause error) error {
	op, err := tx.Operation(j.Subject)
	if err != nil || op.Status.Ended() {
		return ignoring(block.NotFound, err)
	}
	r := drillRun{s: s, id: op.ID, project: op.Project}
	if r.state, err = drillStateOf(op); err != nil {
		return err
	}
	op.Message = "The drill could not go on: " + r.sentence(cause)
	report, err := r.report(tx, op)
	return first(err, s.endDrill(tx, op, r.state, report), enqueue(tx, jobDrillClean, op.ID, nil))
}
