package control

import (
	"context"
	"fmt"
	"slices"
	"time"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/driver"
	"kvol/internal/proof"
)

// PathProof is where a zone is asked about its own volumes by one that keeps a
// replica, by POST of a proof.Question.
const PathProof = "/peer/v1/proof"

// proofLease is how long a point is kept for another zone after its last
// question.
const proofLease = 10 * time.Minute

// AnswerProof answers a zone that compares its replica of a volume of this zone.
// It is NotFound for a volume that is not replicated there.
func (s *Service) AnswerProof(ctx context.Context, from block.Zone, q proof.Question) (a proof.Answer, err error) {
	holder := fmt.Sprintf("compare/%s/%d", from, q.Protection)
	if q.Verb == proof.Release {
		return a, s.catalog.Update(ctx, func(tx *catalog.Tx) error { return tx.EndLeases(time.Time{}, holder) })
	}
	meant := func(p block.Protection) bool { return p.Seq == q.Protection && p.Destination == from }
	if !slices.ContainsFunc(s.ownProtections(), meant) {
		return a, block.Errorf(block.NotFound, "Zone %s is not replicated to zone %s so.", s.cfg.Zone, from)
	}
	var v block.Volume
	err = s.catalog.Update(ctx, func(tx *catalog.Tx) error {
		l, err := tx.Link(q.Volume, q.Protection)
		if err != nil {
			return err
		}
		if v, err = tx.Volume(q.Volume); err != nil {
			return err
		}
		if q.Verb == proof.Hold {
			q.Point = l.Confirmed.ID
		}
		if q.Point == "" {
			return block.Errorf(block.NotFound, "No point of volume %s was confirmed yet.", q.Volume)
		}
		return tx.LeasePoint(v.ID, q.Point, holder, tx.Now.Add(proofLease))
	})
	if err != nil || q.Verb == proof.Hold {
		return proof.Answer{Point: q.Point}, err
	}
	leave, err := s.healing.enter(ctx, BlockWanted{})
	if err != nil {
		return a, err
	}
	defer leave()
	store, err := s.backends.Of(v.Backend)
	if err != nil {
		return a, err
	}
	r, err := store.OpenSnapshot(ctx, driver.SnapshotRef{Volume: v.ID, Name: q.Point})
	if err != nil {
		return a, err
	}
	a, err = proof.Reply(ctx, q, r)
	return a, first(err, r.Close())
}

// whole leaves out points that are damaged, and says how many those are.
func whole(tx *catalog.Tx, replica block.VolumeID, points []block.Point) ([]block.Point, int, error) {
	damaged, err := tx.DamagedPoints(replica)
	if err != nil || len(damaged) == 0 {
		return points, 0, err
	}
	good := slices.DeleteFunc(slices.Clone(points), func(p block.Point) bool { return damaged[p.ID] != "" })
	return good, len(points) - len(good), nil
}

// newestWhole is a replica's newest point that is not known to be damaged.
func newestWhole(tx *catalog.Tx, r block.Replica) (block.Point, error) {
	c := candidate{Replica: r}
	if err := c.load(tx); err != nil {
		return block.Point{}, err
	}
	return c.newest()
}
