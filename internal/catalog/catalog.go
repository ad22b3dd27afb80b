package catalog

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"kvol/internal/block"
)

const (
	maxReaders = 8                     // connections that read at once
	maxTries   = 8                     // of an Update whose transaction was refused as busy
	firstPause = 10 * time.Millisecond // before the second try; doubles with each
	maxPause   = 500 * time.Millisecond
)

// Catalog is an open catalog. Its methods may be called at once from many
// goroutines. A View or an Update must not be begun inside another one's
// function: with an in-memory catalog that would wait for itself for ever.
type Catalog struct {
	write *sql.DB // one connection; every transaction takes the write lock when it begins
	read  *sql.DB // the same handle as write where the catalog is in memory
	now   func() time.Time
	jobs  chan struct{}
	dialect
}

// Options say where a catalog lies.
type Options struct {
	Path string           // of the database file, which is made if it is missing; "" for one in memory
	Now  func() time.Time // the clock; nil for the system's
}

// Open opens a catalog and brings its tables up to date. A catalog that was
// written by a newer program is refused.
func Open(ctx context.Context, o Options) (*Catalog, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	c := &Catalog{now: o.Now, jobs: make(chan struct{}, 1)}
	var err error
	if c.write, c.read, err = c.connect(o.Path); err != nil {
		return nil, fmt.Errorf("open catalog %s: %w", o.Path, err)
	}
	if err := c.migrate(ctx, migrationFiles, "migrations"); err != nil {
		return nil, errors.Join(fmt.Errorf("open catalog %s: %w", o.Path, err), c.Close())
	}
	return c, nil
}

// Close ends the use of the catalog. What was committed needs no Close to be
// kept.
func (c *Catalog) Close() error {
	if c.read == c.write {
		return c.write.Close()
	}
	return errors.Join(c.read.Close(), c.write.Close())
}

// JobsChanged gets a token after a commit that enqueued a job or made one due
// sooner. It holds one token at most and is meant for one receiver.
func (c *Catalog) JobsChanged() <-chan struct{} { return c.jobs }

// View runs fn in a transaction that only reads. All that fn reads is of one
// moment. It does not wait for writers, nor they for it.
func (c *Catalog) View(ctx context.Context, fn func(*Tx) error) error {
	return c.run(ctx, c.read, &sql.TxOptions{ReadOnly: true}, fn)
}

// Update runs fn in a transaction that may write, and commits it if fn returns
// nil. There is one at a time. What it committed survives a power cut. fn may
// be run again if the database refused the transaction, so it must have no
// other effects than those on tx.
func (c *Catalog) Update(ctx context.Context, fn func(*Tx) error) error {
	pause := firstPause
	for try := 1; ; try++ {
		err := c.run(ctx, c.write, nil, fn)
		if err == nil || !c.refused(err) {
			return err
		}
		if try == maxTries {
			return block.Wrap(block.Unavailable, err, "The catalog is busy, try again.")
		}
		if err := sleep(ctx, pause); err != nil {
			return err
		}
		pause = min(2*pause, maxPause)
	}
}

func (c *Catalog) run(ctx context.Context, db *sql.DB, o *sql.TxOptions, fn func(*Tx) error) error {
	tx, err := db.BeginTx(ctx, o)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	defer func() { _ = tx.Rollback() }() // does nothing after a commit; undoes all after an error or a panic
	t := &Tx{Now: c.now().UTC().Truncate(time.Microsecond), ctx: ctx, tx: tx, dialect: c.dialect}
	if err := fn(t); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	if t.jobs {
		select {
		case c.jobs <- struct{}{}:
		default: // a token is waiting already
		}
	}
	return nil
}

// sleep waits for d or until ctx ends.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
