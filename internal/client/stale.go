package client

import (
	"context"
	"time"
)

// Stale is a volume of the session's zone that was recovered in another one.
type Stale struct {
	VolumeID      string `json:"volume_id"`
	Zone          string `json:"zone"` // where it lives on
	NewVolume     string `json:"new_volume"`
	State         string `json:"state"` // comparing, kept, equal or expired
	UndoSnapshot  string `json:"undo_snapshot"`
	DivergedBytes int64  `json:"diverged_bytes"`
	Ranges        []struct {
		Offset int64 `json:"offset"`
		Length int64 `json:"length"`
	} `json:"ranges"`
	KeptUntil *time.Time `json:"kept_until"`
}

// Stale lists the zone's volumes that were recovered in another zone.
func (s *Session) Stale(ctx context.Context) ([]Stale, error) {
	var out struct {
		Stale []Stale `json:"stale"`
	}
	err := s.dr(ctx, "/stale", &out)
	return out.Stale, err
}
