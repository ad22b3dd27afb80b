package control

import (
	"context"
	"fmt"
	"slices"

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

// refusedRelay is a relay that another zone tells of and this one takes nothing by.
type refusedRelay struct {
	block.Protection
	why string
}

// relaysInto are the relays by which zone takes replicas, of those that others tell
// of. A zone is believed about what it sends, and not that it may: who names a
// protection by which another zone sends volumes here, or a relay of a third one,
// could otherwise overwrite and delete their replicas.
func relaysInto(zone block.Zone, copies []Document) (taken []block.Protection, refused []refusedRelay) {
	senders := map[block.ProtectionKey][]block.Zone{}
	var all []block.Protection
	for _, d := range copies {
		for _, p := range d.Relays {
			if p.Destination != zone || p.Via != d.Zone || p.SourceZone == zone || p.SourceZone == d.Zone {
				continue
			}
			all = append(all, p)
			if !slices.Contains(senders[p.Key()], d.Zone) {
				senders[p.Key()] = append(senders[p.Key()], d.Zone)
			}
		}
	}
	for _, p := range all {
		why := notBelieved(p, copies)
		if len(senders[p.Key()]) > 1 {
			why = fmt.Sprintf("more than one zone has a relay %d of volumes of zone %s", p.Seq, p.SourceZone)
		}
		if why != "" {
			refused = append(refused, refusedRelay{p, why})
			continue
		}
		taken = append(taken, p)
	}
	return taken, refused
}

// notBelieved is what the volumes' zone says against a relay; "" for nothing, as where
// it was never heard.
func notBelieved(p block.Protection, copies []Document) string {
	i := slices.IndexFunc(copies, func(d Document) bool { return d.Zone == p.SourceZone })
	if i < 0 {
		return ""
	}
	follows := false
	for _, own := range copies[i].Protections {
		if own.Protection.Seq == p.Seq {
			return fmt.Sprintf("zone %s has a protection %d of its own", p.SourceZone, p.Seq)
		}
		follows = follows || own.Protection.Seq == p.Follows && own.Protection.Destination == p.Via
	}
	for _, d := range copies {
		follows = follows || d.Zone != p.Via && slices.ContainsFunc(d.Relays, func(r block.Protection) bool {
			return r.Via == d.Zone && r.SourceZone == p.SourceZone && r.Seq == p.Follows && r.Destination == p.Via
		})
	}
	if !follows {
		return fmt.Sprintf("no zone tells that volumes of zone %s come to zone %s by protection or relay %d",
			p.SourceZone, p.Via, p.Follows)
	}
	return ""
}
