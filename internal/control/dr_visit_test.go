package control

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"kvol/internal/audit"
	"kvol/internal/block"
	"kvol/internal/catalog"
)

// TestDoctorKeepsWhatItFound by itself, for administrators all and for tenants
// their own.
func TestDoctorKeepsWhatItFound(t *testing.T) {
	z := newHealthZone(t)
	z.well()
	if _, ok, err := z.LastVisit(t.Context(), everybody); ok || err != nil {
		t.Errorf("before the first time: %v, %v", ok, err)
	}
	id := block.VolumeID(block.NewID())
	z.update(func(tx *catalog.Tx) error {
		return first(tx.Pin(ownVolume, "a", "failover/none"), tx.BreakAudit("a", "Its record 5 is missing."),
			tx.InsertVolume(block.Volume{ID: id, Project: "p", TypeID: healthType, Backend: "b", Size: 1, Epoch: 1,
				Status: block.VolumeAvailable}))
	})
	z.clock.pass(2 * unlinkedGrace)
	if err := z.Visit(t.Context()); err != nil {
		t.Fatal(err)
	}
	at := z.clock.now()
	if _, err := z.Mend(t.Context(), everybody); err != nil { // what was kept stays until the next visit
		t.Fatal(err)
	}
	z.clock.pass(time.Minute)
	f, ok, err := z.LastVisit(t.Context(), everybody)
	kinds := kindsOf(f.All)
	if err != nil || !ok || !f.At.Equal(at) || !slices.Contains(kinds, block.FindLeakedPin) ||
		!slices.Contains(kinds, block.FindAuditBroken) || !slices.Contains(kinds, block.FindUnprotected) {
		t.Errorf("%v at %s, %v, %v", kinds, f.At, ok, err)
	}
	for project, n := range map[block.ProjectID]int{"p": 1, "q": 0} {
		f, _, err := z.LastVisit(t.Context(), block.Caller{Project: project, Roles: []string{"member"}})
		if err != nil || len(f.All) != n || n == 1 && f.All[0].Volume != id {
			t.Errorf("%q is told %+v, %v", project, f.All, err)
		}
	}
	if err := z.Visit(t.Context()); err != nil {
		t.Fatal(err)
	}
	f, _, err = z.LastVisit(t.Context(), everybody)
	if err != nil || slices.Contains(kindsOf(f.All), block.FindLeakedPin) {
		t.Errorf("after it was mended: %v, %v", kindsOf(f.All), err)
	}
}

// TestDoctorGoesOverTheAuditLog of its own zone.
func TestDoctorGoesOverTheAuditLog(t *testing.T) {
	z := newAuditZone(t)
	z.add(30)
	look := func() []block.FindingKind {
		t.Helper()
		f, err := z.Doctor(t.Context(), everybody)
		if err != nil {
			t.Fatal(err)
		}
		return kindsOf(f.All)
	}
	if got := look(); len(got) != 0 {
		t.Errorf("%v", got)
	}
	z.update(func(tx *catalog.Tx) error {
		return tx.SealAudit(catalog.AuditSeal{First: 1, Last: audit.Head{Seq: 10}}, block.Audit{Call: "list"})
	})
	if got := look(); !slices.Contains(got, block.FindAuditBroken) {
		t.Errorf("%v", got)
	}
	if err := z.sealAudit(t.Context()); err != nil {
		t.Error(err)
	}
	z.clock.pass(48 * time.Hour)
	if err := z.sealAudit(t.Context()); err == nil || !strings.Contains(err.Error(), "not whole") || len(z.files) > 0 {
		t.Errorf("a log that is not whole is sealed: %v", err)
	}
}

// TestConsentThatComesTooLate: an operation that nobody agreed to in time is over,
// and so is what was kept for it.
func TestConsentThatComesTooLate(t *testing.T) {
	z := newAuditZone(t)
	ask := func(id string) {
		op := block.Operation{
			ID:      id,
			Kind:    block.OperationRecover,
			Project: "ops",
			User:    "erin",
			Status:  block.OperationConsent,
		}
		steps := []block.OperationStep{{Kind: block.StepWait, Status: block.StepWaiting}}
		z.update(func(tx *catalog.Tx) error {
			_, err := startOperation(tx, &op, steps, jobOperation)
			return err
		})
	}
	ask("late")
	z.clock.pass(23 * time.Hour)
	z.update(func(tx *catalog.Tx) error {
		for i := range MaxOperations { // more than a list has
			newer := block.Operation{ID: fmt.Sprint("newer ", i), Project: "ops", Status: block.OperationSucceeded}
			if err := tx.InsertOperation(&newer, nil); err != nil {
				return err
			}
		}
		return nil
	})
	ask("soon")
	erin := block.Caller{Project: "ops", User: "erin", Roles: []string{"admin"}}
	second := block.Caller{Project: "ops", User: "mary", Roles: []string{"admin"}}
	z.clock.pass(time.Hour)
	if _, err := z.ConsentOperation(t.Context(), second, "late"); !block.Is(err, block.Conflict) {
		t.Errorf("too late: %v", err)
	}
	if err := z.expireConsents(t.Context()); err != nil {
		t.Fatal(err)
	}
	for id, want := range map[string]block.OperationStatus{
		"late": block.OperationCanceled, "soon": block.OperationConsent,
	} {
		v, err := z.Operation(t.Context(), erin, id)
		if err != nil || v.Status != want || want == block.OperationCanceled && v.Steps[0].Status != block.StepCanceled {
			t.Errorf("%s: %+v, %v", id, v, err)
		}
	}
	if _, err := z.ConsentOperation(t.Context(), erin, "soon"); !block.Is(err, block.Forbidden) {
		t.Errorf("the same person agrees: %v", err)
	}
	op, err := z.ConsentOperation(t.Context(), second, "soon")
	if err != nil || op.Consent != "mary" || op.Status != block.OperationWaiting {
		t.Errorf("%+v, %v", op, err)
	}
	calls, err := z.Audits(t.Context(), everybody, catalog.AuditQuery{Limit: 10, Operation: "late"})
	if err != nil || len(calls) != 2 || calls[0].Call != "operation expired" || calls[0].User != "kvol" {
		t.Errorf("%+v, %v", calls, err)
	}
}
