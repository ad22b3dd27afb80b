package logstore

import (
	"context"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
)

// census is what the last count of live data found.
type census struct {
	live     atomic.Int64
	segments atomic.Int64 // in use when it was taken
}

// reclaimWhenDue counts what is live and moves data out of segments that hold
// little of it: after a deletion, or when a quarter more segments are in use
// than at the last count.
func (s *Store) reclaimWhenDue(ctx context.Context) error {
	s.reclaiming.Lock()
	defer s.reclaiming.Unlock()
	all, empty := s.pool.counts()
	used := int64(all - empty)
	s.mu.Lock()
	due := s.freed
	s.mu.Unlock()
	last := s.census.segments.Load()
	if !due && used < last+max(4, last/4) {
		return nil
	}
	live, _, err := s.takeCensus()
	if err != nil {
		return err
	}
	return s.compact(ctx, live)
}

// reclaim is what the pool does when it can't grow. It does nothing where
// nothing was done since it found nothing.
func (s *Store) reclaim(ctx context.Context) error {
	s.reclaiming.Lock() // whoever is at it may have found something
	defer s.reclaiming.Unlock()
	if s.pool.freeCount() > 0 {
		return nil
	}
	s.mu.Lock()
	idle := !s.freed && s.stuck == s.standing()
	s.mu.Unlock()
	if idle {
		return nil
	}
	live, _, err := s.takeCensus()
	if err == nil && s.pool.freeCount() == 0 {
		err = s.compact(ctx, live)
	}
	if err == nil && s.pool.freeCount() == 0 {
		s.stuck = s.standing()
	}
	return err
}

// standing is what reclaiming depends on beside deletions.
type standing struct {
	end   position
	ready int
}

func (s *Store) standing() standing { return standing{s.log.now(), s.pool.count()} }

// takeCensus counts the live bytes of each full segment and sets those with
// none free. A full segment's count only ever falls: nothing new refers to
// old data. It may be reused once the durable index knows that, and nobody is
// reading from it any more.
func (s *Store) takeCensus() (live map[uint32]int64, freed int, err error) {
	s.mu.Lock()
	s.freed = false
	snap := s.db.NewSnapshot()
	end := s.log.now()
	s.mu.Unlock()
	defer snap.Close()
	live, total, err := countLive(snap)
	if err != nil {
		return nil, 0, err
	}
	full := s.pool.inUse(end.segment)
	var dead []uint32
	for _, id := range full {
		if live[id] == 0 {
			dead = append(dead, id)
			delete(live, id)
		}
	}
	s.census.live.Store(total + 1)
	s.census.segments.Store(int64(len(full) - len(dead)))
	if len(dead) == 0 {
		return live, 0, nil
	}
	if !s.hooks.is(recycleEarly) {
		if err := s.flushIndex(); err != nil {
			return nil, 0, err
		}
	}
	if err := s.grace.wait(s.closing); err != nil {
		return nil, 0, err
	}
	s.pool.setFree(dead)
	s.pool.retry()
	return live, len(dead), nil
}

// countLive sums the bytes that the index refers to, by segment.
func countLive(r pebble.Reader) (live map[uint32]int64, total int64, err error) {
	it, err := r.NewIter(&pebble.IterOptions{LowerBound: []byte{keyLeaf}, UpperBound: []byte{keyLeaf + 1}})
	if err != nil {
		return nil, 0, indexError(err)
	}
	defer it.Close()
	live = map[uint32]int64{}
	for ok := it.First(); ok; ok = it.Next() {
		v, err := it.ValueAndErr()
		if err != nil {
			return nil, 0, indexError(err)
		}
		err = eachRun(v, func(r run) {
			if r.segment != 0 {
				live[r.segment] += int64(r.count) * blockSize
				total += int64(r.count) * blockSize
			}
		})
		if err != nil {
			return nil, 0, err
		}
	}
	return live, total, indexError(it.Error())
}
