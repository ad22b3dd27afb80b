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

	mu     sync.Mutex // guards the rest
	idle   []*conn
	closed bool
}

func newReaders(limit int, open func(context.Context) (*conn, error)) *readers {
	return &readers{open: open, slots: make(chan struct{}, limit)}
}

// take gets a connection, which must be given back.
func (r *readers) take(ctx context.Context) (*conn, error) {
	select {
	case r.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	c, err := r.find(ctx)
	if err != nil {
		<-r.slots
	}
	return c, err
}

func (r *readers) find(ctx context.Context) (*conn, error) {
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return nil, errClosed
	}
	if last := len(r.idle) - 1; last >= 0 {
		c := r.idle[last]
		r.idle = r.idle[:last]
		r.mu.Unlock()
		return c, nil
	}
	r.mu.Unlock()
	return r.open(ctx)
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
