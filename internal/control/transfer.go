package control

import (
	"context"

	"kvol/internal/block"
	"kvol/internal/catalog"
)

// NewTransfer is what CreateTransfer is asked for.
type NewTransfer struct {
	VolumeID    block.VolumeID
	Name        *string
	NoSnapshots bool // the volume goes without its snapshots
	// AllowEncrypted is whether the caller knows that an encrypted volume may be
	// offered, which it may since microversion 3.70.
	AllowEncrypted bool
}

// transferOf returns an offer of the caller's project. Another project's is not
// there.
func transferOf(tx *catalog.Tx, c block.Caller, id block.TransferID) (block.Transfer, error) {
	t, err := tx.Transfer(id)
	if err == nil && !sees(c, t.Project) {
		err = block.Errorf(block.NotFound, "Transfer %s could not be found.", id)
	}
	if err != nil {
		return block.Transfer{}, err
	}
	return t, nil
}

// CreateTransfer offers a volume to whoever knows the key, which is returned
// here and never again. The volume is "awaiting-transfer" until the offer is
// accepted or withdrawn. The rules are those of cinder/transfer/api.py.
func (s *Service) CreateTransfer(ctx context.Context, c block.Caller, req NewTransfer) (made block.Transfer,
	key string, err error) {
	key, lock := block.NewTransferKey()
	err = s.changeVolume(ctx, c, req.VolumeID, "volume:create_transfer", func(tx *catalog.Tx, v block.Volume) error {
		if err := transferable(tx, v, req); err != nil {
			return err
		}
		t := block.Transfer{ID: block.TransferID(block.NewID()), VolumeID: v.ID, Project: v.Project, Name: req.Name,
			NoSnapshots: req.NoSnapshots, Lock: lock}
		if err := tx.InsertTransfer(t); err != nil {
			return err
		}
		if _, err := tx.MoveVolume(v.ID, block.OfferTransfer); err != nil {
			return refusal(err, invalidVolume("status must be available"))
		}
		made, err = tx.Transfer(t.ID)
		return err
	})
	if err != nil {
		return block.Transfer{}, "", err
	}
	return made, key, nil
}

// transferable refuses the offer of a volume that can't change hands now.
func transferable(tx *catalog.Tx, v block.Volume, req NewTransfer) error {
	switch {
	case v.Status != block.VolumeAvailable:
		return invalidVolume("status must be available")
	case v.GroupID != nil:
		return invalidVolume("Volume %s must not be part of a consistency group.", v.ID)
	case v.Encrypted && !req.AllowEncrypted:
		return invalidVolume("transferring encrypted volume is not supported")
	case v.Encrypted && req.NoSnapshots:
		return invalidVolume("transferring an encrypted volume without its snapshots is not supported")
	}
	if err := notStale(v); err != nil || req.NoSnapshots {
		return err
	}
	snapshots, err := tx.SnapshotsOf(v.ID)
	for _, sn := range snapshots {
		if sn.GroupSnapshotID != nil {
			return invalidSnapshot("snapshot: %s must not be part of a group snapshot", sn.ID)
		}
		if sn.Status != block.SnapshotAvailable {
			return invalidSnapshot("snapshot: %s status must be available", sn.ID)
		}
	}
	return err
}

// Transfer returns an offer of the caller's project.
func (s *Service) Transfer(ctx context.Context, c block.Caller, id block.TransferID) (t block.Transfer, err error) {
	err = s.catalog.View(ctx, func(tx *catalog.Tx) error {
		if t, err = transferOf(tx, c, id); err != nil {
			return err
		}
		return authorize(c, "volume:get_transfer", readersRule, owned(t.Project, ""))
	})
	return t, err
}

// Transfers returns a page of offers, as Volumes does of volumes.
func (s *Service) Transfers(ctx context.Context, c block.Caller, q block.ListQuery) (list []block.Transfer, err error) {
	if err := mayRead(c, "volume:get_all_transfers"); err != nil {
		return nil, err
	}
	if !c.Admin() {
		q.Project = c.Own()
	}
	err = s.catalog.View(ctx, func(tx *catalog.Tx) error {
		if q.Marker != "" {
			if _, err := transferOf(tx, c, block.TransferID(q.Marker)); err != nil {
				return err
			}
		}
		list, err = tx.Transfers(q)
		return err
	})
	return list, err
}

