package control

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"kvol/internal/block"
	"kvol/internal/catalog"
)

const (
	maxFindings = 1000 // of a kind that are told
	// secondLook is after how long what seems left over is looked at again: what
	// is just being made or removed is gone, or explained, by then.
	secondLook = 500 * time.Millisecond
)

// Findings is what a doctor found.
type Findings struct {
	At      time.Time
	All     []block.Finding
	LeftOut int // findings beyond maxFindings of a kind
}

// ailment is a finding and how it is mended: in a transaction that looks again,
// and after its commit. Both are nil where only people can.
type ailment struct {
	block.Finding
	mend func(*catalog.Tx) error
	then func(context.Context) error
}

// examination is one look for what is not as it should be.
type examination struct {
	s     *Service
	found []ailment
	live  map[string]bool          // subjects of jobs
	pairs map[linkKey]catalog.Link // nil where one is looked up at a time
	left  int
}

// linkKey names a link.
type linkKey struct {
	volume block.VolumeID
	seq    int64
}

// Doctor looks for what is not as it should be, and changes nothing: everything
// for administrators, for others what concerns their own volumes and is not of
// stores. It reads the lists of all stores.
func (s *Service) Doctor(ctx context.Context, c block.Caller) (Findings, error) {
	e, err := s.examineTwice(ctx)
	if err != nil {
		return Findings{}, err
	}
	short, err := e.shortAudit(ctx)
	if err == nil && short && c.Admin() {
		err = e.ownAudit(ctx)
	}
	if err != nil {
		return Findings{}, err
	}
	out := Findings{At: s.now(), LeftOut: e.left}
	for _, a := range e.found {
		if c.Admin() || a.forTenants() && sees(c, a.Project) {
			out.All = append(out.All, a.Finding)
		}
	}
	if !c.Admin() {
		out.LeftOut = 0
	}
	return out, nil
}

// forTenants reports whether a finding is told to the owner of the volume.
func (a ailment) forTenants() bool {
	return a.Kind == block.FindDamagedSource || a.Kind == block.FindDamagedReplica || a.Kind == block.FindUnprotected ||
		a.Kind == block.FindStalePrimary ||
		a.Kind == block.FindRival && a.Project != ""
}

// Mend mends what can be mended without losing anything that anybody wrote, and
// tells what was found, for administrators. Each thing is looked at again in the
// transaction that mends it, and is noted in the audit log.
func (s *Service) Mend(ctx context.Context, c block.Caller) (Findings, error) {
	if !c.Admin() {
		return Findings{}, block.Errorf(block.Forbidden, "Only an administrator may mend.")
	}
	e, err := s.examineTwice(ctx)
	if err != nil {
		return Findings{}, err
	}
	out := Findings{At: s.now(), LeftOut: e.left}
	for _, a := range e.found {
		if a.Mends != "" {
			if err := s.mendOne(ctx, c, a); err != nil {
				return out, err
			}
			a.Mended = true
		}
		out.All = append(out.All, a.Finding)
	}
	return out, nil
}

func (s *Service) mendOne(ctx context.Context, c block.Caller, a ailment) error {
	err := s.catalog.Update(ctx, func(tx *catalog.Tx) error {
		if a.mend != nil {
			if err := a.mend(tx); err != nil {
				return err
			}
		}
		return tx.InsertAudit(block.Audit{User: string(c.User), Call: "doctor mends " + string(a.Kind),
			Params: fmt.Sprintf("volume=%s point=%s holder=%s store=%s", a.Volume, a.Point, a.Holder, a.Store), Code: 200})
	})
	if err != nil || a.then == nil {
		return err
	}
	s.log.Info("the doctor mended something", "volume", a.Volume, "kind", a.Kind, "text", a.Text)
	return a.then(ctx)
}

// leftover reports whether a finding is of something that may just be under
// way.
func (a ailment) leftover() bool {
	switch a.Kind {
	case block.FindDamagedSource, block.FindDamagedReplica, block.FindUnverified, block.FindUnprotected,
		block.FindNoRecentPoint, block.FindPeerSilent, block.FindClocksApart,
		block.FindStalePrimary, block.FindRival, block.FindAuditBroken, block.FindOrphanReplica:
		return false
	}
	return true
}

// examineTwice looks again a moment later where something seems left over, and
// believes what both looks found.
func (s *Service) examineTwice(ctx context.Context) (*examination, error) {
	before, err := s.examine(ctx)
	if err != nil || !slices.ContainsFunc(before.found, ailment.leftover) {
		return before, err
	}
	if err := pause(ctx, secondLook); err != nil {
		return nil, err
	}
	now, err := s.examine(ctx)
	if err != nil {
		return nil, err
	}
	type same struct {
		kind   block.FindingKind
		volume block.VolumeID
		point  block.PointID
		holder string
		store  string
	}
	of := func(a ailment) same { return same{a.Kind, a.Volume, a.Point, a.Holder, a.Store} }
	seen := map[same]bool{}
	for _, a := range before.found {
		seen[of(a)] = true
	}
	now.found = slices.DeleteFunc(now.found, func(a ailment) bool { return a.leftover() && !seen[of(a)] })
	return now, nil
}

