package control

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/drill"
)

// MaxDrillSchedules is how many schedules of drills a project may have, and a
// list has at most.
const MaxDrillSchedules = 100

const (
	drillTick  = time.Second // between two looks for what is due
	drillSweep = time.Minute // between two looks for clones that are left
	dueAtOnce  = 100
)

// DrillSchedules lists schedules of drills: all for administrators, for others
// those of their project.
func (s *Service) DrillSchedules(ctx context.Context, c block.Caller) (list []block.DrillSchedule, err error) {
	project, most := c.Project, MaxDrillSchedules
	if c.Admin() {
		project, most = "", MaxOperations
	}
	err = s.catalog.View(ctx, func(tx *catalog.Tx) error {
		list, err = tx.DrillSchedules(project, most)
		return err
	})
	return list, err
}

// DrillSchedule returns a schedule by its id, or by its name in the caller's
// project.
func (s *Service) DrillSchedule(ctx context.Context, c block.Caller, id string) (out block.DrillSchedule, err error) {
	err = s.catalog.View(ctx, func(tx *catalog.Tx) error {
		out, err = scheduleOf(tx, c, id)
		return err
	})
	return out, err
}

func scheduleOf(tx *catalog.Tx, c block.Caller, id string) (block.DrillSchedule, error) {
	out, err := tx.DrillSchedule(c.Project, id)
	if err == nil && !sees(c, out.Project) {
		err = block.Errorf(block.NotFound, "Drill schedule %s could not be found.", id)
	}
	if err != nil {
		return block.DrillSchedule{}, err
	}
	return out, nil
}

// CreateDrillSchedule has drills begin by themselves from now on. They have the
// roles that the caller has now.
func (s *Service) CreateDrillSchedule(ctx context.Context, c block.Caller, in block.DrillSchedule) (
	block.DrillSchedule, error,
) {
	w, err := s.checkSchedule(c, in)
	if err := first(mayWrite(c, "kvol:drill"), err); err != nil {
		return in, err
	}
	in.ID, in.Project, in.User, in.Roles = block.NewID(), c.Project, c.User, c.Roles
	err = s.catalog.Update(ctx, func(tx *catalog.Tx) error {
		all, err := tx.DrillSchedules(c.Project, MaxDrillSchedules)
		if err == nil && len(all) >= MaxDrillSchedules {
			err = block.Errorf(block.OverLimit, "A project has at most %d drill schedules.", MaxDrillSchedules)
		}
		if in.NextAt = (time.Time{}); in.Enabled {
			in.NextAt = w.Next(tx.Now)
		}
		return first(err, tx.InsertDrillSchedule(&in), auditSchedule(tx, c, "create", in))
	})
	return in, err
}

// UpdateDrillSchedule changes a schedule. It has the caller's roles from then on.
func (s *Service) UpdateDrillSchedule(ctx context.Context, c block.Caller, id string, in block.DrillSchedule) (
	out block.DrillSchedule, err error,
) {
	err = s.changeSchedule(ctx, c, id, func(tx *catalog.Tx, old block.DrillSchedule) error {
		w, err := s.checkSchedule(c, in)
		if err != nil {
			return err
		}
		out = old
		out.Name, out.When, out.Enabled, out.Request = in.Name, in.When, in.Enabled, in.Request
		out.User, out.Roles, out.NextAt = c.User, c.Roles, time.Time{}
		if in.Enabled {
			out.NextAt = w.Next(tx.Now)
		}
		return first(tx.UpdateDrillSchedule(&out), auditSchedule(tx, c, "update", out))
	})
	return out, err
}

// DeleteDrillSchedule forgets a schedule. Its drills and their reports stay.
func (s *Service) DeleteDrillSchedule(ctx context.Context, c block.Caller, id string) error {
	return s.changeSchedule(ctx, c, id, func(tx *catalog.Tx, old block.DrillSchedule) error {
		return first(tx.DeleteDrillSchedule(old.ID), auditSchedule(tx, c, "delete", old))
	})
}

func (s *Service) changeSchedule(ctx context.Context, c block.Caller, id string,
	fn func(*catalog.Tx, block.DrillSchedule) error) error {
	return s.catalog.Update(ctx, func(tx *catalog.Tx) error {
		old, err := scheduleOf(tx, c, id)
		if err == nil {
			err = authorize(c, "kvol:drill", membersRule, owned(old.Project, old.User))
		}
		if err != nil {
			return err
		}
		return fn(tx, old)
	})
}

func auditSchedule(tx *catalog.Tx, c block.Caller, call string, in block.DrillSchedule) error {
	return tx.InsertAudit(block.Audit{User: string(c.User), Call: "drill schedule " + call, Params: in.ID + " " + in.Name,
		Code: 200})
}

func (s *Service) checkSchedule(c block.Caller, in block.DrillSchedule) (drill.When, error) {
	if strings.TrimSpace(in.Name) == "" || len(in.Name) > maxMetadataLength {
		return drill.When{}, block.Errorf(block.Invalid, "A schedule has a name of 1 to %d bytes.", maxMetadataLength)
	}
	if in.Request.IdempotencyKey != "" {
		return drill.When{}, block.Errorf(block.Invalid, "The drills of a schedule have keys of their own.")
	}
	w, err := drill.ParseWhen(in.When)
	return w, first(err, s.checkDrill(c, in.Request))
}

