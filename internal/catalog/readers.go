package catalog

import (
	"context"
	"errors"
	"sync"
)

var errClosed = errors.New("the catalog is closed")

// readers are the connections that read. The one that was used last is used
// first, since its pages and statements are warm. Its methods may be called at
// once.
type readers struct {
	open  func(context.Context) (*conn, error)
	slots chan struct{} // holds a token for each connection that is in use

	mu       sync.Mutex // guards the rest
	idle     []*conn
	closed   bool
	unopened int64 // connections that could not be opened, counted
	failure  error // of the last one; nil after one that could
}

func newReaders(limit int, open func(context.Context) (*conn, error)) *readers {
	return &readers{open: open, slots: make(chan struct{}, limit)}
}

// failures counts the connections that could not be opened.
func (r *readers) failures() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.unopened
}

// take gets a connection, which must be given back; kept says that it was used
// before, and may be broken. ctx bounds the wait for one that is free. unopened is the
// number of failures when the caller began to wait: where another connection could
// not be opened since, he need not try, so that those who wait for a database that
// does not answer don't wait one after another.
func (r *readers) take(ctx context.Context, unopened int64) (c *conn, kept bool, err error) {
	select {
	case r.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, false, ended(ctx)
	}
	c, kept, err = r.find(unopened)
	if c == nil && err == nil {
		c, err = r.open(context.WithoutCancel(ctx)) // what becomes of it others believe too
		r.opened(err)
	}
	if err != nil {
		<-r.slots
	}
	return c, kept, err
}

// find takes an idle connection; nil where one has to be opened.
func (r *readers) find(unopened int64) (c *conn, kept bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, false, errClosed
	}
	if last := len(r.idle) - 1; last >= 0 {
		c := r.idle[last]
		r.idle = r.idle[:last]
		return c, true, nil
	}
	if r.unopened != unopened {
		return nil, false, r.failure
	}
	return nil, false, nil
}

// opened notes what became of a connection.
func (r *readers) opened(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.failure = err; err != nil {
		r.unopened++
	}
}

// forget ends the idle connections, which may be broken as another one was.
func (r *readers) forget() {
	r.mu.Lock()
	idle := r.idle
	r.idle = nil
	r.mu.Unlock()
	for _, c := range idle {
		_ = c.close() // it may be broken
	}
}

// give takes a connection back, if it is sound.
func (r *readers) give(c *conn, sound bool) error {
	defer func() { <-r.slots }()
	r.mu.Lock()
	keep := sound && !r.closed
	if keep {
		r.idle = append(r.idle, c)
	}
	r.mu.Unlock()
	if keep {
		return nil
	}
	return c.close()
}

// close ends the idle connections now and the others when they are given back.
func (r *readers) close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	var errs []error
	for _, c := range r.idle {
		errs = append(errs, c.close())
	}
	r.idle = nil
	return errors.Join(errs...)
}
