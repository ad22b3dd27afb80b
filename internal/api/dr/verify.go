package dr

import (
	"net/http"
	"time"

	"kvol/internal/block"
	"kvol/internal/control"
)

func (s *Server) verify(r *http.Request, c block.Caller) (any, error) {
	var in control.VerifyRequest
	if err := decode(r, &in); err != nil {
		return nil, err
	}
	id, ok := block.ParseID(string(in.Volume))
	if !ok {
		return nil, block.Errorf(block.Invalid, "volume_id must be a UUID.")
	}
	in.Volume = block.VolumeID(id)
	in.Key = keyOf(r, in.Key)
	op, err := s.cfg.Service.StartVerify(r.Context(), c, in)
	return map[string]any{"operation": durableView(op)}, err
}

// proofBody is the account of reading a replica again.
type proofBody struct {
	State      block.ProofState `json:"state"` // "", reading, damaged or mending
	Reading    block.PointID    `json:"reading_point"`
	Offset     int64            `json:"read_up_to"` // of the point that is read
	Note       string           `json:"note"`
	VerifiedAt *time.Time       `json:"verified_at"` // when it was last found to be what was committed
	Point      block.PointID    `json:"verified_point"`
	Bytes      int64            `json:"bytes"`
	Seconds    float64          `json:"seconds"`
	Rate       float64          `json:"bytes_per_second"`
	Points     int              `json:"points"` // that were compared
}

func proofView(p block.Proof) *proofBody {
	b := &proofBody{State: p.State, Offset: p.Offset, Note: p.Note, VerifiedAt: when(p.Last.At), Point: p.Last.Point,
		Bytes: p.Last.Bytes, Seconds: p.Last.Took.Seconds(), Points: p.Last.Points}
	if p.State == block.ProofReading {
		b.Reading = p.Point
	}
	if p.Last.Took > 0 {
		b.Rate = float64(p.Last.Bytes) / p.Last.Took.Seconds()
	}
	return b
}
