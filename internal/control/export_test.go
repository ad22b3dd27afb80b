package control

import (
	"context"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/recovery"
)

// PlaceRecovered chooses a backend for a volume that is made of a replica.
func (s *Service) PlaceRecovered(tx *catalog.Tx, v *block.Volume, t block.VolumeType, near string, zoned bool) error {
	return s.placeRecovered(tx, v, t, near, zoned)
}

// RecoverElsewhere chooses another one when that failed.
func (s *Service) RecoverElsewhere(ctx context.Context, o recovery.Order, v block.Volume, cause error) (bool, error) {
	return s.recoverElsewhere(ctx, 0, o, v, cause)
}

// MoveRest is for how many bytes a move may let hosts wait.
const MoveRest = moveRest

// Paused reports whether the exports of a volume wait for its move. Only the
// move itself may ask.
func (e *Exports) Paused(id block.VolumeID) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	for x := range e.open {
		if x.volume != id {
			continue
		}
		if !x.mu.TryRLock() {
			return true
		}
		x.mu.RUnlock()
	}
	return false
}
