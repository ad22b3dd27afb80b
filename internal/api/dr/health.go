package dr

import (
	"net/http"
	"strconv"
	"time"

	"kvol/internal/block"
	"kvol/internal/control"
	"kvol/internal/lag"
)

// The pages of events.
const (
	defaultEvents = 100
	maxEvents     = control.MaxDRJobs
)

func (s *Server) health(r *http.Request, c block.Caller) (any, error) {
	h, err := s.cfg.Service.Health(r.Context(), c)
	if err != nil {
		return nil, err
	}
	by := transportsOf(s.cfg.Service.KnownProtections())
	volumes := each(h.Volumes, func(v control.VolumeState) volumeHealthBody { return volumeHealthView(v, by) })
	return healthBody{h.At.UTC(), lag.Objective, each(h.Pairs, pairView), volumes}, nil
}

type healthBody struct {
	AsOf      time.Time          `json:"as_of"`
	Objective float64            `json:"objective"` // the share of time within the target
	Pairs     []pairBody         `json:"pairs"`
	Volumes   []volumeHealthBody `json:"volumes"`
}

func (s *Server) events(r *http.Request, c block.Caller) (any, error) {
	limit, before := int64(defaultEvents), int64(0)
	for name, into := range map[string]*int64{"limit": &limit, "before": &before} {
		if text := r.URL.Query().Get(name); text != "" {
			n, err := strconv.ParseInt(text, 10, 64)
			if err != nil {
				return nil, block.Wrap(block.Invalid, err, "%s is a number.", name)
			}
			*into = n
		}
	}
	if limit > maxEvents {
		return nil, block.Errorf(block.Invalid, "limit must be between 1 and %d.", maxEvents)
	}
	events, err := s.cfg.Service.DREvents(r.Context(), c, before, int(limit))
	return map[string]any{"events": append([]block.DREvent{}, events...)}, err
}

func (s *Server) rtos(r *http.Request, c block.Caller) (any, error) {
	all, err := s.cfg.Service.RTOs(r.Context(), c, control.MaxAudits)
	return map[string]any{"rtos": each(all, rtoView)}, err
}

type rtoBody struct {
	Kind    string    `json:"kind"`
	Rowkey  int64     `json:"rowkey"`
	Subject string    `json:"subject"`
	At      time.Time `json:"at"`
	Way     string    `json:"way"`
	Bytes   int64     `json:"bytes"`
	Seconds float64   `json:"seconds"`
}

func rtoView(r block.RTO) rtoBody {
	return rtoBody{r.Kind, r.Rowkey, r.Subject, r.At.UTC(), r.Way, r.Bytes, r.Took.Seconds()}
}

// secondsOrNull is a stretch of time, or null for one that does not end.
func secondsOrNull(d time.Duration) *float64 {
	if d < 0 {
		return nil
	}
	f := d.Seconds()
	return &f
}

type pairBody struct {
	Protection   int64                     `json:"protection"`
	Role         string                    `json:"role"`
	SourceZone   block.Zone                `json:"source_zone"`
	Destination  block.Zone                `json:"destination"`
	Backend      string                    `json:"backup_backend"`
	State        block.HealthState         `json:"state"`
	Advice       string                    `json:"advice"`
	Volumes      map[block.HealthState]int `json:"volumes"`
	UpTo         *time.Time                `json:"replicated_up_to"`
	Unreplicated int64                     `json:"unreplicated_bytes"`
	Target       float64                   `json:"rpo_target_seconds"`
	RPO          rpoBody                   `json:"rpo"` // now and worst: of the volume that is the furthest behind
	SLO          sloBody                   `json:"slo"`
	Heard        *time.Time                `json:"heard"`
	Clock        *clockBody                `json:"clock"`
	Churn        float64                   `json:"churn_bytes_per_second"`
	Needs        float64                   `json:"link_bytes_per_second"` // that the changes take of the link
	Busy         float64                   `json:"link_busy"`
	Limit        int64                     `json:"limit_bytes_per_second"`          // 0 for none
	Tightest     int64                     `json:"tightest_limit_bytes_per_second"` // of the next day
	TightestAt   *time.Time                `json:"tightest_limit_at"`
	Transport    string                    `json:"transport"` // of the protection: stream or rbd-mirror
	// By is volumes, by how the bytes of their newest point came; empty at the target.
	By   map[string]int `json:"by_transport"`
	Room *roomBody      `json:"room"`
}

type clockBody struct {
	Ahead  float64 `json:"ahead_seconds"` // the other zone's
	Within float64 `json:"within_seconds"`
	Apart  bool    `json:"apart"`
}

type roomBody struct {
	Total  int64    `json:"total_bytes"`
	Free   int64    `json:"free_bytes"`
	Fills  float64  `json:"fills_bytes_per_second"`
	FullIn *float64 `json:"full_in_seconds"`
	Low    bool     `json:"low"`
}

func pairView(p control.PairState) pairBody {
	b := pairBody{Protection: p.Seq, Role: p.Role, SourceZone: p.SourceZone, Destination: p.Destination,
		Backend: p.Backup.Name, State: p.State, Advice: p.Advice, Volumes: p.Volumes, UpTo: when(p.UpTo),
		Unreplicated: p.Unreplicated, Target: p.RPO().Seconds(), RPO: rpoView(p.RPO(), p.Lag),
		SLO: sloView(p.Lag), Heard: when(p.Heard), Churn: p.Churn, Needs: p.Needs, Busy: p.Busy,
		Limit: p.Limit, Tightest: p.Tightest, TightestAt: when(p.TightestAt),
		Transport: p.Transport.String(), By: map[string]int{}}
	for t, n := range p.By {
		b.By[t.String()] = n
	}
	if p.Clock.Known {
		b.Clock = &clockBody{p.Clock.By.Seconds(), p.Clock.Within.Seconds(), p.Clock.Apart()}
	}
	if p.Room.Known {
		b.Room = &roomBody{p.Room.Total, p.Room.Free, p.Room.Fills, secondsOrNull(p.Room.FullIn), p.Room.Low}
	}
	return b
}

