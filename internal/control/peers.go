package control

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"kvol/internal/audit"
	"kvol/internal/block"
	"kvol/internal/catalog"
)

// Peers is how a zone asks the others. It may be called by many at once.
type Peers interface {
	// Call sends in as JSON (nothing for nil) and decodes the answer into out
	// (ignored for nil). A zone that is unknown, can't be reached or does not
	// answer before ctx ends is Unavailable; other errors have the kind and the
	// message that the peer gave them.
	Call(ctx context.Context, zone block.Zone, method, path string, in, out any) error
	// Zones are all other zones of the configuration.
	Zones() []block.Zone
}

// Document is what a zone tells the others about itself. Each keeps the newest
// one of each other zone, so that it can answer for a zone that is down.
type Document struct {
	Zone        block.Zone           `json:"zone"`
	Index       int                  `json:"index"` // residue class of its rowkeys
	Region      string               `json:"region"`
	URL         string               `json:"url"` // of its APIs
	At          time.Time            `json:"at"`  // when it was written, on the zone's own clock
	Types       []DocumentType       `json:"types"`
	Backends    []block.Backend      `json:"backends"`
	Protections []DocumentProtection `json:"protections"`      // those of which the zone is the source
	Relays      []block.Protection   `json:"relays,omitempty"` // by which it sends other zones' volumes on
	Jobs        []block.DRJob        `json:"jobs"`             // the newest of both kinds
	Rooms       []DocumentRoom       `json:"rooms,omitempty"`
	Fences      int64                `json:"fences"`         // revision of what it knows to live on elsewhere
	Audit       audit.Head           `json:"audit,omitzero"` // the last record of its audit log
}

// DocumentType is a volume type of another zone.
type DocumentType struct {
	ID      block.TypeID `json:"id"`
	Name    string       `json:"name"`
	Backend string       `json:"backend"`
}

// DocumentProtection is a policy with what its source saw of its health.
type DocumentProtection struct {
	Protection block.Protection `json:"protection"`
	Health     PairHealth       `json:"health"`
}

// overtaking is how much older a document may be than one that came before it.
const overtaking = time.Minute

// documentJobs is how many jobs of each kind a document tells.
const documentJobs = 200

// The paths of the zone-to-zone interface; internal/api/peer serves them.
const (
	PathDocument = "/peer/v1/document"
	PathPairs    = "/peer/v1/pairs"
	PathDR       = "/peer/v1/dr"
	PathDRJobs   = "/peer/v1/dr/jobs"
	PathFences   = "/peer/v1/fences"
	PathKnown    = "/peer/v1/known"
	PathBlock    = "/peer/v1/block"
)

// peerBook is what this process knows of the other zones. The zero value is
// ready.
type peerBook struct {
	keeping sync.Mutex // held while a document is compared and kept; taken before mu

	mu      sync.Mutex
	loaded  bool                         // guarded by mu, as all below
	copies  map[block.Zone]Document      // the newest document of each zone
	heard   map[block.Zone]time.Time     // when it came, on this zone's clock
	down    map[block.Zone]time.Time     // until when a zone is not asked for lists
	silent  map[block.Zone]bool          // zones that did not answer when last asked for fences
	changed chan struct{}                // closed at the next change of this zone's document
	fences  map[block.Zone]int64         // up to which revision each zone's fences were heard
	behind  map[block.Zone]chan struct{} // a zone has told of more than was heard
	hearing map[block.Zone]bool          // zones whose audit logs are just looked at
}

func documentOf(kept catalog.PeerDocument) (d Document, err error) {
	return d, json.Unmarshal(kept.Text, &d)
}

// book fills the peer book from the catalog once, and runs fn on it.
func (s *Service) book(ctx context.Context, fn func(*peerBook)) error {
	b := &s.peers
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.loaded {
		fn(b)
		return nil
	}
	var docs []catalog.PeerDocument
	err := s.catalog.View(ctx, func(tx *catalog.Tx) (err error) {
		docs, err = tx.PeerDocuments()
		return err
	})
	if err != nil {
		return err
	}
	b.copies, b.heard = map[block.Zone]Document{}, map[block.Zone]time.Time{}
	b.down, b.silent = map[block.Zone]time.Time{}, map[block.Zone]bool{}
	b.fences, b.behind = map[block.Zone]int64{}, map[block.Zone]chan struct{}{}
	for _, kept := range docs {
		d, err := documentOf(kept)
		if err != nil {
			s.log.Error("a peer's document in the catalog is unreadable", "peer", kept.Zone, "err", err)
			continue
		}
		b.copies[kept.Zone], b.heard[kept.Zone] = d, kept.Received
	}
	b.loaded = true
	fn(b)
	return nil
}

// PeerCopy returns the newest document of another zone and when it was heard;
// ok is false if there is none.
func (s *Service) PeerCopy(ctx context.Context, zone block.Zone) (d Document, heard time.Time, ok bool, err error) {
	err = s.book(ctx, func(b *peerBook) {
		d, ok = b.copies[zone]
		heard = b.heard[zone]
	})
	return d, heard, ok, err
}

// keepDocument stores what a peer told. Of two documents that overtake each
// other on the way the later one counts; one that is older by more than
// overtaking explains is from a zone whose clock was set back.
func (s *Service) keepDocument(ctx context.Context, from block.Zone, d Document) error {
	if d.Zone != from {
		return block.Errorf(block.Forbidden, "Zone %s may not speak for zone %q.", from, d.Zone)
	}
	text, err := json.Marshal(d)
	if err != nil {
		return err
	}
	s.peers.keeping.Lock()
	defer s.peers.keeping.Unlock()
	kept, _, _, err := s.PeerCopy(ctx, from)
	if older := kept.At.Sub(d.At); err != nil || older > 0 && older < overtaking {
		return err
	}
	err = s.catalog.Update(ctx, func(tx *catalog.Tx) error { return tx.PutPeerDocument(from, text) })
	if err != nil {
		return err
	}
	return s.book(ctx, func(b *peerBook) {
		b.copies[from], b.heard[from] = d, s.now().UTC()
		delete(b.down, from)
	})
}

