package control

import (
	"cmp"
	"context"
	"net/url"
	"slices"
	"sync"
	"time"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/replication"
)

// Pair is a policy with its status: a row of the kvol API's list and show.
type Pair struct {
	block.Protection
	Status string // PairActive or PairInactive
}

// The statuses of a Pair.
const (
	PairActive   = "active"
	PairInactive = "inactive"
)

// PairHealth is what the source of a policy knows of its replication.
type PairHealth struct {
	// LastGood is the oldest of the instants at which the volumes' replicas were
	// last known to be current, or of their first copies the last sign of life;
	// that of the last contact with the destination where there is no volume to
	// replicate.
	LastGood time.Time `json:"last_good"`
	Error    string    `json:"error"` // of a volume that is not replicated for it; "" for none
	Volumes  int       `json:"volumes"`
}

// pairPatience is the least time for which nothing may be heard of a pair
// before it counts as inactive.
const pairPatience = time.Minute

// PairStatus decides whether a pair is active: it is enabled, every volume of
// its type is replicated, no replication fails, and what the destination has of
// each volume is recent: not older than the policy's RPO target, four intervals
// or a minute, whichever is the most. That something is being sent is no
// evidence. It is judged when it is shown, so that the copy of a dead zone's
// word does not stay active.
func PairStatus(p block.Protection, h PairHealth, now time.Time) string {
	if p.Enabled && h.Error == "" && now.Sub(h.LastGood) <= max(pairPatience, 4*p.Interval, p.RPO()) {
		return PairActive
	}
	return PairInactive
}

// healthOf judges the links of one policy at the source. contact is when the
// destination was last heard.
func healthOf(p block.Protection, links []SourceLink, contact, now time.Time) PairHealth {
	h := PairHealth{LastGood: now}
	for _, l := range links {
		if l.Protection != p.Seq || l.Gone || l.State == catalog.LinkFenced || l.State == catalog.LinkPaused {
			continue
		}
		h.Volumes++
		good := l.Current
		switch {
		case l.State == catalog.LinkError:
			h.Error = cmp.Or(h.Error, l.Error, "replication fails")
		case l.Confirmed.ID == "" && (l.State == catalog.LinkSending || l.State == catalog.LinkNew):
			good = l.UpdatedAt // the first copy
		}
		if good.Before(h.LastGood) {
			h.LastGood = good
		}
	}
	if h.Volumes == 0 {
		h.LastGood = contact
	}
	return h
}

// sourceLinks are the links of this zone's volumes, as the catalog keeps them
// and as they are right now.
func (s *Service) sourceLinks(tx *catalog.Tx) ([]SourceLink, error) {
	kept, err := tx.Links()
	if err != nil {
		return nil, err
	}
	live := map[linkKey]replication.LinkStatus{}
	if s.cfg.DR.Replicating != nil {
		for _, st := range s.cfg.DR.Replicating() {
			live[linkKey{st.Volume, st.Protection}] = st
		}
	}
	links := make([]SourceLink, len(kept))
	for i, l := range kept {
		links[i].Link, links[i].Unreplicated = l, -1
		if st, ok := live[linkKey{l.Volume, l.Protection}]; ok {
			links[i].now(st, s.now())
		}
	}
	return links, nil
}

// now takes over what is known right now.
func (l *SourceLink) now(st replication.LinkStatus, now time.Time) {
	if st.ReplicatedTo.After(l.Current) {
		l.Current = st.ReplicatedTo
	}
	if st.Sending && l.State != catalog.LinkFenced && st.LastError == "" {
		l.State, l.UpdatedAt = catalog.LinkSending, now.UTC()
	}
	if st.LastError != "" && l.State != catalog.LinkFenced {
		l.State, l.Error = catalog.LinkError, st.LastError
	}
	l.BytesSent = max(l.BytesSent, st.BytesSent)
	l.UnreplicatedSince = st.UnreplicatedSince
	l.Transfer = st.Transfer
	if left := st.Transfer.Left(now); st.Transfer.Total > 0 && left >= 0 {
		l.Ready = now.Add(left).UTC()
	}
	if !st.UnreplicatedAt.IsZero() {
		l.Unreplicated, l.UnreplicatedAt = st.Unreplicated, st.UnreplicatedAt
	}
}

// told are the own policies as they were last told. The zero value is ready.
type told struct {
	mu   sync.Mutex // guards all below, and is held while they are made
	all  []DocumentProtection
	at   time.Time
	took time.Duration
}

