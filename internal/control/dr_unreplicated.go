package control

import (
	"context"
	"net/url"
	"slices"
	"sync"
	"time"

	"kvol/internal/block"
	"kvol/internal/catalog"
)

// PathUnreplicated is where a zone tells what it has not replicated to the zone
// that asks.
const PathUnreplicated = "/peer/v1/unreplicated"

// Unreplicated is what a source knows of a volume that its destination lacks.
type Unreplicated struct {
	Volume     block.VolumeID `json:"volume"`
	Protection int64          `json:"protection"`
	Point      block.PointID  `json:"point"` // that the destination confirmed last
	UpTo       time.Time      `json:"up_to"`
	Bytes      int64          `json:"bytes"` // -1 where nobody counted
}

// UnreplicatedTo tells another zone what it lacks of this one's volumes.
func (s *Service) UnreplicatedTo(ctx context.Context, to block.Zone) (out []Unreplicated, err error) {
	seqs := map[int64]bool{}
	for _, p := range s.ownProtections() {
		seqs[p.Seq] = p.Destination == to
	}
	out = []Unreplicated{}
	err = s.catalog.View(ctx, func(tx *catalog.Tx) error {
		links, err := s.sourceLinks(tx)
		for _, l := range links {
			if seqs[l.Protection] && !l.Gone {
				out = append(out, Unreplicated{l.Volume, l.Protection, l.Confirmed.ID, l.Current, l.Unreplicated})
			}
		}
		return err
	})
	return out, err
}

// askSources asks a zone, or all for "", what this one lacks of its volumes. A
// zone that does not answer in time is left out: a recovery never waits for the
// zone that was lost.
func (s *Service) askSources(ctx context.Context, zone block.Zone) map[block.VolumeID]Unreplicated {
	if s.cfg.DR.Peers == nil {
		return nil
	}
	zones := slices.DeleteFunc(s.otherZones(), func(z block.Zone) bool { return zone != "" && z != zone })
	answers := make([][]Unreplicated, len(zones))
	var wg sync.WaitGroup
	for i, z := range zones {
		wg.Go(func() {
			if err := s.ask(ctx, z, PathUnreplicated, url.Values{}, &answers[i]); err != nil {
				answers[i] = nil
			}
		})
	}
	wg.Wait()
	all := map[block.VolumeID]Unreplicated{}
	for _, answer := range answers {
		for _, u := range answer {
			all[u.Volume] = u
		}
	}
	return all
}
