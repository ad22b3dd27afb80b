package control

import (
	"context"
	"hash/crc32"
	"io"
	"slices"
	"time"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/driver"
)

const (
	blockBytes = driver.BlockSize
	// maxMoments is how many moments of a volume are looked at for one block.
	maxMoments = 1000
)

// held is what this zone has of a volume: as the volume itself, or as a
// replica.
type held struct {
	id      block.VolumeID // in the driver
	backend string
	moments []driver.SnapshotRef // from new to old
	newest  time.Time            // of the moments; zero for none
	live    bool                 // the volume itself is here, as it is now
}

// FindBlock looks for a block on behalf of another zone, which has a replica of
// the volume or is where the volume is. It is NotFound for whoever is neither,
// and where this zone has nothing of the volume. A block that no moment has is
// no error.
func (s *Service) FindBlock(ctx context.Context, from block.Zone, want BlockWanted) (BlockFound, error) {
	if want.Off < 0 || want.Off%blockBytes != 0 {
		return BlockFound{}, block.Errorf(block.Invalid, "A block begins at a multiple of %d.", blockBytes)
	}
	leave, err := s.healing.enter(ctx, want)
	if err != nil {
		return BlockFound{}, err
	}
	defer leave()
	all, err := s.holdings(ctx, from, want)
	if err != nil {
		return BlockFound{}, err
	}
	var found BlockFound
	for _, h := range all {
		if h.newest.After(found.Newest) {
			found.Newest = h.newest
		}
		if found.Data, err = s.look(ctx, h, want); err != nil || found.Data != nil {
			return found, err
		}
	}
	return found, nil
}

// holdings lists what this zone has of a volume that another zone may ask for.
func (s *Service) holdings(ctx context.Context, from block.Zone, want BlockWanted) (all []held, err error) {
	nothing := block.Errorf(block.NotFound, "Zone %s has nothing of volume %s for zone %s.", s.cfg.Zone, want.Volume, from)
	err = s.catalog.View(ctx, func(tx *catalog.Tx) error {
		all = nil
		if want.Zone == s.cfg.Zone {
			v, err := tx.Volume(want.Volume)
			if err == nil && (s.sendsTo(v.TypeID, from) || s.sentOnTo(v.TypeID, from)) {
				all = append(all, held{id: v.ID, backend: v.Backend, live: true, newest: tx.Now})
			}
			return err
		}
		for _, p := range s.protectionsInto(want.Zone) {
			r, err := tx.ReplicaOf(want.Zone, want.Volume, p.Seq)
			if block.Is(err, block.NotFound) {
				continue
			}
			if err != nil {
				return err
			}
			if from != want.Zone && !s.alsoKeeps(from, r) && !relays(s.cfg.DR.Relays, p, from) {
				continue
			}
			h, err := s.heldAs(tx, r)
			if err != nil {
				return err
			}
			all = append(all, h)
		}
		return nil
	})
	if err == nil && len(all) == 0 || block.Is(err, block.NotFound) {
		return nil, nothing
	}
	return all, err
}

// heldAs is what a replica holds: its committed points.
func (s *Service) heldAs(tx *catalog.Tx, r block.Replica) (held, error) {
	points, err := tx.Points(r.ID)
	h := held{id: r.ID, backend: r.Backend}
	for _, p := range slices.Backward(points) {
		h.moments = append(h.moments, driver.SnapshotRef{Volume: r.ID, Name: p.ID})
	}
	if n := len(points); n > 0 {
		h.newest = points[n-1].At
	}
	return h, err
}

// sendsTo reports whether this zone's volumes of a type are replicated to a
// zone.
func (s *Service) sendsTo(t block.TypeID, to block.Zone) bool {
	return slices.ContainsFunc(s.ownProtections(), func(p block.Protection) bool {
		return p.SourceZone == s.cfg.Zone && p.SourceType == t && p.Destination == to
	})
}

// sentOnTo reports whether a zone to which this zone's volumes of a type are
// replicated sends them on to another, as far as it told.
func (s *Service) sentOnTo(t block.TypeID, zone block.Zone) (sent bool) {
	err := s.book(context.Background(), func(b *peerBook) {
		for _, p := range s.ownProtections() {
			sent = sent || p.SourceType == t && relays(b.copies[p.Destination].Relays, p, zone)
		}
	})
	return err == nil && sent
}

// relays reports whether what arrives by a protection is sent on to a zone.
func relays(by []block.Protection, p block.Protection, to block.Zone) bool {
	return slices.ContainsFunc(by, func(r block.Protection) bool {
		return r.SourceZone == p.SourceZone && r.Follows == p.Seq && r.Destination == to
	})
}

// alsoKeeps reports whether another zone, too, is a backup for the volumes that
// a replica is of, as far as the volume's zone told.
func (s *Service) alsoKeeps(zone block.Zone, r block.Replica) (keeps bool) {
	err := s.book(context.Background(), func(b *peerBook) {
		for _, p := range b.copies[r.SourceZone].Protections {
			keeps = keeps || p.Protection.Destination == zone && p.Protection.SourceType == r.Entry.Volume.TypeID
		}
	})
	return err == nil && keeps
}

// look reads a block at one moment after the other, the newest first, until it
// has the checksum; nothing where none has.
func (s *Service) look(ctx context.Context, h held, want BlockWanted) ([]byte, error) {
	store, err := s.backends.Of(h.backend)
	if err != nil {
		return nil, err
	}
	p := make([]byte, blockBytes)
	if h.live {
		device, giveBack, err := s.devices.borrow(ctx, h.backend, h.id)
		if err != nil && !block.Is(err, block.Conflict) { // a job may have it
			return nil, err
		}
		if err == nil {
			ok := matches(device, device.Size(), p, want)
			if err := giveBack(); err != nil || ok {
				return p, err
			}
		}
		if h.moments, err = momentsOf(ctx, store, h.id); err != nil {
			return nil, err
		}
	}
	for _, ref := range h.moments[:min(len(h.moments), maxMoments)] {
		if err := ctx.Err(); err != nil {
			return nil, block.Wrap(block.Unavailable, err, "The block was not found in time.")
		}
		r, err := store.OpenSnapshot(ctx, ref)
		if block.Is(err, block.NotFound) {
			continue // thinned out meanwhile
		} else if err != nil {
			return nil, err
		}
		ok := matches(r, r.Size(), p, want)
		if err := r.Close(); err != nil || ok {
			return p, err
		}
	}
	return nil, nil
}

// momentsOf lists the snapshots of a volume in the driver, from new to old.
func momentsOf(ctx context.Context, store driver.Driver, id block.VolumeID) (refs []driver.SnapshotRef, err error) {
	all, err := store.Snapshots(ctx, id)
	for _, sn := range slices.Backward(all) {
		refs = append(refs, driver.SnapshotRef{Volume: id, Name: sn.Name})
	}
	return refs, err
}

// matches reads a block into p and compares its checksum. What can't be read is
// no match: it may be damaged here too.
func matches(r io.ReaderAt, size int64, p []byte, want BlockWanted) bool {
	if want.Off > size-blockBytes {
		return false
	}
	_, err := r.ReadAt(p, want.Off)
	return err == nil && crc32.Checksum(p, crc32c) == want.CRC
}
