package dr

import (
	"net/http"
	"strconv"
	"time"

	"kvol/internal/block"
	"kvol/internal/control"
	"kvol/internal/pace"
)

// limitBody is how much may be sent to a zone.
type limitBody struct {
	Zone       block.Zone    `json:"zone"`       // the destination
	Protection int64         `json:"protection"` // 0 for all together
	Rate       int64         `json:"rate"`       // bytes a second; 0 for no limit
	CopyRate   int64         `json:"copy_rate"`
	Weight     int           `json:"weight"`
	Schedule   pace.Schedule `json:"schedule"`
	Now        int64         `json:"rate_now"`
	By         string        `json:"changed_by"`
	UpdatedAt  *time.Time    `json:"updated_at"`
}

func limitView(l control.LinkLimit) limitBody {
	b := limitBody{l.Zone, l.Protection, l.Rate, l.CopyRate, l.Weight, l.Schedule, l.Now, l.By, when(l.UpdatedAt)}
	if b.Weight == 0 {
		b.Weight = pace.DefaultWeight
	}
	b.Schedule.Windows = append([]pace.Window{}, b.Schedule.Windows...)
	for i, w := range b.Schedule.Windows {
		b.Schedule.Windows[i].Days = append([]string{}, w.Days...)
	}
	return b
}

func (s *Server) limits(r *http.Request, c block.Caller) (any, error) {
	list, err := s.cfg.Service.LinkLimits(r.Context(), c)
	return map[string]any{"limits": each(list, limitView)}, err
}

func (s *Server) setLimit(r *http.Request, c block.Caller) (any, error) {
	var in pace.Limit
	if err := decode(r, &in); err != nil {
		return nil, err
	}
	seq, err := limitOf(r)
	if err == nil {
		err = s.cfg.Service.SetLinkLimit(r.Context(), c, block.Zone(r.PathValue("zone")), seq, in)
	}
	if err != nil {
		return nil, err
	}
	list, err := s.cfg.Service.LinkLimits(r.Context(), c)
	for _, l := range list {
		if l.Zone == block.Zone(r.PathValue("zone")) && l.Protection == seq {
			return map[string]any{"limit": limitView(l)}, err
		}
	}
	return nil, block.Errorf(block.Conflict, "The limit was taken off meanwhile.")
}

func (s *Server) deleteLimit(r *http.Request, c block.Caller) (any, error) {
	seq, err := limitOf(r)
	if err != nil {
		return nil, err
	}
	return nil, s.cfg.Service.DeleteLinkLimit(r.Context(), c, block.Zone(r.PathValue("zone")), seq)
}

// limitOf is the protection of a path; 0 where it has none.
func limitOf(r *http.Request) (int64, error) {
	text := r.PathValue("protection")
	if text == "" {
		return 0, nil
	}
	seq, err := strconv.ParseInt(text, 10, 64)
	if err != nil || seq < 1 {
		return 0, block.Errorf(block.Invalid, "A protection is a number above zero.")
	}
	return seq, nil
}
