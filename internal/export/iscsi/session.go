package iscsi

import (
	"context"
	"sync"
)

// registered is a session that is logged in, or about to be.
type registered struct {
	key   string // target, initiator and its ISID
	tsih  uint16
	kill  func()
	ended chan struct{}
}

// registry knows the sessions, so that an initiator port that comes again ends
// the session it had (section 6.3.5 of RFC 7143).
type registry struct {
	mu   sync.Mutex // guards below
	all  map[string]*registered
	last uint16
}

// enter waits for the end of an earlier session with the same key.
func (r *registry) enter(ctx context.Context, key string, kill func()) (*registered, error) {
	for {
		r.mu.Lock()
		old := r.all[key]
		if old == nil {
			e := &registered{key: key, kill: kill, ended: make(chan struct{}), tsih: r.numberLocked()}
			r.all[key] = e
			r.mu.Unlock()
			return e, nil
		}
		r.mu.Unlock()
		old.kill()
		select {
		case <-old.ended:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (r *registry) leave(e *registered) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.all, e.key)
	close(e.ended)
}

func (r *registry) number() uint16 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.numberLocked()
}

func (r *registry) numberLocked() uint16 {
	r.last++
	if r.last == 0 {
		r.last = 1
	}
	return r.last
}

// known reports whether a session has this handle.
func (r *registry) known(tsih uint16) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.all {
		if e.tsih == tsih {
			return true
		}
	}
	return false
}
