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
	if err := l.tell(ctx, p, "It can't be read."); err != nil {
		return Result{}, err
	}
	return l.mend(ctx, []block.PointID{p.ID})
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
