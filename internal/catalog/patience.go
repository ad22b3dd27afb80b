package catalog

import (
	"context"
	"errors"

	"kvol/internal/block"
)

// errSilent says that the database did not answer a statement in time.
var errSilent = errors.New("the database did not answer in time")

// errWaited says that it was not a transaction's turn in time.
var errWaited = errors.New("other transactions took too long")

// waiting is ctx for as long as a transaction waits for its turn, and to be tried
// again.
func (c *Catalog) waiting(ctx context.Context) (context.Context, context.CancelFunc) {
	limit := c.patience()
	if limit == 0 {
		return ctx, func() {}
	}
	return context.WithTimeoutCause(ctx, limit, errWaited)
}

// ended is why a context of waiting ended.
func ended(ctx context.Context) error {
	if context.Cause(ctx) == errWaited { //nolint:errorlint // it is the very one
		return errWaited
	}
	return ctx.Err()
}

const unreachable = "The zone's catalog can't be reached, try again later."

// reachable gives the errors that are about the way to the database a sentence.
func (c *Catalog) reachable(err error) error {
	switch {
	case errors.Is(err, errWaited):
		return busy(err)
	case c.lost(err):
		return block.Wrap(block.Unavailable, err, unreachable)
	}
	return err
}

func busy(err error) error {
	return block.Wrap(block.Unavailable, err, "The catalog is busy, try again.")
}

// within bounds the time of a statement where the connection has a limit: the
// database may stand still, or its machine be gone without a word. done makes the
// statement's error say so, and is to be called once. What was not answered in time
// has broken the connection.
func (c *conn) within(ctx context.Context) (limited context.Context, done func(error) error) {
	if c.limit == 0 {
		return ctx, func(err error) error { return err }
	}
	limited, cancel := context.WithTimeoutCause(ctx, c.limit, errSilent)
	return limited, func(err error) error {
		if err != nil && context.Cause(limited) == errSilent { //nolint:errorlint // it is the very one
			err = errors.Join(errSilent, err)
		}
		cancel()
		return err
	}
}
