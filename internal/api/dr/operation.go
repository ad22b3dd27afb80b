package dr

import (
	"encoding/json"
	"net/http"
	"time"

	"kvol/internal/block"
	"kvol/internal/control"
)

func (s *Server) operations(r *http.Request, c block.Caller) (any, error) {
	list, err := s.cfg.Service.Operations(r.Context(), c, block.OperationKind(r.URL.Query().Get("kind")))
	return map[string]any{"operations": each(list, durableView)}, err
}

func (s *Server) durable(r *http.Request, c block.Caller) (any, error) {
	op, err := s.cfg.Service.Operation(r.Context(), c, r.PathValue("id"))
	return map[string]any{"operation": durableStepsView(op)}, err
}

func (s *Server) cancelDurable(r *http.Request, c block.Caller) (any, error) {
	op, err := s.cfg.Service.CancelOperation(r.Context(), c, r.PathValue("id"))
	return map[string]any{"operation": durableView(op)}, err
}

// durableBody is an operation; steps and what follows from them are left out of
// lists.
type durableBody struct {
	ID         string                `json:"id"`
	Kind       block.OperationKind   `json:"kind"`
	Status     block.OperationStatus `json:"status"`
	Message    string                `json:"message"` // why it ended so, or what it waits for
	Project    block.ProjectID       `json:"project_id"`
	User       block.UserID          `json:"user_id"`
	Key        string                `json:"idempotency_key"`
	Request    json.RawMessage       `json:"request"`
	CanceledBy block.UserID          `json:"canceled_by"`
	ConsentBy  block.UserID          `json:"consent_by"`
	CreatedAt  *time.Time            `json:"created_at"`
	StartedAt  *time.Time            `json:"started_at"`
	ServedAt   *time.Time            `json:"served_at"` // when the last volume could be used
	EndedAt    *time.Time            `json:"ended_at"`
	Evidence   json.RawMessage       `json:"evidence,omitempty"`

	Cancelable bool              `json:"cancelable"` // some step has not begun
	BytesDone  int64             `json:"bytes_done"`
	BytesTotal int64             `json:"bytes_total"`
	ETA        *time.Time        `json:"eta"`
	Steps      []durableStepBody `json:"steps,omitempty"`
}

type durableStepBody struct {
	Seq        int              `json:"seq"`
	Stage      int              `json:"stage"` // steps of one stage run at the same time
	Wave       int              `json:"wave"`
	Kind       block.StepKind   `json:"kind"`
	Name       string           `json:"name"`
	Status     block.StepStatus `json:"status"`
	Cancelable bool             `json:"cancelable"`
	SourceZone block.Zone       `json:"source_zone,omitempty"`
	Source     block.VolumeID   `json:"source_volume,omitempty"`
	NewVolume  block.VolumeID   `json:"new_volume,omitempty"`
	Project    block.ProjectID  `json:"project_id,omitempty"`
	Rowkey     int64            `json:"rowkey,omitempty"` // of the kvol API's job
	Point      *pointBody       `json:"point,omitempty"`
	Loss       *lossBody        `json:"loss,omitempty"`
	BytesDone  int64            `json:"bytes_done"`
	BytesTotal int64            `json:"bytes_total"`
	Error      string           `json:"error"`
	Evidence   json.RawMessage  `json:"evidence,omitempty"`
	StartedAt  *time.Time       `json:"started_at"`
	EndedAt    *time.Time       `json:"ended_at"`
}

type lossBody struct {
	Since        *time.Time `json:"since"`   // all written after this instant on the source's clock
	Seconds      float64    `json:"seconds"` // before now, or before the recovery began: the most that is lost
	Later        int64      `json:"later_bytes"`
	Unreplicated *int64     `json:"unreplicated_bytes"` // null where the source does not answer
}

func lossView(l block.Loss) *lossBody {
	return &lossBody{when(l.Since), l.Seconds, l.Later, l.Unreplicated}
}

func durableView(op block.Operation) durableBody {
	return durableBody{ID: op.ID, Kind: op.Kind, Status: op.Status, Message: op.Message, Project: op.Project,
		User: op.User, Key: op.Key, Request: op.Request, CanceledBy: op.Cancel, ConsentBy: op.Consent,
		CreatedAt: when(op.CreatedAt), StartedAt: when(op.StartedAt), ServedAt: when(op.ServedAt),
		EndedAt: when(op.EndedAt), Evidence: op.Evidence}
}

func durableStepsView(v control.OperationView) durableBody {
	b := durableView(v.Operation)
	b.Cancelable, b.BytesDone, b.BytesTotal, b.ETA = v.Cancelable, v.BytesDone, v.BytesTotal, when(v.ETA)
	b.Steps = each(v.Steps, durableStepView)
	return b
}

func durableStepView(s block.OperationStep) durableStepBody {
	b := durableStepBody{Seq: s.Seq, Stage: s.Stage, Wave: s.Wave, Kind: s.Kind, Name: s.Name, Status: s.Status,
		Cancelable: s.Status == block.StepWaiting, SourceZone: s.SourceZone, Source: s.Source, NewVolume: s.NewVolume,
		Project: s.Project, Rowkey: s.Rowkey, BytesDone: s.BytesDone, BytesTotal: s.BytesTotal, Error: s.Error,
		Evidence: s.Evidence, StartedAt: when(s.StartedAt), EndedAt: when(s.EndedAt)}
	if s.Point != nil {
		p := pointView(*s.Point, "")
		b.Point = &p
	}
	if s.Loss != nil {
		b.Loss = lossView(*s.Loss)
	}
	return b
}
