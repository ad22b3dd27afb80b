package replication

import (
	"fmt"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/churn"
)

// CleanHolder is the name of the pin on the point before what may come to be
// taken for sudden encryption.
const CleanHolder = "clean"

// appraise notes what a step changed, and whether the volume looks as if it had
// been encrypted: then the last point before is held, and an event tells. It is
// a part of the commit.
func (i *inbound) appraise(tx *catalog.Tx, rep block.Replica, s block.Step, p block.Point) error {
	stats := i.tally.PointStats
	if s.Base.ID != "" {
		stats.Span = max(0, p.At.Sub(s.Base.At))
	}
	if err := tx.SetPointStats(rep.ID, p.ID, stats); err != nil {
		return err
	}
	var m churn.Meter
	suspicion, err := tx.Churn(rep.ID, &m)
	if err != nil {
		return err
	}
	followed := m.Base
	raised := m.Add(churn.Step{PointStats: stats, Base: s.Base.ID, BaseAt: s.Base.At, At: p.At})
	if followed != m.Base {
		if err := follow(tx, rep.ID, followed, m.Base); err != nil {
			return err
		}
	}
	if raised {
		suspicion = &block.Suspicion{Since: m.Began, Raised: tx.Now, Clean: m.Base, CleanAt: m.BaseAt,
			Bytes: m.Scrambled()}
		if err := i.suspect(tx, rep, *suspicion); err != nil {
			return err
		}
	}
	return tx.SetChurn(rep.ID, m, suspicion)
}

// follow pins the point before what may be suspicious, in the place of another
// one; "" is none.
func follow(tx *catalog.Tx, replica block.VolumeID, from, to block.PointID) error {
	if from != "" {
		if _, err := tx.Unpin(replica, from, CleanHolder); err != nil {
			return err
		}
	}
	if to == "" {
		return nil
	}
	return tx.Pin(replica, to, CleanHolder)
}

// suspect holds the last clean point and tells.
func (i *inbound) suspect(tx *catalog.Tx, rep block.Replica, s block.Suspicion) error {
	const layout = "2006-01-02T15:04:05Z"
	if lasts := i.receiver.cfg.HoldClean; lasts > 0 {
		clock, err := tx.HoldClock()
		if err != nil {
			return err
		}
		k := block.Keep{ID: block.NewID(), Kind: block.KeepHold, SourceZone: rep.SourceZone, Source: rep.Source,
			Replica: rep.ID, Point: s.Clean, Project: rep.Entry.Volume.Project, Name: "the last point before " +
				"what looks like sudden encryption", Until: tx.Now.Add(lasts), Ends: clock.Tick(lasts, lasts).Reading}
		if err := tx.InsertKeep(&k); err != nil && !block.Is(err, block.NotFound) { // a commit must not fail for it
			return err
		}
	}
	i.receiver.cfg.Log.Warn("a volume looks as if it had been encrypted suddenly", "peer", rep.SourceZone,
		"volume", rep.Source, "since", s.Since, "point", s.Clean)
	return tx.InsertDREvents([]block.DREvent{{Kind: "encryption", SourceZone: rep.SourceZone, Peer: rep.SourceZone,
		Protection: rep.Protection, Volume: rep.Source, Project: rep.Entry.Volume.Project, To: block.HealthSuspect,
		Text: fmt.Sprintf("About %d MiB that could be compressed can't be any more, since %s: it looks as if the volume "+
			"had been encrypted. The last point before is %s of %s.", s.Bytes>>20, s.Since.UTC().Format(layout), s.Clean,
			s.CleanAt.UTC().Format(layout))}})
}