type volumeHealthBody struct {
	VolumeID    block.VolumeID    `json:"volume_id"`
	Name        string            `json:"name"`
	Project     block.ProjectID   `json:"project_id"`
	Protection  int64             `json:"protection"`
	Role        string            `json:"role"`
	SourceZone  block.Zone        `json:"source_zone"`
	Destination block.Zone        `json:"destination"`
	State       block.HealthState `json:"state"`
	Reason      string            `json:"reason"`
	Advice      string            `json:"advice"`
	Point       *pointBody        `json:"point"`
	UpTo        *time.Time        `json:"replicated_up_to"`
	Advanced    *time.Time        `json:"advanced_at"`
	Behind      *int64            `json:"unreplicated_bytes"` // null where it is not known
	BehindAsOf  *time.Time        `json:"unreplicated_as_of"`
	BehindSince *time.Time        `json:"unreplicated_since"`
	RPO         rpoBody           `json:"rpo"`
	SLO         sloBody           `json:"slo"`
	Forecast    forecastBody      `json:"forecast"`
	RTO         *rtoForecastBody  `json:"rto"`
	LastError   string            `json:"last_error"`
	Transport   *string           `json:"transport"`       // of its protection; null where none is known
	PointBy     *string           `json:"point_transport"` // how the point's bytes came; null at the target
}

type rpoBody struct {
	Target float64    `json:"target_seconds"`
	Now    float64    `json:"now_seconds"`
	Hour   windowBody `json:"hour"`
	Day    windowBody `json:"day"`
}

type windowBody struct {
	Known  float64 `json:"known_seconds"`
	Median float64 `json:"median_seconds"`
	P99    float64 `json:"p99_seconds"`
	Worst  float64 `json:"worst_seconds"`
	Breach float64 `json:"breach_seconds"`
}

func windowView(w lag.Window) windowBody {
	return windowBody{w.Known.Seconds(), w.Median.Seconds(), w.P99.Seconds(), w.Worst.Seconds(), w.Breach.Seconds()}
}

func rpoView(target time.Duration, r lag.Report) rpoBody {
	return rpoBody{target.Seconds(), r.Now.Seconds(), windowView(r.Hour), windowView(r.Day)}
}

func sloView(r lag.Report) sloBody { return sloBody{r.Month.Missed(), r.Burn1h, r.Burn24h, r.Used30d} }

type sloBody struct {
	Missed  float64 `json:"missed_30d"` // share of the known time
	Burn1h  float64 `json:"burn_1h"`
	Burn24h float64 `json:"burn_24h"`
	Used    float64 `json:"budget_used_30d"`
}

type forecastBody struct {
	Known      bool     `json:"known"`
	Holds      bool     `json:"holds"`
	Churn      float64  `json:"churn_bytes_per_second"`
	Throughput float64  `json:"throughput_bytes_per_second"`
	Expected   float64  `json:"expected_worst_seconds"`
	BreachIn   *float64 `json:"breach_in_seconds"`
	CatchUp    *float64 `json:"catch_up_seconds"`
}

type rtoForecastBody struct {
	Way      string  `json:"way"`
	Expected float64 `json:"expected_seconds"`
	Worst    float64 `json:"worst_seconds"`
	Measured int     `json:"measured"`
	Rests    string  `json:"rests_on"`
}

func volumeHealthView(v control.VolumeState, by map[block.ProtectionKey]*string) volumeHealthBody {
	b := volumeHealthBody{VolumeID: v.Volume, Name: v.Name, Project: v.Project, Protection: v.Protection, Role: v.Role,
		SourceZone: v.SourceZone, Destination: v.Destination, State: v.State, Reason: v.Reason, Advice: v.Advice,
		UpTo: when(v.UpTo), Advanced: when(v.Advanced), BehindAsOf: when(v.UnreplicatedAt),
		BehindSince: when(v.UnreplicatedSince), LastError: v.Error,
		Transport: by[block.ProtectionKey{SourceZone: v.SourceZone, Seq: v.Protection}],
		RPO:       rpoView(v.Target, v.Lag), SLO: sloView(v.Lag),
		Forecast: forecastBody{v.Forecast.Known, v.Forecast.Holds, v.Churn, v.Throughput, v.Forecast.Expected.Seconds(),
			secondsOrNull(v.Forecast.BreachIn), secondsOrNull(v.Forecast.CatchUp)}}
	if v.Point.ID != "" {
		p := pointView(v.Point, v.Point.ID)
		b.Point = &p
	}
	if v.By != nil {
		text := v.By.String()
		b.PointBy = &text
	}
	if v.Unreplicated >= 0 {
		b.Behind = &v.Unreplicated
	}
	if v.RTO != nil {
		b.RTO = &rtoForecastBody{v.RTO.Way, v.RTO.Expected.Seconds(), v.RTO.Worst.Seconds(), v.RTO.Measured, v.RTO.Rests}
	}
	return b
}
