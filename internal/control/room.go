package control

import (
	"context"
	"sync"
	"time"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/driver"
)

// How long what a store says of its room is gone by, and how long it is waited
// for: somebody waits for a volume.
const (
	roomAge      = 5 * time.Second
	roomPatience = 2 * time.Second
)

// rooms is what stores said of their room. The zero value is ready.
type rooms struct {
	turn sync.Mutex // held by who asks the stores

	mu sync.Mutex      // guards of
	of map[string]room // by store
}

// room is what a store said last, if it did.
type room struct {
	capacity driver.Capacity
	known    bool
	promised int64 // GiB that were promised on the store before it was asked
	at       time.Time
}

func (r *rooms) get(store string) room {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.of[store]
}

// due are the stores that are to be asked; fresh says that some were never asked.
func (r *rooms) due(backends []block.Backend, now time.Time) (stores map[string]string, fresh bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, b := range backends {
		one, asked := r.of[b.Store]
		if age := now.Sub(one.at); asked && age >= 0 && age < roomAge {
			continue
		}
		if stores == nil {
			stores = map[string]string{}
		}
		stores[b.Store], fresh = b.Name, fresh || !asked
	}
	return stores, fresh
}

// measureRooms asks the stores for their room, if that was not done lately. A
// store that does not answer is of unknown room, as in Cinder. It belongs before
// the transaction that chooses a backend: stores may take their time.
func (s *Service) measureRooms(ctx context.Context) error {
	backends, r := s.backends.Backends(), &s.stock
	due, fresh := r.due(backends, s.now())
	if len(due) == 0 || !fresh && !r.turn.TryLock() {
		return nil // what is known is of lately, or somebody asks right now
	}
	if fresh {
		r.turn.Lock()
	}
	defer r.turn.Unlock()
	if due, _ = r.due(backends, s.now()); len(due) == 0 {
		return nil
	}
	promised := map[string]int64{}
	err := s.catalog.View(ctx, func(tx *catalog.Tx) (err error) {
		_, promised, err = s.promises(tx)
		return err
	})
	if err != nil {
		return err
	}
	var asking sync.WaitGroup
	for store, backend := range due {
		asking.Go(func() {
			// Others go by the answer too, also when this one does not wait for it any more.
			ask, cancel := context.WithTimeout(context.WithoutCancel(ctx), roomPatience)
			defer cancel()
			capacity, err := s.backends.Capacity(ask, backend)
			if err != nil {
				s.log.Warn("a store does not tell its room", "backend", backend, "err", err)
			}
			r.mu.Lock()
			defer r.mu.Unlock()
			if r.of == nil {
				r.of = map[string]room{}
			}
			r.of[store] = room{capacity, err == nil, promised[store], s.now()}
		})
	}
	asking.Wait()
	return ctx.Err()
}
