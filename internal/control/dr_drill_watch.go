package control

import (
	"cmp"
	"context"
	"errors"
	"sync"
	"time"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/drill"
)

// drillMark is how far a replica was when a drill began to watch it.
type drillMark struct {
	SourceZone block.Zone     `json:"source_zone"`
	Source     block.VolumeID `json:"source"`
	Protection int64          `json:"protection"`
	Replica    block.VolumeID `json:"replica"`
	Epoch      uint64         `json:"epoch"`
	Sequence   uint64         `json:"sequence"`
	Target     time.Duration  `json:"target"`
	Before     *drill.Figures `json:"before,omitempty"` // of the pair; in the first mark of each
}

func (m drillMark) pair() block.ProtectionKey {
	return block.ProtectionKey{SourceZone: m.SourceZone, Seq: m.Protection}
}

// The stretches of time in which a drill measures replication.
const (
	watchedBefore = iota
	watchedDuring
	watchedAfter
	watchedSpans
)

// drillMeter measures how old the replicas of a drill are.
type drillMeter struct {
	mu      sync.Mutex // guards all below
	marks   []drillMark
	span    int
	samples map[block.ProtectionKey]*[watchedSpans]drill.Samples
}

// start measures these from now on.
func (m *drillMeter) start(marks []drillMark) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.marks = marks
	if m.samples == nil {
		m.samples = map[block.ProtectionKey]*[watchedSpans]drill.Samples{}
	}
	if len(marks) > 0 && marks[0].Before != nil {
		m.span = max(m.span, watchedDuring) // in a former life
	}
}

func (m *drillMeter) enter(span int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.span = span
}

// measure takes the age of each pair's oldest replica.
func (m *drillMeter) measure(s *Service) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := s.now()
	oldest := map[block.ProtectionKey]time.Duration{}
	s.watch.mu.Lock()
	for _, mark := range m.marks {
		g := s.watch.gauges[catalog.LagKey{Role: RoleTarget, SourceZone: mark.SourceZone, Volume: mark.Source,
			Protection: mark.Protection}]
		if g != nil && g.resumed && !g.meter.UpTo.IsZero() {
			oldest[mark.pair()] = max(oldest[mark.pair()], now.Sub(g.meter.UpTo))
		}
	}
	s.watch.mu.Unlock()
	for pair, age := range oldest {
		if m.samples[pair] == nil {
			m.samples[pair] = &[watchedSpans]drill.Samples{}
		}
		m.samples[pair][m.span].Add(now, age)
	}
}

// figures are those of a pair in a stretch of time.
func (m *drillMeter) figures(pair block.ProtectionKey, span int) drill.Figures {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.samples[pair] == nil {
		return drill.Figures{}
	}
	return m.samples[pair][span].Figures()
}

// watchBefore notes how far the replicas are, and measures them for a while.
func (r *drillRun) watchBefore(ctx context.Context, step block.OperationStep) error {
	step, ended, err := r.begin(ctx, step.Seq)
	if err != nil || ended {
		return err
	}
	targets := map[block.ProtectionKey]time.Duration{}
	for _, p := range r.s.KnownProtections() {
		targets[p.Key()] = p.RPO()
	}
	var marks []drillMark
	err = r.s.catalog.View(ctx, func(tx *catalog.Tx) error {
		marks = nil
		steps, err := tx.OperationSteps(r.id)
		for _, step := range steps {
			if step.Kind != block.StepClone || step.Replica == "" {
				continue
			}
			one, err := tx.Replica(step.Replica)
			if err != nil {
				if err = ignoring(block.NotFound, err); err != nil {
					return err
				}
				continue
			}
			marks = append(marks, drillMark{SourceZone: one.SourceZone, Source: one.Source, Protection: one.Protection,
				Replica: one.ID, Epoch: one.Epoch, Sequence: one.Newest.Sequence,
				Target: targets[one.Policy()]})
		}
		return err
	})
	if err != nil {
		return err
	}
	r.meter.start(marks)
	if err := r.rest(ctx, step); err != nil {
		return err
	}
	told := map[block.ProtectionKey]bool{}
	for i := range marks {
		if pair := marks[i].pair(); !told[pair] {
			told[pair] = true
			f := r.meter.figures(pair, watchedBefore)
			marks[i].Before = &f
		}
	}
	r.state.Marks = marks
	err = r.s.catalog.Update(ctx, func(tx *catalog.Tx) error {
		op, err := tx.Operation(r.id)
		return first(err, r.keep(tx, op))
	})
	r.meter.enter(watchedDuring)
	return first(err, r.end(ctx, step, nil, nil))
}

// rest lets a step's time pass.
func (r *drillRun) rest(ctx context.Context, step block.OperationStep) error {
	p, err := drillParamsOf(step)
	if err != nil {
		return err
	}
	timer := time.NewTimer(time.Duration(p.Seconds) * time.Second)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// watchAfter measures the replicas once all clones are gone. A drill that was
// canceled spares itself that.
func (r *drillRun) watchAfter(ctx context.Context) error {
	r.meter.enter(watchedAfter)
	steps, err := r.steps(ctx)
	if err != nil || len(steps) == 0 {
		return err
	}
	step, ended, err := r.begin(ctx, steps[len(steps)-1].Seq)
	if err != nil || ended {
		return err
	}
	watching, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	over, err := r.over(ctx)
	if over {
		stop(errDrillOver)
	}
	if err := first(err, r.rest(watching, step)); err != nil && !errors.Is(err, errDrillOver) {
		return err
	}
	return r.end(ctx, step, nil, nil)
}

// pairs is what replication did while the drill ran.
func (r *drillRun) pairs(tx *catalog.Tx) (all []drill.Pair, again int64, err error) {
	at := map[block.ProtectionKey]int{}
	for _, m := range r.state.Marks {
		i, ok := at[m.pair()]
		if !ok {
			i = len(all)
			at[m.pair()] = i
			p := drill.Pair{SourceZone: m.SourceZone, Protection: m.Protection, Target: m.Target.Seconds(),
				During: r.meter.figures(m.pair(), watchedDuring), After: r.meter.figures(m.pair(), watchedAfter)}
			p.Before = *cmp.Or(m.Before, &drill.Figures{})
			all = append(all, p)
		}
		one, err := tx.Replica(m.Replica)
		if err != nil {
			if err = ignoring(block.NotFound, err); err != nil {
				return nil, 0, err
			}
			continue
		}
		if one.Newest.Epoch == m.Epoch || one.Newest.Sequence > m.Sequence {
			all[i].Points += one.Newest.Sequence - min(m.Sequence, one.Newest.Sequence)
		}
		points, err := tx.Points(m.Replica)
		if err != nil {
			return nil, 0, err
		}
		for _, p := range points {
			if p.Sequence > m.Sequence && p.Parent == "" {
				all[i].Whole++
				again += p.Size
			}
		}
	}
	return all, again, nil
}
