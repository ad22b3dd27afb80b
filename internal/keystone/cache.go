package keystone

import (
	"container/list"
	"sync"
	"time"
)

// tokenCache remembers whom tokens stand for, by their hashes, and forgets the
// least recently used when it is full. Its methods may be called at once.
type tokenCache struct {
	limit int

	mu     sync.Mutex // guards the rest
	byHash map[[32]byte]*list.Element
	order  *list.List // of *cached, most recently used first
}

type cached struct {
	hash  [32]byte
	who   subject
	until time.Time
}

func newTokenCache(limit int) *tokenCache {
	return &tokenCache{limit: limit, byHash: map[[32]byte]*list.Element{}, order: list.New()}
}

func (c *tokenCache) get(hash [32]byte, now time.Time) (subject, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.byHash[hash]
	if !ok {
		return subject{}, false
	}
	if kept := e.Value.(*cached); now.Before(kept.until) {
		c.order.MoveToFront(e)
		return kept.who, true
	}
	c.drop(e)
	return subject{}, false
}

func (c *tokenCache) put(hash [32]byte, who subject, until time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := c.byHash[hash]; ok {
		c.drop(e)
	}
	c.byHash[hash] = c.order.PushFront(&cached{hash, who, until})
	for c.order.Len() > c.limit {
		c.drop(c.order.Back())
	}
}

func (c *tokenCache) drop(e *list.Element) {
	delete(c.byHash, e.Value.(*cached).hash)
	c.order.Remove(e)
}
