package replication

import (
	"context"
	"errors"
	"fmt"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/driver"
)

// beginWithOwn makes the replica of a volume that comes back out of the volume
// of this zone from which it was recovered: that one still has the point as
// which the other began. The stale volume itself is only read. It may be cut
// anywhere and repeated. whole says why that can't be; then all must travel.
func (i *inbound) beginWithOwn(ctx context.Context, o Offer) (whole string, err error) {
	b := beginning{inbound: i, offer: o, origin: *o.Origin}
	if done, err := b.begun(ctx); done || err != nil {
		return "", err
	}
	if b.origin.Zone != i.receiver.cfg.Zone {
		if found, err := b.fromReplica(ctx); !found || err != nil {
			return "", err // a first copy like any other
		}
	} else {
		if whole, err = b.lookUp(ctx); whole != "" || err != nil {
			return whole, err
		}
		if whole, err = b.prove(ctx); whole != "" || err != nil {
			return whole, err
		}
		b.entry = block.Entry{Volume: b.stale, TypeName: b.stale.TypeName}
	}
	if err := b.insert(ctx); err != nil {
		return "", err
	}
	if err := b.fill(ctx); err != nil {
		return "", err
	}
	return "", b.commit(ctx)
}

// beginning is the work of beginWithOwn.
type beginning struct {
	*inbound
	offer  Offer
	origin block.Origin

	stale   block.Volume // of this zone; or the replica of the volume that is continued
	entry   block.Entry  // until the first point comes
	links   []catalog.Link
	replica block.Replica
	store   driver.Driver // of the stale volume
	sum     block.RootHash
}

// begun reports whether the replica has, or is about to have, points.
func (b *beginning) begun(ctx context.Context) (done bool, err error) {
	err = b.catalog().View(ctx, func(tx *catalog.Tx) error {
		rep, found, err := b.receiver.admit(tx, b.key, b.offer.Epoch)
		done = found && (rep.Newest.ID != "" || rep.Pending != nil)
		return err
	})
	return done, err
}

// fromReplica finds the point in a replica of the volume that is continued, which
// is in a third zone: there the new volume goes on where the lost one ended.
func (b *beginning) fromReplica(ctx context.Context) (found bool, err error) {
	p := b.origin.Point
	err = b.catalog().View(ctx, func(tx *catalog.Tx) error {
		all, err := tx.ReplicasOf(b.origin.Zone, b.origin.Volume)
		for _, r := range all {
			have, sum, err := tx.Point(r.ID, p.ID)
			if block.Is(err, block.NotFound) || err == nil && (have.Root != p.Root || have.Size != p.Size) {
				continue
			}
			if err != nil {
				return err
			}
			b.stale, b.entry, b.sum, found = r.Entry.Volume, r.Entry, sum, true
			b.stale.ID, b.stale.Backend, b.entry.Key = r.ID, r.Backend, nil
		}
		return err
	})
	if err != nil || !found {
		return false, err
	}
	b.store, err = b.receiver.cfg.Backends.Of(b.stale.Backend)
	return true, err
}

// lookUp finds the stale volume. That the other zone continues it is that
// zone's to tell, so it is fenced here if it was not.
func (b *beginning) lookUp(ctx context.Context) (whole string, err error) {
	zone := b.receiver.cfg.Zone
	if tell := b.receiver.cfg.Fenced; tell != nil {
		err := tell(ctx, block.Fence{SourceZone: zone, Source: b.origin.Volume, Recovered: block.Recovered{
			Zone: b.from, Volume: b.offer.Volume, Epoch: b.origin.Epoch, At: b.receiver.cfg.Now().UTC(),
			Point: b.origin.Point.ID}})
		if err != nil && !block.Is(err, block.NotFound) && !block.Is(err, block.Stale) {
			return "", err
		}
	}
	err = b.catalog().View(ctx, func(tx *catalog.Tx) (err error) {
		if b.stale, err = tx.Volume(b.origin.Volume); err != nil {
			return err
		}
		b.links, err = tx.LinksOf(b.stale.ID)
		return err
	})
	if block.Is(err, block.NotFound) {
		return fmt.Sprintf("volume %s, which it continues, is not here any more", b.origin.Volume), nil
	}
	to := b.stale.RecoveredTo
	if err == nil && (to == nil || to.Zone != b.from || to.Volume != b.offer.Volume) {
		return fmt.Sprintf("volume %s is not known here as recovered by it", b.stale.ID), nil
	}
	return "", err
}

