package dr

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"time"

	"kvol/internal/block"
	"kvol/internal/control"
)

// maxBody is how long the body of a request may be, in bytes.
const maxBody = 64 << 10

type failoverRequest struct {
	Destination     block.Zone   `json:"destination"`
	DestinationType block.TypeID `json:"destination_type"`
	IdempotencyKey  string       `json:"idempotency_key,omitempty"`
}

// beginFailover is the handler of a planned failover or, back, failback.
func (s *Server) beginFailover(back bool) func(*http.Request, block.Caller) (any, error) {
	return func(r *http.Request, c block.Caller) (any, error) {
		id, ok := block.ParseID(r.PathValue("volume_id"))
		if !ok {
			return nil, block.Errorf(block.Invalid, "volume_id must be a UUID.")
		}
		var in failoverRequest
		d := json.NewDecoder(http.MaxBytesReader(nil, r.Body, maxBody))
		d.DisallowUnknownFields()
		if err := d.Decode(&in); err != nil && !errors.Is(err, io.EOF) {
			return nil, block.Wrap(block.Invalid, err, "The request must be JSON with destination and destination_type.")
		}
		f, err := s.cfg.Service.Failover(r.Context(), c, control.FailoverRequest{Volume: block.VolumeID(id),
			Destination: in.Destination, DestinationType: in.DestinationType, Back: back,
			Key: keyOf(r, in.IdempotencyKey)})
		return map[string]any{"failover": failoverView(f)}, err
	}
}

func (s *Server) failovers(r *http.Request, c block.Caller) (any, error) {
	list, err := s.cfg.Service.Failovers(r.Context(), c)
	return map[string]any{"failovers": each(list, failoverView)}, err
}

func (s *Server) failover(r *http.Request, c block.Caller) (any, error) {
	f, err := s.cfg.Service.FailoverOf(r.Context(), c, r.PathValue("id"))
	return map[string]any{"failover": failoverView(f)}, err
}

type failoverBody struct {
	ID              string              `json:"id"`
	Key             string              `json:"idempotency_key"`
	Kind            string              `json:"kind"`
	Status          string              `json:"status"` // running, success or fail
	Phase           block.FailoverPhase `json:"phase"`
	VolumeID        block.VolumeID      `json:"volume_id"`
	Project         block.ProjectID     `json:"project_id"`
	Destination     block.Zone          `json:"destination"`
	DestinationType block.TypeID        `json:"destination_type"`
	NewVolume       block.VolumeID      `json:"new_volume"` // in the destination; "" before the end
	Epoch           uint64              `json:"epoch"`      // of whoever holds the right to write
	Point           *pointBody          `json:"point"`      // with which the volume goes on
	Error           string              `json:"error"`      // why it went back
	Steps           []stepBody          `json:"steps"`
	CreatedAt       *time.Time          `json:"created_at"`
	EndedAt         *time.Time          `json:"ended_at"`
}

type stepBody struct {
	Name    string     `json:"name"`
	Status  string     `json:"status"` // waiting, running, done
	Started *time.Time `json:"started_at"`
	Ended   *time.Time `json:"ended_at"`
}

func failoverView(f block.Failover) failoverBody {
	b := failoverBody{ID: f.ID, Key: f.Key, Kind: "failover", Status: "running", Phase: f.Phase, VolumeID: f.Volume,
		Project: f.Project, Destination: f.Destination, DestinationType: f.DestinationType, Epoch: f.Epoch,
		Error: f.Message, CreatedAt: when(f.Started), EndedAt: when(f.Ended)}
	switch f.Phase {
	case block.FailoverDone:
		b.Status = "success"
	case block.FailoverBack:
		b.Status = "fail"
	}
	if f.Recovered != nil {
		b.NewVolume, b.Epoch = f.Recovered.Volume, f.Recovered.Epoch
	}
	if f.Point != nil {
		p := pointView(*f.Point, f.Point.ID)
		b.Point = &p
	}
	steps := []struct {
		name       string
		begin, end time.Time
	}{{"drain", f.Started, f.Drained}, {"last point", f.Drained, f.Asked}, {"promote", f.Asked, f.Ended}}
	for _, s := range steps {
		one := stepBody{Name: s.name, Status: "waiting", Started: when(s.begin), Ended: when(s.end)}
		switch {
		case !s.begin.IsZero() && s.end.IsZero():
			one.Status = "running"
		case !s.end.IsZero():
			one.Status = "done"
		}
		b.Steps = append(b.Steps, one)
	}
	return b
}
