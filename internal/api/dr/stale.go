package dr

import (
	"net/http"
	"time"

	"kvol/internal/block"
	"kvol/internal/control"
)

type staleBody struct {
	VolumeID    block.VolumeID  `json:"volume_id"`
	Name        *string         `json:"name"`
	Project     block.ProjectID `json:"project_id"`
	Zone        block.Zone      `json:"zone"` // where it lives on
	NewVolume   block.VolumeID  `json:"new_volume"`
	Epoch       uint64          `json:"epoch"`
	State       string          `json:"state"`
	CommonPoint block.PointID   `json:"common_point"`
	Undo        block.PointID   `json:"undo_snapshot"`
	Bytes       int64           `json:"diverged_bytes"`
	Ranges      []block.Range   `json:"ranges"`
	More        int64           `json:"more_ranges"`
	Since       *time.Time      `json:"stale_since"`
	Until       *time.Time      `json:"kept_until"`
}

func (s *Server) stale(r *http.Request, c block.Caller) (any, error) {
	list, err := s.cfg.Service.StaleVolumes(r.Context(), c)
	return map[string]any{"stale": each(list, staleView)}, err
}

func staleView(s control.StaleVolume) staleBody {
	b := staleBody{VolumeID: s.Volume, Name: s.Of.Name, Project: s.Of.Project, State: s.State, CommonPoint: s.Common,
		Undo: s.Undo, Bytes: s.Bytes, Ranges: append([]block.Range{}, s.Ranges...), More: s.More, Since: when(s.At),
		Until: when(s.Until)}
	if to := s.Of.RecoveredTo; to != nil {
		b.Zone, b.NewVolume, b.Epoch = to.Zone, to.Volume, to.Epoch
	}
	return b
}
