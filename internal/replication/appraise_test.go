package replication

import (
	"bytes"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/driver"
)

// letters is what can be compressed.
func letters(n int) []byte {
	var b bytes.Buffer
	for i := 0; b.Len() < n; i++ {
		fmt.Fprintf(&b, "line %d of a log: nothing happened\n", i)
	}
	return b.Bytes()[:n]
}

// TestSuddenEncryption: the points tell what changed; encryption in place marks
// the volume, holds the last point before against retention, and tells once.
func TestSuddenEncryption(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world, a, b *zone) {
		const blocks = 4096
		w.protections[0].Retention.Tiers = nil // keeps the newest alone
		id := a.volume("gold", blocks)
		a.write(id, 0, letters(blocks/2*driver.BlockSize))
		a.later(0)
		a.write(id, 0, letters(4 << 20)[1:][:1<<20])
		a.write(id, blocks*3/4*driver.BlockSize, noise(1<<20))
		a.later(time.Minute)
		clean := b.replica(id).Newest
		replica := b.replica(id).ID
		b.view(func(tx *catalog.Tx) error {
			all, err := tx.PointStats(replica)
			s := all[clean.ID]
			if s.Changed != 2<<20 || s.Rewritten != 1<<20 || s.Scrambled != 0 || s.Span != time.Minute ||
				s.Sent < 1<<20 || s.Sent > 3<<19 {
				t.Errorf("%+v", s)
			}
			return err
		})
		for n := range 5 {
			a.write(id, int64(n)*4<<20/2, noise(2<<20))
			a.later(time.Minute)
		}
		b.view(func(tx *catalog.Tx) error {
			var meter struct{}
			s, err := tx.Churn(replica, &meter)
			if err != nil {
				return err
			}
			if s == nil || s.Clean != clean.ID || !s.Since.After(clean.At) {
				t.Fatalf("%+v, and the last clean point is %s", s, clean.ID)
			}
			keeps, err := tx.KeepsOf(replica)
			if err != nil || len(keeps) != 1 || keeps[0].Point != clean.ID || keeps[0].Kind != block.KeepHold ||
				keeps[0].Until.Sub(s.Raised) != defaultHoldClean {
				t.Errorf("%+v, %v", keeps, err)
			}
			events, err := tx.DREvents("", 0, 10)
			if err != nil || len(events) != 1 || events[0].To != block.HealthSuspect || events[0].Volume != id {
				t.Errorf("%+v, %v", events, err)
			}
			return nil
		})
		if points := pointsOf(b, id); len(points) != 2 || points[0].ID != clean.ID {
			t.Errorf("%d points are left", len(points))
		}
		if err := b.check(); err != nil {
			t.Error(err)
		}
	})
}

// TestStatsOfACutStep: what an interrupted step had counted is not lost.
func TestStatsOfACutStep(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world, a, b *zone) {
		const blocks = 512
		b.receiver.markEvery = 64 << 10
		id := a.volume("gold", blocks)
		a.write(id, 0, letters(blocks*driver.BlockSize))
		a.wrap = func(t Target) Target { return &failing{Target: t, runs: 1} }
		a.start(0)
		a.later(0)
		synctest.Wait()
		if b.replica(id).Newest.ID != "" {
			t.Fatal("the step was not cut")
		}
		a.wrap = nil
		a.start(0)
		b.start(0)
		a.later(time.Minute)
		r := b.replica(id)
		b.view(func(tx *catalog.Tx) error {
			all, err := tx.PointStats(r.ID)
			if s := all[r.Newest.ID]; s.Changed != blocks*driver.BlockSize {
				t.Errorf("%+v", s)
			}
			return err
		})
	})
}
