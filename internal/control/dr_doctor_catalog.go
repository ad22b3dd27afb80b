package control

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/driver"
)

// stale looks at volumes that live on in other zones.
func (e *examination) stale(tx *catalog.Tx) error {
	all, err := tx.Stales("")
	for _, kept := range all {
		v, err := tx.Volume(kept.Volume)
		if err != nil {
			return err
		}
		where := "another zone"
		if to := v.RecoveredTo; to != nil {
			where = fmt.Sprintf("zone %s as volume %s", to.Zone, to.Volume)
		}
		a := ailment{Finding: block.Finding{Kind: block.FindStalePrimary, Volume: v.ID, Project: v.Project,
			SourceZone: e.s.cfg.Zone, Text: fmt.Sprintf("Volume %s lives on in %s, and is read-only here", v.ID, where)}}
		if to := v.RecoveredTo; to != nil {
			a.Peer = to.Zone
		}
		if kept.Rival {
			a.Kind = block.FindRival
			a.Text = fmt.Sprintf("Volume %s was recovered here while %s was made of the same volume under a higher epoch; it "+
				"is read-only here, and nothing that was written to it lives on", v.ID, where)
		}
		switch kept.State {
		case block.StaleEqual:
			a.Text += "; all that it has is there, too."
			a.Advice = "Delete it when nothing reads it any more."
		case block.StaleKept:
			a.Text += fmt.Sprintf("; %d bytes of it are nowhere else, and kept until %s.", kept.Bytes,
				kept.Until.UTC().Format("2006-01-02 15:04"))
			a.Advice = "Look at the ranges with `kvol dr stale`, take over what is needed, then delete it."
		case block.StaleExpired:
			a.Text += "; the snapshot of what only it had was let go."
			a.Advice = "Delete it when nothing of it is needed any more."
		default:
			a.Text += "; what only it has is not found out yet."
			a.Advice = "Wait until it is compared."
			if !e.live[string(v.ID)] {
				a.Mends = "It is compared again: the job that should have done it ended."
				a.mend = func(tx *catalog.Tx) error {
					if works, err := busy(tx, string(v.ID), 0); works || err != nil {
						return err
					}
					return enqueue(tx, jobUndo, string(v.ID), nil)
				}
			}
		}
		e.add(a)
	}
	return err
}

// rivals looks at what other zones took over beside this one, and have not
// stopped writing to as far as is known.
func (e *examination) rivals(tx *catalog.Tx) error {
	open, err := tx.OpenRivals("")
	for _, r := range open {
		if r.Lost.Zone == e.s.cfg.Zone {
			continue // a stale primary by now
		}
		f, _, err := tx.Fence(r.SourceZone, r.Source)
		if err != nil {
			return err
		}
		e.add(ailment{Finding: block.Finding{Kind: block.FindRival, Volume: f.Recovered.Volume,
			SourceZone: r.SourceZone, Peer: r.Lost.Zone,
			Text: fmt.Sprintf("Zone %s took volume %s of zone %s over as volume %s, and this zone as volume %s; hosts may "+
				"write to both until zone %s hears that it lost.", r.Lost.Zone, r.Source, r.SourceZone, r.Lost.Volume,
				f.Recovered.Volume, r.Lost.Zone),
			Advice: fmt.Sprintf("It is told as soon as it answers. Detach hosts from volume %s there, or mend the link to "+
				"zone %s.", r.Lost.Volume, r.Lost.Zone)}})
	}
	return err
}

// relays looks for those of other zones by which this one takes nothing.
func (e *examination) relays(ctx context.Context) error {
	copies, err := e.s.copies(ctx)
	_, refused := relaysInto(e.s.cfg.Zone, copies)
	for _, r := range refused {
		e.add(ailment{Finding: block.Finding{Kind: block.FindRefusedRelay, SourceZone: r.SourceZone, Peer: r.Via,
			Protection: r.Seq, Text: fmt.Sprintf("Zone %s tells of relay %d by which it would send volumes of zone %s here, "+
				"and nothing is taken by it: %s.", r.Via, r.Seq, r.SourceZone, r.why),
			Advice: fmt.Sprintf("Ask who configured zone %s. Give the relay a seq that no protection of zone %s and no other "+
				"relay of its volumes has, and let it follow the one by which they come to zone %s.", r.Via, r.SourceZone,
				r.Via)}})
	}
	return err
}

