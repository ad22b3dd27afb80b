package catalog

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
)

// batchLimit is how many Updates are committed together at most.
const batchLimit = 64

// errAgain says that the database gave up a transaction for another Update's
// sake.
var errAgain = errors.New("the transaction was given up with another one's")

// writer is the connection that writes, and whose turn it is to use it. Updates
// that wait while one commits go into one transaction, each in a savepoint of
// its own, so that they share the next commit's sync: none returns before that
// commit, and none is undone by another's error. Each runs in its caller's
// goroutine; the last one that waits commits for all.
type writer struct {
	begin    string                               // the statement that begins a transaction
	reopen   func(context.Context) (*conn, error) // nil where the connection can't break
	commit   func(func() error) error             // see Options
	failed   func(error)                          // hears of each commit that failed, before its Updates do
	turn     turn
	unopened atomic.Int64 // connections that could not be opened, counted

	// guarded by turn
	conn    *conn // nil: it broke
	failure error // of the last connection that could not be opened
	open    *batch
	closed  bool
}

// batch is a transaction of several Updates.
type batch struct {
	members int
	done    chan struct{} // closed when err is known
	err     error
}

func newWriter(c *conn, begin string, reopen func(context.Context) (*conn, error)) *writer {
	return &writer{conn: c, begin: begin, reopen: reopen,
		commit: func(commit func() error) error { return commit() }, failed: func(error) {}}
}

// update runs fn with the connection in a transaction, and returns when what fn
// did is committed. An error of fn undoes what fn did, no more. errAgain, and
// what the database says when it can't begin or commit, mean that nothing
// happened. ctx bounds the wait for the turn.
func (w *writer) update(ctx context.Context, fn func(*conn) error) error {
	b, err := w.join(ctx, fn)
	if b == nil {
		return err
	}
	<-b.done // also after an error: it may come of what others did, which must be true then
	if b.err != nil {
		return b.err
	}
	return err
}

// join runs fn as a member of a batch, which is nil where there is nothing to
// wait for.
func (w *writer) join(ctx context.Context, fn func(*conn) error) (*batch, error) {
	unopened := w.unopened.Load()
	if err := w.turn.take(ctx); err != nil {
		return nil, err
	}
	defer w.next()
	if w.closed {
		return nil, errClosed
	}
	if ctx.Err() != nil {
		return nil, ended(ctx)
	}
	if w.open == nil {
		if err := w.start(ctx, unopened); err != nil {
			return nil, fmt.Errorf("begin: %w", err)
		}
		w.open = &batch{done: make(chan struct{})}
	}
	b := w.open
	err := w.member(fn)
	if w.open != b { // given up
		return nil, err
	}
	return b, err
}

// next hands the turn to who waits for it, and joins the batch. It is committed
// where nobody does, and when it is large.
func (w *writer) next() {
	if w.open != nil && w.open.members >= batchLimit {
		w.settle()
	}
	if w.turn.hand() {
		return
	}
	w.settle()
	w.turn.leave()
}

// start begins a transaction, on a new connection where the old one broke. unopened
// is how many could not be when the caller began to wait: where another one
// could not since, he need not try, so that those who wait for a database that does
// not answer don't wait one after another.
func (w *writer) start(ctx context.Context, unopened int64) (err error) {
	if w.conn != nil {
		if err = w.do(w.begin); err == nil || w.reopen == nil {
			return err
		}
		_ = w.do("ROLLBACK") // it may have begun, and not got what it waits for
		if w.do("SELECT 1") == nil {
			return err
		}
		w.drop()
	}
	if w.unopened.Load() != unopened {
		return w.failure
	}
	if w.conn, err = w.reopen(context.WithoutCancel(ctx)); err != nil { // others wait for it too
		w.conn, w.failure = nil, err
		w.unopened.Add(1)
		return err
	}
	return w.do(w.begin)
}

// drop gives a connection up that broke.
func (w *writer) drop() {
	_ = w.conn.close() // it is broken
	w.conn = nil
}

// member runs fn in a savepoint. What it did is undone after an error, and when
// fn does not return since it panics or ends its goroutine.
func (w *writer) member(fn func(*conn) error) error {
	if err := w.do("SAVEPOINT member"); err != nil {
		w.giveUp()
		return fmt.Errorf("begin: %w", err)
	}
	held := false
	defer func() {
		if !held && errors.Join(w.do("ROLLBACK TO member"), w.do("RELEASE member")) != nil {
			w.giveUp() // the database undid more than this member
		}
	}()
	if err := fn(w.conn); err != nil {
		return err
	}
	if err := w.do("RELEASE member"); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	held = true
	w.open.members++
	return nil
}

// settle commits the batch, if one is open.
func (w *writer) settle() {
	b := w.open
	if b == nil {
		return
	}
	w.open = nil
	if err := w.commit(func() error { return w.do("COMMIT") }); err != nil {
		w.undo()
		w.failed(err)
		b.err = fmt.Errorf("commit: %w", err)
	}
	close(b.done)
}

// undo ends a transaction that failed. The database may have done so.
func (w *writer) undo() {
	if err := w.do("ROLLBACK"); err != nil && w.reopen != nil && w.conn != nil {
		w.drop()
	}
}

// giveUp ends the batch for all of its members but the one at work, which knows
// why.
func (w *writer) giveUp() {
	w.undo()
	w.open.err = errAgain
	close(w.open.done)
	w.open = nil
}

// view lends the connection to fn for reading, for a catalog that has no other.
func (w *writer) view(ctx context.Context, fn func(*conn) error) error {
	if err := w.turn.take(ctx); err != nil {
		return err
	}
	defer w.turn.leave()
	if w.closed {
		return errClosed
	}
	w.settle() // before anything: who handed the turn on waits for it
	if err := ctx.Err(); err != nil {
		return err
	}
	return fn(w.conn)
}

func (w *writer) close() error {
	if err := w.turn.take(context.Background()); err != nil {
		return err
	}
	defer w.turn.leave()
	if w.closed {
		return nil
	}
	w.settle()
	w.closed = true
	if w.conn == nil {
		return nil
	}
	return w.conn.close()
}

func (w *writer) do(statement string) error {
	if w.conn == nil {
		return errClosed
	}
	_, err := w.conn.exec(context.Background(), statement)
	return err
}
