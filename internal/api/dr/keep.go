package dr

import (
	"net/http"
	"time"

	"kvol/internal/block"
	"kvol/internal/control"
)

// keepRequest is what a caller says of a pin or a hold; it is a hold where until
// or seconds is given.
type keepRequest struct {
	Name    *string    `json:"name,omitempty"`
	Until   *time.Time `json:"until,omitempty"`
	Seconds int64      `json:"seconds,omitempty"` // from now on
}

// maxKeepSeconds is more than any hold may last.
const maxKeepSeconds = 1 << 32

// times are the end that a request names.
func (k keepRequest) times() (until time.Time, lasts time.Duration, err error) {
	if k.Until != nil {
		until = *k.Until
	}
	if k.Until != nil && k.Seconds != 0 || k.Seconds < 0 || k.Seconds > maxKeepSeconds {
		return until, 0, block.Errorf(block.Invalid, "A hold has either until or a number of seconds above 0.")
	}
	return until, time.Duration(k.Seconds) * time.Second, nil
}

// keepBody is a pin or a hold.
type keepBody struct {
	ID         string          `json:"id"`
	Kind       block.KeepKind  `json:"kind"`
	Name       string          `json:"name"`
	SourceZone block.Zone      `json:"source_zone"`
	VolumeID   block.VolumeID  `json:"volume_id"`
	Project    block.ProjectID `json:"project_id"`
	Point      block.PointID   `json:"point_id"`
	At         time.Time       `json:"point_at"`
	Until      *time.Time      `json:"until"`   // of a hold
	Zone       bool            `json:"by_zone"` // nobody asked for it: the zone keeps the last clean point
	CreatedAt  time.Time       `json:"created_at"`
}

func keepView(k block.Keep) keepBody {
	return keepBody{k.ID, k.Kind, k.Name, k.SourceZone, k.Source, k.Project, k.Point, k.At.UTC(), when(k.Until),
		k.User == "", k.CreatedAt.UTC()}
}

func (s *Server) keeps(r *http.Request, c block.Caller) (any, error) {
	all, err := s.cfg.Service.Keeps(r.Context(), c)
	return map[string]any{"keeps": each(all, keepView)}, err
}

func (s *Server) keepPoint(r *http.Request, c block.Caller) (any, error) {
	var in keepRequest
	if err := decode(r, &in); err != nil {
		return nil, err
	}
	id, ok := block.ParseID(r.PathValue("volume_id"))
	if !ok {
		return nil, block.Errorf(block.Invalid, "volume_id must be a UUID.")
	}
	req := control.KeepRequest{Zone: block.Zone(r.PathValue("source_zone")), Volume: block.VolumeID(id),
		Point: r.PathValue("point")}
	if in.Name != nil {
		req.Name = *in.Name
	}
	var err error
	if req.Until, req.For, err = in.times(); err != nil {
		return nil, err
	}
	k, err := s.cfg.Service.KeepPoint(r.Context(), c, req)
	return map[string]any{"keep": keepView(k)}, err
}

func (s *Server) changeKeep(r *http.Request, c block.Caller) (any, error) {
	var in keepRequest
	if err := decode(r, &in); err != nil {
		return nil, err
	}
	until, lasts, err := in.times()
	if err != nil {
		return nil, err
	}
	k, err := s.cfg.Service.ChangeKeep(r.Context(), c, r.PathValue("id"), in.Name, until, lasts)
	return map[string]any{"keep": keepView(k)}, err
}

func (s *Server) releaseKeep(r *http.Request, c block.Caller) (any, error) {
	return nil, s.cfg.Service.ReleaseKeep(r.Context(), c, r.PathValue("id"))
}
