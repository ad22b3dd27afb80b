package control

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"kvol/internal/block"
	"kvol/internal/catalog"
)

// subject is what an event can be about.
type subject struct {
	kind string // pair, volume, clock
	role string
	zone block.Zone // the source zone; the other zone for a clock
	seq  int64
	id   block.VolumeID
}

// verdict is what was said of a subject, and what is to be said if it lasts.
type verdict struct {
	said, next block.HealthState
	seen       bool
}

// maxTold is how many events one look tells; those of pairs come first.
const maxTold = 1000

// DREvents lists at most limit events, the newest first, older than the one
// with an id, if that is above 0: all to administrators, to others those of
// their volumes.
func (s *Service) DREvents(
	ctx context.Context,
	c block.Caller,
	before int64,
	limit int,
) (all []block.DREvent, err error) {
	if limit < 1 || limit > MaxDRJobs || before < 0 {
		return nil, block.Errorf(block.Invalid, "limit must be between 1 and %d.", MaxDRJobs)
	}
	project := c.Project
	if c.Admin() {
		project = ""
	} else if project == "" {
		return nil, nil
	}
	err = s.catalog.View(ctx, func(tx *catalog.Tx) error {
		all, err = tx.DREvents(project, before, limit)
		return err
	})
	return all, err
}

// tellChanges writes events of what changed since it was last told. A change
// that two looks in a row don't agree on is none.
func (s *Service) tellChanges(ctx context.Context, h Health) error {
	events := s.changes(h)
	if len(events) == 0 {
		return nil
	}
	err := s.catalog.Update(ctx, func(tx *catalog.Tx) error { return tx.InsertDREvents(events) })
	if err != nil {
		return err
	}
	for _, e := range events {
		level := slog.LevelInfo
		if e.To.Bad() && e.Kind != "volume" {
			level = slog.LevelWarn
		}
		s.log.Log(ctx, level, "the health of replication changed", "kind", e.Kind, "peer", e.Peer, "volume", e.Volume,
			"protection", e.Protection, "from", e.From, "to", e.To, "text", e.Text)
	}
	return nil
}

func (s *Service) changes(h Health) (events []block.DREvent) {
	w := &s.watch
	w.mu.Lock()
	defer w.mu.Unlock()
	for k, v := range w.said {
		v.seen = false
		w.said[k] = v
	}
	for _, p := range h.Pairs {
		e := block.DREvent{Kind: "pair", SourceZone: p.SourceZone, Peer: p.Destination, Protection: p.Seq, At: h.At,
			To: p.State, Text: p.Advice}
		if p.Role == RoleTarget {
			e.Peer = p.SourceZone
		}
		events = w.hear(events, subject{"pair", p.Role, p.SourceZone, p.Seq, ""}, e)
		c := block.DREvent{Kind: "clock", SourceZone: s.cfg.Zone, Peer: e.Peer, At: h.At, To: block.HealthOK,
			Text: "The clocks agree."}
		if p.Clock.Apart() {
			c.To = block.HealthLate
			c.Text = fmt.Sprintf("The clock of zone %s is %s ahead of this one's: see to NTP in both.", e.Peer,
				p.Clock.By.Round(time.Millisecond))
		}
		events = w.hear(events, subject{"clock", "", e.Peer, 0, ""}, c)
	}
	for _, v := range h.Volumes {
		e := block.DREvent{Kind: "volume", SourceZone: v.SourceZone, Peer: v.Destination, Protection: v.Protection,
			Volume: v.Volume, Project: v.Project, At: h.At, To: v.State, Text: v.Reason}
		if v.Role == RoleTarget {
			e.Peer = v.SourceZone
		}
		events = w.hear(events, subject{"volume", v.Role, v.SourceZone, v.Protection, v.Volume}, e)
	}
	for k, v := range w.said {
		if !v.seen {
			delete(w.said, k)
		}
	}
	return events
}

// hear takes in what is the state of something, and adds an event where that is
// news. The caller holds w.mu.
func (w *watch) hear(events []block.DREvent, k subject, e block.DREvent) []block.DREvent {
	v := w.said[k]
	v.seen = true
	switch {
	case e.To == v.said:
		v.next = ""
	case v.next != e.To:
		v.next = e.To // said if it is so the next time, too
	case v.said == "" && !e.To.Bad():
		v.said, v.next = e.To, "" // all is as it should be from the start: that is no news
	case len(events) < maxTold:
		e.From = v.said
		v.said, v.next = e.To, ""
		events = append(events, e)
	}
	w.said[k] = v
	return events
}
