package replication

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"kvol/internal/block"
	"kvol/internal/catalog"
)

// The defaults of SenderConfig, and the bounds of waiting.
const (
	defaultSessions  = 4
	defaultHeartbeat = 5 * time.Second
	defaultScan      = 5 * time.Second
	defaultInterval  = time.Minute // of a protection that names none
	minInterval      = 50 * time.Millisecond
	firstBackOff     = time.Second
	maxBackOff       = time.Minute
	scanLimit        = 1000 // volumes that are taken up at a time
)

// Sender replicates the protected volumes of one zone. Its methods may be
// called at once from many goroutines. There must be one Sender per catalog at
// a time.
type Sender struct {
	cfg     SenderConfig
	wrap    func(Target) Target // for tests; nil for none
	wake    chan struct{}
	visits  sync.WaitGroup
	recall  *recall
	givenUp atomic.Int64 // points that targets needed

	mu       sync.Mutex // guards all below, and every track and lane
	loaded   bool       // the links that were there at the start are known
	nextScan time.Time
	tracks   map[trackKey]*track
	lanes    map[block.Zone]*lane
	groups   map[groupKey]map[*track]bool
	turn     uint64 // rises with each push, for fair order among equals
}

// NewSender makes a Sender; Run starts it.
func NewSender(cfg SenderConfig) *Sender {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Rand == nil {
		cfg.Rand = rand.Float64
	}
	if cfg.Sessions == 0 {
		cfg.Sessions = defaultSessions
	}
	if cfg.Heartbeat == 0 {
		cfg.Heartbeat = defaultHeartbeat
	}
	if cfg.ScanEvery == 0 {
		cfg.ScanEvery = defaultScan
	}
	if cfg.Patience == 0 {
		cfg.Patience = defaultPatience
	}
	if cfg.RelieveEvery == 0 {
		cfg.RelieveEvery = relieveEvery
	}
	return &Sender{cfg: cfg, wake: make(chan struct{}, 1), recall: newRecall(), tracks: map[trackKey]*track{},
		lanes: map[block.Zone]*lane{}, groups: map[groupKey]map[*track]bool{}}
}

// Run replicates until ctx ends. What was under way is then cut and goes on
// with the next Run.
func (s *Sender) Run(ctx context.Context) error {
	defer s.stop()
	s.runRelays(ctx)
	s.runRelief(ctx)
	for {
		if err := s.scan(ctx); err != nil && ctx.Err() == nil {
			s.cfg.Log.Error("looking for volumes to replicate failed", "err", err)
		}
		timer := time.NewTimer(s.dispatch(ctx))
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-s.wake:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// stop waits for the visits to end and closes what they left open.
func (s *Sender) stop() {
	s.visits.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.lanes {
		for _, r := range l.idle {
			_ = r.Close()
		}
		l.idle = nil
	}
}

// Kick makes the Sender look at a volume now, as after a snapshot, an
// extension, a deletion, or when its zone is back: waits after errors are cut
// short. A volume that is new is looked for. It never blocks.
func (s *Sender) Kick(volume block.VolumeID) {
	s.mu.Lock()
	known := false
	for _, p := range s.cfg.Protections() {
		if t := s.tracks[trackKey{volume, p.Seq}]; t != nil {
			known = true
			s.kickLocked(t)
		}
	}
	if !known {
		s.nextScan = time.Time{}
	}
	s.mu.Unlock()
	s.nudge()
}

func (s *Sender) nudge() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// scan takes up volumes that are protected and have no link yet.
func (s *Sender) scan(ctx context.Context) error {
	now := s.cfg.Now()
	s.mu.Lock()
	due, loaded := !now.Before(s.nextScan), s.loaded
	if due {
		s.nextScan = now.Add(s.cfg.ScanEvery)
	}
	s.mu.Unlock()
	if !due {
		return nil
	}
	var links []catalog.Link
	held := map[block.VolumeID]string{} // backends
	err := s.cfg.Catalog.View(ctx, func(tx *catalog.Tx) (err error) {
		if links = nil; loaded {
			return nil
		}
		if links, err = tx.Links(); err != nil {
			return err
		}
		all, err := tx.LinkedHeld()
		note(held, all)
		return err
	})
	if err != nil {
		return err
	}
	var errs []error
	for _, p := range s.cfg.Protections() {
		if p.SourceZone != s.cfg.Zone || !p.Enabled {
			continue
		}
		fresh, err := s.link(ctx, p, held)
		errs = append(errs, err)
		links = append(links, fresh...)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.loaded = true
	for _, l := range links {
		s.addLocked(l, held[l.Volume])
	}
	return errors.Join(errs...)
}

// note adds the backends of volumes.
func note(held map[block.VolumeID]string, all []catalog.Held) {
	for _, h := range all {
		held[h.Volume] = h.Backend
	}
}

// link makes links for volumes of a protected type that have none, and notes where
// these are held.
func (s *Sender) link(
	ctx context.Context,
	p block.Protection,
	held map[block.VolumeID]string,
) (fresh []catalog.Link, err error) {
	err = s.cfg.Catalog.View(ctx, func(tx *catalog.Tx) error {
		volumes, err := tx.Unlinked(p.SourceType, p.Seq, scanLimit)
		fresh = nil
		for _, v := range volumes {
			fresh = append(fresh, catalog.Link{Volume: v.Volume, Protection: p.Seq, State: catalog.LinkNew})
		}
		note(held, volumes)
		return err
	})
	if err != nil || len(fresh) == 0 {
		return nil, err
	}
	return fresh, s.cfg.Catalog.Update(ctx, func(tx *catalog.Tx) error {
		for _, l := range fresh {
			if err := tx.PutLink(l); err != nil {
				return err
			}
		}
		return nil
	})
}

// policy returns the protection of a link as it is now.
func (s *Sender) policy(seq int64) (block.Protection, bool) {
	for _, p := range s.cfg.Protections() {
		if p.Seq == seq && p.SourceZone == s.cfg.Zone {
			return p, true
		}
	}
	return block.Protection{}, false
}

// holders are the zones that have replicas of a volume, or will have, by its
// links and the policies for its type.
func (s *Sender) holders(t block.TypeID, links []catalog.Link) []block.Zone {
	zones := []block.Zone{}
	for _, p := range s.cfg.Protections() {
		linked := slices.ContainsFunc(links, func(l catalog.Link) bool { return l.Protection == p.Seq })
		if p.SourceZone == s.cfg.Zone && (linked || p.Enabled && p.SourceType == t) {
			zones = append(zones, p.Destination)
		}
	}
	slices.Sort(zones)
	return slices.Compact(zones)
}

// backOff is how long to wait after n failures in a row: twice as long each
// time up to a bound, and anything from half to all of that.
func (s *Sender) backOff(n int) time.Duration {
	d := firstBackOff << min(n-1, 10)
	d = min(d, maxBackOff)
	return d/2 + time.Duration(s.cfg.Rand()*float64(d/2))
}
