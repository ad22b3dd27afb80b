package proof

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/driver"
	"kvol/internal/replication"
)

const (
	claimTries = 240
	claimPause = 250 * time.Millisecond
)

// unreadable deals with a point that the store can't give, though it asked other
// zones for what it lost.
func (l *look) unreadable(ctx context.Context, p block.Point) (Result, error) {
	from := l.proof.Offset
	if err := l.tell(ctx, p, unreadableWhy); err != nil {
		return Result{}, err
	}
	sharing, err := l.sharing(ctx, p, from)
	if err != nil {
		return Result{}, err
	}
	return l.mend(ctx, append(sharing, p.ID))
}

// unreadableWhy is why a point is damaged that the store can't give.
const unreadableWhy = "It can't be read."

// sharing marks the points that have the blocks in common of which one can't be
// read from an offset on, so that none of them is recovered in its place. The
// store tells what changed between neighbours; nothing is read but the part in
// which the damage is.
func (l *look) sharing(ctx context.Context, p block.Point, from int64) (marked []block.PointID, err error) {
	lost, err := l.lost(ctx, p, from)
	if err != nil || len(lost) == 0 {
		return nil, err
	}
	var all []block.Point
	err = l.prover.cfg.Catalog.View(ctx, func(tx *catalog.Tx) error {
		if all, err = tx.Points(l.id); err == nil {
			l.marks, err = tx.DamagedPoints(l.id)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	start := slices.IndexFunc(all, func(one block.Point) bool { return one.ID == p.ID })
	if start < 0 {
		return nil, nil
	}
	older := slices.Clone(all[:start])
	slices.Reverse(older)
	for i, way := range [][]block.Point{older, all[start+1:]} {
		left, near := slices.Clone(lost), p.ID
		for _, q := range way {
			x, y := l.at(near), l.at(q.ID)
			if i == 0 {
				x, y = y, x // the older one first
			}
			if left, err = l.unchanged(ctx, x, y, left); err != nil || len(left) == 0 {
				break
			}
			if err := l.mark(ctx, q.ID, unreadableWhy); err != nil {
				return marked, err
			}
			marked, near = append(marked, q.ID), q.ID
		}
		if err != nil && !block.Is(err, block.NotFound) { // thinned out meanwhile
			return marked, err
		}
	}
	return marked, nil
}

// lost are the offsets of blocks that can't be read, in the part of a point that
// begins at an offset.
func (l *look) lost(ctx context.Context, p block.Point, from int64) (all []int64, err error) {
	const most = 64
	r, err := l.driver.OpenSnapshot(ctx, l.at(p.ID))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	b := make([]byte, driver.BlockSize)
	for off := from; off < min(from+part, r.Size()) && len(all) < most; {
		const step = 1 << 20
		_, err := replication.SumRange(ctx, r, off, min(step, r.Size()-off))
		if err == nil {
			off += step
			continue
		}
		if !block.Is(err, block.Corrupt) {
			return nil, err
		}
		for end := min(off+step, r.Size()); off < end; off += driver.BlockSize {
			if _, err := r.ReadAt(b, off); block.Is(err, block.Corrupt) {
				all = append(all, off)
			}
		}
	}
	return all, nil
}

// unchanged are those of some blocks that are the same in two snapshots.
func (l *look) unchanged(ctx context.Context, older, newer driver.SnapshotRef, blocks []int64) ([]int64, error) {
	for e, err := range driver.Diff(ctx, l.driver, older, newer) {
		if err != nil {
			return nil, err
		}
		blocks = slices.DeleteFunc(blocks, func(off int64) bool { return off >= e.Off && off < e.End() })
	}
	return blocks, nil
}

// differs deals with a point that was read twice and is not what was committed:
// it is told at once, the points that share what is wrong are found, and the
// other zone is asked for what is right.
func (l *look) differs(ctx context.Context, p block.Point, got replication.Sum) (Result, error) {
	if err := l.tell(ctx, p, notCommitted); err != nil {
		return Result{}, err
	}
	_, damaged, err := l.walk(ctx, p, got)
	if err != nil {
		return Result{}, err
	}
	return l.mend(ctx, damaged)
}

// tell marks a point, so that nobody recovers it, and tells so.
func (l *look) tell(ctx context.Context, p block.Point, why string) error {
	l.proof.State, l.proof.Note, l.proof.Offset, l.proof.Sum = block.ProofDamaged, why, 0, block.RootHash{}
	l.prover.cfg.Log.Error("a recovery point is not what was committed", "peer", l.replica.SourceZone,
		"volume", l.replica.Source, "replica", l.id, "point", p.ID, "reason", why)
	return l.update(ctx, func(tx *catalog.Tx) error {
		return errors.Join(tx.MarkPoint(l.id, p.ID, why), l.event(tx, block.HealthDamaged,
			fmt.Sprintf("Point %s of %s: %s", p.ID, p.At.UTC().Format(time.RFC3339), why)))
	})
}

func (l *look) event(tx *catalog.Tx, to block.HealthState, text string) error {
	return tx.InsertDREvents([]block.DREvent{{Kind: "replica", SourceZone: l.replica.SourceZone,
		Peer: l.replica.SourceZone, Protection: l.replica.Protection, Volume: l.replica.Source,
		Project: l.replica.Entry.Volume.Project, To: to, Text: text}})
}

// mend repairs the newest point and reads it once more. What stands in the way is
// noted; it is tried again later.
func (l *look) mend(ctx context.Context, damaged []block.PointID) (Result, error) {
	res := Result{Damaged: damaged}
	n, err := l.repair(ctx)
	if err == nil && n == 0 {
		err = block.Errorf(block.NotFound, "The newest point is whole; what older ones had is nowhere else any more.")
	}
	if err != nil {
		if ctx.Err() != nil {
			return res, ctx.Err()
		}
		message, ok := block.UserMessage(err)
		if !ok {
			message = "It could not be repaired; the zone's log says why."
		}
		l.prover.cfg.Log.Error("a replica could not be repaired", "replica", l.id, "err", err)
		l.proof.Note = message
		if l.again || n == 0 && block.Is(err, block.NotFound) {
			l.proof.State = block.ProofReading // begins with what is the newest then
			l.proof.Point = ""
		}
		res.Proof = l.proof
		return res, l.update(ctx, func(tx *catalog.Tx) error { return l.unpin(tx) })
	}
	if l.again {
		return res, block.Errorf(block.Corrupt, "Replica %s was repaired and is damaged again.", l.id)
	}
	l.again = true
	after, err := l.run(ctx)
	after.Repaired += n
	if err == nil && !slices.Contains(after.Damaged, l.proof.Last.Point) {
		err = l.update(ctx, func(tx *catalog.Tx) error {
			return l.event(tx, block.HealthOK, fmt.Sprintf("%d blocks were repaired, and read again.", n))
		})
	}
	return after, err
}

// repair puts right what is wrong in the newest point, and says how many blocks
// that were.
func (l *look) repair(ctx context.Context) (int, error) {
	p, err := l.common(ctx)
	if err != nil {
		return 0, err
	}
	blocks, err := l.wrong(ctx, p)
	if err != nil || len(blocks) == 0 {
		return 0, err
	}
	release, err := l.claim(ctx)
	if err != nil {
		return 0, err
	}
	defer release()
	if err := l.since(ctx, p, blocks); err != nil || len(blocks) == 0 {
		return 0, err
	}
	l.proof.State, l.proof.Point = block.ProofMending, l.replica.Newest.ID
	if err := l.update(ctx, func(*catalog.Tx) error { return nil }); err != nil {
		return 0, err
	}
	if err := l.write(ctx, blocks); err != nil {
		return 0, err
	}
	newest := l.at(l.replica.Newest.ID)
	if err := l.driver.DeleteSnapshot(ctx, newest); err != nil && !block.Is(err, block.NotFound) {
		return 0, err
	}
	if err := l.driver.CreateSnapshot(ctx, newest); err != nil {
		return 0, err
	}
	l.proof.State = block.ProofDamaged
	return len(blocks), l.update(ctx, func(*catalog.Tx) error { return nil })
}

// claim waits until replication leaves the replica alone between two steps.
func (l *look) claim(ctx context.Context) (release func(), err error) {
	for range claimTries {
		release, ok := l.prover.cfg.Claim(l.replica)
		if ok {
			err := l.prover.cfg.Catalog.View(ctx, func(tx *catalog.Tx) (err error) {
				l.replica, err = tx.Replica(l.id)
				return err
			})
			if err == nil && l.replica.Pending == nil {
				return release, nil
			}
			release()
			if err != nil {
				return nil, err
			}
		}
		pause := time.NewTimer(claimPause)
		select {
		case <-ctx.Done():
			pause.Stop()
			return nil, ctx.Err()
		case <-pause.C:
		}
	}
	return nil, block.Errorf(block.Unavailable, "A step of replication is under way; it is tried again later.")
}

// since leaves out what was written anew between a point and the newest one.
func (l *look) since(ctx context.Context, p block.Point, blocks map[int64][]byte) error {
	if p.ID == l.replica.Newest.ID {
		return nil
	}
	for e, err := range driver.Diff(ctx, l.driver, l.at(p.ID), l.at(l.replica.Newest.ID)) {
		if err != nil {
			return err
		}
		for off := range blocks {
			if off >= e.Off && off < e.End() {
				delete(blocks, off)
			}
		}
	}
	return nil
}

// write puts blocks into the replica's volume, which holds what the newest point
// has.
func (l *look) write(ctx context.Context, blocks map[int64][]byte) error {
	dev, err := l.driver.OpenVolume(ctx, l.id)
	if err != nil {
		return err
	}
	for off, p := range blocks {
		if driver.IsZero(p) {
			err = dev.Zero(off, int64(len(p)))
		} else {
			_, err = dev.WriteAt(p, off)
		}
		if err != nil {
			return errors.Join(err, dev.Close())
		}
	}
	return errors.Join(dev.Flush(), dev.Close())
}

// remake makes the newest point's snapshot that a killed process had deleted, of
// what it had repaired. Without the snapshot no step of replication could write
// anything since.
func (l *look) remake(ctx context.Context) error {
	release, ok := l.prover.cfg.Claim(l.replica)
	if !ok {
		return block.Errorf(block.Unavailable, "A step of replication is under way.")
	}
	defer release()
	all, err := l.driver.Snapshots(ctx, l.id)
	if err != nil {
		return err
	}
	there := slices.ContainsFunc(all, func(s driver.SnapshotInfo) bool { return s.Name == l.proof.Point })
	if !there && l.proof.Point == l.replica.Newest.ID {
		if err := l.driver.CreateSnapshot(ctx, l.at(l.proof.Point)); err != nil {
			return err
		}
	}
	l.proof.State = block.ProofDamaged
	return l.update(ctx, func(*catalog.Tx) error { return nil })
}
