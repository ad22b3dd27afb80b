package control

import (
	"context"
	"net/http"
	"slices"
	"sync"
	"time"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/rivals"
)

// foreign names a volume of another zone.
type foreign struct {
	zone   block.Zone
	volume block.VolumeID
}

// contest knows for which volumes this zone asks others at this moment. The
// zero value is ready.
type contest struct {
	mu   sync.Mutex
	live map[foreign]*contender // guarded by mu
}

type contender struct {
	since time.Time
	asks  int
}

func (c *contest) enter(volumes []foreign, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.live == nil {
		c.live = map[foreign]*contender{}
	}
	for _, v := range volumes {
		if c.live[v] == nil {
			c.live[v] = &contender{since: now}
		}
		c.live[v].asks++
	}
}

func (c *contest) leave(volumes []foreign) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, v := range volumes {
		if c.live[v].asks--; c.live[v].asks == 0 {
			delete(c.live, v)
		}
	}
}

// at tells since when a volume is asked for; nil if it is not.
func (c *contest) at(v foreign) *rivals.Busy {
	c.mu.Lock()
	defer c.mu.Unlock()
	if l := c.live[v]; l != nil {
		return &rivals.Busy{Since: l.since}
	}
	return nil
}

// bidRounds is how often a volume is bid for anew where others had bid more.
const bidRounds = 4

// perBid is how much longer an answer may take for each volume of a question.
const perBid = 2 * time.Millisecond

// asked is what one volume's bid is in a round: who is asked, and what they say.
type asked struct {
	foreign
	bid      rivals.Bid
	suspects []block.Zone
	heard    rivals.Heard
}

// bid asks all other zones that may take some volumes over whether this one may,
// and writes its bids down before. Volumes of which this zone has no replica
// have no outcome. release must be called when what was won has been used, or
// won't be: until then lower bids are refused here. A bid that is refused is
// withdrawn.
func (s *Service) bid(ctx context.Context, volumes []foreign, rule rivals.Rule) (
	won map[foreign]rivals.Outcome, release func(), err error,
) {
	s.contest.enter(volumes, s.now())
	release = func() { s.contest.leave(volumes) }
	won = map[foreign]rivals.Outcome{}
	var lost []asked
	todo := volumes
	for round := 0; len(todo) > 0; round++ {
		placed, err := s.placeBids(ctx, todo, won, rule)
		if err != nil {
			release()
			return nil, nil, err
		}
		s.askRivals(ctx, placed, false)
		todo = nil
		for _, a := range placed {
			o := rivals.Judge(a.bid, s.cfg.Zone, a.heard, a.suspects, rule)
			if o.Err == nil && o.Above > 0 && round == bidRounds-1 {
				o.Err = block.Errorf(block.Conflict, "Other zones bid for volume %s of zone %s again and again; try again.",
					a.volume, a.zone)
			}
			if won[a.foreign] = o; o.Err != nil {
				lost = append(lost, a)
			} else if o.Above > 0 {
				todo = append(todo, a.foreign)
			}
		}
	}
	s.withdraw(ctx, lost)
	return won, release, nil
}

