package client

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"time"
)

// Recovery asks for volumes of another zone to be recovered in the session's
// zone. Scope has one of Volumes, Group, Project, Plan and Zone.
type Recovery struct {
	Scope   RecoveryScope   `json:"scope"`
	Point   RecoveryPoint   `json:"point"`
	Mapping RecoveryMapping `json:"mapping"`

	Parallel          int    `json:"parallel,omitempty"`
	DryRun            bool   `json:"dry_run,omitempty"`
	AcceptLoss        bool   `json:"accept_loss,omitempty"`
	SkipUnrecoverable bool   `json:"skip_unrecoverable,omitempty"`
	OverQuota         bool   `json:"over_quota,omitempty"`
	Again             bool   `json:"again,omitempty"`
	IdempotencyKey    string `json:"idempotency_key,omitempty"`
	// AcceptRivals are zones that are known to be lost, or not to have taken over
	// what is recovered.
	AcceptRivals []string `json:"accept_rivals,omitempty"`
}

// RecoveryScope says which volumes are meant.
type RecoveryScope struct {
	Zone    string   `json:"zone,omitempty"`
	Volumes []string `json:"volumes,omitempty"`
	Group   string   `json:"group,omitempty"`
	Project string   `json:"project,omitempty"`
	Plan    string   `json:"plan,omitempty"`
}

// RecoveryPoint says as of when; its zero value is the newest point.
type RecoveryPoint struct {
	At          *time.Time `json:"at,omitempty"`
	Name        string     `json:"name,omitempty"`
	LastClean   bool       `json:"last_clean,omitempty"`
	SameInstant *bool      `json:"same_instant,omitempty"`
}

// RecoveryMapping says what becomes of what; "*" stands for all others.
type RecoveryMapping struct {
	Project          map[string]string `json:"project,omitempty"`
	Type             map[string]string `json:"type,omitempty"`
	AvailabilityZone map[string]string `json:"availability_zone,omitempty"`
	Name             string            `json:"name,omitempty"`
}

// Loss is what a recovery loses.
type Loss struct {
	Since        *time.Time `json:"since"`
	Seconds      float64    `json:"seconds"`
	Later        int64      `json:"later_bytes"`
	Unreplicated *int64     `json:"unreplicated_bytes"` // nil where nobody knows
}

// Problem is why something can't be recovered as was asked.
type Problem struct {
	Kind string `json:"kind"`
	Text string `json:"text"`
}

// Forecast is what a recovery would do.
type Forecast struct {
	Possible        bool             `json:"possible"`
	NeedsAcceptLoss bool             `json:"needs_accept_loss"`
	Loss            Loss             `json:"loss"`
	Problems        []Problem        `json:"problems"`
	ExpectedSeconds *float64         `json:"expected_seconds"`
	Rests           string           `json:"expected_rests_on"`
	Volumes         []ForecastVolume `json:"volumes"`
	Groups          []ForecastGroup  `json:"groups"`
}

// ForecastGroup is the instant as of which a group is recovered.
type ForecastGroup struct {
	GroupID string    `json:"group_id"`
	At      time.Time `json:"at"`
	Seconds float64   `json:"seconds"` // what was written since then is lost
	Cut     *Cut      `json:"cut"`     // nil for a group snapshot
	Volumes int       `json:"volumes"`
	Without int       `json:"without"` // volumes that have no point of it
}

// Cut is an instant at which volumes of a group were cut together.
type Cut struct {
	ID      string `json:"id"`
	GroupID string `json:"group_id"`
	Members int    `json:"members"`
	Of      int    `json:"of"`
}

// ForecastVolume is what would become of a volume.
type ForecastVolume struct {
	SourceZone string    `json:"source_zone"`
	Source     string    `json:"source_volume"`
	Wave       int       `json:"wave"`
	Name       string    `json:"name"`
	Project    string    `json:"project_id"`
	Type       string    `json:"type"`
	Zone       string    `json:"availability_zone"`
	SizeGiB    int64     `json:"size_gib"`
	Way        string    `json:"way"`
	Point      *Point    `json:"point"`
	Loss       *Loss     `json:"loss"`
	Problems   []Problem `json:"problems"`
}

// Durable is an operation that survives whatever happens to its zone.
type Durable struct {
	ID         string          `json:"id"`
	Kind       string          `json:"kind"`
	Status     string          `json:"status"`
	Message    string          `json:"message"`
	Project    string          `json:"project_id"`
	ConsentBy  string          `json:"consent_by"`
	CanceledBy string          `json:"canceled_by"`
	CreatedAt  *time.Time      `json:"created_at"`
	StartedAt  *time.Time      `json:"started_at"`
	ServedAt   *time.Time      `json:"served_at"`
	EndedAt    *time.Time      `json:"ended_at"`
	Cancelable bool            `json:"cancelable"`
	BytesDone  int64           `json:"bytes_done"`
	BytesTotal int64           `json:"bytes_total"`
	ETA        *time.Time      `json:"eta"`
	Steps      []DurableStep   `json:"steps"`
	Request    json.RawMessage `json:"request"`
}

// DurableStep is a step of a Durable.
type DurableStep struct {
	Seq        int             `json:"seq"`
	Stage      int             `json:"stage"`
	Wave       int             `json:"wave"`
	Kind       string          `json:"kind"`
	Name       string          `json:"name"`
	Status     string          `json:"status"`
	Cancelable bool            `json:"cancelable"`
	SourceZone string          `json:"source_zone"`
	Source     string          `json:"source_volume"`
	NewVolume  string          `json:"new_volume"`
	Project    string          `json:"project_id"`
	Point      *Point          `json:"point"`
	Loss       *Loss           `json:"loss"`
	BytesDone  int64           `json:"bytes_done"`
	BytesTotal int64           `json:"bytes_total"`
	Error      string          `json:"error"`
	Evidence   json.RawMessage `json:"evidence"`
	StartedAt  *time.Time      `json:"started_at"`
	EndedAt    *time.Time      `json:"ended_at"`
}

