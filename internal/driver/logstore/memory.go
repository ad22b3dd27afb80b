package logstore

// The memory of a store is Options.CacheBytes, shared out below, whatever the
// size of its volumes, and beside it what grows with the number of things that
// it keeps in memory: volumes, marks, branches and segments.
const (
	blockCacheShare = 8 // sixteenths: tables of the index, as Pebble caches them
	memTableShare   = 1 // each of memTables that wait to be written, and the one that is filled
	leafCacheShare  = 2 // resolved leaves, for reading
	placesShare     = 1 // where the blocks written last lie, for counting what dies

	nounCost    = 400 // bytes of a volume, a mark or a branch, about
	segmentCost = 160 // bytes of what is known of a segment, about
	recentCost  = 72  // bytes of a note of a leaf that was changed lately, about
)

func memoryShare(cacheBytes, sixteenths int64) int64 { return cacheBytes / 16 * sixteenths }

func memTable(cacheBytes int64) int64 { return max(64<<10, memoryShare(cacheBytes, memTableShare)) }

// Memory is what a store keeps in memory, in bytes. What a request or a round
// of compaction holds for the moment is not in it: 6 % of CacheBytes at most,
// and a record for each request.
type Memory struct {
	Index  int64 `json:"index_bytes"`  // the index's memory tables and block cache
	Leaves int64 `json:"leaves_bytes"` // resolved leaves
	Places int64 `json:"places_bytes"` // where blocks written lately lie
	Nouns  int64 `json:"nouns_bytes"`  // volumes, snapshots, branches, segments, notes: about
	Bound  int64 `json:"bound_bytes"`  // of the first three together: CacheBytes
}

// Total is the sum of all.
func (m Memory) Total() int64 { return m.Index + m.Leaves + m.Places + m.Nouns }

// memory counts. The caller holds s.mu.
func (s *Store) memory() Memory {
	m := Memory{Leaves: s.cache.bytes(), Places: s.places.bytes(), Bound: s.cacheBytes}
	if !s.closed.Load() {
		x := s.db.Metrics()
		m.Index = int64(x.MemTable.Size) + int64(x.MemTable.ZombieSize) + x.BlockCache.Size
	}
	nouns := len(s.volumes) + len(s.branches)
	for _, v := range s.volumes {
		nouns += v.snapshots.len()
	}
	m.Nouns = int64(nouns)*nounCost + int64(len(s.usage))*segmentCost + int64(len(s.recent))*recentCost
	return m
}
