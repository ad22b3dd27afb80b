package control

import (
	"cmp"
	"context"
	"io"
	"slices"
	"time"

	"kvol/internal/block"
	"kvol/internal/job"
	"kvol/internal/proof"
	"kvol/internal/recovery"
	"kvol/internal/replication"
)

// DR is the part of a Config that is about other zones. Its zero value is a
// zone that is alone.
type DR struct {
	Peers Peers  // nil: no other zones
	URL   string // of this zone's APIs, told to the others
	// PeerTimeout is how long a list waits for another zone; 800 ms if zero.
	PeerTimeout time.Duration
	// Exchange is how often documents are exchanged without a change; 10 s if
	// zero.
	Exchange time.Duration
	// Replicating tells how the links of this zone's volumes stand right now, as
	// replication.Sender.Status does; nil where nothing is sent. What it tells is
	// newer than what the catalog keeps, which is not written for each heartbeat.
	Replicating func() []replication.LinkStatus
	// Relays are the policies by which replicas of this zone are sent on.
	Relays []block.Protection
	// Repace, if set, is called after a change of what LimitsTo answers. It must not
	// block.
	Repace func()
	// KeepAudit is how long records of the audit log are kept in the catalog, and
	// KeepAudits how many; 400 days and 1,000,000 if zero. Older ones go into files.
	KeepAudit  time.Duration
	KeepAudits int64
	// AuditFile writes a file of records that are let go of; it returns when the file
	// would survive a power cut, and may be called again for the same one. nil: all
	// are kept in the catalog.
	AuditFile func(name string, write func(io.Writer) error) error
	// KeepUndo is how long what only a stale volume has is kept as a snapshot; 7
	// days if zero.
	KeepUndo time.Duration
	// DoctorEvery is how often the doctor looks by itself; 10 minutes if zero, never
	// if negative.
	DoctorEvery time.Duration
	// ConsentFor is how long an operation waits for a second administrator; a day if
	// zero.
	ConsentFor time.Duration
	// SecondConsent has another administrator agree to recoveries by which writes
	// may be lost.
	SecondConsent bool
	// Parallel is how many volumes a recovery fills at once; 16 if zero.
	Parallel int
	// Hooks are what recovery plans may name.
	Hooks map[string]Hook
	// Prover reads replicas again; nil where none are kept.
	Prover *proof.Prover
	// RivalTimeout is how long other zones are waited for that may have taken a
	// volume over, before it is recovered here; 2 s if zero.
	RivalTimeout time.Duration
	// AcceptSilent has the recoveries of the kvol API go on though a third zone that
	// may have taken the volume over does not answer, unless something is known here
	// that it did, or wanted to.
	AcceptSilent bool
	// Probes are what drills may look at their clones with, beside what the zone
	// can do itself.
	Probes map[string]Probe
	// KeepDrills is how many reports of drills a project has at most; 200 if zero.
	KeepDrills int
	// DrillScratch is how many bytes of a volume a drill may copy to check a file
	// system; 64 GiB if zero.
	DrillScratch int64
}

const (
	exchangeTimeout = 5 * time.Second
	forwardTimeout  = 10 * time.Second
	downFor         = 2 * time.Second
	pruneEvery      = time.Hour
)

func (d DR) peerTimeout() time.Duration { return orDefault(d.PeerTimeout, 800*time.Millisecond) }
func (d DR) exchange() time.Duration    { return orDefault(d.Exchange, 10*time.Second) }
func (d DR) keepAudit() time.Duration   { return orDefault(d.KeepAudit, 400*24*time.Hour) }

func (d DR) rivalTimeout() time.Duration { return orDefault(d.RivalTimeout, 2*time.Second) }

func (d DR) keepUndo() time.Duration { return orDefault(d.KeepUndo, 7*24*time.Hour) }

func (d DR) parallel() int {
	if d.Parallel > 0 {
		return d.Parallel
	}
	return defaultParallel
}

func orDefault(d, otherwise time.Duration) time.Duration {
	if d == 0 {
		return otherwise
	}
	return d
}

// Freshness says whether an answer is the zones' own or was in part made from
// the copies that this zone keeps of unreachable ones.
type Freshness struct {
	Copy  bool
	AsOf  time.Time    // of the oldest copy; zero if there was none
	Zones []block.Zone // that did not answer
}

