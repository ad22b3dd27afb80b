package replication

import (
	"context"
	"errors"

	"kvol/internal/block"
	"kvol/internal/driver"
)

// How much of a point the zone that has it is asked to compare at once: so many
// ranges, first of compareWidth bytes, then of compareFine.
const (
	compareRanges = 64
	compareWidth  = 512 << 10
	compareFine   = compareWidth / compareRanges
)

// Compare asks the zone that has a replica of a volume of this zone for the sums
// of ranges of one of its points, compareRanges at most.
type Compare func(ctx context.Context, to block.Zone, volume block.VolumeID, protection int64, point block.PointID,
	ranges []block.Range) ([]block.RootHash, error)

// byContent has the first step begin with the target's newest point where there is
// none that both ends have: what this zone kept of it was given up, or is lost.
// Both zones read what they have, and only what differs is sent. A target that
// came out otherwise than was meant gets the whole volume the next time.
func (v *visit) byContent(have Have, agenda *Agenda) {
	newest := have.newest()
	if v.sender.cfg.Compare == nil || newest.ID == "" || len(agenda.Steps) == 0 || agenda.Base.ID != "" ||
		v.track.mistrust {
		return
	}
	v.content = newest.ID
	agenda.Base, agenda.Steps[0].Base = newest, newest
	v.sender.cfg.Log.Info("a volume has no point in common with its replica: both zones compare what they have",
		"volume", v.link.Volume, "peer", v.policy.Destination, "point", newest.ID)
}

// mistrusts reports whether a visit failed in a way that sending what differs may
// be the reason of.
func (v *visit) mistrusts(err error) bool {
	switch block.KindOf(err) {
	case block.Corrupt, block.Invalid, block.NotFound, block.Forbidden, block.Unsupported:
		return err != nil && v.content != ""
	}
	return false
}

// source is what a step is read from, and the sum of its base there.
func (v *visit) source(ctx context.Context, s block.Step) (Source, Sum, error) {
	if s.Base.ID != "" && s.Base.ID == v.content {
		return content{v.store, func(ctx context.Context, ranges []block.Range) ([]block.RootHash, error) {
			return v.sender.cfg.Compare(ctx, v.policy.Destination, v.link.Volume, v.link.Protection, s.Base.ID, ranges)
		}}, Sum{}, nil
	}
	sum, err := v.sumOf(ctx, s.Base)
	if err == nil && s.Base.ID != "" && sum.Root(s.Base.Size) != s.Base.Root {
		err = block.Errorf(block.Corrupt, "point %s is not the same at both ends", s.Base.ID)
	}
	return v.store, sum, err
}

// content is the Source of a step whose base only the target has.
type content struct {
	store
	ask func(ctx context.Context, ranges []block.Range) ([]block.RootHash, error)
}

// Delta implements Source. The sum that it is given is not needed: all of the
// target point is read.
func (c content) Delta(
	ctx context.Context,
	s block.Step,
	_ Sum,
	begin Begin,
	emit func(Run) error,
) (sum Sum, err error) {
	from, err := begin()
	if err != nil {
		return sum, err
	}
	target, err := c.driver.OpenSnapshot(ctx, c.ref(s.Target))
	if err != nil {
		return sum, err
	}
	defer func() { err = errors.Join(err, target.Close()) }()
	send := func(off, length int64) error { return sendRange(target, off, length, from, emit) }
	for off := int64(0); off < target.Size(); off += compareRanges * compareWidth {
		whole := block.Range{Off: off, Len: min(compareRanges*compareWidth, target.Size()-off)}
		err := c.differing(ctx, target, s.Base, whole, compareWidth, &sum, func(r block.Range) error {
			if r.End() <= from {
				return nil
			}
			return c.differing(ctx, target, s.Base, r, compareFine, nil, func(r block.Range) error {
				return send(r.Off, r.Len)
			})
		})
		if err != nil {
			return sum, err
		}
	}
	return sum, nil
}

// differing tells of the parts of a range, of some width each, of which the target
// zone has something else. total gets what this zone has, unless it is nil.
func (c content) differing(ctx context.Context, target driver.Reader, base block.Point, all block.Range, width int64,
	total *Sum, each func(block.Range) error) error {
	var parts, known []block.Range
	var ours []Sum
	for off := all.Off; off < all.End(); off += width {
		r := block.Range{Off: off, Len: min(width, all.End()-off)}
		sum, err := SumRange(ctx, target, r.Off, r.Len)
		if err != nil {
			return err
		}
		if total != nil {
			*total = total.Plus(sum)
		}
		parts, ours = append(parts, r), append(ours, sum)
		if r.Off < base.Size {
			known = append(known, block.Range{Off: r.Off, Len: min(r.Len, base.Size-r.Off)})
		}
	}
	var theirs []block.RootHash
	if len(known) > 0 {
		var err error
		if theirs, err = c.ask(ctx, known); err != nil {
			return err
		}
		if len(theirs) != len(known) {
			return block.Errorf(block.Unavailable, "%d sums came for %d ranges", len(theirs), len(known))
		}
	}
	for i, r := range parts {
		their := Sum{} // of zeros, beyond its end
		if i < len(theirs) {
			their = SumFrom(theirs[i])
		}
		if their == ours[i] {
			continue
		}
		if err := each(r); err != nil {
			return err
		}
	}
	return nil
}

// sendRange emits a range of a point from an offset on.
func sendRange(target driver.Reader, off, length, from int64, emit func(Run) error) error {
	run := Run{Off: off, Len: length}
	if run.End() <= from {
		return nil
	}
	p := make([]byte, length)
	if _, err := target.ReadAt(p, off); err != nil {
		return err
	}
	if !driver.IsZero(p) {
		run.Data = p
	}
	return emit(run.after(from))
}
