package control

import (
	"context"
	"fmt"

	"kvol/internal/block"
	"kvol/internal/catalog"
)

// Fence marks a volume of this zone as recovered in another one. From then on
// it is never written to from here: exports that could are ended, and reopen
// read-only. Its status stays. When Fence returns, no write of an export is
// under way. Fencing again, or with a lower epoch than is known, changes
// nothing; a fence that is not above the volume's own epoch is Stale, and
// NotFound means that the volume is gone.
func (s *Service) Fence(ctx context.Context, f block.Fence) error { return s.fence(ctx, f, false) }

// fence is Fence; rival says that the volume was made by a recovery that lost
// against another zone's.
func (s *Service) fence(ctx context.Context, f block.Fence, rival bool) error {
	if f.SourceZone != s.cfg.Zone {
		return block.Errorf(block.Invalid, "A fence for zone %s has no meaning in zone %s.", f.SourceZone, s.cfg.Zone)
	}
	fresh := false
	err := s.catalog.Update(ctx, func(tx *catalog.Tx) error {
		fresh = false
		v, err := tx.Volume(f.Source)
		if err != nil {
			return err
		}
		if v.RecoveredTo != nil && v.RecoveredTo.Epoch >= f.Recovered.Epoch {
			return nil
		}
		if v.Epoch >= f.Recovered.Epoch {
			return block.Errorf(block.Stale, "Volume %s has epoch %d, a fence with %d does not bind it.",
				v.ID, v.Epoch, f.Recovered.Epoch)
		}
		fresh = true
		recovered := f.Recovered
		v.RecoveredTo, v.ReplicationStatus = &recovered, block.FailedOver
		return first(tx.UpdateVolume(v), beginUndo(tx, v, recovered, rival), tx.PutFence(f), auditFence(tx, v, f),
			settleLater(tx, v.ID))
	})
	if err != nil {
		return err
	}
	if fresh {
		s.log.Warn("a volume was recovered in another zone; it is read-only here from now on", "volume", f.Source,
			"peer", f.Recovered.Zone, "epoch", f.Recovered.Epoch)
	}
	s.exports.revokeWritable(f.Source)
	return nil
}

// auditFence notes that a volume is read-only from now on.
func auditFence(tx *catalog.Tx, v block.Volume, f block.Fence) error {
	return tx.InsertAudit(block.Audit{Call: "fence", Project: v.Project, Outcome: "read-only",
		Params: fmt.Sprintf("volume=%s&epoch=%d&zone=%s&new_volume=%s", v.ID, f.Recovered.Epoch, f.Recovered.Zone,
			f.Recovered.Volume)})
}
