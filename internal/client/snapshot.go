package client

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
)

// Snapshot is a snapshot as /v2 shows it.
type Snapshot struct {
	ID          string            `json:"id"`
	VolumeID    string            `json:"volume_id"`
	Name        *string           `json:"name"`
	Description *string           `json:"description"`
	Status      string            `json:"status"`
	Size        int64             `json:"size"` // GiB
	Metadata    map[string]string `json:"metadata"`
	Progress    string            `json:"os-extended-snapshot-attributes:progress"`
	CreatedAt   string            `json:"created_at"`
}

// NewSnapshot is a request for a snapshot. Force allows a volume in use.
type NewSnapshot struct {
	VolumeID    string `json:"volume_id"`
	Name        string `json:"name,omitempty"`
	Description string `json:"description,omitempty"`
	Force       bool   `json:"force"`
}

// Snapshots lists the project's snapshots in detail.
func (s *Session) Snapshots(ctx context.Context) ([]Snapshot, error) {
	var out struct {
		Snapshots []Snapshot `json:"snapshots"`
	}
	err := s.call(ctx, http.MethodGet, blockStorage, "/snapshots/detail", nil, &out)
	return out.Snapshots, err
}

// Snapshot shows one snapshot.
func (s *Session) Snapshot(ctx context.Context, id string) (Snapshot, error) {
	var out struct {
		Snapshot Snapshot `json:"snapshot"`
	}
	err := s.call(ctx, http.MethodGet, blockStorage, "/snapshots/"+url.PathEscape(id), nil, &out)
	return out.Snapshot, err
}

// CreateSnapshot asks for a snapshot.
func (s *Session) CreateSnapshot(ctx context.Context, n NewSnapshot) (Snapshot, error) {
	var out struct {
		Snapshot Snapshot `json:"snapshot"`
	}
	err := s.call(ctx, http.MethodPost, blockStorage, "/snapshots", map[string]any{"snapshot": n}, &out)
	return out.Snapshot, err
}

// DeleteSnapshot asks for a snapshot's deletion.
func (s *Session) DeleteSnapshot(ctx context.Context, id string) error {
	return s.call(ctx, http.MethodDelete, blockStorage, "/snapshots/"+url.PathEscape(id), nil, nil)
}

// WaitSnapshot polls until the snapshot has the wanted status; "deleted" for
// one that is gone.
func (s *Session) WaitSnapshot(ctx context.Context, id, want string) (Snapshot, error) {
	var last Snapshot
	err := Poll(ctx, pollEvery, func() (bool, error) {
		snap, err := s.Snapshot(ctx, id)
		if want == "deleted" && IsStatus(err, http.StatusNotFound) {
			return true, nil
		}
		if err != nil {
			return false, err
		}
		last = snap
		if snap.Status != want && isError(snap.Status) {
			return false, fmt.Errorf("snapshot %s went to status %s", id, snap.Status)
		}
		return snap.Status == want, nil
	})
	return last, err
}
