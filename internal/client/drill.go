package client

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Drill asks for volumes of another zone to be recovered as isolated clones in
// the session's zone, which are looked at and deleted.
type Drill struct {
	Scope          RecoveryScope   `json:"scope"`
	Point          RecoveryPoint   `json:"point"`
	Mapping        RecoveryMapping `json:"mapping"`
	Parallel       int             `json:"parallel,omitempty"`
	Probes         []DrillProbe    `json:"probes,omitempty"`
	WatchSeconds   int             `json:"watch_seconds,omitempty"`
	TimeoutSeconds int             `json:"timeout_seconds,omitempty"`
	OverQuota      bool            `json:"over_quota,omitempty"`
	IdempotencyKey string          `json:"idempotency_key,omitempty"`
}

// DrillProbe is a way to look at the clones: verify, fsck, or a command or http
// of the zone's configuration, by its name.
type DrillProbe struct {
	Kind           string `json:"kind"`
	Name           string `json:"name,omitempty"`
	TimeoutSeconds int    `json:"timeout_seconds,omitempty"`
}

// DrillReport is what a drill showed; see the documentation of the DR API.
type DrillReport struct {
	ID          string     `json:"id"`
	Zone        string     `json:"zone"`
	Schedule    string     `json:"schedule"`
	Verdict     string     `json:"verdict"`
	Reasons     []string   `json:"reasons"`
	Notes       []string   `json:"notes"`
	CreatedAt   time.Time  `json:"created_at"`
	StartedAt   *time.Time `json:"started_at"`
	ServedAt    *time.Time `json:"served_at"`
	EndedAt     time.Time  `json:"ended_at"`
	RTO         *float64   `json:"rto_seconds"`
	Spread      float64    `json:"spread_seconds"`
	OneInstant  bool       `json:"one_instant"`
	CopiedAgain int64      `json:"copied_again_bytes"`
	Copied      int64      `json:"copied_in_zone_bytes"`
	ClonesMade  int        `json:"clones_made"`
	ClonesLeft  int        `json:"clones_left"`
	Restarts    int        `json:"restarts"`

	Steps   []DrillStep    `json:"steps"`
	Volumes []DrillVolume  `json:"volumes"`
	Probes  []DrillFinding `json:"probes"`
	Pairs   []DrillPair    `json:"pairs"`
}

// DrillStep is a step of a drill, and how long it took.
type DrillStep struct {
	Name    string  `json:"name"`
	Kind    string  `json:"kind"`
	Wave    int     `json:"wave"`
	Status  string  `json:"status"`
	Seconds float64 `json:"seconds"`
	Error   string  `json:"error"`
}

// DrillVolume is a volume of a drill.
type DrillVolume struct {
	SourceZone string         `json:"source_zone"`
	Source     string         `json:"source_volume"`
	Name       string         `json:"name"`
	Wave       int            `json:"wave"`
	Status     string         `json:"status"`
	Error      string         `json:"error"`
	Point      string         `json:"point"`
	At         *time.Time     `json:"at"`
	Age        float64        `json:"age_seconds"`
	Root       string         `json:"root"`
	Size       int64          `json:"size"`
	Way        string         `json:"way"`
	Served     *float64       `json:"served_after_seconds"`
	Clone      float64        `json:"clone_seconds"`
	Open       float64        `json:"open_seconds"`
	Probes     []DrillFinding `json:"probes"`
}

// DrillFinding is what a probe found.
type DrillFinding struct {
	Kind    string  `json:"kind"`
	Name    string  `json:"name"`
	Status  string  `json:"status"`
	Seconds float64 `json:"seconds"`
	Text    string  `json:"text"`
	Output  string  `json:"output"`
}

// DrillPair is how old the replicas of a protection were.
type DrillPair struct {
	SourceZone string       `json:"source_zone"`
	Protection int64        `json:"protection"`
	Target     float64      `json:"rpo_target_seconds"`
	Before     DrillFigures `json:"before"`
	During     DrillFigures `json:"during"`
	After      DrillFigures `json:"after"`
	Points     uint64       `json:"points"`
	Whole      int          `json:"whole_copies"`
}

// DrillFigures are of a stretch of time.
type DrillFigures struct {
	Seconds float64 `json:"seconds"`
	Median  float64 `json:"median_seconds"`
	P99     float64 `json:"p99_seconds"`
	Worst   float64 `json:"worst_seconds"`
}

