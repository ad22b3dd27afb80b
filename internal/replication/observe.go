package replication

import (
	"context"
	"time"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/driver"
)

// Advance is news of one replica: its target has everything up to an instant.
// Both ends tell it for themselves, the source when the target confirmed, the
// target when it committed.
type Advance struct {
	SourceZone block.Zone
	Volume     block.VolumeID // the source
	Protection int64
	At         time.Time // when it came, on the clock of who tells
	UpTo       time.Time // on the source's clock
	// Of a step, told by the source only: how many bytes it carried, how many went
	// over the link for it, what stretch of the source's time they are the changes
	// of (0 for a whole copy), and how long carrying them took. All zero for a
	// heartbeat but Span.
	Bytes int64
	Wire  int64
	Span  time.Duration
	Took  time.Duration
}

// gaugeEvery is how often, at most, it is counted how much of a volume a target
// lacks: by walking what changed, without reading it.
const gaugeEvery = 30 * time.Second

// observe tells that the target has everything up to an instant.
func (v *visit) observe(a Advance) {
	if v.sender.cfg.Observe == nil {
		return
	}
	a.SourceZone, a.Volume, a.Protection = v.sender.cfg.Zone, v.link.Volume, v.link.Protection
	a.At, a.UpTo = v.sender.cfg.Now(), v.link.Current
	v.sender.cfg.Observe(a)
}

// observe is the same at the target.
func (i *inbound) observe(upTo time.Time) {
	if i.receiver.cfg.Observe == nil {
		return
	}
	i.receiver.cfg.Observe(Advance{SourceZone: i.key.zone, Volume: i.key.volume, Protection: i.key.protection,
		At: i.receiver.cfg.Now(), UpTo: upTo})
}

// lacks notes how many bytes the target lacks.
func (v *visit) lacks(bytes int64) {
	v.sender.mu.Lock()
	defer v.sender.mu.Unlock()
	st := &v.track.status
	st.Unreplicated, st.UnreplicatedAt = bytes, v.sender.cfg.Now()
}

// gaugeDue reports whether it is time to count again what the target lacks.
func (v *visit) gaugeDue() bool {
	now := v.sender.cfg.Now()
	if !v.track.gauged.IsZero() && now.Sub(v.track.gauged) < gaugeEvery {
		return false
	}
	v.track.gauged = now
	return true
}

// gauge counts what the target lacks of a point.
func (v *visit) gauge(ctx context.Context, p block.Point) error {
	return v.gaugeFrom(ctx, v.link.Confirmed, p)
}

// gaugeBeside is gauge while a step is under way that begins at base, where the store
// is far away: there it may take as long as the step. It is over when end returns, which
// is to be called before anything else becomes of either point.
func (v *visit) gaugeBeside(ctx context.Context, base, p block.Point) (end func()) {
	told := base.ID == v.content || v.long() // by measure, for a step that is known to take long
	if depthOf(v.store.driver) == 1 || told || !v.gaugeDue() {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := v.gaugeFrom(ctx, base, p); err != nil && ctx.Err() == nil {
			v.sender.cfg.Log.Warn("what a target lacks could not be counted", "volume", p.Volume, "err", err)
		}
	}()
	return func() {
		cancel()
		<-done
	}
}

func (v *visit) gaugeFrom(ctx context.Context, base, p block.Point) error {
	var bytes int64
	for e, err := range driver.Diff(ctx, v.store.driver, v.store.ref(base), v.store.ref(p)) {
		if err != nil {
			return err
		}
		if !e.Zero {
			bytes += e.Len
		}
	}
	v.lacks(bytes)
	return nil
}

// gaugeNow counts what a target lacks that can't be reached: it cuts a point
// for that alone, and lets it go at once.
func (v *visit) gaugeNow(ctx context.Context) error {
	if _, ok := driver.As[driver.Differ](v.store.driver); !ok || v.link.Target != nil || !v.gaugeDue() {
		return nil
	}
	p := block.Point{ID: block.PointID(block.NewID())}
	err := v.save(ctx, v.link, func(tx *catalog.Tx) error {
		if err := tx.InsertCut(v.volume.ID, p.ID); err != nil {
			return err
		}
		return tx.Pin(v.volume.ID, p.ID, v.holder())
	})
	if err != nil {
		return err
	}
	if err := v.store.driver.CreateSnapshot(ctx, v.store.ref(p)); err != nil {
		return err
	}
	if err := v.gauge(ctx, p); err != nil {
		return err
	}
	return v.tidy(ctx)
}

// heartbeatEvery is how long an idle volume may be silent: not so long that it
// would miss its target.
func (v *visit) heartbeatEvery() time.Duration {
	return max(min(v.sender.cfg.Heartbeat, v.policy.RPO()/2), v.interval())
}
