package client

import (
	"context"
	"net/http"
	"time"
)

// Process is one of those that serve the session's zone together. It is for
// administrators.
type Process struct {
	ID      string    `json:"id"`
	Name    string    `json:"name"`
	Host    string    `json:"host"`
	PID     int       `json:"pid"`
	URL     string    `json:"url"`
	Version string    `json:"version"`
	State   string    `json:"state"`  // serving, stopping or dead
	Duties  []string  `json:"duties"` // "lead" among them: it has the stores open
	Started time.Time `json:"started"`
	Seen    time.Time `json:"seen"`
}

// Processes lists the processes that serve the zone together; none where one does.
func (s *Session) Processes(ctx context.Context) ([]Process, error) {
	var out struct {
		Processes []Process `json:"processes"`
	}
	err := s.storesAPI(ctx, http.MethodGet, "processes", nil, &out)
	return out.Processes, err
}
