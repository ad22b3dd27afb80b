package client

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"time"
)

// Failover is a planned move of a volume to another zone, without loss.
type Failover struct {
	ID              string         `json:"id"`
	Status          string         `json:"status"` // running, success or fail
	Phase           string         `json:"phase"`
	VolumeID        string         `json:"volume_id"`
	Destination     string         `json:"destination"`
	DestinationType string         `json:"destination_type"`
	NewVolume       string         `json:"new_volume"` // in the destination; "" before the end
	Epoch           uint64         `json:"epoch"`
	Point           *Point         `json:"point"` // with which the volume goes on
	Error           string         `json:"error"` // why it went back
	Steps           []FailoverStep `json:"steps"`
	CreatedAt       time.Time      `json:"created_at"`
	EndedAt         *time.Time     `json:"ended_at"`
}

// FailoverStep is a part of a Failover.
type FailoverStep struct {
	Name    string     `json:"name"`
	Status  string     `json:"status"` // waiting, running or done
	Started *time.Time `json:"started_at"`
	Ended   *time.Time `json:"ended_at"`
}

// FailoverTo says where a volume is to go; the zero value is the only zone to
// which it is replicated and the type there of the same name.
type FailoverTo struct {
	Destination     string `json:"destination,omitempty"`
	DestinationType string `json:"destination_type,omitempty"`
	// IdempotencyKey makes it one failover however often it is asked for.
	IdempotencyKey string `json:"idempotency_key,omitempty"`
}

// Failover begins to move a volume of the session's zone to another zone.
func (s *Session) Failover(ctx context.Context, volume string, to FailoverTo) (Failover, error) {
	return s.beginFailover(ctx, volume, "failover", to)
}

// Failback begins to move a volume to the zone from which it was recovered.
func (s *Session) Failback(ctx context.Context, volume string, to FailoverTo) (Failover, error) {
	return s.beginFailover(ctx, volume, "failback", to)
}

func (s *Session) beginFailover(ctx context.Context, volume, action string, to FailoverTo) (Failover, error) {
	var out struct {
		Failover Failover `json:"failover"`
	}
	err := s.drCall(ctx, http.MethodPost, "/volumes/"+url.PathEscape(volume)+"/"+action, to, &out)
	return out.Failover, err
}

// FailoverByID shows a planned failover.
func (s *Session) FailoverByID(ctx context.Context, id string) (Failover, error) {
	var out struct {
		Failover Failover `json:"failover"`
	}
	err := s.dr(ctx, "/failovers/"+url.PathEscape(id), &out)
	return out.Failover, err
}

// Failovers lists the newest planned failovers out of the session's zone.
func (s *Session) Failovers(ctx context.Context) ([]Failover, error) {
	var out struct {
		Failovers []Failover `json:"failovers"`
	}
	err := s.dr(ctx, "/failovers", &out)
	return out.Failovers, err
}

// WaitFailover follows a planned failover to its end. One that went back is an
// error. progress, if not nil, is told each state. It bears a zone that does not answer
// for some minutes.
func (s *Session) WaitFailover(ctx context.Context, id string, progress func(Failover)) (f Failover, err error) {
	w := s.following("failover " + id)
	defer w.stop()
	err = Poll(ctx, 20*time.Millisecond, func() (bool, error) {
		now, err := s.FailoverByID(ctx, id)
		if failed := w.bear(ctx, err); failed != nil || err != nil {
			return false, failed
		}
		f = now
		if progress != nil {
			progress(f)
		}
		return f.Status != "running", nil
	})
	if err == nil && f.Status != "success" {
		err = fmt.Errorf("the volume stays in its zone: %s", f.Error)
	}
	return f, err
}
