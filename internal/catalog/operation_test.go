package catalog

import (
	"cmp"
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"kvol/internal/block"
)

func TestOperations(t *testing.T) {
	c := openDR(t)
	op := block.Operation{ID: "o1", Kind: block.OperationRecover, Project: "p", Key: "k", Status: block.OperationWaiting,
		Request: json.RawMessage(`{"a":1}`)}
	steps := []block.OperationStep{
		{Seq: 0, Stage: 1, Kind: block.StepHook, Name: "before", Status: block.StepWaiting},
		{Seq: 1, Stage: 2, Kind: block.StepRecover, Status: block.StepWaiting, Source: "v", Loss: &block.Loss{Later: 7}},
		{Seq: 2, Stage: 2, Kind: block.StepRecover, Status: block.StepQueued},
	}
	update(t, c, func(tx *Tx) error { return tx.InsertOperation(&op, steps) })
	update(t, c, func(tx *Tx) error {
		again := block.Operation{ID: "o2", Project: "p", Key: "k"}
		if err := tx.InsertOperation(&again, nil); !block.Is(err, block.Conflict) {
			t.Errorf("a used key: %v", err)
		}
		for _, fine := range []block.Operation{{ID: "o3", Project: "q", Key: "k"}, {ID: "o4", Project: "p"}, {ID: "o5",
			Project: "p"}} {
			if err := tx.InsertOperation(&fine, nil); err != nil {
				t.Errorf("%+v: %v", fine, err)
			}
		}
		got, err := tx.Operation("o1")
		if err != nil || !reflect.DeepEqual(got, op) || op.CreatedAt != tx.Now {
			t.Errorf("%+v, %v", got, err)
		}
		if got, err = tx.OperationWithKey("p", "k"); err != nil || got.ID != "o1" {
			t.Errorf("%+v, %v", got, err)
		}
		for _, project := range []block.ProjectID{"p", "q"} {
			if _, err := tx.OperationWithKey(project, ""); !block.Is(err, block.NotFound) {
				t.Errorf("no key: %v", err)
			}
		}
		all, err := tx.Operations("", "", 10)
		own, ownErr := tx.Operations("p", "", 2)
		if len(all) != 4 || len(own) != 2 || err != nil || ownErr != nil {
			t.Errorf("%d, %v and %d, %v", len(all), err, len(own), ownErr)
		}
		return nil
	})
	update(t, c, func(tx *Tx) error {
		got, err := tx.OperationSteps("o1")
		if err != nil || !reflect.DeepEqual(got, steps) || got[1].Operation != "o1" {
			t.Errorf("%+v, %v", got, err)
		}
		next, ok, err := tx.NextOperationStep("o1", block.StepWaiting)
		if !ok || err != nil || next.Seq != 0 {
			t.Errorf("%+v, %v, %v", next, ok, err)
		}
		next.Status = block.StepSucceeded
		if err := tx.UpdateOperationStep(next); err != nil {
			return err
		}
		if next, ok, err = tx.NextOperationStep("o1", block.StepWaiting); !ok || err != nil || next.Seq != 1 {
			t.Errorf("%+v, %v, %v", next, ok, err)
		}
		if _, ok, err = tx.NextOperationStep("o1", block.StepFailed); ok || err != nil {
			t.Errorf("%v, %v", ok, err)
		}
		counts, err := tx.CountOperationSteps("o1", 1)
		if err != nil || !reflect.DeepEqual(counts, map[block.StepStatus]int{block.StepSucceeded: 1}) {
			t.Errorf("%v, %v", counts, err)
		}
		counts, err = tx.CountOperationSteps("o1", 2)
		if err != nil || counts[block.StepWaiting] != 1 || counts[block.StepQueued] != 1 {
			t.Errorf("%v, %v", counts, err)
		}
		for _, err := range []error{tx.UpdateOperation(block.Operation{ID: "none"}),
			tx.UpdateOperationStep(block.OperationStep{Operation: "o1", Seq: 9})} {
			if !block.Is(err, block.NotFound) {
				t.Errorf("%v", err)
			}
		}
		return nil
	})
}

