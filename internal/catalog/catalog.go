package catalog

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"
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
	writer  *writer
	readers *readers // nil where the catalog is in memory: then the writer's connection reads too
	now     func() time.Time
	jobs    chan struct{}
	stirred *bell
	dialect
}

// Options say where a catalog lies.
type Options struct {
	Path string           // of the database file, which is made if it is missing; "" for one in memory
	URL  string           // of a PostgreSQL database, "postgres://..."; then Path is of no meaning
	Now  func() time.Time // the clock; nil for the system's
	// Image is what a catalog in memory begins with: what another one's Image
	// returned. nil for an empty one.
	Image []byte
	// Commit, if set, is called in the place of each commit, which it makes by
	// calling commit, or not. An error that it returns is what the Updates of the
	// transaction return. It is for tests of crashes.
	Commit func(commit func() error) error
	// Doubted, if set, is told that a commit failed in a way that leaves open whether
	// it was carried out: its answer was lost. The next Update that begins knows what
	// became of it. Doubted must neither wait nor use the catalog.
	Doubted func()
	// Observe, if set, is called with the text of each statement. It must be quick,
	// and is for measurements.
	Observe func(statement string)
	// Alone lets no other process open the catalog alone, for as long as this one
	// has it: a Conflict. A zone's process opens it so.
	Alone bool
	// Shared is in the place of Alone for processes that serve a zone together on
	// PostgreSQL: each may have it open, and nobody alone.
	Shared bool
}

// where names the catalog without its secrets.
func (o Options) where() string {
	if o.URL == "" {
		return o.Path
	}
	if u, err := url.Parse(o.URL); err == nil {
		return u.Redacted()
	}
	return "of PostgreSQL"
}

// Open opens a catalog and brings its tables up to date. A catalog that was
// written by a newer program is refused.
func Open(ctx context.Context, o Options) (*Catalog, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	c := &Catalog{now: o.Now, jobs: make(chan struct{}, 1), stirred: newBell(),
		dialect: &sqlite{path: o.Path, alone: o.Alone, observe: o.Observe}}
	if o.URL != "" {
		c.dialect = &postgres{url: o.URL, alone: o.Alone, shared: o.Shared, observe: o.Observe}
	}
	var err error
	if c.writer, c.readers, err = c.connect(ctx); err != nil {
		return nil, fmt.Errorf("open catalog %s: %w", o.where(), err)
	}
	if o.Image != nil {
		if err := c.writer.conn.load(o.Image); err != nil {
			return nil, errors.Join(fmt.Errorf("open catalog: %w", err), c.Close())
		}
	}
	if o.Commit != nil {
		c.writer.commit = o.Commit
	}
	if o.Doubted != nil {
		c.writer.failed = func(err error) {
			if !c.refused(err) {
				o.Doubted()
			}
		}
	}
	err = c.migrate(ctx, migrationFiles, "migrations")
	if err == nil && (o.Alone || o.Shared) {
		err = c.View(ctx, (*Tx).notMoved)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open catalog %s: %w", o.where(), err), c.Close())
	}
	if err := c.adoptCalls(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("open catalog %s: audit log: %w", o.Path, err), c.Close())
	}
	return c, nil
}

// Close ends the use of the catalog. What was committed needs no Close to be
// kept.
func (c *Catalog) Close() error {
	if c.readers == nil {
		return errors.Join(c.writer.close(), c.release())
	}
	return errors.Join(c.readers.close(), c.writer.close(), c.release())
}

// Image returns all that is committed in a catalog in memory, for Options.Image.
func (c *Catalog) Image(ctx context.Context) (image []byte, err error) {
	err = c.writer.view(ctx, func(db *conn) error {
		image, err = db.image()
		return err
	})
	return image, err
}

// JobsChanged gets a token after a commit that enqueued a job or made one due
// sooner. It holds one token at most and is meant for one receiver.
func (c *Catalog) JobsChanged() <-chan struct{} { return c.jobs }

