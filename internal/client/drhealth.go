package client

import (
	"context"
	"fmt"
	"time"
)

// DRHealth is how well what is replicated could be recovered, as the session's
// zone sees it. Tenants see their volumes, and no pairs.
type DRHealth struct {
	AsOf    time.Time      `json:"as_of"`
	Pairs   []PairHealth   `json:"pairs"`
	Volumes []VolumeHealth `json:"volumes"`
}

// PairHealth is the health of a policy, seen from one of its ends.
type PairHealth struct {
	Protection     int64          `json:"protection"`
	Role           string         `json:"role"` // source or target
	SourceZone     string         `json:"source_zone"`
	Destination    string         `json:"destination"`
	State          string         `json:"state"`
	Advice         string         `json:"advice"`
	Volumes        map[string]int `json:"volumes"` // by state
	ReplicatedUpTo *time.Time     `json:"replicated_up_to"`
	Unreplicated   int64          `json:"unreplicated_bytes"`
	Target         float64        `json:"rpo_target_seconds"`
}

// VolumeHealth is the health of a volume under a policy, seen from one end.
type VolumeHealth struct {
	VolumeID       string     `json:"volume_id"`
	Name           string     `json:"name"`
	Protection     int64      `json:"protection"`
	Role           string     `json:"role"`
	SourceZone     string     `json:"source_zone"`
	Destination    string     `json:"destination"`
	State          string     `json:"state"`
	Reason         string     `json:"reason"`
	Advice         string     `json:"advice"`
	Point          *Point     `json:"point"`
	ReplicatedUpTo *time.Time `json:"replicated_up_to"`
	Unreplicated   *int64     `json:"unreplicated_bytes"` // nil where it is not known
	RPO            struct {
		Target float64  `json:"target_seconds"`
		Now    float64  `json:"now_seconds"`
		Hour   DRWindow `json:"hour"`
		Day    DRWindow `json:"day"`
	} `json:"rpo"`
	SLO struct {
		Burn1h  float64 `json:"burn_1h"`
		Burn24h float64 `json:"burn_24h"`
		Used    float64 `json:"budget_used_30d"`
	} `json:"slo"`
}

// DRWindow is how far behind a replica was over a stretch of time, in seconds.
type DRWindow struct {
	Known  float64 `json:"known_seconds"`
	Median float64 `json:"median_seconds"`
	P99    float64 `json:"p99_seconds"`
	Worst  float64 `json:"worst_seconds"`
	Breach float64 `json:"breach_seconds"`
}

// DREvent is a change of health.
type DREvent struct {
	ID         int64     `json:"id"`
	At         time.Time `json:"at"`
	Kind       string    `json:"kind"`
	SourceZone string    `json:"source_zone"`
	Peer       string    `json:"peer"`
	Protection int64     `json:"protection"`
	VolumeID   string    `json:"volume_id"`
	From       string    `json:"from"`
	To         string    `json:"to"`
	Text       string    `json:"text"`
}

// DRHealth tells how replication stands.
func (s *Session) DRHealth(ctx context.Context) (out DRHealth, err error) {
	err = s.dr(ctx, "/health", &out)
	return out, err
}

// DREvents lists the newest changes of health, at most limit.
func (s *Session) DREvents(ctx context.Context, limit int) ([]DREvent, error) {
	var out struct {
		Events []DREvent `json:"events"`
	}
	err := s.dr(ctx, fmt.Sprintf("/events?limit=%d", limit), &out)
	return out.Events, err
}
