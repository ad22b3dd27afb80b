package control

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"sync"
	"time"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/recovery"
)

// grants are the leases that this zone gave to others. Nothing of it outlives
// the process: after a start the zone takes every lease for just granted.
type grants struct {
	started time.Time

	mu   sync.Mutex                      // held while a grant is made; guards below
	last map[block.ProtectionKey]grant   // the newest of each protection
	ends map[recovery.LeaseKey]time.Time // when the last grant that does not except a volume is over
}

type grant struct {
	at     time.Time
	length time.Duration
}

func newGrants(now time.Time) grants {
	return grants{started: now, last: map[block.ProtectionKey]grant{}, ends: map[recovery.LeaseKey]time.Time{}}
}

// keepEnds is how long it is remembered when a grant was over.
const keepEnds = time.Hour

// GrantLease promises the source of a protection that this zone takes over none
// of its volumes for a while, but those that the answer excepts.
//
// A takeover is a job of this zone before it waits for the lease. So a grant
// either finds that job and excepts its volume, or was made before it; then the
// takeover finds the grant, and waits until that is over. See leaseLeft.
func (s *Service) GrantLease(ctx context.Context, from block.Zone, r LeaseRequest) (LeaseGrant, error) {
	// Takeovers wait for what the source's document says, so no more is granted.
	if !slices.ContainsFunc(s.KnownProtections(), func(p block.Protection) bool {
		return p.Seq == r.Protection && p.SourceZone == from && p.Destination == s.cfg.Zone &&
			r.For > 0 && r.For <= p.Lease
	}) {
		return LeaseGrant{}, block.Errorf(block.Unavailable,
			"Zone %s has not heard of a protection %d of zone %s with a lease of %s.", s.cfg.Zone, r.Protection, from, r.For)
	}
	s.grants.mu.Lock()
	defer s.grants.mu.Unlock()
	g := LeaseGrant{Except: []block.VolumeID{}}
	err := s.catalog.View(ctx, func(tx *catalog.Tx) error {
		g.Except = g.Except[:0]
		fences, err := tx.FencesFor(from)
		if err != nil {
			return err
		}
		for _, f := range fences {
			g.Except = append(g.Except, f.Source)
		}
		jobs, err := tx.OpenJobs(recovery.JobKind)
		for _, j := range jobs {
			var o recovery.Order
			if err := json.Unmarshal(j.Args, &o); err != nil {
				return err
			}
			if o.Lease != nil && o.Lease.Zone == from {
				g.Except = append(g.Except, o.Lease.Volume)
			}
		}
		return err
	})
	if err != nil {
		return LeaseGrant{}, err
	}
	s.grants.last[block.ProtectionKey{SourceZone: from, Seq: r.Protection}] = grant{at: s.now(), length: r.For}
	return g, nil
}

// leaseLeft is how long a takeover has to wait until no lease that this zone
// granted for its volume can be held any more. The first call, which must come
// after the job's commit, fixes the moment.
func (s *Service) leaseLeft(k recovery.LeaseKey) time.Duration {
	known := s.KnownProtections()
	s.grants.mu.Lock() // no grant is being made that does not know of the job
	defer s.grants.mu.Unlock()
	end, fixed := s.grants.ends[k]
	if !fixed {
		for _, p := range known {
			if p.SourceZone != k.Zone || p.Destination != s.cfg.Zone {
				continue
			}
			last, granted := s.grants.last[p.Key()]
			if !granted && p.Lease > 0 {
				last = grant{at: s.grants.started, length: p.Lease}
			}
			end = later(end, last.at.Add(leaseMargin(max(last.length, p.Lease))))
		}
		maps.DeleteFunc(s.grants.ends, func(_ recovery.LeaseKey, end time.Time) bool { return s.now().Sub(end) > keepEnds })
		s.grants.ends[k] = end
	}
	return end.Sub(s.now())
}

// leaseOf is the lease that the source of a replica may hold; 0 for none.
func (s *Service) leaseOf(r block.Replica) time.Duration {
	for _, p := range s.KnownProtections() {
		if p.Key() == r.Policy() {
			return p.Lease
		}
	}
	return 0
}

// leaseMargin adds what two clocks may run apart during a lease: a tenth.
func leaseMargin(d time.Duration) time.Duration { return d + d/10 }

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