// View runs fn in a transaction that only reads. All that fn reads is of one
// moment. It does not wait for writers, nor they for it. Its statements end with
// ctx.
func (c *Catalog) View(ctx context.Context, fn func(*Tx) error) error {
	look := func(db *conn) error { return c.look(ctx, db, fn) }
	if c.readers == nil {
		return c.writer.view(ctx, func(db *conn) error {
			if _, err := db.exec(context.Background(), c.viewing()); err != nil {
				return fmt.Errorf("begin: %w", err)
			}
			return look(db)
		})
	}
	db, err := c.begin(ctx)
	if err != nil {
		return err
	}
	sound := false
	defer func() { _ = c.readers.give(db, sound) }() // its end changes nothing that was read
	err = look(db)
	sound = !errors.Is(err, errUnsound)
	return err
}

// begin takes a connection on which a transaction that reads has begun. The
// database may have ended connections that were kept: it tries a new one then.
func (c *Catalog) begin(ctx context.Context) (*conn, error) {
	waiting, cancel := c.waiting(ctx)
	defer cancel()
	unopened := c.readers.failures()
	for {
		db, kept, err := c.readers.take(waiting, unopened)
		if err == nil {
			if _, err = db.exec(context.Background(), c.viewing()); err == nil {
				return db, nil
			}
			_ = c.readers.give(db, false) // it is broken
		}
		if !kept || !c.lost(err) {
			return nil, fmt.Errorf("begin: %w", c.reachable(err))
		}
		c.readers.forget()
	}
}

// errUnsound says that a connection is of no more use.
var errUnsound = errors.New("a transaction could not be ended")

// look runs fn in a connection's transaction and ends it, whatever fn does.
func (c *Catalog) look(ctx context.Context, db *conn, fn func(*Tx) error) (err error) {
	defer func() {
		if _, failed := db.exec(context.Background(), "ROLLBACK"); failed != nil {
			err = errors.Join(c.reachable(err), failed, errUnsound)
		}
	}()
	return fn(&Tx{Now: c.moment(), ctx: ctx, run: ctx, db: db, dialect: c.dialect})
}

// moment is the time of a transaction.
func (c *Catalog) moment() time.Time { return c.now().UTC().Truncate(time.Microsecond) }

// Update runs fn in a transaction that may write, and commits it if fn returns
// nil. There is one at a time; several that wait are committed together. What it
// committed survives a power cut. fn may be run again if the database refused
// the transaction, so it must have no other effects than those on tx. Once fn
// was begun, the end of ctx does not end it.
func (c *Catalog) Update(ctx context.Context, fn func(*Tx) error) error {
	waiting, cancel := c.waiting(ctx)
	defer cancel()
	pause := firstPause
	for try := 1; ; try++ {
		err := c.update(ctx, waiting, fn)
		if err == nil || !c.refused(err) && !errors.Is(err, errAgain) {
			return c.reachable(err)
		}
		if try == maxTries {
			return busy(err)
		}
		if sleep(waiting, pause) != nil {
			return c.reachable(errors.Join(ended(waiting), err))
		}
		pause = min(2*pause, maxPause)
	}
}

func (c *Catalog) update(ctx, waiting context.Context, fn func(*Tx) error) error {
	t := &Tx{ctx: ctx, run: context.Background(), dialect: c.dialect}
	err := c.writer.update(waiting, func(db *conn) error {
		t.Now, t.db = c.moment(), db
		return c.apart(t, fn)
	})
	if err == nil && t.jobs {
		c.wakeJobs()
	}
	if err == nil && (t.jobs || t.stirs) {
		c.stirred.ring()
	}
	return err
}

// apart runs fn if the transaction's context still has its rights, and lets other
// processes hear of it.
func (c *Catalog) apart(t *Tx, fn func(*Tx) error) error {
	if err := t.mustHold(); err != nil {
		return err
	}
	if err := fn(t); err != nil {
		return err
	}
	if tell := c.notify(); tell != "" && (t.jobs || t.stirs) {
		_, err := t.db.exec(t.run, tell)
		return err
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