// maxToldAge is for how long what was told is told again, at most; it is as long as
// documents are apart.
const maxToldAge = 10 * time.Second

// leastTold is what it takes at least to be told again.
const leastTold = 50 * time.Millisecond

// OwnProtections are the policies of which this zone is the source, with their
// health, in order of seq. All links are read for that, and each other zone is told
// of it, and tells, every few seconds: where reading takes long the same is told for
// twenty times as long as it took, and for ten seconds at most.
func (s *Service) OwnProtections(ctx context.Context) ([]DocumentProtection, error) {
	t := &s.told
	t.mu.Lock()
	defer t.mu.Unlock()
	began := s.now()
	if age := began.Sub(t.at); age >= 0 && age < min(watchShare*t.took, maxToldAge) {
		return slices.Clone(t.all), nil
	}
	all, err := s.ownHealth(ctx)
	if err != nil {
		return nil, err
	}
	t.all, t.at = slices.Clone(all), s.now()
	if t.took = t.at.Sub(began); t.took < leastTold {
		t.took = 0
	}
	return all, nil
}

// ownHealth is OwnProtections as it is now.
func (s *Service) ownHealth(ctx context.Context) ([]DocumentProtection, error) {
	var links []SourceLink
	own := slices.DeleteFunc(s.KnownProtections(), func(p block.Protection) bool { return p.SourceZone != s.cfg.Zone })
	alone := map[int64][]catalog.Owner{}
	err := s.catalog.View(ctx, func(tx *catalog.Tx) (err error) {
		for _, p := range own {
			if alone[p.Seq], err = tx.Unprotected(p.SourceType, p.Seq, tx.Now.Add(-unlinkedGrace), 1); err != nil {
				return err
			}
		}
		links, err = s.sourceLinks(tx)
		return err
	})
	if err != nil {
		return nil, err
	}
	out := []DocumentProtection{}
	for _, p := range own {
		_, contact, _, err := s.PeerCopy(ctx, p.Destination)
		if err != nil {
			return nil, err
		}
		h := healthOf(p, links, contact, s.now())
		if left := alone[p.Seq]; len(left) > 0 {
			h.Error = cmp.Or(h.Error, "nothing replicates volume "+string(left[0].Volume))
		}
		out = append(out, DocumentProtection{Protection: p, Health: h})
	}
	return out, nil
}

// Backups lists the policies of a type in a zone, in order of seq, with their
// status now; dst chooses one destination, "" all. It is empty for an unknown
// zone or type. A zone that can't be reached is answered for from its copy.
func (s *Service) Backups(ctx context.Context, zone block.Zone, typeID block.TypeID, dst block.Zone) (
	[]Pair, Freshness, error,
) {
	var fresh Freshness
	found, err := s.protectionsOf(ctx, zone, &fresh)
	if err != nil {
		return nil, fresh, err
	}
	copies, err := s.copies(ctx)
	if err != nil {
		return nil, fresh, err
	}
	var pairs []Pair
	for _, f := range found {
		p := f.Protection
		if p.SourceZone == zone && p.SourceType == typeID && (dst == "" || p.Destination == dst) {
			s.fillBackends(&p, copies)
			pairs = append(pairs, Pair{p, PairStatus(p, f.Health, s.now())})
		}
	}
	slices.SortFunc(pairs, func(a, b Pair) int { return cmp.Compare(a.Seq, b.Seq) })
	return pairs, fresh, nil
}

// protectionsOf asks a zone for its policies, or its copy.
func (s *Service) protectionsOf(ctx context.Context, zone block.Zone, fresh *Freshness) ([]DocumentProtection, error) {
	if zone == s.cfg.Zone {
		return s.OwnProtections(ctx)
	}
	var found []DocumentProtection
	err := s.ask(ctx, zone, PathPairs, url.Values{}, &found)
	if !block.Is(err, block.Unavailable) {
		if block.Is(err, block.NotFound) { // an unknown zone has no policies
			return nil, nil
		}
		return found, err
	}
	d, _, _, err := s.PeerCopy(ctx, zone)
	fresh.missed(zone, d.At)
	return d.Protections, err
}

// copies are the documents of all other zones that ever told one.
func (s *Service) copies(ctx context.Context) (copies []Document, err error) {
	err = s.book(ctx, func(b *peerBook) {
		for _, d := range b.copies {
			copies = append(copies, d)
		}
	})
	return copies, err
}