// lookRivals is bid without a bid: what would be refused now.
func (s *Service) lookRivals(ctx context.Context, volumes []foreign, rule rivals.Rule) (
	map[foreign]rivals.Outcome, error,
) {
	var all []asked
	err := s.catalog.View(ctx, func(tx *catalog.Tx) error {
		all = nil
		for _, v := range volumes {
			zones, err := s.rivalsOf(tx, v, rule)
			if err != nil {
				return err
			}
			suspects, err := rivals.Bidders(tx, s.cfg.Zone, v.zone, v.volume)
			if err != nil {
				return err
			}
			all = append(all, s.asking(v, rivals.Bid{SourceZone: v.zone, Volume: v.volume}, zones, suspects))
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	s.askRivals(ctx, all, true)
	out := map[foreign]rivals.Outcome{}
	for _, a := range all {
		out[a.foreign] = rivals.Judge(a.bid, s.cfg.Zone, a.heard, a.suspects, rule)
	}
	return out, nil
}

// placeBids writes bids down, and says who is to be asked.
func (s *Service) placeBids(ctx context.Context, volumes []foreign, before map[foreign]rivals.Outcome,
	rule rivals.Rule) (all []asked, err error,
) {
	err = s.catalog.Update(ctx, func(tx *catalog.Tx) error {
		all = nil
		for _, v := range volumes {
			zones, err := s.rivalsOf(tx, v, rule)
			if err != nil {
				return err
			}
			if zones == nil {
				continue
			}
			b, suspects, err := rivals.Place(tx, s.cfg.Zone, s.cfg.ZoneIndex, v.zone, v.volume, before[v].Above)
			if err != nil {
				return err
			}
			all = append(all, s.asking(v, b, zones, suspects))
		}
		return nil
	})
	return all, err
}

func (s *Service) asking(v foreign, b rivals.Bid, zones, suspects []block.Zone) asked {
	a := asked{foreign: v, bid: b, suspects: suspects, heard: rivals.Heard{}}
	for _, z := range slices.Concat(zones, suspects) {
		if z != s.cfg.Zone {
			a.heard[z] = nil
		}
	}
	return a
}

// rivalsOf are the other zones that may take a volume over: those that its
// source named with the newest point, and those to which the source's policies
// send its type. Where the source told nothing they are all zones. nil means that
// this zone has no replica. Who is accepted is asked, too, since an answer says
// more than a belief.
func (s *Service) rivalsOf(tx *catalog.Tx, v foreign, rule rivals.Rule) ([]block.Zone, error) {
	replicas, err := tx.ReplicasOf(v.zone, v.volume)
	if err != nil || len(replicas) == 0 {
		return nil, err
	}
	zones := slices.Clone(rule.Accept)
	for _, r := range replicas {
		if r.Holders == nil {
			zones = append(zones, s.otherZones()...)
		}
		zones = append(zones, r.Holders...)
		zones = append(zones, s.destinations(v.zone, r.Entry.Volume.TypeID)...)
	}
	slices.Sort(zones)
	zones = slices.DeleteFunc(slices.Compact(zones), func(z block.Zone) bool { return z == v.zone || z == s.cfg.Zone })
	return append([]block.Zone{}, zones...), nil
}

// destinations are the zones to which another zone's policies send a type.
func (s *Service) destinations(zone block.Zone, t block.TypeID) (zones []block.Zone) {
	s.peers.mu.Lock()
	defer s.peers.mu.Unlock()
	for _, p := range s.peers.copies[zone].Protections {
		if p.Protection.SourceType == t {
			zones = append(zones, p.Protection.Destination)
		}
	}
	for _, d := range s.peers.copies {
		zones = append(zones, relayedTo(d.Relays, zone)...)
	}
	return append(zones, relayedTo(s.cfg.DR.Relays, zone)...)
}

// relayedTo are the zones to which another zone's volumes are sent on.
func relayedTo(relays []block.Protection, zone block.Zone) (zones []block.Zone) {
	for _, p := range relays {
		if p.SourceZone == zone {
			zones = append(zones, p.Destination)
		}
	}
	return zones
}

// askRivals asks each zone once for all volumes that it may have, all zones at
// once, and fills in what they say. One that does not answer in time says
// nothing.
func (s *Service) askRivals(ctx context.Context, all []asked, look bool) {
	var mu sync.Mutex // guards what was heard
	var wg sync.WaitGroup
	for zone, of := range byZone(all) {
		wg.Go(func() {
			q := rivals.Ask{Index: s.cfg.ZoneIndex, Look: look}
			for _, i := range of {
				q.Bids = append(q.Bids, all[i].bid)
			}
			var out rivals.Answers
			limited, cancel := context.WithTimeout(ctx, s.cfg.DR.rivalTimeout()+time.Duration(len(of))*perBid)
			defer cancel()
			err := s.cfg.DR.Peers.Call(limited, zone, http.MethodPost, PathBids, q, &out)
			if err != nil || len(out.Answers) != len(of) {
				s.log.Warn("a zone could not be asked whether volumes may be taken over", "peer", zone, "volumes", len(of),
					"err", err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			for n, i := range of {
				all[i].heard[zone] = &out.Answers[n]
			}
		})
	}
	wg.Wait()
}

// byZone are the indexes of what each zone is asked.
func byZone(all []asked) map[block.Zone][]int {
	zones := map[block.Zone][]int{}
	for i, a := range all {
		for z := range a.heard {
			zones[z] = append(zones[z], i)
		}
	}
	return zones
}

// withdraw forgets bids that were refused, here and where they were granted. A
// zone that can't be told keeps it: a higher one goes over it.
func (s *Service) withdraw(ctx context.Context, lost []asked) {
	if len(lost) == 0 {
		return
	}
	err := s.catalog.Update(ctx, func(tx *catalog.Tx) error {
		for _, a := range lost {
			if err := tx.DropBid(bidOf(s.cfg.Zone, a.bid)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		s.log.Error("bids could not be withdrawn", "err", err)
	}
	var wg sync.WaitGroup
	for zone, of := range byZone(lost) {
		q := rivals.Ask{Index: s.cfg.ZoneIndex}
		for _, i := range of {
			if a := lost[i].heard[zone]; a != nil && a.Granted {
				q.Bids = append(q.Bids, lost[i].bid)
			}
		}
		if len(q.Bids) == 0 {
			continue
		}
		wg.Go(func() {
			limited, cancel := context.WithTimeout(ctx, s.cfg.DR.rivalTimeout())
			defer cancel()
			if err := s.cfg.DR.Peers.Call(limited, zone, http.MethodPost, PathWithdraw, q, nil); err != nil {
				s.log.Info("a zone keeps bids that were withdrawn", "peer", zone, "err", err)
			}
		})
	}
	wg.Wait()
}

func bidOf(zone block.Zone, b rivals.Bid) catalog.Bid {
	return catalog.Bid{SourceZone: b.SourceZone, Source: b.Volume, Zone: zone, Epoch: b.Epoch}
}
