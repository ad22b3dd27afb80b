package control

import (
	"context"
	"fmt"
	"strings"

	"kvol/internal/block"
	"kvol/internal/catalog"
)

// MaxPlans is how many recovery plans a project may have, and a list has at
// most; MaxWaves how many waves one may have.
const (
	MaxPlans = 1000
	MaxWaves = 100

	maxWait = 24 * 60 * 60 // seconds
)

// planOf returns a recovery plan by its id or name that the caller may see.
func planOf(tx *catalog.Tx, c block.Caller, idOrName string) (block.RecoveryPlan, error) {
	p, err := tx.Plan(idOrName)
	if block.Is(err, block.NotFound) {
		p, err = tx.PlanNamed(c.Project, idOrName)
	}
	if err == nil && !sees(c, p.Project) {
		err = block.Errorf(block.NotFound, "Recovery plan %s could not be found.", idOrName)
	}
	if err != nil {
		return block.RecoveryPlan{}, err
	}
	return p, nil
}

// CreatePlan keeps a recovery plan in this zone, in which it will be needed.
func (s *Service) CreatePlan(ctx context.Context, c block.Caller, p block.RecoveryPlan) (block.RecoveryPlan, error) {
	if err := first(mayWrite(c, "kvol:plan"), s.checkPlan(c, p)); err != nil {
		return p, err
	}
	p.ID, p.Project = block.NewID(), c.Project
	err := s.catalog.Update(ctx, func(tx *catalog.Tx) error {
		all, err := tx.Plans(c.Project, MaxPlans)
		if err == nil && len(all) >= MaxPlans {
			err = block.Errorf(block.OverLimit, "A project has at most %d recovery plans.", MaxPlans)
		}
		return first(err, tx.InsertPlan(&p), auditPlan(tx, c, "create", p))
	})
	return p, err
}

// UpdatePlan puts another plan into the place of one.
func (s *Service) UpdatePlan(ctx context.Context, c block.Caller, id string, p block.RecoveryPlan) (
	block.RecoveryPlan, error,
) {
	err := s.changePlan(ctx, c, id, func(tx *catalog.Tx, old block.RecoveryPlan) error {
		p.ID, p.Project, p.CreatedAt = old.ID, old.Project, old.CreatedAt
		return first(s.checkPlan(c, p), tx.UpdatePlan(&p), auditPlan(tx, c, "update", p))
	})
	return p, err
}

// DeletePlan forgets a plan. Operations that were begun by it go on.
func (s *Service) DeletePlan(ctx context.Context, c block.Caller, id string) error {
	return s.changePlan(ctx, c, id, func(tx *catalog.Tx, p block.RecoveryPlan) error {
		return first(tx.DeletePlan(p.ID), auditPlan(tx, c, "delete", p))
	})
}

func (s *Service) changePlan(ctx context.Context, c block.Caller, id string,
	fn func(*catalog.Tx, block.RecoveryPlan) error) error {
	return s.catalog.Update(ctx, func(tx *catalog.Tx) error {
		p, err := planOf(tx, c, id)
		if err == nil {
			err = authorize(c, "kvol:plan", membersRule, owned(p.Project, ""))
		}
		if err != nil {
			return err
		}
		return fn(tx, p)
	})
}

func auditPlan(tx *catalog.Tx, c block.Caller, call string, p block.RecoveryPlan) error {
	return tx.InsertAudit(block.Audit{User: string(c.User), Call: "plan " + call, Params: p.ID + " " + p.Name, Code: 200,
		Project: p.Project})
}

// Plan returns a recovery plan by its id, or by its name in the caller's
// project.
func (s *Service) Plan(ctx context.Context, c block.Caller, id string) (p block.RecoveryPlan, err error) {
	err = s.catalog.View(ctx, func(tx *catalog.Tx) error {
		p, err = planOf(tx, c, id)
		return err
	})
	return p, err
}

// Plans lists recovery plans: all for administrators, for others those of their
// project.
func (s *Service) Plans(ctx context.Context, c block.Caller) (list []block.RecoveryPlan, err error) {
	project := c.Project
	if c.Admin() {
		project = ""
	}
	err = s.catalog.View(ctx, func(tx *catalog.Tx) error {
		list, err = tx.Plans(project, MaxPlans)
		return err
	})
	return list, err
}

// checkPlan refuses a plan that could not run. Hooks are the operator's, so only
// administrators name them.
func (s *Service) checkPlan(c block.Caller, p block.RecoveryPlan) error {
	switch {
	case strings.TrimSpace(p.Name) == "" || len(p.Name) > maxMetadataLength || len(p.Description) > maxMetadataLength:
		return block.Errorf(block.Invalid, "A plan has a name of 1 to %d bytes and a description of no more.",
			maxMetadataLength)
	case len(p.Waves) == 0 || len(p.Waves) > MaxWaves:
		return block.Errorf(block.Invalid, "A plan has 1 to %d waves.", MaxWaves)
	}
	volumes := 0
	for i, w := range p.Waves {
		where := fmt.Sprintf("waves[%d]", i)
		volumes += len(w.Scope.Volumes)
		if err := checkRecovery(c, block.RecoveryRequest{Scope: w.Scope, Parallel: w.Parallel}); err != nil {
			text, _ := block.UserMessage(err)
			return block.Errorf(block.Invalid, "%s: %s", where, text)
		}
		switch {
		case w.Scope.Plan != "":
			return block.Errorf(block.Invalid, "%s: a wave of a plan names no plan.", where)
		case w.WaitSeconds < 0 || w.WaitSeconds > maxWait || w.HookSeconds < 0 || w.HookSeconds > maxWait:
			return block.Errorf(block.Invalid, "%s: wait_seconds and hook_seconds are between 0 and %d.", where, maxWait)
		case w.Before+w.After != "" && !c.Admin():
			return block.Errorf(block.Forbidden, "%s: only an administrator may name hooks.", where)
		}
		for _, name := range []string{w.Before, w.After} {
			if _, ok := s.cfg.DR.Hooks[name]; name != "" && !ok {
				return block.Errorf(block.Invalid, "%s: the zone's configuration has no hook %q.", where, name)
			}
		}
	}
	if volumes > MaxRecovered {
		return block.Errorf(block.Invalid, "A plan names at most %d volumes.", MaxRecovered)
	}
	return nil
}
