package catalog

import (
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
		all, err := tx.Operations("", 10)
		own, ownErr := tx.Operations("p", 2)
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
				"ORDER BY created_at DESC, id LIMIT 9": "dr_operations_of",
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
