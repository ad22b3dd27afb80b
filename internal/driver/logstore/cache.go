package logstore

import "sync"

// leafID names a leaf as it is seen from a branch below a bound.
type leafID struct {
	branch, at uint64
	leaf       uint32
}

const (
	cacheShards = 64
	leafCost    = leafBlocks*16 + 128 // bytes of memory of one cached leaf
)

// leafCache keeps resolved leaves, bounded in number. It is a cache of the
// index only; data is cached by the kernel.
type leafCache struct {
	limit  int // leaves in a shard
	shards [cacheShards]cacheShard
}

type cacheShard struct {
	mu      sync.Mutex // guards all below
	changes uint64     // counts patches, so that a slow reader keeps nothing stale
	leaves  map[leafID]*cells
}

func newLeafCache(bytes int64) *leafCache {
	c := &leafCache{limit: int(max(1, bytes/leafCost/cacheShards))}
	for i := range c.shards {
		c.shards[i].leaves = map[leafID]*cells{}
	}
	return c
}

func (c *leafCache) shard(leaf uint32) *cacheShard { return &c.shards[leaf%cacheShards] }

// get copies cells [from, to) of a leaf into out. Where the leaf isn't there,
// ok is false and stamp is for put.
func (c *leafCache) get(id leafID, from, to int, out *cells) (stamp uint64, ok bool) {
	s := c.shard(id.leaf)
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.leaves[id]
	if l == nil {
		return s.changes, false
	}
	copy(out[from:to], l[from:to])
	return 0, true
}

// put keeps a leaf that was resolved after get gave the stamp, unless a leaf of
// the shard was changed since.
func (c *leafCache) put(id leafID, stamp uint64, l *cells) {
	s := c.shard(id.leaf)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.changes != stamp || s.leaves[id] != nil {
		return
	}
	var kept *cells
	for old := range s.leaves { // any: maps begin somewhere at random
		if len(s.leaves) < c.limit {
			break
		}
		kept = s.leaves[old]
		delete(s.leaves, old)
	}
	if kept == nil {
		kept = new(cells)
	}
	*kept = *l
	s.leaves[id] = kept
}

func (c *leafCache) patch(id leafID, r run) {
	s := c.shard(id.leaf)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changes++
	if l := s.leaves[id]; l != nil {
		l.apply(r)
	}
}

// moved puts the new places of blocks into all cached views of a leaf that
// have the old ones: a place belongs to one version, whoever sees it.
func (c *leafCache) moved(leaf uint32, blocks []relocating, to []cell) {
	s := c.shard(leaf)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changes++
	for id, l := range s.leaves {
		if id.leaf != leaf {
			continue
		}
		for k, m := range blocks {
			if old := &l[m.index]; old.segment == m.from.segment && old.off == m.from.off {
				old.segment, old.off = to[k].segment, to[k].off
			}
		}
	}
}

// bytes is how much memory the leaves take.
func (c *leafCache) bytes() (n int64) {
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.Lock()
		n += int64(len(s.leaves)) * leafCost
		s.mu.Unlock()
	}
	return n
}
