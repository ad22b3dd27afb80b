package control_test

import (
	"encoding/json"
	"testing"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/control"
)

// operationMethods are all that a caller can ask of an operation.
func operationMethods(z *zone, c block.Caller, id string) map[string]func() error {
	return map[string]func() error{
		"Operation": func() error {
			_, err := z.Operation(z.ctx, c, id)
			return err
		},
		"CancelOperation": func() error {
			_, err := z.CancelOperation(z.ctx, c, id)
			return err
		},
		"ConsentOperation": func() error {
			_, err := z.ConsentOperation(z.ctx, c, id)
			return err
		},
	}
}

// operation writes an operation of a project as a job would find it.
func (z *zone) operation(project block.ProjectID, steps ...block.OperationStep) block.Operation {
	z.t.Helper()
	op := block.Operation{ID: block.NewID(), Kind: block.OperationRecover, Project: project, User: "u",
		Status: block.OperationRunning, Request: json.RawMessage("{}")}
	must(z.t, z.catalog.Update(z.ctx, func(tx *catalog.Tx) error { return tx.InsertOperation(&op, steps) }))
	return op
}

// TestOthersOperations: those of another project are not there, word for word.
func TestOthersOperations(t *testing.T) {
	z := newZone(t)
	op := z.operation(alice.Project, block.OperationStep{Status: block.StepWaiting})
	for name, ask := range operationMethods(z, mallory, op.ID) {
		err := ask()
		wantError(t, name, err, block.NotFound, "Operation "+op.ID+" could not be found.")
	}
	if list, err := z.Operations(z.ctx, mallory, ""); err != nil || len(list) != 0 {
		t.Errorf("%v, %v", list, err)
	}
	for _, c := range []block.Caller{alice, operator} {
		if list, err := z.Operations(z.ctx, c, block.OperationRecover); err != nil || len(list) != 1 {
			t.Errorf("%v, %v", list, err)
		}
	}
	if list, err := z.Operations(z.ctx, alice, block.OperationDrill); err != nil || len(list) != 0 {
		t.Errorf("%v, %v", list, err)
	}
}

// TestOperationsOfAKindAreNotHidden: a recovery is listed as one, however many
// verifications came after it.
func TestOperationsOfAKindAreNotHidden(t *testing.T) {
	z := newZone(t)
	op := z.operation(alice.Project)
	must(t, z.catalog.Update(z.ctx, func(tx *catalog.Tx) error {
		for range control.MaxOperations {
			v := block.Operation{ID: block.NewID(), Kind: block.OperationVerify, Project: alice.Project, User: "u",
				Status: block.OperationRunning, Request: json.RawMessage("{}")}
			if err := tx.InsertOperation(&v, nil); err != nil {
				return err
			}
		}
		return nil
	}))
	for _, c := range []block.Caller{alice, operator} {
		list, err := z.Operations(z.ctx, c, block.OperationRecover)
		if err != nil || len(list) != 1 || list[0].ID != op.ID {
			t.Errorf("%d operations, %v", len(list), err)
		}
	}
}

// TestCancelStopsWhatHasNotBegun: steps that began stay as they are.
func TestCancelStopsWhatHasNotBegun(t *testing.T) {
	z := newZone(t)
	steps := []block.OperationStep{{Seq: 0, Status: block.StepSucceeded}, {Seq: 1, Status: block.StepRunning},
		{Seq: 2, Status: block.StepQueued}, {Seq: 3, Status: block.StepWaiting}}
	op := z.operation(alice.Project, steps...)
	v, err := z.Operation(z.ctx, alice, op.ID)
	must(t, err)
	if !v.Cancelable {
		t.Error("a waiting step can be canceled")
	}
	_, err = z.CancelOperation(z.ctx, reader, op.ID)
	wantError(t, "reader", err, block.Forbidden, "Policy doesn't allow kvol:cancel to be performed.")
	for range 2 { // again it changes nothing
		got, err := z.CancelOperation(z.ctx, alice, op.ID)
		must(t, err)
		if got.Cancel != alice.User {
			t.Errorf("%+v", got)
		}
	}
	v, err = z.Operation(z.ctx, alice, op.ID)
	must(t, err)
	for i, want := range []block.StepStatus{block.StepSucceeded, block.StepRunning, block.StepQueued,
		block.StepCanceled} {
		if v.Steps[i].Status != want {
			t.Errorf("step %d is %s, want %s", i, v.Steps[i].Status, want)
		}
	}
	done := z.operation(alice.Project, steps[:2]...)
	if _, err := z.CancelOperation(z.ctx, alice, done.ID); !block.Is(err, block.Conflict) {
		t.Errorf("nothing of it can be canceled: %v", err)
	}
}