// replicas looks for those that no protection of a zone that was heard explains.
func (e *examination) replicas(ctx context.Context, tx *catalog.Tx) error {
	policies := map[block.ProtectionKey]bool{}
	for _, p := range e.s.KnownProtections() {
		policies[p.Key()] = p.Destination == e.s.cfg.Zone
	}
	marks, err := tx.ReplicaMarks()
	for _, m := range marks {
		if policies[m.Policy()] {
			continue
		}
		_, _, heard, err := e.s.PeerCopy(ctx, m.SourceZone)
		if err != nil {
			return err
		}
		if !heard && slices.Contains(e.s.otherZones(), m.SourceZone) {
			continue // nobody knows yet what it protects
		}
		e.add(ailment{Finding: block.Finding{Kind: block.FindOrphanReplica, Volume: m.ID, SourceZone: m.SourceZone,
			Protection: m.Protection, Point: m.Newest.ID,
			Text: fmt.Sprintf("This zone keeps a replica of volume %s of zone %s under protection %d, which is not configured "+
				"any more; nothing comes to it, and nothing can be recovered from it.", m.Source, m.SourceZone, m.Protection),
			Advice: "Put the protection back into that zone's configuration: then it goes on, and can be recovered. If it is " +
				"not needed, delete the volume there while the protection is configured; the replica follows."}})
	}
	return err
}

// pins looks for pins whose holders are gone.
func (e *examination) pins(tx *catalog.Tx) error {
	const most = 1 << 20
	links, err := tx.Links()
	if err != nil {
		return err
	}
	e.pairs = make(map[linkKey]catalog.Link, len(links))
	for _, l := range links {
		e.pairs[linkKey{l.Volume, l.Protection}] = l
	}
	all, err := tx.Pins(most)
	for _, p := range all {
		why, err := e.leaked(tx, p)
		if err != nil {
			return err
		}
		if why == "" {
			continue
		}
		e.add(ailment{Finding: block.Finding{Kind: block.FindLeakedPin, Volume: p.Volume, Point: p.Name, Holder: p.Holder,
			Text:   fmt.Sprintf("Snapshot %s of volume %s is kept for %s, and %s.", p.Name, p.Volume, p.Holder, why),
			Advice: "Let go of it: what is overwritten takes room for nobody.",
			Mends:  "The pin is taken off; the snapshot goes if it was deleted and nobody else keeps it."},
			mend: func(tx *catalog.Tx) error { return e.s.unpinLeaked(tx, p) }})
	}
	return err
}

// unpinLeaked takes a pin off that is leaked still.
func (s *Service) unpinLeaked(tx *catalog.Tx, p catalog.HeldPin) error {
	live, err := tx.LiveSubjects()
	if err != nil {
		return err
	}
	again := examination{s: s, live: live}
	if why, err := again.leaked(tx, p); why == "" || err != nil {
		return err
	}
	deleteNow, err := tx.Unpin(p.Volume, p.Name, p.Holder)
	if err != nil || !deleteNow || !p.OfVolume {
		return err
	}
	v, err := tx.Volume(p.Volume)
	if err != nil {
		return err
	}
	return dropPoint(tx, v.Backend, driver.SnapshotRef{Volume: p.Volume, Name: p.Name})
}

// leaked says why nobody needs a pin, or "". Holders that it does not know are
// not judged.
func (e *examination) leaked(tx *catalog.Tx, p catalog.HeldPin) (why string, err error) {
	if !p.OfVolume && !p.Replica {
		return "there is no such volume any more", nil
	}
	kind, of, _ := strings.Cut(p.Holder, "/")
	switch kind {
	case "replication":
		return e.leakedLinkPin(tx, p, of)
	case block.OriginHolder:
		v, err := tx.Volume(p.Volume)
		if err == nil && (v.RecoveredFrom == nil || v.RecoveredFrom.Point.ID != p.Name) {
			return "the volume did not begin as it", nil
		}
		return "", ignoring(block.NotFound, err)
	case "failover":
		f, err := tx.Failover(of)
		if block.Is(err, block.NotFound) || err == nil && f.Phase.Ended() {
			return "there is no such failover under way", nil
		}
		return "", err
	case string(block.DRRecovery), string(block.DRCreate):
		return e.leakedJobPin(tx, block.DRKind(kind), of)
	case "keep":
		_, err := tx.Keep(of)
		if block.Is(err, block.NotFound) {
			return "there is no such pin or hold", nil
		}
		return "", err
	case drillHolder:
		op, err := tx.Operation(strings.Split(of, "/")[0])
		if block.Is(err, block.NotFound) || err == nil && op.Status.Ended() && !e.live[op.ID] {
			return "there is no such drill under way", nil
		}
		return "", err
	case "backup":
		_, err := tx.Backup(block.BackupID(of))
		if block.Is(err, block.NotFound) && !e.live[of] {
			return "there is no such backup", nil
		}
		return "", ignoring(block.NotFound, err)
	}
	return "", nil
}

