package control

import (
	"context"
	"fmt"
	"slices"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/driver"
)

// inStore is what lies in a store.
type inStore struct {
	store     string
	backend   string // one that lies on it
	volume    block.VolumeID
	snapshots []block.PointID
}

// stores lists what lies in the stores, before the catalog is read: what is
// made in between has its row first.
func (e *examination) stores(ctx context.Context) (all []inStore, err error) {
	seen := map[string]bool{}
	for _, b := range e.s.sortedBackends() {
		if seen[b.Store] {
			continue
		}
		seen[b.Store] = true
		d, err := e.s.backends.Of(b.Name)
		if err != nil {
			return nil, err
		}
		for id, err := range driver.VolumeIDs(ctx, d) {
			if err != nil {
				return nil, err
			}
			snapshots, err := d.Snapshots(ctx, id)
			if block.Is(err, block.NotFound) {
				continue // deleted meanwhile
			}
			if err != nil {
				return nil, err
			}
			s := inStore{store: b.Store, backend: b.Name, volume: id}
			for _, i := range snapshots {
				s.snapshots = append(s.snapshots, i.Name)
			}
			all = append(all, s)
		}
	}
	return all, nil
}

// strangers looks for what lies in stores and should not.
func (e *examination) strangers(tx *catalog.Tx, all []inStore) error {
	places, err := tx.Places()
	if err != nil {
		return err
	}
	known := make(map[block.VolumeID]catalog.Place, len(places))
	for _, p := range places {
		known[p.ID] = p
	}
	homes := map[block.VolumeID]bool{} // of volumes that lie where they should
	for _, s := range all {
		b, ok := e.s.backends.Backend(known[s.volume].Backend)
		homes[s.volume] = homes[s.volume] || ok && b.Store == s.store
	}
	snapshots, err := e.knownSnapshots(tx, all, known)
	if err != nil {
		return err
	}
	marks, err := tx.ReplicaMarks()
	if err != nil {
		return err
	}
	mirrored := make(map[block.VolumeID]bool, len(marks)) // of which a cluster may keep a copy here
	for _, m := range marks {
		mirrored[m.Source] = true
	}
	for _, s := range all {
		p, ok := known[s.volume]
		busy := e.live[string(s.volume)] || e.live[moveEnd(s.volume)]
		home, _ := e.s.backends.Backend(p.Backend)
		switch {
		case busy:
		case !ok && mirrored[s.volume]:
		case !ok:
			if of, err := tx.ReencryptedAs(s.volume); !block.Is(err, block.NotFound) {
				if err != nil {
					return err
				}
				e.leftCopy(s, of)
				continue
			}
			e.add(ailment{Finding: block.Finding{Kind: block.FindOrphanVolume, Volume: s.volume, Store: s.store,
				Text: fmt.Sprintf("Store %s has a volume %s that is in no list of this zone, unmanaged or left over.", s.store,
					s.volume),
				Advice: "Nobody but its owner can say whether it is needed: have it managed with `cinder manage`, look at it, " +
					"and delete it there."}})
		case home.Store != s.store:
			e.elsewhere(s, p, homes[s.volume])
		case !p.Replica: // of replicas the receiver takes care
			e.unknownSnapshots(s, p, snapshots)
		}
	}
	return nil
}

// leftCopy is the copy of a volume that was or is encrypted anew.
func (e *examination) leftCopy(s inStore, of block.Reencryption) {
	if e.live[moveEnd(of.Volume)] {
		return
	}
	e.add(ailment{Finding: block.Finding{Kind: block.FindTemporary, Volume: s.volume, Store: s.store,
		Text:  fmt.Sprintf("Store %s has what is left of volume %s being encrypted anew.", s.store, of.Volume),
		Mends: "What is left is deleted, with the key that it has."},
		mend: func(tx *catalog.Tx) error {
			return endMove(tx, moveEndArgs{Job: of.Job, Volume: of.Volume, From: of.Backend, To: of.Backend})
		}})
}

// elsewhere is a copy of a volume on a store where it is not.
func (e *examination) elsewhere(s inStore, p catalog.Place, whole bool) {
	a := ailment{Finding: block.Finding{Kind: block.FindTemporary, Volume: s.volume, Project: p.Project, Store: s.store,
		Text: fmt.Sprintf("Store %s has a copy of volume %s, which lies on backend %s.", s.store, s.volume, p.Backend),
		Advice: "If the volume was moved, the copy is a leftover; if stores or backends were renamed in the configuration, " +
			"it may be the volume itself."}}
	if whole && !p.Moves && !p.Replica {
		a.Mends = "The copy is deleted; the volume on its own backend is there."
		a.mend = func(tx *catalog.Tx) error { return e.s.dropCopy(tx, s) }
	}
	e.add(a)
}

// dropCopy has a copy of a volume deleted, which lies whole on its own store.
func (s *Service) dropCopy(tx *catalog.Tx, of inStore) error {
	v, err := tx.Volume(of.volume)
	if err != nil {
		return ignoring(block.NotFound, err)
	}
	works, err := busy(tx, string(v.ID), 0)
	if err != nil || works || v.Migrating() || s.backends.Shared(v.Backend, of.backend) {
		return err
	}
	return endMove(tx, moveEndArgs{Volume: v.ID, From: of.backend, To: v.Backend})
}

// knownSnapshots tells which snapshots in stores anything in the catalog speaks of:
// those of volumes, as the receiver takes care of replicas'.
func (e *examination) knownSnapshots(tx *catalog.Tx, all []inStore, places map[block.VolumeID]catalog.Place) (
	map[catalog.Cut]bool, error,
) {
	var cuts []catalog.Cut
	for _, s := range all {
		if p, ok := places[s.volume]; !ok || p.Replica {
			continue
		}
		for _, name := range s.snapshots {
			cuts = append(cuts, catalog.Cut{Volume: s.volume, Point: name})
		}
	}
	return tx.KnownSnapshots(cuts)
}

// unknownSnapshots looks at the snapshots of a volume in its store.
func (e *examination) unknownSnapshots(s inStore, p catalog.Place, known map[catalog.Cut]bool) {
	moves := movePoints(s.volume)
	for _, name := range s.snapshots {
		if e.live[string(name)] || slices.Contains(moves[:], name) {
			continue
		}
		if !known[catalog.Cut{Volume: s.volume, Point: name}] {
			e.add(ailment{Finding: block.Finding{Kind: block.FindUnknown, Volume: s.volume, Project: p.Project, Point: name,
				Store: s.store, Text: fmt.Sprintf("Store %s has a snapshot %s of volume %s that is in no list of this zone.",
					s.store, name, s.volume),
				Advice: "It was unmanaged, or is left over: have it managed with `cinder snapshot-manage`, look at it, and " +
					"delete it there."}})
		}
	}
}