// DeleteTransfer withdraws an offer; the volume is available again.
func (s *Service) DeleteTransfer(ctx context.Context, c block.Caller, id block.TransferID) error {
	return s.catalog.Update(ctx, func(tx *catalog.Tx) error {
		t, err := transferOf(tx, c, id)
		if err != nil {
			return err
		}
		if err := authorize(c, "volume:delete_transfer", membersRule, owned(t.Project, "")); err != nil {
			return err
		}
		if _, err := tx.MoveVolume(t.VolumeID, block.EndTransfer); ignoring(block.Conflict, err) != nil {
			return err // an administrator may have set another status meanwhile
		}
		return tx.DeleteTransfer(id)
	})
}

// AcceptTransfer takes an offered volume, and its snapshots unless they stay
// behind, into the caller's project, if the key is right. Rows and both quotas
// change in one transaction. Whatever hosts of the old project reached the
// volume by reach it no more.
func (s *Service) AcceptTransfer(ctx context.Context, c block.Caller, id block.TransferID,
	key string) (t block.Transfer, err error) {
	if err := mayMake(c, "volume:accept_transfer"); err != nil {
		return t, err
	}
	var moved []block.Snapshot
	err = s.catalog.Update(ctx, func(tx *catalog.Tx) error {
		if t, err = tx.Transfer(id); err != nil {
			return err
		}
		if !t.Lock.Opens(key) {
			return block.Errorf(block.Invalid, "Invalid auth key: Attempt to transfer %s with invalid auth key.", id)
		}
		v, err := tx.Volume(t.VolumeID)
		if err != nil {
			return err
		}
		if err := handOver(tx, c, v); err != nil {
			return err
		}
		if moved = nil; !t.NoSnapshots {
			if moved, err = handOverSnapshots(tx, c, v); err != nil {
				return err
			}
		}
		return tx.DeleteTransfer(id)
	})
	if err != nil {
		return block.Transfer{}, err
	}
	s.exports.revoke(t.VolumeID)
	for _, sn := range moved {
		s.exports.revokeSnapshot(sn.ID)
	}
	s.changed(t.VolumeID)
	return t, nil
}

// handOver makes a volume the caller's project's, if that has room for it.
func handOver(tx *catalog.Tx, c block.Caller, v block.Volume) error {
	if v.Status != block.VolumeTransfer {
		return invalidVolume("Volume id %s expected in awaiting-transfer state.", v.ID)
	}
	if v.GroupID != nil {
		return invalidVolume("Volume %s must not be part of a consistency group.", v.ID)
	}
	if c.Project != v.Project {
		if err := first(checkVolumeSize(tx, c.Project, v.Size),
			checkQuota(tx, c.Project, volumeDelta(1, v.Size, v.TypeName))); err != nil {
			return err
		}
	}
	connections, err := tx.Connections(v.ID)
	if err != nil {
		return err
	}
	for _, conn := range connections {
		if err := dropConnection(tx, conn); err != nil {
			return err
		}
	}
	v.Project, v.User = c.Project, c.User
	if err := first(tx.UpdateVolume(v), handOverKey(tx, v), forgetReservations(tx, v.ID)); err != nil {
		return err
	}
	_, err = tx.MoveVolume(v.ID, block.EndTransfer)
	return err
}

// handOverKey makes a volume's key its project's: the old one can't read it any
// more.
func handOverKey(tx *catalog.Tx, v block.Volume) error {
	if v.Encryption == nil {
		return nil
	}
	key, err := tx.Secret(v.Encryption.Key)
	if err != nil {
		return err
	}
	key.Project, key.User = v.Project, v.User
	return tx.UpdateSecret(key)
}

// handOverSnapshots is handOver for the snapshots that go along with v: those of
// the project that offered it.
func handOverSnapshots(tx *catalog.Tx, c block.Caller, v block.Volume) (moved []block.Snapshot, err error) {
	snapshots, err := tx.SnapshotsOf(v.ID)
	if err != nil {
		return nil, err
	}
	for _, sn := range snapshots {
		if sn.Project == v.Project {
			moved = append(moved, sn)
		}
	}
	if len(moved) > 0 && c.Project != v.Project {
		if err := checkQuota(tx, c.Project, snapshotsDelta(moved, v.TypeName)); err != nil {
			return nil, err
		}
	}
	for _, sn := range moved {
		sn.Project, sn.User = c.Project, c.User
		if err := tx.UpdateSnapshot(sn); err != nil {
			return nil, err
		}
	}
	return moved, nil
}
