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

// Watch follows an examination or a scrub, and says how fast it may go. Its
// functions are called by the goroutine that does the work.
type Watch struct {
	Rate     int64                   // bytes of the log in a second at most; 0: as fast as it goes
	Found    func(Damage)            // each place that is damaged, before it is healed; may be nil
	Progress func(done, total int64) // in bytes of live data; total is an estimate; may be nil
}

func (w Watch) progress(done, total int64) {
	if w.Progress != nil {
		w.Progress(done, max(done, total))
	}
}

// Scrub reads the whole store once, full segments and tables of the index,
// raises the alarm about what is damaged and heals what it can. Blocks that
// nothing refers to any more count for nothing. It returns how many places it
// found; the error says why it could not go on. Where it starts is random, so
// that each part has its turn in a store that is never open for as long as a
// pass takes.
func (s *Store) Scrub(ctx context.Context, w Watch) (found int, err error) {
	if err := s.usable(ctx); err != nil {
		return 0, err
	}
	p := &pacer{rate: w.Rate, start: s.now(), now: s.now, wait: s.wait}
	look := s.beginPass()
	report := func(d Damage) {
		found++
		look.saw(&d)
		s.alarm(d)
		if w.Found != nil {
			w.Found(d)
		}
		s.heal(ctx, d)
	}
	s.mu.Lock()
	var ids []uint32
	var total int64
	for id, u := range s.usage {
		if !u.free {
			ids = append(ids, id)
			total += u.live
		}
	}
	filling := s.filling.segment // is not looked at: it is not full
	s.mu.Unlock()
	slices.Sort(ids)
	if n := len(ids); n > 0 {
		at := rand.IntN(n)
		ids = append(ids[at:], ids[:at]...)
	}
	if err := s.checkTables(ctx, func(n int) error { return s.paced(ctx, p, n) }, report); err != nil {
		return found, err
	}
	for _, id := range ids {
		c := &segmentCheck{store: s, reader: s.db, id: id, report: report}
		err := c.run(ctx, func(n int) error {
			w.progress(p.done+int64(n), total)
			return s.paced(ctx, p, n)
		})
		if err != nil {
			return found, err
		}
	}
	s.endPass(look, func(d *Damage) bool {
		return d.What == whatTable || d.Segment != 0 && d.Segment != filling && d.Extent.Len > 0
	})
	s.scrub.mu.Lock()
	defer s.scrub.mu.Unlock()
	s.scrub.done.Passes++
	s.scrub.done.Ended = s.now()
	s.scrub.done.Found += int64(found)
	return found, nil
}

// paced counts bytes and waits where they came too fast.
func (s *Store) paced(ctx context.Context, p *pacer, n int) error {
	s.scrub.mu.Lock()
	s.scrub.done.Bytes += int64(n)
	s.scrub.mu.Unlock()
	return p.read(ctx, n)
}

// keepScrubbing scrubs again and again until ctx ends.
func (s *Store) keepScrubbing(ctx context.Context, rate int64) {
	for ctx.Err() == nil {
		if _, err := s.Scrub(ctx, Watch{Rate: rate}); err != nil && ctx.Err() == nil {
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
	wait  func(context.Context, time.Duration) error
	done  int64
}

// read counts n bytes and waits until they are due.
func (p *pacer) read(ctx context.Context, n int) error {
	p.done += int64(n)
	for {
		if err := ctx.Err(); err != nil {
			return block.Wrap(block.Unavailable, err, "the request ended")
		}
		if p.rate <= 0 {
			return nil
		}
		due := time.Duration(float64(p.done) / float64(p.rate) * float64(time.Second))
		early := due - p.now().Sub(p.start)
		if early < 10*time.Millisecond { // not worth a timer
			return nil
		}
		if err := p.wait(ctx, min(early, time.Second)); err != nil {
			return block.Wrap(block.Unavailable, err, "the request ended")
		}
	}
}

// sleep waits for a time, or for the end of ctx.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