// leakedJobPin judges a pin of a job of the kvol API.
func (e *examination) leakedJobPin(tx *catalog.Tx, kind block.DRKind, of string) (string, error) {
	var rowkey int64
	if _, err := fmt.Sscan(of, &rowkey); err != nil {
		return "it names no job", nil
	}
	j, err := tx.DRJob(kind, rowkey)
	if block.Is(err, block.NotFound) {
		return "there is no such job", nil
	}
	if err == nil && !j.End.IsZero() && !e.live[string(j.NewVolume)] {
		return "that job has ended", nil
	}
	return "", err
}

// leakedLinkPin judges a pin of replication's: while a point is under way it may
// need any.
func (e *examination) leakedLinkPin(tx *catalog.Tx, p catalog.HeldPin, of string) (string, error) {
	var seq int64
	if _, err := fmt.Sscan(of, &seq); err != nil {
		return "it names no protection", nil
	}
	l, ok := e.pairs[linkKey{p.Volume, seq}]
	if e.pairs == nil {
		var err error
		l, err = tx.Link(p.Volume, seq)
		if ok = err == nil; !ok && !block.Is(err, block.NotFound) {
			return "", err
		}
	}
	if !ok {
		return "no pair replicates the volume so", nil
	}
	const rest = pairPatience
	if l.Target == nil && l.Confirmed.ID != p.Name && tx.Now.Sub(l.UpdatedAt) > rest {
		return "its pair has a newer point", nil
	}
	return "", nil
}

// cuts looks for snapshots that replication made and forgot.
func (e *examination) cuts(tx *catalog.Tx) error {
	all, err := tx.LooseCuts(maxFindings + 1)
	for _, c := range all {
		if e.live[string(c.Volume)] {
			continue
		}
		e.add(ailment{Finding: block.Finding{Kind: block.FindLeakedCut, Volume: c.Volume, Point: c.Point,
			Text: fmt.Sprintf("Replication made snapshot %s of volume %s, and no pair needs it any more.", c.Point,
				c.Volume),
			Advice: "Let go of it: what is overwritten takes room for nobody.",
			Mends:  "The snapshot is deleted; it is no tenant's."},
			mend: func(tx *catalog.Tx) error { return dropCut(tx, c) }})
	}
	return err
}

// dropCut deletes a cut that is loose still.
func dropCut(tx *catalog.Tx, c catalog.Cut) error {
	all, err := tx.LooseCuts(1 << 20)
	if err != nil || !slices.Contains(all, c) {
		return err
	}
	v, err := tx.Volume(c.Volume)
	if block.Is(err, block.NotFound) {
		return tx.DeleteCut(c.Volume, c.Point) // it went with the volume
	}
	if err != nil {
		return err
	}
	return first(tx.DeleteCut(c.Volume, c.Point),
		dropPoint(tx, v.Backend, driver.SnapshotRef{Volume: c.Volume, Name: c.Point}))
}

// links looks for links of volumes that are gone.
func (e *examination) links(tx *catalog.Tx) error {
	all, err := tx.LostLinks(maxFindings + 1)
	for _, l := range all {
		f := block.Finding{Kind: block.FindLeakedLink, Volume: l.Volume, Protection: l.Protection,
			SourceZone: e.s.cfg.Zone,
			Text: fmt.Sprintf("Volume %s is gone, and protection %d's other zone could not be told.",
				l.Volume, l.Protection),
			Advice: "It is told when it can be reached; until then it keeps the replica. See whether it is alive.",
			Mends:  "The sender tries at once, and then forgets the link."}
		for _, p := range e.s.ownProtections() {
			if p.Seq == l.Protection {
				f.Peer = p.Destination
			}
		}
		e.add(ailment{Finding: f, then: e.kick(l.Volume)})
	}
	return err
}
