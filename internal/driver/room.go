package driver

import (
	"context"
	"sync"
	"time"

	"kvol/internal/block"
)

// roomLimit is how long a store is asked for its room at most, whoever waits for it.
const roomLimit = 10 * time.Second

// Room is what a store says of its capacity.
type Room struct {
	Capacity
	Err error // why it says nothing; nil if it does
}

// rooms are the questions for room that stores have not answered. One is asked once at a
// time: a file system whose server is away answers whenever it is back, whatever the
// context, and each who asks would wait with it.
type rooms struct {
	mu    sync.Mutex
	asked map[string]*asked // by store; guarded by mu
}

type asked struct {
	answered chan struct{} // closed when room is set
	room     Room
}

// ask asks a store, unless that is under way.
func (r *rooms) ask(ctx context.Context, store string, d Driver) *asked {
	r.mu.Lock()
	defer r.mu.Unlock()
	if a := r.asked[store]; a != nil {
		return a
	}
	a := &asked{answered: make(chan struct{})}
	if r.asked == nil {
		r.asked = map[string]*asked{}
	}
	r.asked[store] = a
	go func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), roomLimit)
		defer cancel()
		a.room.Capacity, a.room.Err = d.Capacity(ctx)
		r.mu.Lock()
		delete(r.asked, store)
		r.mu.Unlock()
		close(a.answered)
	}()
	return a
}

// Capacity of the store that a backend lies on. It waits for that no longer than ctx
// lives, whether the store heeds ctx or not.
func (s *Set) Capacity(ctx context.Context, backend string) (Capacity, error) {
	d, err := s.Of(backend)
	if err != nil {
		return Capacity{}, err
	}
	a := s.rooms.ask(ctx, s.backends[backend].Store, d)
	select {
	case <-a.answered:
		return a.room.Capacity, a.room.Err
	case <-ctx.Done():
		return Capacity{}, block.Wrap(block.Unavailable, context.Cause(ctx),
			"The store of backend %s does not tell its room.", backend)
	}
}

// Rooms are those of all stores, by backend. All are asked at once, and waited for no
// longer than ctx lives.
func (s *Set) Rooms(ctx context.Context) map[string]Room {
	all := make(map[string]Room, len(s.backends))
	var mu sync.Mutex // guards all
	var waiting sync.WaitGroup
	for name := range s.backends {
		waiting.Go(func() {
			capacity, err := s.Capacity(ctx, name)
			mu.Lock()
			defer mu.Unlock()
			all[name] = Room{capacity, err}
		})
	}
	waiting.Wait()
	return all
}
