package dr

import (
	"net/http"
	"time"

	"kvol/internal/block"
	"kvol/internal/drill"
)

// startDrill begins a drill.
func (s *Server) startDrill(r *http.Request, c block.Caller) (any, error) {
	var req block.DrillRequest
	if err := decode(r, &req); err != nil {
		return nil, err
	}
	req.IdempotencyKey = keyOf(r, req.IdempotencyKey)
	op, err := s.cfg.Service.StartDrill(r.Context(), c, req)
	return map[string]any{"operation": durableView(op)}, err
}

func (s *Server) drills(r *http.Request, c block.Caller) (any, error) {
	list, err := s.cfg.Service.Operations(r.Context(), c, block.OperationDrill)
	return map[string]any{"operations": each(list, durableView)}, err
}

func (s *Server) drillReport(r *http.Request, c block.Caller) (any, error) {
	report, err := s.cfg.Service.DrillReport(r.Context(), c, r.PathValue("id"))
	return map[string]any{"report": report}, err
}

// drillPage is the report as a page to read.
func (s *Server) drillPage(w http.ResponseWriter, r *http.Request) {
	r, c, err := s.admit(r)
	var report drill.Report
	if err == nil {
		report, err = s.cfg.Service.DrillReport(r.Context(), c, r.PathValue("id"))
	}
	if err != nil {
		s.writeError(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
	if err := drill.Page(w, report); err != nil {
		s.cfg.Log.Error("the page of a drill could not be written", "operation", report.ID, "err", err)
	}
}

// scheduleRequest is what a caller says of a schedule.
type scheduleRequest struct {
	Name    string             `json:"name"`
	When    string             `json:"when"`
	Enabled *bool              `json:"enabled,omitempty"` // true if left out
	Request block.DrillRequest `json:"request"`
}

func (in scheduleRequest) schedule() block.DrillSchedule {
	return block.DrillSchedule{
		Name:    in.Name,
		When:    in.When,
		Enabled: in.Enabled == nil || *in.Enabled,
		Request: in.Request,
	}
}

// scheduleBody is a schedule of drills.
type scheduleBody struct {
	ID          string             `json:"id"`
	Project     block.ProjectID    `json:"project_id"`
	User        block.UserID       `json:"user_id"` // whose roles its drills have
	Name        string             `json:"name"`
	When        string             `json:"when"`
	Enabled     bool               `json:"enabled"`
	Request     block.DrillRequest `json:"request"`
	NextAt      *time.Time         `json:"next_at"`
	LastAt      *time.Time         `json:"last_at"` // when it last was due
	LastDrill   string             `json:"last_drill"`
	LastOutcome string             `json:"last_outcome"`
	Skipped     int                `json:"skipped"` // times it was due while its last drill ran
	CreatedAt   time.Time          `json:"created_at"`
	UpdatedAt   time.Time          `json:"updated_at"`
}

func scheduleView(in block.DrillSchedule) scheduleBody {
	return scheduleBody{ID: in.ID, Project: in.Project, User: in.User, Name: in.Name, When: in.When, Enabled: in.Enabled,
		Request: in.Request, NextAt: when(in.NextAt), LastAt: when(in.LastAt), LastDrill: in.LastDrill,
		LastOutcome: in.LastOutcome, Skipped: in.Skipped, CreatedAt: in.CreatedAt, UpdatedAt: in.UpdatedAt}
}

func (s *Server) drillSchedules(r *http.Request, c block.Caller) (any, error) {
	list, err := s.cfg.Service.DrillSchedules(r.Context(), c)
	return map[string]any{"schedules": each(list, scheduleView)}, err
}

func (s *Server) drillSchedule(r *http.Request, c block.Caller) (any, error) {
	out, err := s.cfg.Service.DrillSchedule(r.Context(), c, r.PathValue("schedule"))
	return map[string]any{"schedule": scheduleView(out)}, err
}

func (s *Server) createDrillSchedule(r *http.Request, c block.Caller) (any, error) {
	var in scheduleRequest
	if err := decode(r, &in); err != nil {
		return nil, err
	}
	out, err := s.cfg.Service.CreateDrillSchedule(r.Context(), c, in.schedule())
	return map[string]any{"schedule": scheduleView(out)}, err
}

func (s *Server) updateDrillSchedule(r *http.Request, c block.Caller) (any, error) {
	var in scheduleRequest
	if err := decode(r, &in); err != nil {
		return nil, err
	}
	out, err := s.cfg.Service.UpdateDrillSchedule(r.Context(), c, r.PathValue("schedule"), in.schedule())
	return map[string]any{"schedule": scheduleView(out)}, err
}

func (s *Server) deleteDrillSchedule(r *http.Request, c block.Caller) (any, error) {
	return nil, s.cfg.Service.DeleteDrillSchedule(r.Context(), c, r.PathValue("schedule"))
}
