package logstore

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// census is what the last count of live data found. The walk over the index
// costs time in proportion to the index; it takes at most a censusShare-th of
// the time while there is room, so that deletions each second don't make it
// run for ever. What it found is kept in the index.
type census struct {
	live  atomic.Int64  // bytes and one
	later atomic.Int64  // nanoseconds until a census that is due may be taken
	took  time.Duration // under reclaiming, as all below
	ended time.Time
}

const (
	censusShare = 20
	cheapCensus = 100 * time.Millisecond // that may be taken at any time
)

// dueNow tells whether it is time to count anew, and if only later, when.
func (s *Store) dueNow(ctx context.Context) (due bool, later time.Duration, err error) {
	room, err := s.Capacity(ctx)
	if err != nil {
		return false, 0, err
	}
	size := int64(s.super.segmentSize)
	s.mu.Lock()
	defer s.mu.Unlock()
	// Where it is not seen what dies, at least twice before the room that there
	// is has been written full.
	enough := int64(len(s.usage)) * size / 4
	if s.places.full() {
		enough = min(enough, room.Free/2)
	}
	enough = max(4*size, enough)
	if !s.freed && s.sinceCensus < enough {
		return false, 0, nil
	}
	share := time.Duration(censusShare)
	if lowRoom(room) {
		share = 1
	}
	if s.census.took < cheapCensus {
		share = 0
	}
	if wait := s.census.ended.Add(share * s.census.took).Sub(s.now()); wait > 0 {
		return false, wait, nil
	}
	return true, 0, nil
}

// reclaimWhenDue counts what is live and moves data out of segments that hold
// little of it: after a deletion, or when so much was written that it matters.
func (s *Store) reclaimWhenDue(ctx context.Context) error {
	s.reclaiming.Lock()
	defer s.reclaiming.Unlock()
	// What is known is enough to begin with: writers would run out of room while
	// a census is taken.
	if err := s.compact(ctx, false); err != nil {
		return err
	}
	due, later, err := s.dueNow(ctx)
	s.census.later.Store(int64(later))
	if err == nil && due {
		err = s.takeCensus()
	}
	if err == nil {
		err = s.freeEmptied()
	}
	if err == nil && due {
		err = s.compact(ctx, false)
	}
	if err != nil {
		return err
	}
	return s.shrink()
}

// reclaim is what the pool does when it can't grow. It does nothing where
// nothing was done since it found nothing.
func (s *Store) reclaim(ctx context.Context) error {
	// Whoever is at it may find something; its first segments are enough.
	if ours, err := s.reclaiming.lockUnless(ctx, s.pool); !ours {
		return err
	}
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
	// What is known from the last count is tried before another one.
	err := s.freeEmptied()
	if err == nil && s.pool.freeCount() == 0 {
		err = s.compact(ctx, true)
	}
	if err == nil && s.pool.freeCount() == 0 {
		err = s.takeCensus()
	}
	if err == nil && s.pool.freeCount() == 0 {
		err = s.compact(ctx, true)
	}
	if err == nil && s.pool.freeCount() == 0 {
		s.stuck = s.standing()
	}
	return err
}

// standing is what reclaiming depends on beside deletions.
type standing struct {
	end    position
	ready  int
	fallen int64
}

func (s *Store) standing() standing { return standing{s.log.now(), s.pool.count(), s.fallen.Load()} }

// takeCensus counts the live bytes of each full segment, notes them and sets
// those with none free.
func (s *Store) takeCensus() error {
	start := s.now()
	s.mu.Lock()
	s.freed, s.sinceCensus = false, 0
	snap := s.db.NewSnapshot()
	end := s.log.now()
	s.mu.Unlock()
	live, total, err := countLive(snap)
	snap.Close()
	if err != nil {
		return err
	}
	s.census.live.Store(total + 1)
	s.mu.Lock()
	var dead, changed []uint32
	for id, u := range s.usage {
		if id >= end.segment || u.free {
			continue
		}
		if n := live[id]; n < u.live {
			u.live = n
			changed = append(changed, id)
		}
		u.guess = u.live
		if u.live == 0 {
			dead = append(dead, id)
		}
	}
	err = s.setUsage(changed)
	if err == nil && !s.freed {
		err = indexError(s.db.Delete([]byte{keyFreed}, pebble.NoSync))
	}
	s.mu.Unlock()
	if err == nil {
		err = s.setFree(dead)
	}
	s.census.ended = s.now()
	s.census.took = s.census.ended.Sub(start)
	return err
}

// uncounted notes that something became unreachable of which no count tells, so
// that a census is due, also after the store was opened again. The caller holds
// s.mu, or is recovery.
func (s *Store) uncounted(b *pebble.Batch) {
	if !s.freed {
		s.freed = true
		_ = b.Set([]byte{keyFreed}, nil, nil)
	}
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
