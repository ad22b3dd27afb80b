package logstore

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"kvol/internal/block"
)

// Scrubbed tells how far scrubbing is.
type Scrubbed struct {
	Passes int64     `json:"passes"`          // that ended since the store was opened
	Bytes  int64     `json:"bytes"`           // read since then
	Ended  time.Time `json:"ended,omitzero"`  // the last pass
	Found  int64     `json:"found,omitempty"` // places found damaged
}

type scrubState struct {
	mu   sync.Mutex // guards done
	done Scrubbed
}

func (s *Store) scrubbed() Scrubbed {
	s.scrub.mu.Lock()
	defer s.scrub.mu.Unlock()
	return s.scrub.done
}

// Scrub reads the whole store once, full segments and index, at a rate in
// bytes a second (0: as fast as it goes), and raises the alarm about what is
// damaged. Blocks that nothing refers to any more count for nothing. It
// returns how many places it found; the error says why it could not go on.
// Where it starts is random, so that each part has its turn in a store that is
// never open for as long as a pass takes.
func (s *Store) Scrub(ctx context.Context, rate int64) (found int, err error) {
	if err := s.usable(ctx); err != nil {
		return 0, err
	}
	p := &pacer{rate: rate, start: s.now(), now: s.now}
	report := func(d Damage) {
		found++
		s.alarm(d)
	}
	s.mu.Lock()
	var ids []uint32
	for id, u := range s.usage {
		if !u.free {
			ids = append(ids, id)
		}
	}
	s.mu.Unlock()
	slices.Sort(ids)
	if n := len(ids); n > 0 {
		at := rand.IntN(n)
		ids = append(ids[at:], ids[:at]...)
	}
	for _, id := range ids {
		if err := s.scrubSegment(ctx, id, p, report); err != nil {
			return found, err
		}
	}
	if err := s.scrubIndex(ctx, p, report); err != nil {
		return found, err
	}
	s.scrub.mu.Lock()
	defer s.scrub.mu.Unlock()
	s.scrub.done.Passes++
	s.scrub.done.Ended = s.now()
	s.scrub.done.Found += int64(found)
	return found, nil
}

// scrubSegment checks the blocks of one segment that are live.
func (s *Store) scrubSegment(ctx context.Context, id uint32, p *pacer, report func(Damage)) error {
	c := &segmentCheck{store: s, reader: s.db, id: id, report: report}
	return c.run(ctx, func(n int) error { return s.paced(ctx, p, n) })
}

// paced counts bytes and waits where they came too fast.
func (s *Store) paced(ctx context.Context, p *pacer, n int) error {
	s.scrub.mu.Lock()
	s.scrub.done.Bytes += int64(n)
	s.scrub.mu.Unlock()
	return p.read(ctx, n)
}

// scrubIndex reads every table of the index; Pebble checks each block of them.
func (s *Store) scrubIndex(ctx context.Context, p *pacer, report func(Damage)) error {
	it, err := s.db.NewIter(nil)
	if err != nil {
		return indexError(err)
	}
	defer it.Close()
	var last uint64
	for ok := it.First(); ok; ok = it.Next() {
		if branch, _, _, ok := parseLeafKey(it.Key()); ok {
			last = branch
		}
		v, err := it.ValueAndErr()
		if err != nil {
			break
		}
		if err := s.paced(ctx, p, len(it.Key())+len(v)); err != nil {
			return err
		}
	}
	if err := indexError(it.Error()); err != nil {
		if !mendable(err) {
			return err
		}
		report(Damage{What: "a table can't be read: " + err.Error(), Volume: s.ownerOf(last)})
	}
	return nil
}

// keepScrubbing scrubs again and again until ctx ends.
func (s *Store) keepScrubbing(ctx context.Context, rate int64) {
	for ctx.Err() == nil {
		if _, err := s.Scrub(ctx, rate); err != nil && ctx.Err() == nil {
			s.slog.Warn("scrubbing the store failed", "err", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(scrubPause):
		}
	}
}

// scrubPause is between passes, for stores that are read in no time.
const scrubPause = time.Minute

// pacer keeps a rate over all that was read since its start.
type pacer struct {
	rate  int64
	start time.Time
	now   func() time.Time
	done  int64
}

func (p *pacer) read(ctx context.Context, n int) error {
	if err := ctx.Err(); err != nil {
		return block.Wrap(block.Unavailable, err, "the request ended")
	}
	if p.rate <= 0 {
		return nil
	}
	p.done += int64(n)
	wait := time.Duration(float64(p.done)/float64(p.rate)*float64(time.Second)) - p.now().Sub(p.start)
	if wait < 10*time.Millisecond { // not worth a timer
		return nil
	}
	select {
	case <-ctx.Done():
		return block.Wrap(block.Unavailable, ctx.Err(), "the request ended")
	case <-time.After(min(wait, time.Second)):
		return nil
	}
}