// missed notes that a zone did not answer.
func (f *Freshness) missed(zone block.Zone, asOf time.Time) {
	if f.AsOf.IsZero() || asOf.Before(f.AsOf) && !asOf.IsZero() {
		f.AsOf = asOf
	}
	f.Copy = true
	f.Zones = append(f.Zones, zone)
}

// self is this zone as who takes volumes over.
func (s *Service) self() recovery.Self {
	return recovery.Self{Zone: s.cfg.Zone, Index: s.cfg.ZoneIndex}
}

// recoveryHandler runs the jobs that StartDR enqueues.
func (s *Service) recoveryHandler() job.Handler {
	return recovery.New(recovery.Config{Catalog: s.catalog, Backends: s.backends, Self: s.self(),
		Changed: s.DRChanged, Tell: s.tellFence, Made: s.changed, Ended: stepEnded, LeaseLeft: s.leaseLeft,
		Elsewhere: s.recoverElsewhere})
}

// KnownProtections are the policies of which this zone is an end: the
// configured ones, where it is the source, and those that other zones told of,
// where it is the destination. Backends are filled in as far as they are
// known. The slice is the caller's.
func (s *Service) KnownProtections() []block.Protection {
	var copies []Document
	if err := s.book(context.Background(), func(b *peerBook) {
		for _, d := range b.copies {
			copies = append(copies, d)
		}
	}); err != nil {
		s.log.Error("the documents of peers could not be read", "err", err)
	}
	all := s.ownProtections()
	for i := range all {
		s.fillBackends(&all[i], copies)
	}
	for _, d := range copies {
		for _, p := range d.Protections {
			if p.Protection.Destination == s.cfg.Zone && p.Protection.SourceZone == d.Zone {
				s.fillBackends(&p.Protection, copies)
				all = append(all, p.Protection)
			}
		}
		for _, p := range d.Relays {
			if p.Destination == s.cfg.Zone && p.Via == d.Zone && p.SourceZone != s.cfg.Zone {
				s.fillBackends(&p, copies)
				all = append(all, p)
			}
		}
	}
	slices.SortFunc(all, bySeq)
	return all
}

// bySeq orders protections of several zones.
func bySeq(a, b block.Protection) int {
	return cmp.Or(cmp.Compare(a.Seq, b.Seq), cmp.Compare(a.SourceZone, b.SourceZone))
}

// Relays are the policies by which this zone sends replicas on, with the types of
// the volumes as far as they are known.
func (s *Service) Relays() []block.Protection {
	relays := slices.Clone(s.cfg.DR.Relays)
	if len(relays) == 0 {
		return nil
	}
	for _, p := range s.KnownProtections() {
		for i := range relays {
			if relays[i].SourceZone == p.SourceZone && relays[i].Follows == p.Seq {
				relays[i].SourceType, relays[i].Source = p.SourceType, p.Source
			}
		}
	}
	return relays
}

func (s *Service) ownProtections() []block.Protection {
	if s.cfg.Protections == nil {
		return nil
	}
	return slices.Clone(s.cfg.Protections())
}

// fillBackends completes the backends of a policy from what their zones say.
func (s *Service) fillBackends(p *block.Protection, copies []Document) {
	s.fillBackend(&p.Source, p.SourceZone, copies)
	s.fillBackend(&p.Backup, p.Destination, copies)
}

func (s *Service) fillBackend(b *block.Backend, zone block.Zone, copies []Document) {
	if zone == s.cfg.Zone {
		if own, ok := s.backends.Backend(b.Name); ok {
			*b = own
		}
		return
	}
	for _, d := range copies {
		if d.Zone != zone {
			continue
		}
		if i := slices.IndexFunc(d.Backends, func(x block.Backend) bool { return x.Name == b.Name }); i >= 0 {
			*b = d.Backends[i]
		}
	}
}

func (s *Service) runKeeping(ctx context.Context) error {
	tick := time.NewTicker(pruneEvery)
	defer tick.Stop()
	for {
		if err := s.sealAudit(ctx); err != nil && ctx.Err() == nil {
			s.log.Error("old records of the audit log could not be sealed", "err", err)
		}
		if err := s.expireConsents(ctx); err != nil && ctx.Err() == nil {
			s.log.Error("operations that nobody agreed to could not be ended", "err", err)
		}
		if err := s.expireUndo(ctx); err != nil && ctx.Err() == nil {
			s.log.Error("what is kept of stale volumes could not be let go", "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}
