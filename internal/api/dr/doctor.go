package dr

import (
	"net/http"
	"time"

	"kvol/internal/block"
	"kvol/internal/control"
)

type doctorBody struct {
	AsOf     time.Time       `json:"as_of"`
	Findings []block.Finding `json:"findings"` // the worst first
	LeftOut  int             `json:"left_out"` // beyond 1,000 of a kind
}

func doctorView(f control.Findings) doctorBody {
	return doctorBody{f.At.UTC(), append([]block.Finding{}, f.All...), f.LeftOut}
}

func (s *Server) doctor(r *http.Request, c block.Caller) (any, error) {
	var last int64
	if err := wholes(r.URL.Query(), map[string]*int64{"last": &last}); err != nil {
		return nil, err
	}
	if last != 0 {
		found, ok, err := s.cfg.Service.LastVisit(r.Context(), c)
		if err == nil && !ok {
			err = block.Errorf(block.NotFound, "The doctor has not looked by itself yet.")
		}
		return map[string]any{"doctor": doctorView(found)}, err
	}
	found, err := s.cfg.Service.Doctor(r.Context(), c)
	return map[string]any{"doctor": doctorView(found)}, err
}

func (s *Server) mend(r *http.Request, c block.Caller) (any, error) {
	found, err := s.cfg.Service.Mend(r.Context(), c)
	return map[string]any{"doctor": doctorView(found)}, err
}
