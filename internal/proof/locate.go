package proof

import (
	"context"
	"time"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/driver"
	"kvol/internal/replication"
)

// maxBlocks is how many blocks are repaired one by one; with more, the volume is
// better copied anew.
const maxBlocks = 4096

// Compared is how a source's own point compared with what was committed.
type Compared struct {
	Point   block.PointID
	PointAt time.Time
	Root    block.RootHash // that was committed at both ends
	Source  block.RootHash // as the source has it now, read from its bytes
	Bytes   int64          // of the volume that the source went over
	Took    time.Duration
}

// Equal reports whether the source has what was committed.
func (c Compared) Equal() bool { return c.Root == c.Source }

// ask asks the zone that the replica comes from.
func (l *look) ask(ctx context.Context, q Question) (Answer, error) {
	if l.prover.cfg.Ask == nil {
		return Answer{}, block.Errorf(block.Unavailable, "No zone can be asked.")
	}
	q.Volume, q.Protection = l.replica.Source, l.replica.Protection
	zone := l.replica.SourceZone
	if l.prover.cfg.Sender != nil {
		zone = l.prover.cfg.Sender(l.replica)
	}
	return l.prover.cfg.Ask(ctx, zone, q)
}

// common has the source hold the newest point that it has in common with the
// replica, and keeps it here.
func (l *look) common(ctx context.Context) (p block.Point, err error) {
	a, err := l.ask(ctx, Question{Verb: Hold})
	if err != nil {
		return p, err
	}
	l.held = true
	err = l.prover.cfg.Catalog.Update(ctx, func(tx *catalog.Tx) error {
		if p, _, err = tx.Point(l.id, a.Point); err != nil {
			return block.Wrap(block.Unavailable, err, "The zones have no point in common now.")
		}
		return tx.Pin(l.id, p.ID, Holder)
	})
	return p, err
}

// tour asks the source for the sums of all of a point, in ranges of some length.
// each gets them.
func (l *look) tour(ctx context.Context, p block.Point, each func(r block.Range, theirs replication.Sum) error) (
	total replication.Sum, err error,
) {
	const width = MaxSummed / MaxRanges
	for off := int64(0); off < p.Size; {
		q := Question{Verb: Sums, Point: p.ID}
		for len(q.Ranges) < MaxRanges && off < p.Size {
			n := min(width, p.Size-off)
			q.Ranges = append(q.Ranges, block.Range{Off: off, Len: n})
			off += n
		}
		a, err := l.ask(ctx, q)
		if err == nil {
			err = a.fits(q)
		}
		if err != nil {
			return total, err
		}
		for i, r := range q.Ranges {
			theirs := replication.SumFrom(a.Sums[i])
			total = total.Plus(theirs)
			if err := each(r, theirs); err != nil {
				return total, err
			}
		}
		l.progress(off, p.Size)
	}
	return total, nil
}

// compare has the source read its own point.
func (l *look) compare(ctx context.Context) (*Compared, error) {
	p, err := l.common(ctx)
	if err != nil {
		return nil, err
	}
	total, err := l.tour(ctx, p, func(r block.Range, theirs replication.Sum) error {
		if theirs == (replication.Sum{}) {
			return nil
		}
		return l.pace(ctx, r.Len)
	})
	unpinned := l.prover.cfg.Catalog.Update(context.WithoutCancel(ctx), func(tx *catalog.Tx) error { return l.unpin(tx) })
	if err != nil || unpinned != nil {
		return nil, err
	}
	return &Compared{Point: p.ID, PointAt: p.At, Root: p.Root, Source: total.Root(p.Size), Bytes: p.Size,
		Took: l.prover.cfg.Now().Sub(l.began)}, nil
}

// wrong finds the blocks in which a point differs from the source's, with what
// the source has. An answer counts only if it adds up to what was committed.
func (l *look) wrong(ctx context.Context, p block.Point) (blocks map[int64][]byte, err error) {
	r, err := l.driver.OpenSnapshot(ctx, l.at(p.ID))
	if err != nil {
		return nil, err
	}
	defer r.Close()
	type different struct {
		block.Range
		theirs replication.Sum
	}
	var ranges []different
	total, err := l.tour(ctx, p, func(one block.Range, theirs replication.Sum) error {
		ours, err := l.span(ctx, r, one.Off, one.Len)
		if err != nil && !block.Is(err, block.Corrupt) {
			return err
		}
		if err != nil || ours != theirs {
			ranges = append(ranges, different{one, theirs})
		}
		if len(ranges) > maxBlocks {
			return errTooMany()
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if total.Root(p.Size) != p.Root {
		return nil, block.Errorf(block.Corrupt,
			"Zone %s has something else than what was committed of point %s, too.", l.replica.SourceZone, p.ID)
	}
	blocks = map[int64][]byte{}
	for _, one := range ranges {
		if err := l.narrow(ctx, r, p, one.Range, one.theirs, blocks); err != nil {
			return nil, err
		}
	}
	return blocks, nil
}

func errTooMany() error {
	return block.Errorf(block.OverLimit, "More than %d blocks are wrong: copy the volume anew.", maxBlocks)
}

// narrow finds the blocks of a range that are wrong and gets them.
func (l *look) narrow(ctx context.Context, r driver.Reader, p block.Point, in block.Range, sum replication.Sum,
	blocks map[int64][]byte,
) error {
	var total replication.Sum
	for off := in.Off; off < in.Off+in.Len; {
		q := Question{Verb: Sums, Point: p.ID}
		for len(q.Ranges) < MaxRanges && off < in.Off+in.Len {
			q.Ranges = append(q.Ranges, block.Range{Off: off, Len: driver.BlockSize})
			off += driver.BlockSize
		}
		a, err := l.ask(ctx, q)
		if err == nil {
			err = a.fits(q)
		}
		if err != nil {
			return err
		}
		want := Question{Verb: Read, Point: p.ID}
		var sums []replication.Sum
		for i, one := range q.Ranges {
			theirs := replication.SumFrom(a.Sums[i])
			total = total.Plus(theirs)
			if ours, err := replication.SumRange(ctx, r, one.Off, one.Len); err != nil || ours != theirs {
				want.Ranges, sums = append(want.Ranges, one), append(sums, theirs)
			}
		}
		if err := l.fetch(ctx, want, sums, blocks); err != nil {
			return err
		}
	}
	if total != sum {
		return block.Errorf(block.Corrupt, "The answers of zone %s do not add up.", l.replica.SourceZone)
	}
	if len(blocks) > maxBlocks {
		return errTooMany()
	}
	return nil
}

// fetch gets blocks, each with its sum.
func (l *look) fetch(ctx context.Context, q Question, sums []replication.Sum, blocks map[int64][]byte) error {
	if len(q.Ranges) == 0 {
		return nil
	}
	a, err := l.ask(ctx, q)
	if err == nil {
		err = a.fits(q)
	}
	if err != nil {
		return err
	}
	for i, p := range a.Data {
		var sum replication.Sum
		if sum.Add(q.Ranges[i].Off, p); sum != sums[i] {
			return block.Errorf(block.Corrupt, "A block of zone %s does not have its hash.", l.replica.SourceZone)
		}
		blocks[q.Ranges[i].Off] = p
	}
	return nil
}