// TestOperationsInAStatus: they are found by the status that they have now, the
// oldest first, and none that is too young.
func TestOperationsInAStatus(t *testing.T) {
	now := time.Date(2018, 9, 11, 2, 37, 41, 0, time.UTC)
	c, err := Open(t.Context(), optionsAt(t, func() time.Time { return now }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	for _, id := range []string{"late", "agreed", "later", "soon"} {
		now = now.Add(time.Microsecond)
		update(t, c, func(tx *Tx) error {
			op := block.Operation{ID: id, Project: "p", Status: block.OperationConsent}
			return tx.InsertOperation(&op, nil)
		})
	}
	until := now.Add(-time.Microsecond)
	update(t, c, func(tx *Tx) error {
		op, err := tx.Operation("agreed")
		if err != nil {
			return err
		}
		op.Status = block.OperationWaiting
		return tx.UpdateOperation(op)
	})
	update(t, c, func(tx *Tx) error {
		for limit, want := range map[int][]string{9: {"late", "later"}, 1: {"late"}} {
			all, err := tx.OperationsIn(block.OperationConsent, until, limit)
			var ids []string
			for _, op := range all {
				ids = append(ids, op.ID)
			}
			if err != nil || !slices.Equal(ids, want) {
				t.Errorf("%v, %v, want %v", ids, err, want)
			}
		}
		return nil
	})
}

// TestOperationsOfAKind: however many there are of others, they are all listed, and the
// oldest of a kind that ended are forgotten with their steps.
func TestOperationsOfAKind(t *testing.T) {
	now := time.Date(2018, 9, 11, 2, 37, 41, 0, time.UTC)
	c, err := Open(t.Context(), optionsAt(t, func() time.Time { return now }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	for _, op := range []block.Operation{{ID: "r1", Kind: block.OperationRecover},
		{ID: "v1", Status: block.OperationRunning}, {ID: "v2"}, {ID: "other", Project: "q"},
		{ID: "v3"}, {ID: "v4"}, {ID: "v5"}} {
		now = now.Add(time.Second)
		op.Project, op.Kind = cmp.Or(op.Project, "p"), cmp.Or(op.Kind, block.OperationVerify)
		op.Status = cmp.Or(op.Status, block.OperationSucceeded)
		update(t, c, func(tx *Tx) error {
			return tx.InsertOperation(&op, []block.OperationStep{{Status: block.StepSucceeded}})
		})
	}
	list := func(project block.ProjectID, kind block.OperationKind, limit int) (ids []string) {
		t.Helper()
		update(t, c, func(tx *Tx) error {
			all, err := tx.Operations(project, kind, limit)
			ids = nil
			for _, op := range all {
				ids = append(ids, op.ID)
			}
			return err
		})
		return ids
	}
	for _, l := range []struct {
		project block.ProjectID
		kind    block.OperationKind
		limit   int
		want    []string
	}{
		{"", block.OperationRecover, 1, []string{"r1"}},
		{"p", block.OperationRecover, 1, []string{"r1"}},
		{"q", block.OperationRecover, 1, nil},
		{"", block.OperationVerify, 4, []string{"v5", "v4", "v3", "other"}},
		{"q", "", 9, []string{"other"}},
	} {
		if ids := list(l.project, l.kind, l.limit); !slices.Equal(ids, l.want) {
			t.Errorf("%+v: %v", l, ids)
		}
	}
	update(t, c, func(tx *Tx) error { return tx.ForgetOperations("p", block.OperationVerify, 2) })
	if ids, want := list("", "", 9), []string{"v5", "v4", "other", "v1", "r1"}; !slices.Equal(ids, want) {
		t.Errorf("left are %v, and should be %v", ids, want)
	}
	update(t, c, func(tx *Tx) error {
		for id, want := range map[string]int{"v2": 0, "v3": 0, "v4": 1, "v1": 1} {
			if steps, err := tx.OperationSteps(id); err != nil || len(steps) != want {
				t.Errorf("%s has %d steps, %v", id, len(steps), err)
			}
		}
		return nil
	})
}

// TestOperationsAreFoundByIndexes: an operation of ten thousand steps is not
// read through to find its next one.
func TestOperationsAreFoundByIndexes(t *testing.T) {
	sqliteOnly(t)
	c := openDR(t)
	update(t, c, func(tx *Tx) error {
		for query, index := range map[string]string{
			"SELECT step FROM dr_operation_steps WHERE operation_id = 'o' AND status = 's' " +
				"ORDER BY stage, seq LIMIT 1": "by_status",
			"SELECT operation FROM dr_operations ORDER BY created_at DESC, id LIMIT 9": "newest",
			"SELECT operation FROM dr_operations WHERE project_id = 'p' " +
				"ORDER BY created_at DESC, id LIMIT 9": "dr_operations_of ",
			"SELECT operation FROM dr_operations WHERE kind = 'k' " +
				"ORDER BY created_at DESC, id LIMIT 9": "dr_operations_of_kind",
			"SELECT operation FROM dr_operations WHERE project_id = 'p' AND kind = 'k' " +
				"ORDER BY created_at DESC, id LIMIT 9": "dr_operations_of_project_kind",
			"SELECT operation FROM dr_operations WHERE project_id = 'p' AND idempotency_key = 'k' " +
				"AND idempotency_key <> ''": "once",
			"SELECT operation FROM dr_operations WHERE status = 's' AND created_at <= 1 " +
				"ORDER BY created_at, id LIMIT 9": "dr_operations_by_status",
		} {
			steps, err := collect(tx, func(row scanner) (step string, err error) {
				var n int
				err = row.Scan(&n, &n, &n, &step)
				return step, err
			}, tx.explain()+query)
			plan := strings.Join(steps, "; ")
			if err != nil || !strings.Contains(plan, index) || strings.Contains(plan, "TEMP") {
				t.Errorf("%s: %s, %v", query, plan, err)
			}
		}
		return nil
	})
}
