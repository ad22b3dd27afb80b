package identity

import (
	"slices"
	"sync"
	"time"

	"kvol/internal/block"
)

const (
	// callersCached tokens are remembered; when there are more, all are
	// forgotten, which costs each one look into the catalog.
	callersCached = 10_000
	// callerTrusted is how long what another process changed may go unseen.
	callerTrusted = 5 * time.Second
)

// callerCache remembers for a moment whom tokens stand for, so that a request
// costs no look into the catalog. Every change that this process makes to
// users, roles or tokens clears it. Its methods may be called at once.
type callerCache struct {
	now func() time.Time

	mu      sync.Mutex // guards the rest
	callers map[string]cachedCaller
	clears  uint64
}

type cachedCaller struct {
	caller block.Caller
	until  time.Time
}

func newCallerCache(now func() time.Time) *callerCache {
	return &callerCache{now: now, callers: map[string]cachedCaller{}}
}

func (c *callerCache) get(hash string) (block.Caller, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.callers[hash]
	if !ok || !c.now().Before(e.until) {
		return block.Caller{}, false
	}
	caller := e.caller
	caller.Roles = slices.Clone(caller.Roles)
	return caller, true
}

// generation numbers the states between two clears. put keeps nothing that was
// read in an older one: it may be what the clear was for.
func (c *callerCache) generation() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.clears
}

func (c *callerCache) put(hash string, caller block.Caller, expires time.Time, generation uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if generation != c.clears {
		return
	}
	if len(c.callers) >= callersCached {
		clear(c.callers)
	}
	until := c.now().Add(callerTrusted)
	if expires.Before(until) {
		until = expires
	}
	caller.Roles = slices.Clone(caller.Roles)
	c.callers[hash] = cachedCaller{caller: caller, until: until}
}

func (c *callerCache) clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.clears++
	clear(c.callers)
}
