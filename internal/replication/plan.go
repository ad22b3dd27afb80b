package replication

import (
	"slices"
	"time"

	"kvol/internal/block"
)

// Agenda is what is to be done so that a target has what it should.
type Agenda struct {
	// Base is the newest point that both ends have; zero if there is none.
	Base block.Point
	// Steps are to be taken in order; each begins where the one before ended, the
	// first at Base.
	Steps []block.Step
	// Drop are points at the target whose name is gone at the source.
	Drop []block.PointID
}

// Plan compares what a target has committed with what the source has, both
// from old to new, and says what to send: every named point that is newer than
// the newest common one, and the newest point of all. Points older than the
// common one are never sent: a copy goes forward only. Sequences are given
// anew: they go on from the target's newest point. Where nothing is common the
// first step has no base and carries a whole copy; nothing that the target has
// is given up for it.
func Plan(have, want []block.Point) Agenda {
	var a Agenda
	held := make(map[block.PointID]block.Point, len(have))
	var sequence uint64
	for _, p := range have {
		held[p.ID] = p
		sequence = max(sequence, p.Sequence)
	}
	first := 0
	named := map[block.PointID]bool{}
	for i, p := range want {
		if p.Name != "" {
			named[p.ID] = true
		}
		if common, ok := held[p.ID]; ok {
			a.Base, first = common, i+1
		}
	}
	for _, p := range have {
		if p.Name != "" && !named[p.ID] {
			a.Drop = append(a.Drop, p.ID)
		}
	}
	base := a.Base
	for i, p := range want[first:] {
		if p.Name == "" && first+i != len(want)-1 {
			continue
		}
		sequence++
		p.Sequence, p.Parent = sequence, base.ID
		a.Steps = append(a.Steps, block.Step{Base: base, Target: p, Epoch: p.Epoch})
		base = p
	}
	return a
}

// sameStep reports whether two steps write the same bytes under the same right.
func sameStep(a, b block.Step) bool {
	return a.Base.ID == b.Base.ID && a.Target.ID == b.Target.ID && a.Target.Size == b.Target.Size && a.Epoch == b.Epoch
}

// Thin returns those of a replica's points (from old to new) that a retention
// lets go at an instant, without the newest and without named ones.
func Thin(points []block.Point, keep block.Retention, now time.Time) []block.PointID {
	stays := make(map[block.PointID]bool, len(points))
	for _, tier := range keep.Tiers {
		if tier.For <= 0 {
			continue
		}
		bucket, some := int64(0), false
		for _, p := range slices.Backward(points) { // the newest of each step stays
			at := p.At.UnixMicro()
			if now.Sub(p.At) > tier.For {
				continue
			}
			b := at / max(1, tier.Step.Microseconds())
			if !some || b != bucket {
				stays[p.ID] = true
			}
			bucket, some = b, true
		}
	}
	var old []block.PointID
	for i, p := range points {
		if i != len(points)-1 && p.Name == "" && !stays[p.ID] {
			old = append(old, p.ID)
		}
	}
	return old
}
