package dr

import (
	"cmp"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"kvol/internal/block"
	"kvol/internal/control"
)

// MaxBody is how long the body of a recovery or of a plan may be, in bytes: enough for
// ten thousand ids. Whatever stands before a Server must let as much through.
const MaxBody = 1 << 20

// decode reads the body of a request; what is not known in it is refused.
func decode(r *http.Request, into any) error {
	d := json.NewDecoder(http.MaxBytesReader(nil, r.Body, MaxBody))
	d.DisallowUnknownFields()
	var long *http.MaxBytesError
	if err := d.Decode(into); errors.As(err, &long) {
		return block.Wrap(block.OverLimit, err, "The request is longer than %d bytes.", long.Limit)
	} else if err != nil {
		return block.Wrap(block.Invalid, err, "The request is no JSON of the documented form.")
	}
	if d.More() {
		return block.Errorf(block.Invalid, "The request is more than one JSON value.")
	}
	return nil
}

// keyOf is the idempotency key of a request: that of its body, or else that of
// its header.
func keyOf(r *http.Request, body string) string { return cmp.Or(body, r.Header.Get("Idempotency-Key")) }

// recover begins a recovery, or tells what it would do.
func (s *Server) recover(r *http.Request, c block.Caller) (any, error) {
	var req block.RecoveryRequest
	if err := decode(r, &req); err != nil {
		return nil, err
	}
	req.IdempotencyKey = keyOf(r, req.IdempotencyKey)
	op, f, err := s.cfg.Service.StartRecovery(r.Context(), c, req)
	out := recoveryAnswer{}
	if req.DryRun {
		view := recoveryForecastView(f)
		out.Forecast = &view
	} else {
		view := durableView(op)
		out.Operation = &view
	}
	return out, err
}

func (s *Server) recoveries(r *http.Request, c block.Caller) (any, error) {
	list, err := s.cfg.Service.Operations(r.Context(), c, block.OperationRecover)
	return map[string]any{"operations": each(list, durableView)}, err
}

func (s *Server) consent(r *http.Request, c block.Caller) (any, error) {
	op, err := s.cfg.Service.ConsentOperation(r.Context(), c, r.PathValue("id"))
	return map[string]any{"operation": durableView(op)}, err
}

// recoveryAnswer has the operation that began, or what it would do.
type recoveryAnswer struct {
	Operation *durableBody          `json:"operation,omitempty"`
	Forecast  *recoveryForecastBody `json:"forecast,omitempty"`
}

type recoveryForecastBody struct {
	Possible        bool                 `json:"possible"` // as asked
	NeedsAcceptLoss bool                 `json:"needs_accept_loss"`
	Loss            *lossBody            `json:"loss"` // the worst instant, and the bytes of all
	Problems        []control.Problem    `json:"problems"`
	ExpectedSeconds *float64             `json:"expected_seconds"` // null where nothing was measured
	Rests           string               `json:"expected_rests_on"`
	Volumes         []recoveryVolumeBody `json:"volumes"`
	Groups          []recoveryGroupBody  `json:"groups"` // that are recovered as of one instant
}

type recoveryGroupBody struct {
	Group   block.GroupID   `json:"group_id"`
	At      *time.Time      `json:"at"`
	Seconds float64         `json:"seconds"` // what was written since then is lost
	Cut     *block.GroupCut `json:"cut"`     // null for a group snapshot
	Volumes int             `json:"volumes"`
	Without int             `json:"without"` // volumes that have no point of that instant
}

func recoveryGroupView(g control.ForecastGroup) recoveryGroupBody {
	return recoveryGroupBody{g.Group, when(g.At), g.Seconds, g.Cut, g.Volumes, g.Without}
}

type recoveryVolumeBody struct {
	SourceZone block.Zone        `json:"source_zone"`
	Source     block.VolumeID    `json:"source_volume"`
	Wave       int               `json:"wave"`
	Name       string            `json:"name"`
	Project    block.ProjectID   `json:"project_id"`
	Type       string            `json:"type"`
	Zone       string            `json:"availability_zone"`
	SizeGiB    int64             `json:"size_gib"`
	Way        string            `json:"way"` // clone or copy
	Point      *pointBody        `json:"point"`
	Loss       *lossBody         `json:"loss"`
	Problems   []control.Problem `json:"problems"`
}

func recoveryForecastView(f control.Forecast) recoveryForecastBody {
	b := recoveryForecastBody{Possible: len(f.Problems) == 0, NeedsAcceptLoss: f.Loss.Seconds+float64(f.Loss.Later) > 0,
		Loss: lossView(f.Loss), Problems: append([]control.Problem{}, f.Problems...), Rests: f.Rests,
		Volumes: each(f.Volumes, recoveryVolumeView), Groups: each(f.Groups, recoveryGroupView)}
	if f.Expected > 0 {
		seconds := f.Expected.Seconds()
		b.ExpectedSeconds = &seconds
	}
	for _, v := range f.Volumes {
		b.Possible = b.Possible && len(v.Problems) == 0
	}
	return b
}

func recoveryVolumeView(v control.ForecastVolume) recoveryVolumeBody {
	b := recoveryVolumeBody{SourceZone: v.SourceZone, Source: v.Source, Wave: v.Wave, Name: v.Name, Project: v.Project,
		Type: v.Type.Name, Zone: v.Zone, SizeGiB: v.Size, Way: v.Way, Problems: append([]control.Problem{}, v.Problems...)}
	if v.Point != nil {
		p := pointView(*v.Point, "")
		b.Point = &p
	}
	if v.Loss != nil {
		b.Loss = lossView(*v.Loss)
	}
	return b
}
