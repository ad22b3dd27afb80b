package control

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	"kvol/internal/block"
	"kvol/internal/catalog"
	ratelimit "kvol/internal/pace"
	"kvol/internal/replication"
)

// LinkLimit is how much replication may send to a zone, in all or under one
// protection.
type LinkLimit struct {
	Zone       block.Zone // the destination
	Protection int64      // Seq; 0 for all together
	ratelimit.Limit
	Now       int64 // bytes a second that it lets through at this hour; 0 for no limit
	By        string
	UpdatedAt time.Time
}

// limits are the limits as they are kept, for the sender, which asks often. The
// zero value is ready.
type limits struct {
	mu     sync.Mutex // guards all below
	loaded bool
	zones  map[block.Zone]replication.LinkLimits
}

// LinkLimits lists the limits on what this zone sends, for administrators.
func (s *Service) LinkLimits(ctx context.Context, c block.Caller) (list []LinkLimit, err error) {
	if !c.Admin() {
		return nil, errDRAdmin()
	}
	err = s.catalog.View(ctx, func(tx *catalog.Tx) error {
		rows, err := tx.LinkLimits()
		list = nil
		for _, r := range rows {
			l := LinkLimit{Zone: r.Zone, Protection: r.Protection, By: r.By, UpdatedAt: r.UpdatedAt}
			if err := json.Unmarshal(r.Limits, &l.Limit); err != nil {
				return fmt.Errorf("limit of zone %s: %w", r.Zone, err)
			}
			l.Now = l.At(tx.Now)
			list = append(list, l)
		}
		return err
	})
	return list, err
}

// SetLinkLimit changes how much replication may send to a zone, in all (seq 0)
// or under one protection, for administrators. It counts at once. NotFound is
// for a zone or a protection to which this zone sends nothing.
func (s *Service) SetLinkLimit(ctx context.Context, c block.Caller, to block.Zone, seq int64, l ratelimit.Limit) error {
	if !c.Admin() {
		return block.Errorf(block.Forbidden, "Only an administrator may limit what is sent.")
	}
	if err := l.Check(); err != nil {
		return block.Wrap(block.Invalid, err, "The limit makes no sense: %s.", err)
	}
	if err := s.limitable(to, seq); err != nil {
		return err
	}
	text, err := json.Marshal(l)
	if err != nil {
		return err
	}
	return s.changeLimit(ctx, c, "set", to, seq, string(text), func(tx *catalog.Tx) error {
		return tx.PutLinkLimit(catalog.LinkLimit{Zone: to, Protection: seq, Limits: text, By: string(c.User)})
	})
}

// limitable reports NotFound unless this zone sends to another one under a policy,
// or under any for 0.
func (s *Service) limitable(to block.Zone, seq int64) error {
	sends := slices.ContainsFunc(append(s.ownProtections(), s.cfg.DR.Relays...), func(p block.Protection) bool {
		return p.Destination == to && (seq == 0 || p.Seq == seq)
	})
	if sends {
		return nil
	}
	if seq != 0 {
		return block.Errorf(block.NotFound, "Zone %s sends nothing to zone %s under protection %d.", s.cfg.Zone, to, seq)
	}
	return block.Errorf(block.NotFound, "Zone %s sends nothing to zone %s.", s.cfg.Zone, to)
}

// DeleteLinkLimit takes a limit off, for administrators.
func (s *Service) DeleteLinkLimit(ctx context.Context, c block.Caller, to block.Zone, seq int64) error {
	if !c.Admin() {
		return block.Errorf(block.Forbidden, "Only an administrator may limit what is sent.")
	}
	return s.changeLimit(ctx, c, "delete", to, seq, "", func(tx *catalog.Tx) error { return tx.DeleteLinkLimit(to, seq) })
}

func (s *Service) changeLimit(ctx context.Context, c block.Caller, call string, to block.Zone, seq int64, text string,
	change func(*catalog.Tx) error,
) error {
	err := s.catalog.Update(ctx, func(tx *catalog.Tx) error {
		if err := change(tx); err != nil {
			return err
		}
		return tx.InsertAudit(block.Audit{User: string(c.User), Call: "limit " + call,
			Params: fmt.Sprintf("%s %d %s", to, seq, text), Code: 200})
	})
	if err != nil {
		return err
	}
	s.limits.mu.Lock()
	s.limits.loaded = false
	s.limits.mu.Unlock()
	if s.cfg.DR.Repace != nil {
		s.cfg.DR.Repace()
	}
	s.log.Info("the limit on what is sent to a zone changed", "peer", to, "protection", seq, "limit", text)
	return nil
}

// LimitsTo is how much may be sent to a zone. Where the catalog can't be read
// nothing is limited, and it is tried again the next time.
func (s *Service) LimitsTo(to block.Zone) replication.LinkLimits {
	s.limits.mu.Lock()
	defer s.limits.mu.Unlock()
	if !s.limits.loaded {
		all, err := s.LinkLimits(context.Background(), block.Caller{Roles: []string{"admin"}})
		if err != nil {
			s.log.Error("the limits on what is sent could not be read", "err", err)
			return replication.LinkLimits{}
		}
		s.limits.loaded, s.limits.zones = true, map[block.Zone]replication.LinkLimits{}
		for _, l := range all {
			of := s.limits.zones[l.Zone]
			if l.Protection == 0 {
				of.Whole = l.Limit
			} else {
				if of.Parts == nil {
					of.Parts = map[int64]ratelimit.Limit{}
				}
				of.Parts[l.Protection] = l.Limit
			}
			s.limits.zones[l.Zone] = of
		}
	}
	return s.limits.zones[to]
}

// limit notes what may be sent under a pair's policy, now and within a day.
func (a *assessment) limit(p *PairState) {
	if p.Role != RoleSource {
		return
	}
	l := a.s.LimitsTo(p.Destination)
	for _, one := range []ratelimit.Limit{l.Whole, l.Parts[p.Seq]} {
		if rate := one.At(a.now); rate != 0 && (p.Limit == 0 || rate < p.Limit) {
			p.Limit = rate
		}
		if rate, at := one.Tightest(a.now, tightenAhead); rate != 0 && (p.Tightest == 0 || rate < p.Tightest) {
			p.Tightest, p.TightestAt = rate, at
		}
	}
}

// tightenAhead is how far it is looked ahead for hours at which less may be sent.
const tightenAhead = 24 * time.Hour

// busy is the share of what may be sent that the changes take: of the policy's
// own limit by its own, and of that to the zone by all that go there.
func (s *Service) busy(p *PairState, together float64, now time.Time) float64 {
	l, share := s.LimitsTo(p.Destination), 0.0
	if rate := l.Whole.At(now); rate > 0 {
		share = together / float64(rate)
	}
	if rate := l.Parts[p.Seq].At(now); rate > 0 {
		share = max(share, p.Needs/float64(rate))
	}
	return share
}

// tightens reports whether a limit of the next day is less than the changes take
// by now, though the present one is not.
func (p *PairState) tightens() bool {
	return p.Busy < 1 && p.Tightest > 0 && p.TightestAt.After(time.Time{}) && p.Needs >= float64(p.Tightest)
}
