package catalog

import (
	"fmt"
	"strings"
	"time"

	"kvol/internal/block"
)

const noOperation = "Operation %s could not be found."

// InsertOperation writes a new operation with its steps; CreatedAt becomes Now,
// and the steps become the operation's. An idempotency key that another one of
// the project was begun with is a Conflict.
func (tx *Tx) InsertOperation(op *block.Operation, steps []block.OperationStep) error {
	op.CreatedAt = tx.Now
	_, err := tx.exec(`INSERT INTO dr_operations (id, kind, project_id, idempotency_key, status, created_at, operation)
		VALUES ($1, $2, $3, $4, $5, $6, $7)`, op.ID, string(op.Kind), string(op.Project), op.Key, string(op.Status),
		micros(op.CreatedAt), jsonText(*op))
	if tx.duplicate(err) {
		return block.Wrap(block.Conflict, err, "An operation with this idempotency key exists.")
	}
	if err != nil {
		return err
	}
	for i := range steps {
		steps[i].Operation = op.ID
		s := steps[i]
		if _, err := tx.exec(`INSERT INTO dr_operation_steps (operation_id, seq, stage, status, step)
			VALUES ($1, $2, $3, $4, $5)`, s.Operation, s.Seq, s.Stage, string(s.Status), jsonText(s)); err != nil {
			return err
		}
	}
	return nil
}

// UpdateOperation writes what may change of an operation: all but its id, kind,
// project, idempotency key and creation.
func (tx *Tx) UpdateOperation(op block.Operation) error {
	res, err := tx.exec(`UPDATE dr_operations SET status = $2, operation = $3 WHERE id = $1`, op.ID,
		string(op.Status), jsonText(op))
	return changed(res, err, noOperation, op.ID)
}

// Operation returns an operation.
func (tx *Tx) Operation(id string) (block.Operation, error) {
	op, err := scanOperation(tx.queryRow(`SELECT operation FROM dr_operations WHERE id = $1`, id))
	return op, notFound(err, noOperation, id)
}

// OperationWithKey returns the operation of a project that was begun with an
// idempotency key, NotFound if there is none.
func (tx *Tx) OperationWithKey(project block.ProjectID, key string) (block.Operation, error) {
	op, err := scanOperation(tx.queryRow(`SELECT operation FROM dr_operations
		WHERE project_id = $1 AND idempotency_key = $2 AND idempotency_key <> ''`, string(project), key))
	return op, notFound(err, "No operation was begun with this idempotency key.")
}

// Operations lists operations, the newest first, at most limit: of a project,
// or all for "", and of a kind, or all for "".
func (tx *Tx) Operations(project block.ProjectID, kind block.OperationKind, limit int) ([]block.Operation, error) {
	var where []string
	var args []any
	if project != "" {
		args = append(args, string(project))
		where = append(where, fmt.Sprintf("project_id = $%d", len(args)))
	}
	if kind != "" {
		args = append(args, string(kind))
		where = append(where, fmt.Sprintf("kind = $%d", len(args)))
	}
	query := `SELECT operation FROM dr_operations`
	if len(where) > 0 {
		query += ` WHERE ` + strings.Join(where, ` AND `)
	}
	args = append(args, limit)
	return collect(tx, scanOperation, query+fmt.Sprintf(` ORDER BY created_at DESC, id LIMIT $%d`, len(args)), args...)
}

// forgotten is how many operations are forgotten at most in one transaction.
const forgotten = 100

// ForgetOperations deletes the oldest operations of a project that ended, with their
// steps, where there are more of a kind than keep; at most a hundred at once.
func (tx *Tx) ForgetOperations(project block.ProjectID, kind block.OperationKind, keep int) error {
	old, err := collect(tx, scanText, `SELECT id FROM dr_operations WHERE project_id = $1 AND kind = $2
		AND status IN ('succeeded', 'partly', 'failed', 'canceled')
		ORDER BY created_at DESC, id LIMIT $3 OFFSET $4`, string(project), string(kind), forgotten, keep)
	for _, id := range old {
		if err := tx.forgetOperation(id); err != nil {
			return err
		}
	}
	return err
}

func (tx *Tx) forgetOperation(id string) error {
	for _, query := range []string{`DELETE FROM dr_operation_steps WHERE operation_id = $1`,
		`DELETE FROM dr_operations WHERE id = $1`} {
		if _, err := tx.exec(query, id); err != nil {
			return err
		}
	}
	return nil
}

// OperationsIn lists operations in a status that were begun until a time, the
// oldest first, at most limit.
func (tx *Tx) OperationsIn(status block.OperationStatus, until time.Time, limit int) ([]block.Operation, error) {
	return collect(tx, scanOperation, `SELECT operation FROM dr_operations WHERE status = $1 AND created_at <= $2
		ORDER BY created_at, id LIMIT $3`, string(status), micros(until), limit)
}

func scanOperation(row scanner) (op block.Operation, err error) {
	err = row.Scan(asJSON(&op))
	return op, err
}

// OperationSteps lists the steps of an operation in their order.
func (tx *Tx) OperationSteps(operation string) ([]block.OperationStep, error) {
	return collect(tx, scanOperationStep, `SELECT step FROM dr_operation_steps WHERE operation_id = $1 ORDER BY seq`,
		operation)
}

// OperationStep returns a step of an operation.
func (tx *Tx) OperationStep(operation string, seq int) (block.OperationStep, error) {
	s, err := scanOperationStep(tx.queryRow(`SELECT step FROM dr_operation_steps WHERE operation_id = $1 AND seq = $2`,
		operation, seq))
	return s, notFound(err, "Step %d of operation %s could not be found.", seq, operation)
}

// NextOperationStep returns the first step of an operation with a status; ok is
// false if there is none.
func (tx *Tx) NextOperationStep(operation string, status block.StepStatus) (s block.OperationStep, ok bool, err error) {
	s, err = scanOperationStep(tx.queryRow(`SELECT step FROM dr_operation_steps WHERE operation_id = $1 AND status = $2
		ORDER BY stage, seq LIMIT 1`, operation, string(status)))
	err = notFound(err, "none")
	if block.Is(err, block.NotFound) {
		return s, false, nil
	}
	return s, err == nil, err
}

// UpdateOperationStep writes a step.
func (tx *Tx) UpdateOperationStep(s block.OperationStep) error {
	res, err := tx.exec(`UPDATE dr_operation_steps SET status = $3, step = $4 WHERE operation_id = $1 AND seq = $2`,
		s.Operation, s.Seq, string(s.Status), jsonText(s))
	return changed(res, err, "Step %d of operation %s could not be found.", s.Seq, s.Operation)
}

// CountOperationSteps counts the steps of an operation by status, up to a stage
// and with it.
func (tx *Tx) CountOperationSteps(operation string, stage int) (map[block.StepStatus]int, error) {
	type row struct {
		status block.StepStatus
		n      int
	}
	rows, err := collect(tx, func(r scanner) (one row, err error) {
		err = r.Scan(&one.status, &one.n)
		return one, err
	}, `SELECT status, COUNT(*) FROM dr_operation_steps WHERE operation_id = $1 AND stage <= $2 GROUP BY status`,
		operation, stage)
	counts := map[block.StepStatus]int{}
	for _, r := range rows {
		counts[r.status] = r.n
	}
	return counts, err
}

func scanOperationStep(row scanner) (s block.OperationStep, err error) {
	err = row.Scan(asJSON(&s))
	return s, err
}
