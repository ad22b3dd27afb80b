package control

import (
	"context"
	"encoding/json"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/churn"
	"kvol/internal/replication"
)

// ReplicaPoints is a replica, its committed points from old to new, and what is
// known of them.
type ReplicaPoints struct {
	block.Replica
	Points    []block.Point
	Keeps     []block.Keep // in no order
	Stats     map[block.PointID]block.PointStats
	Suspicion *block.Suspicion // nil for none
	Damaged   map[block.PointID]string
	Proof     block.Proof
}

func replicaPoints(tx *catalog.Tx, r block.Replica) (out ReplicaPoints, err error) {
	one := candidate{Replica: r}
	if err := one.load(tx); err != nil {
		return out, err
	}
	out = ReplicaPoints{Replica: r, Suspicion: one.suspect}
	if out.Points, err = tx.Points(r.ID); err != nil {
		return out, err
	}
	if out.Damaged, err = tx.DamagedPoints(r.ID); err != nil {
		return out, err
	}
	if out.Proof, err = tx.Proof(r.ID); err != nil {
		return out, err
	}
	if out.Keeps, err = tx.KeepsOf(r.ID); err != nil {
		return out, err
	}
	out.Stats, err = tx.PointStats(r.ID)
	return out, err
}

// DismissSuspicion says that a volume of another zone was not encrypted suddenly,
// or that somebody knows. What it looks like now is usual from then on. It is a
// Conflict where no replica of it looks suspicious.
func (s *Service) DismissSuspicion(ctx context.Context, c block.Caller, zone block.Zone, source block.VolumeID) error {
	policies := s.protectionsInto(zone)
	return s.catalog.Update(ctx, func(tx *catalog.Tx) error {
		known, dismissed := false, false
		for _, p := range policies {
			r, err := tx.ReplicaOf(zone, source, p.Seq)
			if block.Is(err, block.NotFound) || err == nil && !sees(c, r.Entry.Volume.Project) {
				continue
			}
			if err == nil {
				err = authorize(c, keepRule, membersRule, owned(r.Entry.Volume.Project, ""))
			}
			if err != nil {
				return err
			}
			known = true
			did, err := dismiss(tx, c, r)
			if err != nil {
				return err
			}
			dismissed = dismissed || did
		}
		switch {
		case !known:
			return block.Errorf(block.NotFound, "A replica of volume %s of zone %s could not be found.", source, zone)
		case !dismissed:
			return block.Errorf(block.Conflict, "Volume %s does not look suspicious.", source)
		}
		return nil
	})
}

func dismiss(tx *catalog.Tx, c block.Caller, r block.Replica) (did bool, err error) {
	var m churn.Meter
	suspicion, err := tx.Churn(r.ID, &m)
	if err != nil || suspicion == nil {
		return false, err
	}
	base := m.Base
	m.Dismiss(r.Newest.At)
	if base != "" {
		if _, err := tx.Unpin(r.ID, base, replication.CleanHolder); err != nil {
			return false, err
		}
	}
	text, err := json.Marshal(suspicion)
	return true, first(err, tx.SetChurn(r.ID, m, nil), tx.InsertAudit(block.Audit{User: string(c.User),
		Call: "volume dismiss", Params: string(r.Source) + " " + string(text), Code: 200}),
		tx.InsertDREvents([]block.DREvent{{Kind: "encryption", SourceZone: r.SourceZone, Peer: r.SourceZone,
			Protection: r.Protection, Volume: r.Source, Project: r.Entry.Volume.Project, From: block.HealthSuspect,
			To: block.HealthOK, Text: "Somebody said that it is as it should be."}}))
}
