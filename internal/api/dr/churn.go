package dr

import (
	"net/http"
	"time"

	"kvol/internal/block"
)

// statsBody is what a point changed, in bytes.
type statsBody struct {
	Changed   int64   `json:"changed_bytes"`
	New       int64   `json:"new_bytes"`       // of them, where nothing was before
	Rewritten int64   `json:"rewritten_bytes"` // of them, where something was
	Zeroed    int64   `json:"zeroed_bytes"`
	Sent      int64   `json:"sent_bytes"`
	Ratio     float64 `json:"compressed_to"` // sent by changed: 1 for what can't be compressed; 0 for nothing
	Scrambled int64   `json:"scrambled_bytes"`
	Seconds   float64 `json:"seconds"` // since the point before; 0 for a whole copy
	Rate      float64 `json:"changed_bytes_per_second"`
}

func statsView(s block.PointStats) *statsBody {
	b := &statsBody{Changed: s.Changed, New: max(0, s.Changed-s.Rewritten), Rewritten: s.Rewritten, Zeroed: s.Zeroed,
		Sent: s.Sent, Scrambled: s.Scrambled, Seconds: s.Span.Seconds()}
	if s.Changed > 0 {
		b.Ratio = float64(s.Sent) / float64(s.Changed)
	}
	if s.Span > 0 {
		b.Rate = float64(s.Changed) / s.Span.Seconds()
	}
	return b
}

// suspicionBody says that a volume looks as if it had been encrypted.
type suspicionBody struct {
	Since     time.Time     `json:"suspect_since"`
	Noticed   time.Time     `json:"noticed_at"`
	LastClean block.PointID `json:"last_clean"`
	CleanAt   time.Time     `json:"last_clean_at"`
	Bytes     int64         `json:"scrambled_bytes"`
}

func suspicionView(s block.Suspicion) *suspicionBody {
	return &suspicionBody{s.Since.UTC(), s.Raised.UTC(), s.Clean, s.CleanAt.UTC(), s.Bytes}
}

func (s *Server) dismiss(r *http.Request, c block.Caller) (any, error) {
	id, ok := block.ParseID(r.PathValue("volume_id"))
	if !ok {
		return nil, block.Errorf(block.Invalid, "volume_id must be a UUID.")
	}
	return nil, s.cfg.Service.DismissSuspicion(r.Context(), c, block.Zone(r.PathValue("source_zone")), block.VolumeID(id))
}
