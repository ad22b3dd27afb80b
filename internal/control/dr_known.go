package control

import (
	"context"
	"net/url"

	"kvol/internal/block"
	"kvol/internal/catalog"
)

// KnownDR says whether a zone has what a request names as its source.
type KnownDR struct {
	Known bool `json:"known"`
}

// sourceKnows asks the source zone whether it has what the request names. A
// zone that does not answer knows nothing.
func (s *Service) sourceKnows(ctx context.Context, req block.DRRequest) bool {
	var known KnownDR
	err := s.ask(ctx, req.SourceZone, PathKnown, url.Values{
		"volume": {string(req.SourceVolume)}, "snapshot": {string(req.SourceSnapshot)}, "type": {string(req.SourceType)},
	}, &known)
	return err == nil && known.Known
}

// Known answers a destination zone's question whether this zone has a volume,
// or a snapshot of one, of a type. It speaks only of volumes that are
// replicated to that zone.
func (s *Service) Known(ctx context.Context, to block.Zone, volume block.VolumeID, snapshot block.SnapshotID,
	typeID block.TypeID,
) (KnownDR, error) {
	replicated := false
	for _, p := range s.KnownProtections() {
		replicated = replicated || p.SourceZone == s.cfg.Zone && p.SourceType == typeID && p.Destination == to
	}
	if !replicated {
		return KnownDR{}, nil
	}
	var known KnownDR
	err := s.catalog.View(ctx, func(tx *catalog.Tx) error {
		of := volume
		if snapshot != "" {
			sn, err := tx.Snapshot(snapshot)
			if err != nil {
				return err
			}
			of = sn.VolumeID
		}
		v, err := tx.Volume(of)
		known.Known = err == nil && v.TypeID == typeID
		return err
	})
	return known, ignoring(block.NotFound, err)
}
