package proof

import (
	"context"
	"errors"
	"slices"
	"time"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/driver"
	"kvol/internal/replication"
)

// look is one reading of a replica.
type look struct {
	prover   *Prover
	id       block.VolumeID
	progress func(done, total int64)
	began    time.Time
	read     int64 // bytes, for the pace

	replica block.Replica
	driver  driver.Driver
	proof   block.Proof
	held    bool // the source holds a point for us
	again   bool // this is the reading after a repair
	marks   map[block.PointID]string
}

func (l *look) close() {
	if !l.held {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_, _ = l.ask(ctx, Question{Verb: Release}) // else its lease ends
}

func (l *look) load(ctx context.Context) (err error) {
	err = l.prover.cfg.Catalog.View(ctx, func(tx *catalog.Tx) error {
		if l.replica, err = tx.Replica(l.id); err != nil {
			return err
		}
		l.proof, err = tx.Proof(l.id)
		return err
	})
	if err == nil {
		l.driver, err = l.prover.cfg.Backends.Of(l.replica.Backend)
	}
	return err
}

// update writes the account down, with what belongs to the change.
func (l *look) update(ctx context.Context, also func(*catalog.Tx) error) error {
	return l.prover.cfg.Catalog.Update(ctx, func(tx *catalog.Tx) error {
		if err := also(tx); err != nil {
			return err
		}
		return tx.SetProof(l.id, l.proof)
	})
}

func (l *look) run(ctx context.Context) (res Result, err error) {
	if err := l.load(ctx); err != nil {
		return res, err
	}
	if l.proof.State == block.ProofMending { // killed in the midst of it
		if err := l.remake(ctx); err != nil {
			return res, err
		}
	}
	p, sum, err := l.begin(ctx)
	if err != nil {
		return res, err
	}
	got, err := l.sum(ctx, p)
	if err == nil && got != sum { // once more: what was misread is no damage
		l.prover.cfg.Log.Warn("a point does not hash to its root; it is read again", "replica", l.id, "point", p.ID)
		l.proof.Offset, l.proof.Sum, l.proof.Bytes = 0, block.RootHash{}, 0
		if got, err = l.sum(ctx, p); err == nil && got == sum {
			l.prover.cfg.Log.Warn("a point was misread once, and is whole", "replica", l.id, "point", p.ID)
		}
	}
	switch {
	case err != nil && !block.Is(err, block.Corrupt):
		return res, err
	case err != nil:
		return l.unreadable(ctx, p)
	case got != sum:
		return l.differs(ctx, p, got)
	}
	points, damaged, err := l.walk(ctx, p, sum)
	if err != nil {
		return res, err
	}
	err = l.whole(ctx, p, points, damaged)
	return Result{Proof: l.proof, Whole: len(damaged) == 0, Damaged: damaged}, err
}

// begin goes on with the point that is read, or begins with the newest, which is
// kept for as long.
func (l *look) begin(ctx context.Context) (p block.Point, sum replication.Sum, err error) {
	err = l.prover.cfg.Catalog.Update(ctx, func(tx *catalog.Tx) error {
		if l.replica, err = tx.Replica(l.id); err != nil {
			return err
		}
		if !l.replica.DeletedAt.IsZero() || l.replica.Newest.ID == "" {
			return block.Errorf(block.NotFound, "There is nothing to be read.")
		}
		var raw block.RootHash
		if l.proof.State == block.ProofReading {
			p, raw, err = tx.Point(l.id, l.proof.Point)
		}
		if p.ID == "" || block.Is(err, block.NotFound) {
			l.proof.State, l.proof.Point = block.ProofReading, l.replica.Newest.ID
			l.proof.Offset, l.proof.Sum, l.proof.Bytes, l.proof.Began = 0, block.RootHash{}, 0, tx.Now
			p, raw, err = tx.Point(l.id, l.proof.Point)
		}
		if err != nil {
			return err
		}
		sum = replication.SumFrom(raw)
		if err := l.unpin(tx, p.ID); err != nil {
			return err
		}
		if err := tx.Pin(l.id, p.ID, Holder); err != nil {
			return err
		}
		return tx.SetProof(l.id, l.proof)
	})
	return p, sum, err
}

// unpin lets go of all points but some.
func (l *look) unpin(tx *catalog.Tx, but ...block.PointID) error {
	held, err := tx.PinnedBy(l.id, Holder)
	for _, id := range held {
		if err == nil && !slices.Contains(but, id) {
			_, err = tx.Unpin(l.id, id, Holder)
		}
	}
	return err
}

// forget gives up what is not there any more.
func (l *look) forget(ctx context.Context) error {
	err := l.prover.cfg.Catalog.Update(ctx, func(tx *catalog.Tx) error {
		if err := l.unpin(tx); err != nil {
			return err
		}
		if _, err := tx.Replica(l.id); err != nil {
			return err
		}
		p, err := tx.Proof(l.id)
		if err == nil && p.State == block.ProofReading {
			p.State = block.ProofIdle
		}
		return errors.Join(err, tx.SetProof(l.id, p))
	})
	if block.Is(err, block.NotFound) {
		return nil
	}
	return err
}

// sum reads a point from where the account is, and notes how far it is.
func (l *look) sum(ctx context.Context, p block.Point) (replication.Sum, error) {
	r, err := l.driver.OpenSnapshot(ctx, l.at(p.ID))
	if err != nil {
		return replication.Sum{}, err
	}
	defer r.Close()
	sum := replication.SumFrom(l.proof.Sum)
	l.read = max(l.read, l.proof.Bytes)
	for l.proof.Offset < r.Size() {
		n := min(part, r.Size()-l.proof.Offset)
		more, err := l.span(ctx, r, l.proof.Offset, n)
		if err != nil {
			return sum, err
		}
		sum = sum.Plus(more)
		l.proof.Offset, l.proof.Sum, l.proof.Bytes = l.proof.Offset+n, sum.Bytes(), l.read
		err = l.update(ctx, func(tx *catalog.Tx) error { // a replica that is to go is let go of
			rep, err := tx.Replica(l.id)
			if err == nil && !rep.DeletedAt.IsZero() {
				err = block.Errorf(block.NotFound, "The volume was deleted.")
			}
			return err
		})
		if err != nil {
			return sum, err
		}
		l.progress(l.proof.Offset, r.Size())
	}
	return sum, nil
}

// span sums a range, not faster than the zone wants.
func (l *look) span(ctx context.Context, r driver.Reader, off, length int64) (sum replication.Sum, err error) {
	const step = 4 << 20
	for end := off + length; off < end; off += step {
		n := min(step, end-off)
		more, err := replication.SumRange(ctx, r, off, n)
		if err != nil {
			return sum, err
		}
		sum = sum.Plus(more)
		if more != (replication.Sum{}) { // zeros cost nothing
			if err := l.pace(ctx, n); err != nil {
				return sum, err
			}
		}
	}
	return sum, nil
}

// pace waits so long that no more than the rate is read.
func (l *look) pace(ctx context.Context, n int64) error {
	l.read += n
	wait := time.NewTimer(time.Duration(float64(n) / float64(l.prover.cfg.Rate) * float64(time.Second)))
	defer wait.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-wait.C:
		return nil
	}
}