// ExchangeDocument keeps the document of a peer, which must be the one that it
// tells of, and answers with this zone's.
func (s *Service) ExchangeDocument(ctx context.Context, from block.Zone, d Document) (Document, error) {
	if err := s.keepDocument(ctx, from, d); err != nil {
		return Document{}, err
	}
	s.clockHeard(from, d.At)
	err := s.book(ctx, func(b *peerBook) {
		if known, ok := b.fences[from]; !ok || known != d.Fences {
			select {
			case b.waits(from) <- struct{}{}:
			default:
			}
		}
	})
	if err != nil {
		return Document{}, err
	}
	return s.Document(ctx)
}

// waits is where it is said that a zone has told of more than was heard. b is
// locked.
func (b *peerBook) waits(zone block.Zone) chan struct{} {
	if b.behind[zone] == nil {
		b.behind[zone] = make(chan struct{}, 1)
	}
	return b.behind[zone]
}

// DRChanged says that this zone's document is not what it was, so that the
// other zones hear of it soon. It does not block.
func (s *Service) DRChanged() {
	b := &s.peers
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.changed != nil {
		close(b.changed)
		b.changed = nil
	}
}

func (s *Service) nextChange() <-chan struct{} {
	b := &s.peers
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.changed == nil {
		b.changed = make(chan struct{})
	}
	return b.changed
}

// RunPeers exchanges documents with all other zones, when this zone's changes
// and every DR.Exchange, until ctx ends. A zone that does not answer delays no
// other.
func (s *Service) RunPeers(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, zone := range s.otherZones() {
		g.Go(func() error { return s.runPeer(ctx, zone) })
	}
	return g.Wait()
}

// TellPeers exchanges documents with all other zones now, and returns those that
// answered. One that does not answer costs a few seconds at most.
func (s *Service) TellPeers(ctx context.Context) []block.Zone {
	zones := s.otherZones()
	errs := make([]error, len(zones))
	var wg sync.WaitGroup
	for i, zone := range zones {
		wg.Go(func() { errs[i] = s.exchange(ctx, zone) })
	}
	wg.Wait()
	var answered []block.Zone
	for i, zone := range zones {
		if errs[i] == nil {
			answered = append(answered, zone)
		}
	}
	return answered
}

func (s *Service) runPeer(ctx context.Context, zone block.Zone) error {
	tick := time.NewTicker(s.cfg.DR.exchange())
	defer tick.Stop()
	lost := false
	var behind <-chan struct{}
	if err := s.book(ctx, func(b *peerBook) { behind = b.waits(zone) }); err != nil {
		return err
	}
	for {
		changed := s.nextChange()
		err := s.exchange(ctx, zone)
		if ctx.Err() != nil {
			return nil
		}
		if (err != nil) != lost {
			lost = err != nil
			s.log.Info("the exchange of documents with a peer changed", "peer", zone, "err", err)
		}
		if err != nil {
			changed = nil // it is down: the next tick is soon enough
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-behind:
		case <-tick.C:
		}
	}
}

// exchange tells one peer this zone's document and keeps its answer.
func (s *Service) exchange(ctx context.Context, zone block.Zone) error {
	mine, err := s.Document(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, exchangeTimeout)
	defer cancel()
	var theirs Document
	asked := s.now()
	if err := s.cfg.DR.Peers.Call(ctx, zone, http.MethodPost, PathDocument, mine, &theirs); err != nil {
		return err
	}
	s.clockAnswer(zone, asked, s.now(), theirs.At)
	s.healing.heard(zone, true, s.now())
	if err := s.keepDocument(ctx, zone, theirs); err != nil {
		return err
	}
	if err := s.hearAudit(ctx, zone, theirs.Audit); err != nil && ctx.Err() == nil {
		s.log.Info("the audit log of a peer could not be looked at", "peer", zone, "err", err)
	}
	return s.gossip(ctx, zone, theirs.Fences)
}

// otherZones are the configured peers; none without Peers.
func (s *Service) otherZones() []block.Zone {
	if s.cfg.DR.Peers == nil {
		return nil
	}
	return s.cfg.DR.Peers.Zones()
}

// ask is a short question for a list. A zone that did not answer is not asked
// again for a moment, so that a dead one is paid for once.
func (s *Service) ask(ctx context.Context, zone block.Zone, path string, query url.Values, out any) error {
	if !slices.Contains(s.otherZones(), zone) {
		return block.Errorf(block.NotFound, "Zone %s is unknown here.", zone)
	}
	var down bool
	if err := s.book(ctx, func(b *peerBook) { down = s.now().Before(b.down[zone]) }); err != nil {
		return err
	}
	if down {
		return block.Errorf(block.Unavailable, "Zone %s did not answer a moment ago.", zone)
	}
	limited, cancel := context.WithTimeout(ctx, s.cfg.DR.peerTimeout())
	defer cancel()
	err := s.cfg.DR.Peers.Call(limited, zone, http.MethodGet, path+"?"+query.Encode(), nil, out)
	if block.Is(err, block.Unavailable) && ctx.Err() == nil {
		return errors.Join(err, s.book(ctx, func(b *peerBook) { b.down[zone] = s.now().Add(downFor) }))
	}
	return err
}
