package control

import (
	"context"
	"iter"
	"net/http"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"kvol/internal/block"
)

// PathLease is where a zone asks another to renew a lease.
const PathLease = "/peer/v1/lease"

// LeaseRequest asks the destination of a protection not to take over the volumes
// that it protects for a while.
type LeaseRequest struct {
	Protection int64         `json:"protection"`
	For        time.Duration `json:"for"` // nanoseconds, from when the request was sent
}

// LeaseGrant is the answer. Except are the volumes for which it does not hold:
// they were taken over, or will be when what was granted before has run out.
type LeaseGrant struct {
	Except []block.VolumeID `json:"except"`
}

// leases are the rights to write that other zones granted this one. A right
// counts from the moment at which it was asked for, on the monotonic clock of
// this process, so that it ends here before it ends in the eyes of who granted
// it, whatever the clocks of both say.
type leases struct {
	now   func() time.Time // the system's clock, whose readings are monotonic
	mu    sync.RWMutex
	until map[int64]time.Time                    // by protection; guarded by mu, as below
	ends  map[int64]map[block.VolumeID]time.Time // volumes whose right is not renewed any more
}

// renew notes that a protection's right was asked for at a time and granted.
func (l *leases) renew(p block.Protection, asked time.Time, g LeaseGrant) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.until == nil {
		l.until, l.ends = map[int64]time.Time{}, map[int64]map[block.VolumeID]time.Time{}
	}
	ends := map[block.VolumeID]time.Time{}
	for _, v := range g.Except {
		if end, known := l.ends[p.Seq][v]; known {
			ends[v] = end
		} else {
			ends[v] = l.until[p.Seq]
		}
	}
	l.until[p.Seq], l.ends[p.Seq] = asked.Add(p.Lease), ends
}

// lost returns the first of some protections under which a volume may not be
// written to now; 0 if there is none.
func (l *leases) lost(seqs []int64, v block.VolumeID) int64 {
	if len(seqs) == 0 {
		return 0
	}
	now := l.now()
	l.mu.RLock()
	defer l.mu.RUnlock()
	for _, seq := range seqs {
		until := l.until[seq]
		if end, ends := l.ends[seq][v]; ends {
			until = end
		}
		if !now.Before(until) {
			return seq
		}
	}
	return 0
}

// leased are the protections of this zone that ask for a lease.
func (s *Service) leased() []block.Protection {
	return slices.DeleteFunc(s.ownProtections(), func(p block.Protection) bool { return !p.Enabled || p.Lease == 0 })
}

// leasesOf are the protections whose lease is needed to write to a volume.
func (s *Service) leasesOf(v block.Volume) (seqs []int64) {
	for _, p := range s.leased() {
		if p.SourceType == v.TypeID {
			seqs = append(seqs, p.Seq)
		}
	}
	return seqs
}

// Leases yields the protections of this zone that ask for a lease, and until when
// it is held; the zero time before it was granted.
func (s *Service) Leases() iter.Seq2[block.Protection, time.Time] {
	return func(yield func(block.Protection, time.Time) bool) {
		for _, p := range s.leased() {
			s.leases.mu.RLock()
			until := s.leases.until[p.Seq]
			s.leases.mu.RUnlock()
			if !yield(p, until) {
				return
			}
		}
	}
}

func errLease(v block.VolumeID, seq int64) error {
	return block.Errorf(block.Unavailable, "Volume %s may not be written to: the lease of protection %d was not renewed "+
		"by its backup zone.", v, seq)
}

// RunLeases renews the leases of this zone's protections until ctx ends. While
// one is not held, nothing is written through an export to the volumes that it
// protects: a write that ends after its lease is not acknowledged, and exports
// end until it is held again.
func (s *Service) RunLeases(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	often := block.MaxLease
	for _, p := range s.leased() {
		often = min(often, p.Lease/3)
		g.Go(func() error { s.runLease(ctx, p); return nil })
	}
	// Ending exports waits for what they have under way, which a renewal must not.
	g.Go(func() error { s.sweepUnleased(ctx, often); return nil })
	return g.Wait()
}

func (s *Service) sweepUnleased(ctx context.Context, often time.Duration) {
	tick := time.NewTicker(often)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			s.exports.revokeUnleased()
		}
	}
}

func (s *Service) runLease(ctx context.Context, p block.Protection) {
	held := false
	for ctx.Err() == nil {
		err := s.renewLease(ctx, p)
		pause := p.Lease / 3
		if err != nil {
			pause = p.Lease / 10
		}
		lost := s.leases.lost([]int64{p.Seq}, "") != 0
		if lost == held && ctx.Err() == nil {
			held = !lost
			s.noteLease(p, held, err)
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
		timer.Stop()
	}
}

func (s *Service) noteLease(p block.Protection, held bool, err error) {
	if held {
		s.log.Info("the lease of a protection is held", "protection", p.Seq, "peer", p.Destination, "lease", p.Lease)
		return
	}
	s.log.Warn("the lease of a protection ran out; its volumes can't be written to until its backup zone renews it",
		"protection", p.Seq, "peer", p.Destination, "lease", p.Lease, "err", err)
}

func (s *Service) renewLease(ctx context.Context, p block.Protection) error {
	ctx, cancel := context.WithTimeout(ctx, p.Lease/3)
	defer cancel()
	asked := s.now()
	var g LeaseGrant
	err := s.cfg.DR.Peers.Call(ctx, p.Destination, http.MethodPost, PathLease,
		LeaseRequest{Protection: p.Seq, For: p.Lease}, &g)
	if err == nil {
		s.leases.renew(p, asked, g)
	}
	return err
}

// revokeUnleased ends the exports whose lease is not held, so that their hosts
// notice and open them anew.
func (e *Exports) revokeUnleased() {
	e.revokeIf(func(x *exported) bool { return x.entitled() != nil })
}
