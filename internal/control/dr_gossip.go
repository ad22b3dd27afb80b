package control

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"sync"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/rivals"
)

// PathFencesSince is where a zone asks what lives on elsewhere.
const PathFencesSince = "/peer/v1/fences/since"

// maxFences is how many fences are told at a time.
const maxFences = 1000

// FencesPage is a part of what a zone knows to live on elsewhere, in the order
// in which it heard of it.
type FencesPage struct {
	Fences []block.Fence `json:"fences"`
	UpTo   int64         `json:"up_to"` // the revision to go on from
	More   bool          `json:"more"`
}

// FencesSince lists what this zone took over, or heard of as taken over, after a
// revision.
func (s *Service) FencesSince(ctx context.Context, since int64) (page FencesPage, err error) {
	err = s.catalog.View(ctx, func(tx *catalog.Tx) error {
		page.Fences, page.UpTo, err = tx.FencesSince(since, maxFences)
		page.More = len(page.Fences) == maxFences
		return err
	})
	return page, err
}

// gossip asks a zone for what lives on elsewhere, where its document says that
// there is something new, and tells it of rivals that it has. It is done with
// each exchange of documents, for ever: whatever was missed while a zone was cut
// off is heard when it is back.
func (s *Service) gossip(ctx context.Context, zone block.Zone, revision int64) error {
	since := int64(-1)
	if err := s.book(ctx, func(b *peerBook) {
		if known, ok := b.fences[zone]; ok && known <= revision { // a lower one is of a catalog that was set back
			since = known
		}
	}); err != nil {
		return err
	}
	for more := since != revision; more; {
		var page FencesPage
		path := PathFencesSince + "?revision=" + strconv.FormatInt(since, 10)
		err := s.cfg.DR.Peers.Call(ctx, zone, http.MethodGet, path, nil, &page)
		if block.Is(err, block.NotFound) {
			return nil // an older program, that tells when it is asked for each zone
		}
		if err != nil {
			return err
		}
		if err := s.hearAll(ctx, zone, page.Fences); err != nil {
			return err
		}
		more = page.More && page.UpTo > since
		since = max(page.UpTo, 0)
		if err := s.book(ctx, func(b *peerBook) { b.fences[zone] = since }); err != nil {
			return err
		}
	}
	return s.tellRivals(ctx, zone)
}

