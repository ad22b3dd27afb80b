package catalog

import (
	"context"
	"slices"
	"sync"
)

// turn is the right to use what one may use at a time: first come, first served.
// Its methods may be called at once; hand and leave by who has the turn.
type turn struct {
	mu    sync.Mutex
	taken bool            // guarded by mu
	queue []chan struct{} // of those that wait, the first first; closed when it is their turn; guarded by mu
}

// take waits for the turn for as long as ctx lives.
func (t *turn) take(ctx context.Context) error {
	t.mu.Lock()
	if !t.taken {
		t.taken = true
		t.mu.Unlock()
		return nil
	}
	mine := make(chan struct{})
	t.queue = append(t.queue, mine)
	t.mu.Unlock()
	select {
	case <-mine:
		return nil
	case <-ctx.Done():
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	i := slices.Index(t.queue, mine)
	if i < 0 {
		return nil // it came meanwhile
	}
	t.queue = slices.Delete(t.queue, i, i+1)
	return ended(ctx)
}

// hand gives the turn to who waits for it longest. Where nobody does it remains the
// caller's, and hand returns false.
func (t *turn) hand() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.queue) == 0 {
		return false
	}
	close(t.queue[0])
	t.queue = t.queue[1:]
	return true
}

// leave hands the turn on, or to nobody.
func (t *turn) leave() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.taken = len(t.queue) > 0; t.taken {
		close(t.queue[0])
		t.queue = t.queue[1:]
	}
}
