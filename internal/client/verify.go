package client

import (
	"context"
	"net/http"
)

// Verify asks for the replicas of a volume to be read and compared.
type Verify struct {
	Zone   string `json:"zone,omitempty"`
	Volume string `json:"volume_id"`
	Key    string `json:"idempotency_key,omitempty"`
}

// Verify begins to read the replicas that the session's zone has of a volume.
func (s *Session) Verify(ctx context.Context, r Verify) (Durable, error) {
	var out struct {
		Operation Durable `json:"operation"`
	}
	err := s.drCall(ctx, http.MethodPost, "/verifications", r, &out)
	return out.Operation, err
}
