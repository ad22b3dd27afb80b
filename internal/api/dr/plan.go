package dr

import (
	"net/http"

	"kvol/internal/block"
)

// planRequest is what a caller says of a plan.
type planRequest struct {
	Name        string                `json:"name"`
	Description string                `json:"description,omitempty"`
	Waves       []block.RecoveryWave  `json:"waves"`
	Mapping     block.RecoveryMapping `json:"mapping,omitempty"`
}

func (p planRequest) plan() block.RecoveryPlan {
	return block.RecoveryPlan{Name: p.Name, Description: p.Description, Waves: p.Waves, Mapping: p.Mapping}
}

func (s *Server) plans(r *http.Request, c block.Caller) (any, error) {
	list, err := s.cfg.Service.Plans(r.Context(), c)
	return map[string]any{"plans": each(list, func(p block.RecoveryPlan) block.RecoveryPlan { return p })}, err
}

func (s *Server) plan(r *http.Request, c block.Caller) (any, error) {
	p, err := s.cfg.Service.Plan(r.Context(), c, r.PathValue("plan"))
	return map[string]any{"plan": p}, err
}

func (s *Server) createPlan(r *http.Request, c block.Caller) (any, error) {
	var in planRequest
	if err := decode(r, &in); err != nil {
		return nil, err
	}
	p, err := s.cfg.Service.CreatePlan(r.Context(), c, in.plan())
	return map[string]any{"plan": p}, err
}

func (s *Server) updatePlan(r *http.Request, c block.Caller) (any, error) {
	var in planRequest
	if err := decode(r, &in); err != nil {
		return nil, err
	}
	p, err := s.cfg.Service.UpdatePlan(r.Context(), c, r.PathValue("plan"), in.plan())
	return map[string]any{"plan": p}, err
}

func (s *Server) deletePlan(r *http.Request, c block.Caller) (any, error) {
	return nil, s.cfg.Service.DeletePlan(r.Context(), c, r.PathValue("plan"))
}
