package control_test

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/control"
	"kvol/internal/driver/drivertest"
)

// drillMethods are all that a caller can ask of drills.
func drillMethods(z *zone, c block.Caller, id, schedule string) map[string]func() error {
	in := block.DrillSchedule{
		Name:    "n",
		When:    "every 1h",
		Request: block.DrillRequest{Scope: block.RecoveryScope{Zone: "z"}},
	}
	return map[string]func() error{
		"DrillReport": func() error {
			_, err := z.DrillReport(z.ctx, c, id)
			return err
		},
		"DrillSchedule": func() error {
			_, err := z.DrillSchedule(z.ctx, c, schedule)
			return err
		},
		"UpdateDrillSchedule": func() error {
			_, err := z.UpdateDrillSchedule(z.ctx, c, schedule, in)
			return err
		},
		"DeleteDrillSchedule": func() error { return z.DeleteDrillSchedule(z.ctx, c, schedule) },
		"StartDrill": func() error {
			_, err := z.StartDrill(z.ctx, c, block.DrillRequest{Scope: block.RecoveryScope{Zone: "z"}})
			return err
		},
		"DrillSchedules": func() error {
			list, err := z.DrillSchedules(z.ctx, c)
			if err == nil && len(list) == 0 {
				err = block.Errorf(block.NotFound, "none")
			}
			return err
		},
		"CreateDrillSchedule": func() error {
			_, err := z.CreateDrillSchedule(z.ctx, c, in)
			return err
		},
	}
}

// TestOthersDrills: those of another project are not there, word for word; who
// only reads begins none.
func TestOthersDrills(t *testing.T) {
	z := newZone(t)
	in := block.DrillSchedule{Name: "nightly", When: "30 3 * * *", Enabled: true,
		Request: block.DrillRequest{Scope: block.RecoveryScope{Zone: "kilo1"}}}
	made, err := z.CreateDrillSchedule(z.ctx, alice, in)
	must(t, err)
	if made.NextAt.Hour() != 3 || made.NextAt.Minute() != 30 || made.Project != alice.Project {
		t.Errorf("%+v", made)
	}
	_, err = z.CreateDrillSchedule(z.ctx, alice, in)
	wantError(t, "twice", err, block.Conflict, "A drill schedule called nightly exists.")
	op := block.Operation{ID: block.NewID(), Kind: block.OperationDrill, Project: alice.Project,
		Status: block.OperationRunning, Request: json.RawMessage("{}")}
	must(t, z.catalog.Update(z.ctx, func(tx *catalog.Tx) error { return tx.InsertOperation(&op, nil) }))
	for name, ask := range drillMethods(z, mallory, op.ID, made.ID) {
		switch err := ask(); name {
		case "CreateDrillSchedule":
			must(t, err)
		case "DrillSchedules":
			if list, err := z.DrillSchedules(z.ctx, mallory); err != nil ||
				slices.ContainsFunc(list, func(s block.DrillSchedule) bool { return s.Project != mallory.Project }) {
				t.Errorf("%+v, %v", list, err)
			}
		case "StartDrill":
			wantError(t, name, err, block.NotFound, "Nothing that was named is replicated to zone mitaka1.")
		case "DrillReport":
			wantError(t, name, err, block.NotFound, "Operation "+op.ID+" could not be found.")
		default:
			wantError(t, name, err, block.NotFound, "Drill schedule "+made.ID+" could not be found.")
		}
	}
	for name, ask := range drillMethods(z, reader, op.ID, made.ID) {
		if err := ask(); name == "DrillSchedule" || name == "DrillSchedules" {
			must(t, err)
		} else if name != "DrillReport" {
			wantError(t, name, err, block.Forbidden, "Policy doesn't allow kvol:drill to be performed.")
		}
	}
	_, err = z.DrillReport(z.ctx, alice, op.ID)
	wantError(t, "running", err, block.Conflict, "Drill "+op.ID+" is running; its report is made when it ends.")
	must(t, z.DeleteDrillSchedule(z.ctx, operator, made.ID))
}