// Ended reports whether nothing more will happen.
func (d Durable) Ended() bool { return d.EndedAt != nil }

// Recover begins a recovery; with DryRun it only returns what that would do.
func (s *Session) Recover(ctx context.Context, r Recovery) (Durable, Forecast, error) {
	var out struct {
		Operation Durable  `json:"operation"`
		Forecast  Forecast `json:"forecast"`
	}
	err := s.drCall(ctx, http.MethodPost, "/recoveries", r, &out)
	return out.Operation, out.Forecast, err
}

// Durables lists the newest operations, of a kind or all for "".
func (s *Session) Durables(ctx context.Context, kind string) ([]Durable, error) {
	var out struct {
		Operations []Durable `json:"operations"`
	}
	err := s.dr(ctx, "/operations?kind="+url.QueryEscape(kind), &out)
	return out.Operations, err
}

// Durable shows an operation with its steps.
func (s *Session) Durable(ctx context.Context, id string) (Durable, error) {
	return s.durable(ctx, http.MethodGet, "/operations/"+url.PathEscape(id))
}

// CancelDurable has no further step of an operation begin.
func (s *Session) CancelDurable(ctx context.Context, id string) (Durable, error) {
	return s.durable(ctx, http.MethodPost, "/operations/"+url.PathEscape(id)+"/cancel")
}

// ConsentDurable agrees to an operation that waits for a second person.
func (s *Session) ConsentDurable(ctx context.Context, id string) (Durable, error) {
	return s.durable(ctx, http.MethodPost, "/operations/"+url.PathEscape(id)+"/consent")
}

func (s *Session) durable(ctx context.Context, method, path string) (Durable, error) {
	var out struct {
		Operation Durable `json:"operation"`
	}
	err := s.drCall(ctx, method, path, nil, &out)
	return out.Operation, err
}

// WaitDurable follows an operation to its end. One that did not succeed is an
// error. progress, if not nil, is told each state. The more steps there are to
// be told of, the less often it asks. It bears a zone that does not answer for some
// minutes; after that d is what was last known.
func (s *Session) WaitDurable(ctx context.Context, id string, progress func(Durable)) (d Durable, err error) {
	f := s.following("operation " + id)
	defer f.stop()
	for {
		now, err := s.Durable(ctx, id)
		if failed := f.bear(ctx, err); failed != nil {
			return d, failed
		}
		if err != nil {
			continue
		}
		d = now
		if progress != nil {
			progress(d)
		}
		if d.Ended() {
			break
		}
		select {
		case <-ctx.Done():
			return d, ctx.Err()
		case <-time.After(50*time.Millisecond + time.Duration(len(d.Steps))*time.Millisecond):
		}
	}
	if d.Status != "succeeded" {
		err = fmt.Errorf("operation %s is %s: %s", d.ID, d.Status, d.Message)
	}
	return d, err
}

// RecoveryPlan is how volumes are to be recovered, in waves.
type RecoveryPlan struct {
	ID          string          `json:"id,omitempty"`
	Project     string          `json:"project_id,omitempty"`
	Name        string          `json:"name"`
	Description string          `json:"description,omitempty"`
	Waves       []RecoveryWave  `json:"waves"`
	Mapping     RecoveryMapping `json:"mapping"`
}

// RecoveryWave is a part of a RecoveryPlan.
type RecoveryWave struct {
	Name        string        `json:"name,omitempty"`
	Scope       RecoveryScope `json:"scope"`
	Parallel    int           `json:"parallel,omitempty"`
	WaitSeconds int           `json:"wait_seconds,omitempty"`
	Before      string        `json:"before,omitempty"`
	After       string        `json:"after,omitempty"`
	HookSeconds int           `json:"hook_seconds,omitempty"`
	GoOn        bool          `json:"continue_on_failure,omitempty"`
}

// Plans lists recovery plans.
func (s *Session) Plans(ctx context.Context) ([]RecoveryPlan, error) {
	var out struct {
		Plans []RecoveryPlan `json:"plans"`
	}
	err := s.dr(ctx, "/plans", &out)
	return out.Plans, err
}

// Plan shows a recovery plan by its id or name.
func (s *Session) Plan(ctx context.Context, id string) (RecoveryPlan, error) {
	var out struct {
		Plan RecoveryPlan `json:"plan"`
	}
	err := s.dr(ctx, "/plans/"+url.PathEscape(id), &out)
	return out.Plan, err
}

// CreatePlan makes a recovery plan.
func (s *Session) CreatePlan(ctx context.Context, p RecoveryPlan) (RecoveryPlan, error) {
	var out struct {
		Plan RecoveryPlan `json:"plan"`
	}
	err := s.drCall(ctx, http.MethodPost, "/plans", p, &out)
	return out.Plan, err
}

// UpdatePlan puts another plan into the place of one, by its id or name.
func (s *Session) UpdatePlan(ctx context.Context, id string, p RecoveryPlan) (RecoveryPlan, error) {
	var out struct {
		Plan RecoveryPlan `json:"plan"`
	}
	in := map[string]any{"name": p.Name, "description": p.Description, "waves": p.Waves, "mapping": p.Mapping}
	err := s.drCall(ctx, http.MethodPut, "/plans/"+url.PathEscape(id), in, &out)
	return out.Plan, err
}

// DeletePlan forgets a recovery plan.
func (s *Session) DeletePlan(ctx context.Context, id string) error {
	return s.drCall(ctx, http.MethodDelete, "/plans/"+url.PathEscape(id), nil, nil)
}