// hearAll takes in what a zone knows to live on elsewhere, of itself or by
// hearsay. What is known is passed over in one look.
func (s *Service) hearAll(ctx context.Context, from block.Zone, fences []block.Fence) error {
	var fresh []block.Fence
	err := s.catalog.View(ctx, func(tx *catalog.Tx) error {
		fresh = fresh[:0]
		for _, f := range fences {
			known, found, err := tx.Fence(f.SourceZone, f.Source)
			if err != nil {
				return err
			}
			if !found || known.Recovered.Volume != f.Recovered.Volume || known.Recovered.Epoch != f.Recovered.Epoch {
				fresh = append(fresh, f)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return s.hearEach(ctx, from, fresh...)
}

// hearEach takes fences in at once: the exports that one ends may be held up by a store
// that hangs, and the others don't wait for that. It returns when all have ended, or when
// ctx has: what is ended then takes no write any more that has not begun.
func (s *Service) hearEach(ctx context.Context, from block.Zone, fences ...block.Fence) error {
	errs := make([]error, len(fences))
	var hearing sync.WaitGroup
	for i, f := range fences {
		hearing.Go(func() { errs[i] = s.hear(ctx, from, f) })
	}
	all := make(chan struct{})
	go func() { hearing.Wait(); close(all) }()
	select {
	case <-all:
		return first(errs...)
	case <-ctx.Done():
		return block.Wrap(block.Unavailable, context.Cause(ctx), "What volumes that live on elsewhere are used for here has "+
			"not ended yet.")
	}
}

// hear takes in that a volume lives on elsewhere. One of this zone is fenced. Of
// another zone's it is written down, so that nobody takes it over again here,
// its points of lower epochs are refused, and others hear of it; if this zone
// took it over as well, the higher epoch keeps writing.
func (s *Service) hear(ctx context.Context, from block.Zone, f block.Fence) error {
	r := f.Recovered
	if f.SourceZone == "" || f.Source == "" || r.Zone == "" || r.Volume == "" || r.Epoch == 0 {
		return block.Errorf(block.Invalid, "Zone %s told of a recovery that names nothing.", from)
	}
	if r.Zone == s.cfg.Zone && f.SourceZone != s.cfg.Zone {
		return nil // what was taken over here is known here
	}
	if f.SourceZone == s.cfg.Zone {
		err := s.Fence(ctx, f)
		if block.Is(err, block.NotFound) || block.Is(err, block.Stale) {
			return nil // gone is gone, and stale is a fence that the volume has outlived
		}
		return err
	}
	var lost *block.Fence // of a volume of this zone
	err := s.catalog.Update(ctx, func(tx *catalog.Tx) (err error) {
		lost, err = s.hearForeign(tx, f)
		return err
	})
	if err == nil && lost != nil {
		err = s.fence(ctx, *lost, true)
	}
	if block.Is(err, block.Stale) {
		return nil
	}
	return err
}

// hearForeign writes down where a volume of another zone lives on. lost is the
// fence of this zone's volume that was made of it under a lower epoch.
func (s *Service) hearForeign(tx *catalog.Tx, f block.Fence) (lost *block.Fence, err error) {
	known, found, err := tx.Fence(f.SourceZone, f.Source)
	if err != nil {
		return nil, err
	}
	own := found && known.Recovered.Zone == s.cfg.Zone && f.Recovered.Zone != s.cfg.Zone
	if !own {
		if found && known.Recovered.Epoch >= f.Recovered.Epoch {
			return nil, nil
		}
		return nil, tx.PutFence(f)
	}
	gone, err := rivals.Gone(tx, known.Recovered.Volume)
	if err != nil {
		return nil, err
	}
	if gone { // whoever has it now is alone
		if known.Recovered.Epoch < f.Recovered.Epoch {
			return nil, tx.PutFence(f)
		}
		return nil, nil
	}
	v, err := tx.Volume(known.Recovered.Volume)
	if err != nil {
		return nil, err
	}
	holds := known.Recovered // of this zone's side: it may live on elsewhere by now
	if v.RecoveredTo != nil && v.RecoveredTo.Epoch > holds.Epoch {
		holds = *v.RecoveredTo
	}
	if holds.Zone == f.Recovered.Zone && holds.Volume == f.Recovered.Volume {
		return nil, tx.PutFence(f)
	}
	if holds.Epoch > f.Recovered.Epoch {
		rival := catalog.Rival{SourceZone: f.SourceZone, Source: f.Source, Lost: f.Recovered}
		if holds.Volume != known.Recovered.Volume {
			err = tx.PutFence(block.Fence{SourceZone: f.SourceZone, Source: f.Source, Recovered: holds})
		}
		return nil, first(err, tx.PutRival(rival), noteRival(tx, v, f, holds, f.Recovered))
	}
	rival := catalog.Rival{SourceZone: f.SourceZone, Source: f.Source, Lost: known.Recovered}
	return &block.Fence{SourceZone: s.cfg.Zone, Source: v.ID, Recovered: f.Recovered},
		first(tx.PutFence(f), tx.PutRival(rival), noteRival(tx, v, f, f.Recovered, known.Recovered))
}

// noteRival puts it into the audit log and among the events that two zones took
// a volume over.
func noteRival(tx *catalog.Tx, own block.Volume, f block.Fence, wins, loses block.Recovered) error {
	text := fmt.Sprintf(
		"Volume %s of zone %s was taken over twice: volume %s in zone %s (epoch %d) keeps writing, volume "+
			"%s in zone %s (epoch %d) is read-only from when that zone hears of it.",
		f.Source,
		f.SourceZone,
		wins.Volume,
		wins.Zone,
		wins.Epoch,
		loses.Volume,
		loses.Zone,
		loses.Epoch,
	)
	event := block.DREvent{Kind: "rival", SourceZone: f.SourceZone, Peer: f.Recovered.Zone, Volume: own.ID,
		Project: own.Project, Text: text}
	return first(tx.InsertDREvents([]block.DREvent{event}),
		tx.InsertAudit(block.Audit{User: "kvol", Call: "rivals", Params: text, Code: http.StatusConflict}))
}

// tellRivals tells a zone of the rivals between the two that it may not have
// heard of: it fences those of its volumes that lost, and notes those of this
// zone that lost against its own.
func (s *Service) tellRivals(ctx context.Context, zone block.Zone) error {
	var open []catalog.Rival
	var fences []block.Fence
	err := s.catalog.View(ctx, func(tx *catalog.Tx) (err error) {
		open, fences = open[:0], fences[:0]
		all, err := tx.OpenRivals("")
		for _, r := range all {
			f, _, err := tx.Fence(r.SourceZone, r.Source)
			if err != nil {
				return err
			}
			if r.Lost.Zone == s.cfg.Zone && f.Recovered.Zone == zone {
				f.Recovered = r.Lost
			} else if r.Lost.Zone != zone {
				continue
			}
			open, fences = append(open, r), append(fences, f)
		}
		return err
	})
	if err != nil {
		return err
	}
	var errs []error
	for i, r := range open {
		if err := s.cfg.DR.Peers.Call(ctx, zone, http.MethodPost, PathFences, fences[i], nil); err != nil {
			errs = append(errs, err) // of one whose store hangs there; the others are told all the same
			continue
		}
		err := s.catalog.Update(ctx, func(tx *catalog.Tx) error { return tx.SettleRival(r) })
		if err != nil {
			return err
		}
		s.log.Warn("a zone was told that a volume was taken over twice; the one of the lower epoch is read-only", "peer",
			zone, "volume", r.Lost.Volume, "epoch", r.Lost.Epoch)
	}
	return errors.Join(errs...)
}

// Rivals counts the volumes that two zones took over, as far as this zone is one
// of them and something is left to do: the other one may not have heard that it
// lost, or the stale volume of this zone is still there.
func (s *Service) Rivals(ctx context.Context) (n int, err error) {
	err = s.catalog.View(ctx, func(tx *catalog.Tx) error {
		n = 0
		open, err := tx.OpenRivals("")
		for _, r := range open {
			if r.Lost.Zone != s.cfg.Zone {
				n++
			}
		}
		if err != nil {
			return err
		}
		stale, err := tx.Stales("")
		for _, kept := range stale {
			if kept.Rival {
				n++
			}
		}
		return err
	})
	return n, err
}
