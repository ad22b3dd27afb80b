package client

import (
	"context"
	"net/http"
	"net/url"
	"time"
)

// Keep pins or holds a recovery point in the session's zone.
type Keep struct {
	ID         string     `json:"id"`
	Kind       string     `json:"kind"` // pin or hold
	Name       string     `json:"name"`
	SourceZone string     `json:"source_zone"`
	VolumeID   string     `json:"volume_id"`
	PointID    string     `json:"point_id"`
	PointAt    time.Time  `json:"point_at"`
	Until      *time.Time `json:"until"`   // of a hold
	ByZone     bool       `json:"by_zone"` // nobody asked for it
	CreatedAt  time.Time  `json:"created_at"`
}

// KeepRequest says how a point is to be kept: held where Until or Seconds is
// given.
type KeepRequest struct {
	Name    *string    `json:"name,omitempty"`
	Until   *time.Time `json:"until,omitempty"`
	Seconds int64      `json:"seconds,omitempty"`
}

// KeepPoint pins or holds a point of a volume of another zone: its id, a
// snapshot's, or "newest".
func (s *Session) KeepPoint(ctx context.Context, zone, volume, point string, req KeepRequest) (Keep, error) {
	path := "/replicas/" + url.PathEscape(zone) + "/" + url.PathEscape(volume) + "/points/" + url.PathEscape(point) +
		"/keeps"
	return s.keep(ctx, http.MethodPost, path, req)
}

// ChangeKeep renames a pin or hold, lengthens a hold, or makes one of a pin.
func (s *Session) ChangeKeep(ctx context.Context, id string, req KeepRequest) (Keep, error) {
	return s.keep(ctx, http.MethodPut, "/keeps/"+url.PathEscape(id), req)
}

func (s *Session) keep(ctx context.Context, method, path string, req KeepRequest) (Keep, error) {
	var out struct {
		Keep Keep `json:"keep"`
	}
	err := s.drCall(ctx, method, path, req, &out)
	return out.Keep, err
}

// ReleaseKeep takes a pin off; a hold is refused.
func (s *Session) ReleaseKeep(ctx context.Context, id string) error {
	return s.drCall(ctx, http.MethodDelete, "/keeps/"+url.PathEscape(id), nil, nil)
}

// Keeps lists pins and holds of points in the zone.
func (s *Session) Keeps(ctx context.Context) ([]Keep, error) {
	var out struct {
		Keeps []Keep `json:"keeps"`
	}
	err := s.dr(ctx, "/keeps", &out)
	return out.Keeps, err
}

// PointStats is what a point changed, in bytes.
type PointStats struct {
	Changed   int64   `json:"changed_bytes"`
	Rewritten int64   `json:"rewritten_bytes"` // of them, where something was before
	Ratio     float64 `json:"compressed_to"`   // 1 for what can't be compressed
	Scrambled int64   `json:"scrambled_bytes"`
	Rate      float64 `json:"changed_bytes_per_second"`
}

// Suspicion says that a volume looks as if it had been encrypted.
type Suspicion struct {
	Since     time.Time `json:"suspect_since"`
	LastClean string    `json:"last_clean"` // the point
	CleanAt   time.Time `json:"last_clean_at"`
	Bytes     int64     `json:"scrambled_bytes"`
}

// Dismiss says that a volume of another zone was not encrypted suddenly.
func (s *Session) Dismiss(ctx context.Context, zone, volume string) error {
	path := "/replicas/" + url.PathEscape(zone) + "/" + url.PathEscape(volume) + "/dismiss"
	return s.drCall(ctx, http.MethodPost, path, nil, nil)
}
