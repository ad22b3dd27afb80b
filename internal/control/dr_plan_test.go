package control_test

import (
	"testing"

	"kvol/internal/block"
)

// planMethods are all that a caller can ask of a recovery plan.
func planMethods(z *zone, c block.Caller, id string) map[string]func() error {
	return map[string]func() error{
		"Plan": func() error {
			_, err := z.Plan(z.ctx, c, id)
			return err
		},
		"UpdatePlan": func() error {
			_, err := z.UpdatePlan(z.ctx, c, id, waves("other"))
			return err
		},
		"DeletePlan": func() error { return z.DeletePlan(z.ctx, c, id) },
	}
}

func waves(name string) block.RecoveryPlan {
	return block.RecoveryPlan{Name: name, Waves: []block.RecoveryWave{{Scope: block.RecoveryScope{Zone: "z"}}}}
}

// TestOthersPlans: those of another project are not there, word for word.
func TestOthersPlans(t *testing.T) {
	z := newZone(t)
	p, err := z.CreatePlan(z.ctx, alice, waves("night"))
	must(t, err)
	for name, ask := range planMethods(z, mallory, p.ID) {
		wantError(t, name, ask(), block.NotFound, "Recovery plan "+p.ID+" could not be found.")
	}
	_, err = z.Plan(z.ctx, mallory, "night")
	wantError(t, "by name", err, block.NotFound, "Recovery plan night could not be found.")
	if list, err := z.Plans(z.ctx, mallory); err != nil || len(list) != 0 {
		t.Errorf("%v, %v", list, err)
	}
	for name, ask := range planMethods(z, reader, p.ID) {
		if err := ask(); name != "Plan" && !block.Is(err, block.Forbidden) {
			t.Errorf("%s by who only reads: %v", name, err)
		}
	}
	got, err := z.Plan(z.ctx, alice, "night")
	must(t, err)
	if got.ID != p.ID || got.Project != alice.Project {
		t.Errorf("%+v", got)
	}
	got.Waves = append(got.Waves, block.RecoveryWave{Scope: block.RecoveryScope{Group: "g"}, WaitSeconds: 3})
	_, err = z.UpdatePlan(z.ctx, alice, p.ID, got)
	must(t, err)
	if got, err = z.Plan(z.ctx, operator, p.ID); err != nil || len(got.Waves) != 2 {
		t.Errorf("%+v, %v", got, err)
	}
	_, err = z.CreatePlan(z.ctx, alice, waves("night"))
	if !block.Is(err, block.Conflict) {
		t.Errorf("a name twice: %v", err)
	}
	must(t, z.DeletePlan(z.ctx, alice, p.ID))
	wantError(t, "gone", z.DeletePlan(z.ctx, alice, p.ID), block.NotFound,
		"Recovery plan "+p.ID+" could not be found.")
}

// TestPlansThatCanNotRun are refused when they are made.
func TestPlansThatCanNotRun(t *testing.T) {
	z := newZone(t)
	for says, change := range map[string]func(*block.RecoveryPlan){
		"A plan has a name of 1 to 255 bytes and a description of no more.": func(p *block.RecoveryPlan) { p.Name = " " },
		"A plan has 1 to 100 waves.":                                        func(p *block.RecoveryPlan) { p.Waves = nil },
		"waves[0]: scope must name volumes, a group, a project, a plan or a zone.": func(p *block.RecoveryPlan) {
			p.Waves[0].Scope = block.RecoveryScope{}
		},
		"waves[0]: a wave of a plan names no plan.": func(p *block.RecoveryPlan) { p.Waves[0].Scope.Plan = "p" },
		"waves[0]: wait_seconds and hook_seconds are between 0 and 86400.": func(p *block.RecoveryPlan) {
			p.Waves[0].WaitSeconds = -1
		},
		`waves[0]: the zone's configuration has no hook "h".`: func(p *block.RecoveryPlan) { p.Waves[0].After = "h" },
		"waves[0]: scope names one of volumes, group, project and plan.": func(p *block.RecoveryPlan) {
			p.Waves[0].Scope.Group, p.Waves[0].Scope.Project = "g", "p"
		},
	} {
		p := waves("p")
		change(&p)
		_, err := z.CreatePlan(z.ctx, operator, p)
		wantError(t, says, err, block.Invalid, says)
	}
	p := waves("p")
	p.Waves[0].Before = "h"
	_, err := z.CreatePlan(z.ctx, alice, p)
	wantError(t, "hook of a tenant", err, block.Forbidden, "waves[0]: only an administrator may name hooks.")
}