// RunDrills begins drills when they are due, and has clones deleted that are
// left of drills which ended, until ctx ends. A time that passed while the zone
// was down counts once.
func (s *Service) RunDrills(ctx context.Context) error {
	tick := time.NewTicker(drillTick)
	defer tick.Stop()
	var swept time.Time
	for {
		if err := s.fireDrills(ctx); err != nil && ctx.Err() == nil {
			s.log.Error("drills that are due could not be begun", "err", err)
		}
		if now := s.now(); swept.IsZero() || now.Sub(swept).Abs() >= drillSweep {
			swept = now
			if err := s.sweepDrills(ctx); err != nil && ctx.Err() == nil {
				s.log.Error("what is left of drills could not be looked for", "err", err)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// sweepDrills has what is left of drills deleted, unless that is under way. What
// was given up is begun anew.
func (s *Service) sweepDrills(ctx context.Context) error {
	return s.catalog.Update(ctx, func(tx *catalog.Tx) error {
		left, err := tx.LeftDrills()
		for _, id := range left {
			works, err := busy(tx, id, 0)
			if err == nil && !works {
				err = enqueue(tx, jobDrillClean, id, nil)
			}
			if err != nil {
				return err
			}
		}
		return err
	})
}

// fireDrills begins the drills that are due.
func (s *Service) fireDrills(ctx context.Context) error {
	var due []block.DrillSchedule
	err := s.catalog.View(ctx, func(tx *catalog.Tx) (err error) {
		due, err = tx.DueDrillSchedules(dueAtOnce)
		return err
	})
	for _, one := range due {
		if err := s.fireDrill(ctx, one); err != nil {
			return err
		}
	}
	return err
}

// fireDrill begins a schedule's drill, or says why not. That it is due is over in
// the transaction that begins the drill, so that it begins once.
func (s *Service) fireDrill(ctx context.Context, due block.DrillSchedule) error {
	running := false
	err := s.catalog.View(ctx, func(tx *catalog.Tx) error {
		op, err := tx.Operation(due.LastDrill)
		running = err == nil && !op.Status.Ended()
		return ignoring(block.NotFound, err)
	})
	if err != nil {
		return err
	}
	if running {
		return s.skipDrill(ctx, due)
	}
	c := s.Admit(block.Caller{Project: due.Project, User: due.User, Roles: due.Roles})
	req := due.Request
	req.IdempotencyKey = fmt.Sprintf("schedule/%s/%d", due.ID, due.NextAt.Unix())
	st := drillState{Schedule: due.ID, ScheduleName: due.Name}
	_, err = s.startDrill(ctx, c, req, st, func(tx *catalog.Tx, op block.Operation) error {
		return fired(tx, due, op.ID, "A drill began.", false)
	})
	if why, ok := block.UserMessage(err); ok && err != nil {
		return s.failDue(ctx, due, c, st, req, why)
	}
	return err
}

// fired notes what became of a schedule's being due, unless the schedule was
// changed meanwhile.
func fired(tx *catalog.Tx, due block.DrillSchedule, drillID, outcome string, skipped bool) error {
	now, err := tx.DrillSchedule(due.Project, due.ID)
	if err != nil || !now.NextAt.Equal(due.NextAt) {
		return ignoring(block.NotFound, err)
	}
	w, err := drill.ParseWhen(now.When)
	if err != nil {
		return err
	}
	now.LastAt, now.LastOutcome, now.NextAt = now.NextAt, outcome, w.Next(tx.Now)
	if skipped {
		now.Skipped++
	} else {
		now.LastDrill = drillID
	}
	return tx.UpdateDrillSchedule(&now)
}

// skipDrill leaves a drill out whose schedule's last one runs still.
func (s *Service) skipDrill(ctx context.Context, due block.DrillSchedule) error {
	text := fmt.Sprintf("It was skipped: drill %s runs still.", due.LastDrill)
	s.log.Warn("a drill was skipped", "schedule", due.ID, "operation", due.LastDrill)
	return s.catalog.Update(ctx, func(tx *catalog.Tx) error {
		return first(fired(tx, due, due.LastDrill, text, true),
			tx.InsertDREvents([]block.DREvent{{Kind: "drill", SourceZone: s.cfg.Zone, Project: due.Project, To: DrillFailed,
				Text: fmt.Sprintf("Schedule %s: %s", due.Name, text)}}))
	})
}

// failDue keeps a drill that could not begin as one that failed: a schedule that
// can't do its work must not look as if it did.
func (s *Service) failDue(ctx context.Context, due block.DrillSchedule, c block.Caller, st drillState,
	req block.DrillRequest, why string) error {
	key := req.IdempotencyKey
	req.IdempotencyKey = ""
	text, err := json.Marshal(req)
	if err != nil {
		return err
	}
	return s.catalog.Update(ctx, func(tx *catalog.Tx) error {
		op := block.Operation{ID: block.NewID(), Kind: block.OperationDrill, Project: c.Project, User: c.User, Key: key,
			Request: text, Status: block.OperationRunning, StartedAt: tx.Now}
		report := s.reportOf(op, st, tx.Now)
		report.CreatedAt, report.Verdict, report.Reasons = tx.Now, block.DrillFailed, []string{"It could not begin: " + why}
		return first(tx.InsertOperation(&op, nil), s.endDrill(tx, op, st, report),
			fired(tx, due, op.ID, "The drill could not begin: "+why, false))
	})
}
