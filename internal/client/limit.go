package client

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// Limit is how much replication may send to a zone.
type Limit struct {
	Zone       string   `json:"zone,omitempty"`       // the destination
	Protection int64    `json:"protection,omitempty"` // 0 for all together
	Rate       int64    `json:"rate"`                 // bytes a second; 0 for no limit
	CopyRate   int64    `json:"copy_rate"`            // of first copies
	Weight     int      `json:"weight"`
	Schedule   Schedule `json:"schedule"`
	Now        int64    `json:"rate_now,omitempty"`
	By         string   `json:"changed_by,omitempty"`
}

// Schedule says at which hours another rate applies.
type Schedule struct {
	TimeZone string   `json:"time_zone,omitempty"`
	Windows  []Window `json:"windows,omitempty"`
}

// Window is a stretch of the day.
type Window struct {
	Days []string `json:"days,omitempty"`
	From string   `json:"from"`
	To   string   `json:"to"`
	Rate int64    `json:"rate"`
}

// Limits lists how much the zone may send to others.
func (s *Session) Limits(ctx context.Context) ([]Limit, error) {
	var out struct {
		Limits []Limit `json:"limits"`
	}
	err := s.dr(ctx, "/limits", &out)
	return out.Limits, err
}

// SetLimit changes how much the zone may send to another one.
func (s *Session) SetLimit(ctx context.Context, l Limit) (Limit, error) {
	var out struct {
		Limit Limit `json:"limit"`
	}
	in := map[string]any{"rate": l.Rate, "copy_rate": l.CopyRate, "weight": l.Weight, "schedule": l.Schedule}
	err := s.drCall(ctx, http.MethodPut, limitPath(l.Zone, l.Protection), in, &out)
	return out.Limit, err
}

// DeleteLimit takes a limit off.
func (s *Session) DeleteLimit(ctx context.Context, zone string, protection int64) error {
	return s.drCall(ctx, http.MethodDelete, limitPath(zone, protection), nil, nil)
}

// Relay is how far a replica was sent on to a third zone.
type Relay struct {
	SourceZone     string     `json:"source_zone"`
	VolumeID       string     `json:"volume_id"`
	Destination    string     `json:"destination"`
	Confirmed      *Point     `json:"confirmed"`
	ReplicatedUpTo *time.Time `json:"replicated_up_to"`
	LastError      string     `json:"last_error"`
	BytesSent      int64      `json:"bytes_sent"`
}

// Relays lists how far the zone sent its replicas on.
func (s *Session) Relays(ctx context.Context) ([]Relay, error) {
	var out struct {
		Relays []Relay `json:"relays"`
	}
	err := s.dr(ctx, "/relays", &out)
	return out.Relays, err
}

func limitPath(zone string, protection int64) string {
	path := "/limits/" + url.PathEscape(zone)
	if protection != 0 {
		path += "/" + strconv.FormatInt(protection, 10)
	}
	return path
}