// prove makes sure that the snapshot of the point is there and is the point:
// by what the link noted when the point was sent, else by reading all of it.
func (b *beginning) prove(ctx context.Context) (whole string, err error) {
	p := b.origin.Point
	if b.store, err = b.receiver.cfg.Backends.Of(b.stale.Backend); err != nil {
		return "", err
	}
	r, err := b.store.OpenSnapshot(ctx, b.at(p))
	if block.Is(err, block.NotFound) {
		return fmt.Sprintf("volume %s has no snapshot of point %s any more", b.stale.ID, p.ID), nil
	}
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	sum, noted := Sum{}, false
	for _, l := range b.links {
		if l.Confirmed.ID == p.ID {
			sum, noted = SumFrom(l.Sum), true
		}
	}
	if !noted {
		if sum, err = SumOf(ctx, r); err != nil {
			return "", err
		}
	}
	if r.Size() != p.Size || sum.Root(p.Size) != p.Root {
		return fmt.Sprintf("point %s is not the same at both ends", p.ID), nil
	}
	b.sum = sum.Bytes()
	return "", nil
}

// insert writes the replica down before its store has anything of it.
func (b *beginning) insert(ctx context.Context) error {
	return b.catalog().Update(ctx, func(tx *catalog.Tx) error {
		rep, found, err := b.receiver.admit(tx, b.key, b.offer.Epoch)
		if err != nil || found {
			b.replica = rep
			return err
		}
		b.replica = block.Replica{ID: block.VolumeID(block.NewID()), SourceZone: b.from,
			Source: b.key.volume, Protection: b.key.protection, Backend: b.protection.Backup.Name, Epoch: b.offer.Epoch,
			Holders: b.offer.Holders}
		return tx.InsertReplica(b.replica)
	})
}

// fill gives the replica the bytes of the point, without a copy where it can.
func (b *beginning) fill(ctx context.Context) error {
	to, err := b.receiver.driver(b.replica)
	if err != nil {
		return err
	}
	p := b.origin.Point
	if b.cloned() {
		err = to.CloneSnapshot(ctx, b.replica.ID, b.at(p), p.Size)
	} else {
		err = b.copyPoint(ctx, to)
	}
	if err != nil {
		return err
	}
	mine := driver.SnapshotRef{Volume: b.replica.ID, Name: p.ID}
	if err := to.CreateSnapshot(ctx, mine); err != nil || b.cloned() {
		return err
	}
	root, err := RootOf(ctx, to, mine)
	if err == nil && root != p.Root {
		err = block.Errorf(block.Corrupt, "the copy of point %s is not the point", p.ID)
	}
	return err
}

func (b *beginning) cloned() bool {
	return b.receiver.cfg.Backends.Shared(b.stale.Backend, b.replica.Backend)
}

// copyPoint copies the point between two stores of this zone. The replica holds
// zeros, or a part of the same from before.
func (b *beginning) copyPoint(ctx context.Context, to driver.Driver) error {
	if err := to.CreateVolume(ctx, b.replica.ID, b.origin.Point.Size); err != nil {
		return err
	}
	r, err := b.store.OpenSnapshot(ctx, b.at(b.origin.Point))
	if err != nil {
		return err
	}
	d, err := to.OpenVolume(ctx, b.replica.ID)
	if err != nil {
		return errors.Join(err, r.Close())
	}
	err = errors.Join(driver.Copy(ctx, d, r, nil), d.Close())
	return errors.Join(err, r.Close())
}

// commit makes the point the replica's first. The entry is that of the stale
// volume until the first point comes.
func (b *beginning) commit(ctx context.Context) error {
	return b.catalog().Update(ctx, func(tx *catalog.Tx) error {
		rep, _, err := b.receiver.admit(tx, b.key, b.offer.Epoch)
		if err != nil || rep.Newest.ID != "" || rep.Pending != nil {
			return err
		}
		p := b.origin.Point
		p.Volume, p.Parent, p.Name, p.Cut = b.key.volume, "", "", nil
		if err := tx.InsertPoint(rep.ID, p, b.sum); err != nil {
			return err
		}
		rep.Newest, rep.Current = p, b.origin.UpTo()
		rep.Entry = b.entry
		rep.Entry.Volume.Attachments = nil
		return tx.UpdateReplica(rep)
	})
}

func (b *beginning) at(p block.Point) driver.SnapshotRef {
	return driver.SnapshotRef{Volume: b.stale.ID, Name: p.ID}
}
