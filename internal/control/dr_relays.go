package control

import (
	"context"

	"kvol/internal/block"
	"kvol/internal/catalog"
)

// RelayState is how far a replica of this zone was sent on to a third one.
type RelayState struct {
	catalog.Relay
	block.Protection
	Source block.VolumeID
}

// RelayStates tells of all replicas that this zone sends on how far that is, to
// administrators.
func (s *Service) RelayStates(ctx context.Context, c block.Caller) (list []RelayState, err error) {
	if !c.Admin() {
		return nil, errDRAdmin()
	}
	policies := map[int64]block.Protection{}
	for _, p := range s.Relays() {
		policies[p.Seq] = p
	}
	err = s.catalog.View(ctx, func(tx *catalog.Tx) error {
		all, err := tx.Relays()
		list = nil
		for _, r := range all {
			p, known := policies[r.Protection]
			rep, err := tx.Replica(r.Replica)
			if block.Is(err, block.NotFound) || !known {
				continue
			}
			if err != nil {
				return err
			}
			list = append(list, RelayState{Relay: r, Protection: p, Source: rep.Source})
		}
		return err
	})
	return list, err
}