// TestDrillsThatCannotBeMeant are refused with a sentence.
func TestDrillsThatCannotBeMeant(t *testing.T) {
	z := newZone(t)
	scope := block.RecoveryScope{Zone: "kilo1"}
	probe := func(p ...block.DrillProbe) block.DrillRequest { return block.DrillRequest{Scope: scope, Probes: p} }
	for says, req := range map[string]block.DrillRequest{
		"scope must name volumes, a group, a project, a plan or a zone.": {},
		"watch_seconds must be between 1 and 3600.":                      {Scope: scope, WatchSeconds: 3601},
		"timeout_seconds must be between 1 and 86400.":                   {Scope: scope, TimeoutSeconds: -1},
		"A drill has at most 8 probes.":                                  probe(make([]block.DrillProbe, 9)...),
		"probes[0]: kind is verify, fsck, command or http.":              probe(block.DrillProbe{Kind: "x"}),
		"probes[0]: a probe of kind fsck has no name.":                   probe(block.DrillProbe{Kind: "fsck", Name: "n"}),
		"probes[0]: the zone's configuration has no command called \"n\" for you.": probe(
			block.DrillProbe{Kind: "command", Name: "n"}),
		"probes[0]: timeout_seconds must be between 1 and 86400.": probe(
			block.DrillProbe{Kind: "fsck", TimeoutSeconds: 86401}),
	} {
		_, err := z.StartDrill(z.ctx, alice, req)
		wantError(t, says, err, block.Invalid, says)
	}
	_, err := z.StartDrill(z.ctx, alice, block.DrillRequest{Scope: scope, OverQuota: true})
	wantError(t, "over quota", err, block.Forbidden, "Only an administrator may recover over quota.")
}

// TestLeftClonesAreDeleted: clones whose drill ended, or is not known, go from
// their store, and what was pinned for them is let go of.
func TestLeftClonesAreDeleted(t *testing.T) {
	z := newZone(t)
	clone := block.DrillClone{ID: block.VolumeID(block.NewID()), Operation: block.NewID(), Seq: 1, Backend: "fast",
		Replica: block.VolumeID(block.NewID()), Point: "p"}
	must(t, z.fast.CreateVolume(z.ctx, clone.ID, block.GiB))
	z.update(func(tx *catalog.Tx) error { return tx.InsertDrillClone(clone) })
	manageable, err := z.ManageableVolumes(z.ctx, operator, "fast", "mitaka1@fast", control.ManagePage{Limit: 10})
	must(t, err)
	if len(manageable) != 1 || manageable[0].Safe {
		t.Errorf("a clone can be managed: %+v", manageable)
	}
	ctx, cancel := context.WithCancel(z.ctx)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- z.RunDrills(ctx) }()
	for left := true; left; {
		z.work(z.ctx)
		must(t, z.catalog.View(z.ctx, func(tx *catalog.Tx) error {
			all, err := tx.DrillClones("")
			left = len(all) > 0
			return err
		}))
	}
	cancel()
	must(t, <-ended)
	for v, err := range z.fast.Volumes(z.ctx) {
		t.Errorf("%+v, %v", v, err)
	}
}

// TestLeftClonesAreDeletedInTheEnd: a store is down for longer than a job tries
// to delete a clone. Another job does when the store is back.
func TestLeftClonesAreDeletedInTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		z := newZone(t)
		clone := block.DrillClone{ID: block.VolumeID(block.NewID()), Operation: block.NewID(), Seq: 1, Backend: "fast",
			Replica: block.VolumeID(block.NewID()), Point: "p"}
		must(t, z.fast.CreateVolume(z.ctx, clone.ID, block.GiB))
		z.update(func(tx *catalog.Tx) error { return tx.InsertDrillClone(clone) })
		back := time.Now().Add(2 * time.Hour)
		z.fast.SetRule(func(c drivertest.Call) error {
			if c.Op == drivertest.OpDeleteVolume && time.Now().Before(back) {
				return block.Errorf(block.Unavailable, "The store is down.")
			}
			return nil
		})
		ctx, cancel := context.WithTimeout(z.ctx, 3*time.Hour)
		defer cancel()
		ended := make(chan error, 1)
		go func() { ended <- z.RunDrills(ctx) }()
		left, states := 1, map[block.JobState]int{}
		z.workUntil(ctx, z.Handlers(), func() bool {
			must(t, z.catalog.View(z.ctx, func(tx *catalog.Tx) error {
				all, err := tx.DrillClones("")
				jobs, jobsErr := tx.JobsOf(clone.Operation)
				left = len(all)
				clear(states)
				for _, j := range jobs {
					states[j.State]++
				}
				return errors.Join(err, jobsErr)
			}))
			return left == 0 && states[block.JobDone] == 1
		})
		cancel()
		must(t, <-ended)
		if left != 0 || states[block.JobFailed] != 1 || states[block.JobDone] != 1 {
			t.Errorf("%d clones are left, jobs are %v", left, states)
		}
		for v, err := range z.fast.Volumes(z.ctx) {
			t.Errorf("%+v, %v", v, err)
		}
	})
}
