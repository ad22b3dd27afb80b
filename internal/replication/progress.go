package replication

import (
	"context"
	"time"

	"kvol/internal/block"
	"kvol/internal/driver"
)

// Transfer is how far a step is that takes long: a first copy, or the difference
// after a long time.
type Transfer struct {
	First bool      // a first copy
	Total int64     // bytes of data that it carries, before compression
	Done  int64     // of those
	Began time.Time // when this attempt went on
	From  int64     // Done at that time
}

// Left is how long the rest takes at the pace of this attempt; negative where
// that is not known.
func (t Transfer) Left(now time.Time) time.Duration {
	moved, took := t.Done-t.From, now.Sub(t.Began)
	if t.Done >= t.Total {
		return 0
	}
	if moved <= 0 || took <= 0 {
		return -1
	}
	return time.Duration(float64(t.Total-t.Done) / float64(moved) * float64(took))
}

// carried counts the data of a step, and tells how far it is.
type carried struct {
	Source
	visit *visit
	bytes int64
	began time.Time
	far   *Transfer // nil where it does not take long
}

// Delta implements Source.
func (c *carried) Delta(ctx context.Context, s block.Step, sum Sum, begin Begin, emit func(Run) error) (Sum, error) {
	if s.Base.ID == "" || c.visit.long() { // else little is known to be behind
		from, err := begin()
		if err != nil {
			return sum, err
		}
		if c.far, err = c.visit.measure(ctx, s, from); err != nil {
			return sum, err
		}
		defer c.visit.tell(nil)
		begin = func() (int64, error) { return from, nil }
	}
	return c.Source.Delta(ctx, s, sum, begin, func(r Run) error {
		c.bytes += int64(len(r.Data))
		return emit(r)
	})
}

// moved notes that bytes of the step that is under way went out.
func (v *visit) moved(n int64) {
	if t := v.step.far; t != nil {
		t.Done += n
		v.tell(t)
	}
}

// measure counts what a step that takes long will carry.
func (v *visit) measure(ctx context.Context, s block.Step, from int64) (*Transfer, error) {
	t := Transfer{First: s.Base.ID == "", Began: v.sender.cfg.Now()}
	base := v.store.ref(s.Base)
	if s.Base.ID == v.content {
		base = driver.SnapshotRef{} // it is not here: all of the volume may differ
	}
	for e, err := range driver.Diff(ctx, v.store.driver, base, v.store.ref(s.Target)) {
		if err != nil {
			return nil, err
		}
		if e.Zero {
			continue
		}
		t.Total += e.Len
		t.Done += min(e.Len, max(0, from-e.Off))
	}
	t.From = t.Done
	v.tell(&t)
	return &t, nil
}

// tell notes how far a step is; nil for none.
func (v *visit) tell(t *Transfer) {
	v.sender.mu.Lock()
	defer v.sender.mu.Unlock()
	st := &v.track.status
	if t == nil {
		st.Transfer = Transfer{}
		return
	}
	st.Transfer = *t
	st.Unreplicated, st.UnreplicatedAt = max(0, t.Total-t.Done), v.sender.cfg.Now()
}
