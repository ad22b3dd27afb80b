package catalog

import (
	"fmt"
	"testing"

	"kvol/internal/block"
)

// TestDrillReports: of a project's reports so many are kept as are wanted, with
// their operations, and other projects' are left alone.
func TestDrillReports(t *testing.T) {
	c := openDR(t)
	update(t, c, func(tx *Tx) error {
		for n := range 5 {
			op := block.Operation{
				ID:      fmt.Sprint("o", n),
				Kind:    block.OperationDrill,
				Project: "p",
				Status:  block.OperationWaiting,
			}
			if n == 0 {
				op.Project = "q"
			}
			if err := tx.InsertOperation(&op, nil); err != nil {
				return err
			}
			r := block.DrillReport{Operation: op.ID, Project: op.Project, Verdict: "pass", Report: []byte(`{}`)}
			if err := tx.InsertDrillReport(r, 3); err != nil {
				return err
			}
		}
		for n, kept := range []bool{true, true, true, true, false} { // of one instant, the last by name goes
			id := fmt.Sprint("o", n)
			_, err := tx.DrillReport(id)
			_, operation := tx.Operation(id)
			if kept && (err != nil || operation != nil) || !kept && !block.Is(err, block.NotFound) {
				t.Errorf("report %s: %v, %v", id, err, operation)
			}
		}
		return nil
	})
}
