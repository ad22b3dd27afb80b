package catalog

import (
	"context"
	"database/sql"
	"errors"

	"kvol/internal/block"
)

// Hold is a right that is somebody else's when its time is over: to run a job, or
// to do a duty of the zone. The token is the number of the claim by which it was
// got.
type Hold struct {
	Duty   string      // "" where it is about a job
	Job    block.JobID // 0 where it is about a duty
	Holder string
	Token  int64
}

type holdKey struct{}

// holds are a Hold and those that were there before.
type holds struct {
	Hold
	also *holds
}

// Holding returns a context whose Updates are made only while the right is held,
// and all rights that ctx has already: else they change nothing and are Stale.
// Updates come one after another, so none of them is between a look and a write:
// who stood still while the right was given to another changes nothing when it
// goes on, however late.
func Holding(ctx context.Context, h Hold) context.Context {
	also, _ := ctx.Value(holdKey{}).(*holds)
	return context.WithValue(ctx, holdKey{}, &holds{h, also})
}

// mustHold is Stale unless all rights of the transaction's context are held.
func (tx *Tx) mustHold() error {
	h, _ := tx.ctx.Value(holdKey{}).(*holds)
	for ; h != nil; h = h.also {
		var one int64
		var err error
		if h.Duty == "" {
			err = tx.queryRow("SELECT 1 FROM jobs WHERE id = $1 AND owner = $2 AND token = $3 AND state = $4",
				h.Job, h.Holder, h.Token, block.JobRunning).Scan(&one)
		} else {
			err = tx.queryRow("SELECT 1 FROM duties WHERE name = $1 AND holder = $2 AND token = $3",
				h.Duty, h.Holder, h.Token).Scan(&one)
		}
		if errors.Is(err, sql.ErrNoRows) {
			return h.lost()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (h Hold) lost() error {
	if h.Duty == "" {
		return block.Errorf(block.Stale, "Job %d is not held by %s.", h.Job, h.Holder)
	}
	return block.Errorf(block.Stale, "The duty %q is not held by %s any more.", h.Duty, h.Holder)
}
