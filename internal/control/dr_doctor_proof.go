package control

import (
	"fmt"
	"time"

	"kvol/internal/block"
	"kvol/internal/catalog"
)

// proofs looks at what reading the replicas again has shown: points that are not
// what was committed, at this end or at the other one, and replicas that were not
// read for too long.
func (e *examination) proofs(tx *catalog.Tx) error {
	if e.s.cfg.DR.Prover == nil {
		return nil
	}
	all, err := tx.Replicas("")
	if err != nil {
		return err
	}
	damaged, err := tx.AllDamagedPoints()
	if err != nil {
		return err
	}
	proofs, err := tx.Proofs()
	for _, r := range all {
		if r.Newest.ID == "" || !r.DeletedAt.IsZero() {
			continue
		}
		p := proofs[r.ID]
		if err := e.damagedReplica(tx, r, p, damaged[r.ID]); err != nil {
			return err
		}
		e.damagedSource(r, p)
		e.unverified(tx.Now, r, p)
	}
	return err
}

// ofReplica is a finding of a replica, under the name that its owner knows. It is
// read again at once where that is to mend it.
func (e *examination) ofReplica(
	kind block.FindingKind,
	r block.Replica,
	point block.PointID,
	text, advice, mends string,
) {
	a := ailment{Finding: block.Finding{Kind: kind, Volume: r.Source, Project: r.Entry.Volume.Project,
		SourceZone: r.SourceZone, Peer: r.SourceZone, Protection: r.Protection, Point: point, Text: text, Advice: advice,
		Mends: mends}}
	if mends != "" {
		a.mend = func(*catalog.Tx) error {
			e.s.cfg.DR.Prover.Again(r.ID)
			return nil
		}
	}
	e.add(a)
}

// damagedReplica tells of points that nobody is given.
func (e *examination) damagedReplica(tx *catalog.Tx, r block.Replica, p block.Proof,
	marks map[block.PointID]string,
) error {
	if len(marks) == 0 {
		return nil
	}
	points, err := tx.Points(r.ID)
	if err != nil {
		return err
	}
	good := "none is whole, and nothing can be recovered from it"
	for _, one := range points {
		if marks[one.ID] == "" {
			good = "the newest that is whole is of " + utc(one.At)
		}
	}
	note := ""
	if p.Note != "" {
		note = " " + p.Note
	}
	text := fmt.Sprintf("%d of %d recovery points of volume %s of zone %s are not what was committed here; %s.%s",
		len(marks), len(points), r.Source, r.SourceZone, good, note)
	if marks[r.Newest.ID] == "" {
		e.ofReplica(block.FindDamagedReplica, r, "", text, "Recoveries leave these points out. What older points had is "+
			"nowhere else any more: they go as the retention lets go of them, and the newest one is whole.", "")
		return nil
	}
	e.ofReplica(block.FindDamagedReplica, r, r.Newest.ID, text, fmt.Sprintf("Recoveries take the newest point that is "+
		"whole. The newest is repaired from zone %s as soon as that answers, and it is tried again and again; `kvol dr "+
		"verify %s` in this zone does it now. Look after the disk meanwhile: `kvol store check`.", r.SourceZone, r.Source),
		"It is read at once, and what is wrong is repaired from the volume's own zone.")
	return nil
}

// damagedSource tells of a volume that has other bytes in its own zone than were
// committed.
func (e *examination) damagedSource(r block.Replica, p block.Proof) {
	if p.Source == nil {
		return
	}
	e.ofReplica(
		block.FindDamagedSource,
		r,
		p.Source.Point,
		fmt.Sprintf("Volume %s has other bytes in its own zone %s than "+
			"were committed as the point of %s: found at %s. The replica in zone %s is whole.", r.Source, r.SourceZone,
			utc(p.Source.PointAt), utc(p.Source.At), e.s.cfg.Zone),
		fmt.Sprintf("Nothing is written over by itself, since what is wrong may lie beside what is newer. Move the volume "+
			"here, with all that was written since: `kvol dr failover %s --to %s` in zone %s. Delete the stale volume there "+
			"before it goes back, and look after that zone's disk: docs/runbook.md, \"A volume is damaged in its own zone\". "+
			"Once that zone has the right bytes, `kvol dr verify %s` here ends this.", r.Source, e.s.cfg.Zone, r.SourceZone,
			r.Source),
		"",
	)
}

// unverified tells of a replica that was not read within the zone's time.
func (e *examination) unverified(now time.Time, r block.Replica, p block.Proof) {
	within := e.s.cfg.DR.Prover.Within()
	at, was := p.Last.At, "was last found whole at "+utc(p.Last.At)
	if at.IsZero() {
		at, was = r.CreatedAt, "was never read again since it was begun at "+utc(r.CreatedAt)
	}
	if within <= 0 || now.Sub(at) <= within {
		return
	}
	e.ofReplica(block.FindUnverified, r, "", fmt.Sprintf("The replica of volume %s of zone %s %s; each is to be read "+
		"within %s.", r.Source, r.SourceZone, was, within),
		"Raise dr.verify_mib_s if replicas are not read in time; `kvol dr verify "+string(r.Source)+"` reads this one now.",
		"It is read at once, before others.")
}

func utc(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }
