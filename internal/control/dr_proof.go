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
	"kvol/internal/recovery"
)

// PathProof is where a zone is asked about its own volumes by one that keeps a
// replica, by POST of a proof.Question.
const PathProof = "/peer/v1/proof"

// proofLease is how long a point is kept for another zone after its last
// question.
const proofLease = 10 * time.Minute

// AnswerProof answers a zone that compares its replica with what this zone has:
// of a volume of this zone, or of the replica that is sent on to that one; and a
// zone that compares its volume with the replica here. It is NotFound for what is
// not replicated so.
func (s *Service) AnswerProof(ctx context.Context, from block.Zone, q proof.Question) (a proof.Answer, err error) {
	holder := fmt.Sprintf("compare/%s/%d/%s", from, q.Protection, q.Volume)
	if q.Verb == proof.Release {
		return a, s.catalog.Update(ctx, func(tx *catalog.Tx) error { return tx.EndLeases(time.Time{}, holder) })
	}
	own, relays := s.ownProtections(), s.Relays()
	var what compared
	err = s.catalog.Update(ctx, func(tx *catalog.Tx) error {
		if what, err = s.comparedWith(tx, from, q, own, relays); err != nil {
			return err
		}
		if q.Verb == proof.Hold {
			q.Point = what.confirmed
		}
		if q.Point == "" {
			return block.Errorf(block.NotFound, "No point of volume %s was confirmed yet.", q.Volume)
		}
		if q.Replica {
			return nil
		}
		return tx.LeasePoint(what.id, q.Point, holder, tx.Now.Add(proofLease))
	})
	if err != nil || q.Verb == proof.Hold {
		return proof.Answer{Point: q.Point}, err
	}
	leave, err := s.healing.enter(ctx, BlockWanted{})
	if err != nil {
		return a, err
	}
	defer leave()
	store, err := s.backends.Of(what.backend)
	if err != nil {
		return a, err
	}
	r, err := store.OpenSnapshot(ctx, driver.SnapshotRef{Volume: what.id, Name: q.Point})
	if err != nil {
		return a, err
	}
	a, err = proof.Reply(ctx, q, r)
	return a, first(err, r.Close())
}

// compared is what a replica of another zone is compared with.
type compared struct {
	id        block.VolumeID // in the store
	backend   string
	confirmed block.PointID // that the other zone has; "" for none
}

// comparedWith finds what a zone may compare its replica with.
func (s *Service) comparedWith(tx *catalog.Tx, from block.Zone, q proof.Question, own, relays []block.Protection) (
	c compared, err error,
) {
	if q.Replica {
		rep, err := tx.ReplicaOf(from, q.Volume, q.Protection)
		return compared{rep.ID, rep.Backend, rep.Newest.ID}, err
	}
	meant := func(p block.Protection) bool { return p.Seq == q.Protection && p.Destination == from }
	if slices.ContainsFunc(own, meant) {
		l, err := tx.Link(q.Volume, q.Protection)
		if err != nil {
			return c, err
		}
		v, err := tx.Volume(q.Volume)
		return compared{v.ID, v.Backend, l.Confirmed.ID}, err
	}
	i := slices.IndexFunc(relays, meant)
	if i < 0 {
		return c, block.Errorf(block.NotFound, "Zone %s is not replicated to zone %s so.", s.cfg.Zone, from)
	}
	rep, err := tx.ReplicaOf(relays[i].SourceZone, q.Volume, relays[i].Follows)
	if err != nil {
		return c, err
	}
	c = compared{id: rep.ID, backend: rep.Backend}
	all, err := tx.Relays()
	for _, r := range all {
		if r.Replica == rep.ID && r.Protection == q.Protection {
			c.confirmed = r.Confirmed.ID
		}
	}
	return c, err
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

// toGoOnWith is the point with which a volume goes on here, when that begins: the newest
// that is whole, or the one that was chosen before if no damage was found to it since. It
// fails with Conflict where there is none.
func toGoOnWith(tx *catalog.Tx, r block.Replica, newest bool, chosen block.Point) (block.Point, error) {
	damaged, err := tx.DamagedPoints(r.ID)
	switch {
	case err != nil:
		return block.Point{}, err
	case newest && len(damaged) > 0:
		chosen, err = newestWhole(tx, r)
	case newest:
		chosen, err = recovery.Newest(r)
	case damaged[chosen.ID] != "":
		err = errDamaged(r, chosen)
	}
	if block.Is(err, block.Unavailable) { // and no trying again makes it whole
		why, _ := block.UserMessage(err)
		err = block.Errorf(block.Conflict, "%s", why)
	}
	return chosen, err
}

func errDamaged(r block.Replica, p block.Point) error {
	return block.Errorf(block.Conflict, "Recovery point %s of volume %s is damaged here.", p.ID, r.Source)
}

// newestWhole is a replica's newest point that is not known to be damaged.
func newestWhole(tx *catalog.Tx, r block.Replica) (block.Point, error) {
	c := candidate{Replica: r}
	if err := c.load(tx); err != nil {
		return block.Point{}, err
	}
	return c.newest()
}