// examine looks at everything, the worst first.
func (s *Service) examine(ctx context.Context) (*examination, error) {
	h, err := s.assess(ctx)
	if err != nil {
		return nil, err
	}
	e := &examination{s: s}
	e.health(h)
	if err := e.clocks(ctx, h); err != nil {
		return nil, err
	}
	stored, err := e.stores(ctx)
	if err != nil {
		return nil, err
	}
	err = s.catalog.View(ctx, func(tx *catalog.Tx) error {
		if e.live, err = tx.LiveSubjects(); err != nil {
			return err
		}
		kept := len(e.found)
		for _, look := range []func(*catalog.Tx) error{
			e.proofs, e.foreignAudits, e.stale, e.rivals, func(tx *catalog.Tx) error { return e.replicas(ctx, tx) },
			func(tx *catalog.Tx) error { return e.strangers(tx, stored) }, e.pins, e.cuts, e.links,
		} {
			if err := look(tx); err != nil {
				e.found = e.found[:kept]
				return err
			}
		}
		return nil
	})
	return e, err
}

// add takes a finding in, unless there are too many of its kind.
func (e *examination) add(a ailment) {
	n := 0
	for _, f := range e.found {
		if f.Kind == a.Kind {
			n++
		}
	}
	if n >= maxFindings {
		e.left++
		return
	}
	e.found = append(e.found, a)
}

// kick has the sender look at volumes at once.
func (e *examination) kick(volumes ...block.VolumeID) func(context.Context) error {
	return func(context.Context) error {
		for _, v := range volumes {
			e.s.changed(v)
		}
		return nil
	}
}

// health takes over what the watchdog knows of volumes and pairs.
func (e *examination) health(h Health) {
	late := map[block.ProtectionKey][]block.VolumeID{}
	for _, v := range h.Volumes {
		switch v.State {
		case block.HealthUnprotected:
			f := block.Finding{Kind: block.FindUnprotected, Volume: v.Volume, Project: v.Project, SourceZone: v.SourceZone,
				Peer: v.Destination, Protection: v.Protection, Advice: v.Advice,
				Text: fmt.Sprintf("Nothing replicates volume %s: %s.", v.Volume, v.Reason)}
			a := ailment{Finding: f}
			if v.Protection != 0 {
				a.Mends, a.then = "The sender looks for it at once.", e.kick(v.Volume)
			}
			e.add(a)
		case block.HealthStalled, block.HealthLate, block.HealthNoRoom:
			late[v.policy()] = append(late[v.policy()], v.Volume)
		}
	}
	for _, p := range h.Pairs {
		volumes := late[p.Key()]
		if len(volumes) == 0 {
			continue
		}
		f := block.Finding{Kind: block.FindNoRecentPoint, SourceZone: p.SourceZone, Peer: p.Destination, Protection: p.Seq,
			Advice: p.Advice, Volume: volumes[0], Text: fmt.Sprintf("Of %d volumes of zone %s the newest point in zone %s is "+
				"older than %s; the furthest behind is %s old.", len(volumes), p.SourceZone, p.Destination, p.RPO(),
				p.Lag.Now.Round(time.Second))}
		if p.Transport == block.TransportMirror {
			f.Text += byMirrorText(p)
			f.Advice = strings.TrimSpace(
				f.Advice + fmt.Sprintf(" See whether the rbd-mirror daemon of zone %s runs and gets on: "+
					"`rbd mirror pool status` there (docs/ceph.md).", p.Destination),
			)
		}
		a := ailment{Finding: f}
		if p.Role == RoleSource {
			a.Mends, a.then = "The sender tries again at once, and does not wait out its pause.", e.kick(volumes...)
		}
		e.add(a)
	}
}

// byMirrorText says how the bytes of a pair come whose protection has them mirrored.
func byMirrorText(p PairState) string {
	if p.Role == RoleTarget {
		return " Their bytes come by rbd-mirror."
	}
	return fmt.Sprintf(
		" Their bytes go by rbd-mirror; those of the newest points of %d of all its volumes did, and of %d "+
			"they went by the stream.",
		p.By[block.TransportMirror],
		p.By[block.TransportStream],
	)
}

// clocks looks at what is known of other zones' clocks, and when they spoke.
func (e *examination) clocks(ctx context.Context, h Health) error {
	zones := map[block.Zone]bool{}
	for _, p := range h.Pairs {
		if p.Role == RoleSource {
			zones[p.Destination] = true
		} else {
			zones[p.SourceZone] = true
		}
	}
	for _, zone := range e.s.otherZones() {
		zones[zone] = true
	}
	for _, zone := range sortedZones(zones) {
		_, heard, _, err := e.s.PeerCopy(ctx, zone)
		if err != nil {
			return err
		}
		if silent := e.s.now().Sub(heard); silent > pairPatience {
			text := fmt.Sprintf("Zone %s was not heard of for %s.", zone, silent.Round(time.Second))
			if heard.IsZero() {
				text = fmt.Sprintf("Zone %s was never heard of.", zone)
			}
			e.add(ailment{Finding: block.Finding{Kind: block.FindPeerSilent, Peer: zone, Text: text,
				Advice: "See whether the zone and the link to it are alive, and whether peers and certificates are configured at " +
					"both ends. If the zone is lost, recover its volumes."}})
		}
		o := e.s.clockOf(zone)
		if !o.Apart() {
			continue
		}
		word := "ahead of"
		if o.By < 0 {
			word = "behind"
		}
		e.add(ailment{Finding: block.Finding{Kind: block.FindClocksApart, Peer: zone,
			Text: fmt.Sprintf("The clock of zone %s is %s %s this zone's, give or take %s.", zone,
				o.By.Abs().Round(time.Millisecond), word, o.Within.Round(time.Millisecond)),
			Advice: "See to NTP in both zones. Replication goes on, and lags are corrected for it; the times of points are " +
				"those of the source's clock."}})
	}
	return nil
}

func sortedZones(zones map[block.Zone]bool) []block.Zone {
	all := make([]block.Zone, 0, len(zones))
	for z := range zones {
		all = append(all, z)
	}
	slices.Sort(all)
	return all
}