// DrillSchedule has drills begin by themselves.
type DrillSchedule struct {
	ID          string     `json:"id,omitempty"`
	Project     string     `json:"project_id,omitempty"`
	Name        string     `json:"name"`
	When        string     `json:"when"`
	Enabled     bool       `json:"enabled"`
	Request     Drill      `json:"request"`
	NextAt      *time.Time `json:"next_at,omitempty"`
	LastAt      *time.Time `json:"last_at,omitempty"`
	LastDrill   string     `json:"last_drill,omitempty"`
	LastOutcome string     `json:"last_outcome,omitempty"`
	Skipped     int        `json:"skipped,omitempty"`
}

// StartDrill begins a drill.
func (s *Session) StartDrill(ctx context.Context, d Drill) (Durable, error) {
	var out struct {
		Operation Durable `json:"operation"`
	}
	err := s.drCall(ctx, http.MethodPost, "/drills", d, &out)
	return out.Operation, err
}

// CancelDrill ends a drill; its clones are deleted.
func (s *Session) CancelDrill(ctx context.Context, id string) (Durable, error) {
	return s.durable(ctx, http.MethodPost, "/drills/"+url.PathEscape(id)+"/cancel")
}

// DrillReport returns the report of a drill that ended.
func (s *Session) DrillReport(ctx context.Context, id string) (DrillReport, error) {
	var out struct {
		Report DrillReport `json:"report"`
	}
	err := s.dr(ctx, "/drills/"+url.PathEscape(id)+"/report", &out)
	return out.Report, err
}

// DrillReportText returns the report as JSON as the zone wrote it, or as a page
// of HTML.
func (s *Session) DrillReportText(ctx context.Context, id string, page bool) ([]byte, error) {
	if !page {
		var out struct {
			Report json.RawMessage `json:"report"`
		}
		err := s.dr(ctx, "/drills/"+url.PathEscape(id)+"/report", &out)
		return out.Report, err
	}
	base, err := s.URL(blockStorage)
	if err != nil {
		return nil, err
	}
	root, _, found := strings.Cut(base, "/v2/")
	if !found {
		return nil, fmt.Errorf("the block storage endpoint %s has no /v2/ in it", base)
	}
	var text bytes.Buffer
	_, _, err = exchange{http: s.http, method: http.MethodGet, out: &text,
		url:    root + "/api/dr/v1/drills/" + url.PathEscape(id) + "/report.html",
		header: http.Header{"X-Auth-Token": {s.token()}}}.do(ctx)
	return text.Bytes(), err
}

// DrillSchedules lists schedules of drills.
func (s *Session) DrillSchedules(ctx context.Context) ([]DrillSchedule, error) {
	var out struct {
		Schedules []DrillSchedule `json:"schedules"`
	}
	err := s.dr(ctx, "/drill-schedules", &out)
	return out.Schedules, err
}

// DrillSchedule shows a schedule, by its id or name.
func (s *Session) DrillSchedule(ctx context.Context, id string) (DrillSchedule, error) {
	return s.schedule(ctx, http.MethodGet, "/drill-schedules/"+url.PathEscape(id), nil)
}

// CreateDrillSchedule makes a schedule of its name, when, request and whether it
// is enabled.
func (s *Session) CreateDrillSchedule(ctx context.Context, d DrillSchedule) (DrillSchedule, error) {
	return s.schedule(ctx, http.MethodPost, "/drill-schedules", d.asked())
}

// UpdateDrillSchedule puts another one in the place of a schedule.
func (s *Session) UpdateDrillSchedule(ctx context.Context, id string, d DrillSchedule) (DrillSchedule, error) {
	return s.schedule(ctx, http.MethodPut, "/drill-schedules/"+url.PathEscape(id), d.asked())
}

// DeleteDrillSchedule forgets a schedule.
func (s *Session) DeleteDrillSchedule(ctx context.Context, id string) error {
	return s.drCall(ctx, http.MethodDelete, "/drill-schedules/"+url.PathEscape(id), nil, nil)
}

func (d DrillSchedule) asked() map[string]any {
	return map[string]any{"name": d.Name, "when": d.When, "enabled": d.Enabled, "request": d.Request}
}

func (s *Session) schedule(ctx context.Context, method, path string, in any) (DrillSchedule, error) {
	var out struct {
		Schedule DrillSchedule `json:"schedule"`
	}
	err := s.drCall(ctx, method, path, in, &out)
	return out.Schedule, err
}