func (l *look) at(id block.PointID) driver.SnapshotRef {
	return driver.SnapshotRef{Volume: l.id, Name: id}
}

// whole notes that a point, and older ones, are what was committed.
func (l *look) whole(ctx context.Context, p block.Point, points int, damaged []block.PointID) error {
	now, before := l.prover.cfg.Now().UTC(), l.proof.Note
	l.proof.Last = block.Verified{At: now, Point: p.ID, PointAt: p.At, Root: p.Root, Bytes: l.read,
		Took: now.Sub(l.proof.Began), Points: points}
	l.proof.State, l.proof.Note, l.proof.Offset, l.proof.Sum = block.ProofIdle, "", 0, block.RootHash{}
	if len(damaged) > 0 {
		l.proof.Note = "Older points are damaged, and nothing has what they had."
	}
	return l.update(ctx, func(tx *catalog.Tx) error {
		if l.proof.Note != "" && l.proof.Note != before {
			if err := l.event(tx, block.HealthDamaged, l.proof.Note); err != nil {
				return err
			}
		}
		return l.unpin(tx)
	})
}

// walk compares all other points with what was committed, from one of which the
// sum was read: each differs from its neighbour by what the store says has
// changed. It marks those that are damaged, and takes marks off those that are
// whole.
func (l *look) walk(ctx context.Context, from block.Point, sum replication.Sum) (
	count int, damaged []block.PointID, err error,
) {
	var all []block.Point
	err = l.prover.cfg.Catalog.Update(ctx, func(tx *catalog.Tx) error {
		if all, err = tx.Points(l.id); err == nil {
			l.marks, err = tx.DamagedPoints(l.id)
		}
		for _, p := range all { // neighbours are needed until the next one was compared
			if err == nil {
				err = tx.Pin(l.id, p.ID, Holder)
			}
		}
		return err
	})
	if err != nil {
		return 0, nil, err
	}
	start := slices.IndexFunc(all, func(p block.Point) bool { return p.ID == from.ID })
	if start < 0 {
		return 0, nil, block.Errorf(block.NotFound, "Point %s is gone.", from.ID)
	}
	older := slices.Clone(all[:start])
	slices.Reverse(older)
	for i, way := range [][]block.Point{older, all[start+1:]} {
		n, bad, err := l.along(ctx, from, sum, way, i == 0)
		if err != nil {
			return 0, nil, err
		}
		count, damaged = count+n, append(damaged, bad...)
	}
	committed, err := l.committed(ctx, from.ID)
	switch {
	case err != nil:
		return 0, nil, err
	case committed != sum:
		damaged = append(damaged, from.ID)
		err = l.mark(ctx, from.ID, notCommitted)
	default:
		err = l.mark(ctx, from.ID, "")
	}
	return count + 1, damaged, err
}

