package control

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"sync"

	"kvol/internal/block"
	"kvol/internal/catalog"
)

// FencesFor lists which volumes of a zone live on elsewhere, here or as far as
// this zone heard.
func (s *Service) FencesFor(ctx context.Context, zone block.Zone) (fences []block.Fence, err error) {
	err = s.catalog.View(ctx, func(tx *catalog.Tx) error {
		fences, err = tx.FencesFor(zone)
		return err
	})
	return fences, err
}

// LearnFences asks all other zones which volumes of this one were recovered
// there, and fences those here. It returns the zones that answered and whose
// fences hold; a zone that does not answer costs a few seconds at most and is
// not an error. A zone calls it before it serves anything.
func (s *Service) LearnFences(ctx context.Context) ([]block.Zone, error) {
	zones := s.otherZones()
	answers, errs := make([][]block.Fence, len(zones)), make([]error, len(zones))
	query := url.Values{"zone": {string(s.cfg.Zone)}}
	limited, cancel := context.WithTimeout(ctx, exchangeTimeout)
	defer cancel()
	var wg sync.WaitGroup
	for i, zone := range zones {
		wg.Go(func() {
			errs[i] = s.cfg.DR.Peers.Call(limited, zone, http.MethodGet, PathFences+"?"+query.Encode(), nil, &answers[i])
		})
	}
	wg.Wait()
	var answered []block.Zone
	var failed []error
	for i, zone := range zones {
		if err := s.noteSilence(ctx, zone, errs[i]); err != nil {
			return nil, err
		}
		if errs[i] != nil {
			continue
		}
		hearing, cancel := context.WithTimeout(ctx, exchangeTimeout)
		err := s.hearAll(hearing, zone, answers[i])
		cancel()
		if err != nil {
			failed = append(failed, err)
			continue
		}
		answered = append(answered, zone)
	}
	return slices.Clip(answered), errors.Join(failed...)
}

// tellFence tells a zone that a volume of its own was recovered here, so that it
// takes no more writes. A zone that does not answer soon hears of it when it
// asks, or when it sends the volume's next point.
func (s *Service) tellFence(ctx context.Context, f block.Fence) {
	if !slices.Contains(s.otherZones(), f.SourceZone) {
		return
	}
	var down bool
	if err := s.book(ctx, func(b *peerBook) { down = s.now().Before(b.down[f.SourceZone]) }); err != nil || down {
		s.log.Warn("a zone is not told that its volume was recovered here", "peer", f.SourceZone, "volume", f.Source,
			"err", err)
		return
	}
	limited, cancel := context.WithTimeout(ctx, s.cfg.DR.peerTimeout())
	defer cancel()
	err := s.cfg.DR.Peers.Call(limited, f.SourceZone, http.MethodPost, PathFences, f, nil)
	if block.Is(err, block.Unavailable) {
		err = errors.Join(err, s.book(ctx, func(b *peerBook) { b.down[f.SourceZone] = s.now().Add(downFor) }))
	}
	if err != nil {
		s.log.Warn("a zone could not be told that its volume was recovered here", "peer", f.SourceZone,
			"volume", f.Source, "err", err)
	}
}

// HearFence is the other end of tellFence.
func (s *Service) HearFence(ctx context.Context, from block.Zone, f block.Fence) error {
	return s.hearEach(ctx, from, f)
}

// noteSilence logs when a zone begins or ends to leave the question for fences
// unanswered, which is put several times a second while it does.
func (s *Service) noteSilence(ctx context.Context, zone block.Zone, err error) error {
	var changed bool
	if e := s.book(ctx, func(b *peerBook) {
		changed = b.silent[zone] != (err != nil)
		b.silent[zone] = err != nil
	}); e != nil {
		return e
	}
	switch {
	case !changed:
	case err != nil:
		s.log.Warn("a peer could not be asked for fences; it will be asked until it answers", "peer", zone, "err", err)
	default:
		s.log.Info("a peer answers when it is asked for fences", "peer", zone)
	}
	return nil
}
