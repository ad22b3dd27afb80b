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
	RPO            RPO            `json:"rpo"`
	SLO            SLO            `json:"slo"`
	Heard          *time.Time     `json:"heard"` // when the other zone last spoke
	Churn          float64        `json:"churn_bytes_per_second"`
	Transport      string         `json:"transport"`    // of the protection: stream or rbd-mirror
	By             map[string]int `json:"by_transport"` // volumes, by how the newest point's bytes came; source only
	Busy           float64        `json:"link_busy"`    // share of the link's time; from 1 on it is too slow
	Clock          *struct {
		Ahead  float64 `json:"ahead_seconds"`
		Within float64 `json:"within_seconds"`
		Apart  bool    `json:"apart"`
	} `json:"clock"`
	Room *struct {
		Total  int64    `json:"total_bytes"`
		Free   int64    `json:"free_bytes"`
		FullIn *float64 `json:"full_in_seconds"` // nil for never
		Low    bool     `json:"low"`
	} `json:"room"`
}

// VolumeHealth is the health of a volume under a policy, seen from one end.
type VolumeHealth struct {
	VolumeID       string     `json:"volume_id"`
	Name           string     `json:"name"`
	Project        string     `json:"project_id"`
	Protection     int64      `json:"protection"`
	Role           string     `json:"role"`
	SourceZone     string     `json:"source_zone"`
	Destination    string     `json:"destination"`
	State          string     `json:"state"`
	Reason         string     `json:"reason"`
	Advice         string     `json:"advice"`
	Point          *Point     `json:"point"`
	ReplicatedUpTo *time.Time `json:"replicated_up_to"`
	Transport      string     `json:"transport"`          // of its protection; "" where none is known
	PointTransport string     `json:"point_transport"`    // how the point's bytes came; "" where that is not known
	Unreplicated   *int64     `json:"unreplicated_bytes"` // nil where it is not known
	RPO            RPO        `json:"rpo"`
	SLO            SLO        `json:"slo"`
	Forecast       struct {
		Known      bool     `json:"known"`
		Holds      bool     `json:"holds"`
		Churn      float64  `json:"churn_bytes_per_second"`
		Throughput float64  `json:"throughput_bytes_per_second"`
		BreachIn   *float64 `json:"breach_in_seconds"`
	} `json:"forecast"`
	RTO *struct {
		Way      string  `json:"way"`
		Expected float64 `json:"expected_seconds"`
		Worst    float64 `json:"worst_seconds"`
		Measured int     `json:"measured"`
		RestsOn  string  `json:"rests_on"`
	} `json:"rto"`
	LastError string `json:"last_error"`
}

// RPO is what a disaster would have cost, in seconds.
type RPO struct {
	Target float64  `json:"target_seconds"`
	Now    float64  `json:"now_seconds"`
	Hour   DRWindow `json:"hour"`
	Day    DRWindow `json:"day"`
}

// SLO is how fast the budget of time above the target is used up, and how much
// of thirty days' is.
type SLO struct {
	Burn1h  float64 `json:"burn_1h"`
	Burn24h float64 `json:"burn_24h"`
	Used    float64 `json:"budget_used_30d"`
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

// RTO is how long a recovery took.
type RTO struct {
	Kind    string    `json:"kind"`
	Subject string    `json:"subject"`
	At      time.Time `json:"at"`
	Way     string    `json:"way"`
	Bytes   int64     `json:"bytes"`
	Seconds float64   `json:"seconds"`
}

// RTOs lists how long recoveries took in the zone, the newest first.
func (s *Session) RTOs(ctx context.Context) ([]RTO, error) {
	var out struct {
		RTOs []RTO `json:"rtos"`
	}
	err := s.dr(ctx, "/rtos", &out)
	return out.RTOs, err
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