// along is walk in one direction of time.
func (l *look) along(ctx context.Context, from block.Point, sum replication.Sum, way []block.Point, back bool) (
	count int, damaged []block.PointID, err error,
) {
	for _, p := range way {
		now, err := l.step(ctx, from.ID, p, sum, back)
		if block.Is(err, block.NotFound) {
			continue // thinned out meanwhile
		}
		want, cerr := replication.Sum{}, error(nil)
		if err == nil {
			want, cerr = l.committed(ctx, p.ID)
		}
		switch {
		case block.Is(err, block.Corrupt):
			damaged = append(damaged, p.ID)
			if err := l.mark(ctx, p.ID, unreadableWhy); err != nil {
				return 0, nil, err
			}
			continue
		case block.Is(cerr, block.NotFound):
			continue
		case err != nil || cerr != nil:
			return 0, nil, errors.Join(err, cerr)
		case now == want:
			err = l.mark(ctx, p.ID, "")
		default:
			damaged = append(damaged, p.ID)
			err = l.mark(ctx, p.ID, notCommitted)
		}
		if err != nil {
			return 0, nil, err
		}
		from, sum = p, now
		count++
	}
	return count, damaged, nil
}

// step is the sum of a point, given that of another one.
func (l *look) step(ctx context.Context, from block.PointID, to block.Point, sum replication.Sum, back bool) (
	replication.Sum, error,
) {
	a, err := l.driver.OpenSnapshot(ctx, l.at(from))
	if err != nil {
		return sum, err
	}
	defer a.Close()
	b, err := l.driver.OpenSnapshot(ctx, l.at(to.ID))
	if err != nil {
		return sum, err
	}
	defer b.Close()
	x, y := l.at(from), l.at(to.ID)
	if back {
		x, y = y, x // the older one first
	}
	for e, err := range driver.Diff(ctx, l.driver, x, y) {
		if err != nil {
			return sum, err
		}
		was, err := l.span(ctx, a, e.Off, min(e.Len, max(0, a.Size()-e.Off)))
		if err != nil {
			return sum, err
		}
		is, err := l.span(ctx, b, e.Off, min(e.Len, max(0, b.Size()-e.Off)))
		if err != nil {
			return sum, err
		}
		sum = sum.Minus(was).Plus(is)
	}
	return sum, nil
}

func (l *look) committed(ctx context.Context, id block.PointID) (sum replication.Sum, err error) {
	err = l.prover.cfg.Catalog.View(ctx, func(tx *catalog.Tx) error {
		_, raw, err := tx.Point(l.id, id)
		sum = replication.SumFrom(raw)
		return err
	})
	return sum, err
}

// notCommitted is why a point is damaged.
const notCommitted = "Its bytes are not what was committed."

// mark notes why a point is damaged, or that it is not, where that is news.
func (l *look) mark(ctx context.Context, id block.PointID, why string) error {
	if l.marks[id] == why {
		return nil
	}
	return l.prover.cfg.Catalog.Update(ctx, func(tx *catalog.Tx) error { return tx.MarkPoint(l.id, id, why) })
}
