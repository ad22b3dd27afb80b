package drill

import (
	"encoding/json"
	"slices"
	"time"

	"kvol/internal/block"
)

// Report is what a drill showed.
type Report struct {
	ID       string             `json:"id"`
	Zone     block.Zone         `json:"zone"` // in which the drill ran
	Project  block.ProjectID    `json:"project_id"`
	User     block.UserID       `json:"user_id"`
	Schedule string             `json:"schedule"` // its name; "" for a drill on demand
	Request  block.DrillRequest `json:"request"`

	// Verdict is pass only if every volume was served from its point, every probe
	// passed, nothing was copied again and all clones are gone. Reasons say why it
	// is another one.
	Verdict string   `json:"verdict"`
	Reasons []string `json:"reasons"`
	Notes   []string `json:"notes"`

	CreatedAt time.Time  `json:"created_at"`
	StartedAt *time.Time `json:"started_at"` // when it began to recover
	ServedAt  *time.Time `json:"served_at"`  // when the last volume could be used
	EndedAt   time.Time  `json:"ended_at"`
	// RTO is from StartedAt to ServedAt; null where not all volumes were served.
	RTO *float64 `json:"rto_seconds"`
	// Spread is the time between the oldest and the newest point: 0 for one
	// instant.
	Spread     float64 `json:"spread_seconds"`
	OneInstant bool    `json:"one_instant"`
	// CopiedAgain is what replication had to send whole, from the beginning of the
	// drill to its end; Copied is what was copied from store to store within this
	// zone since a volume's type lies on another store, as a recovery would.
	CopiedAgain int64 `json:"copied_again_bytes"`
	Copied      int64 `json:"copied_in_zone_bytes"`
	ClonesMade  int   `json:"clones_made"`
	ClonesLeft  int   `json:"clones_left"`
	Restarts    int   `json:"restarts"` // of the zone's process meanwhile

	Steps   []Step    `json:"steps"`
	Volumes []Subject `json:"volumes"`
	Probes  []Probe   `json:"probes"` // those of all clones together
	Pairs   []Pair    `json:"pairs"`
}

// Step is a step of the drill, and how long it took.
type Step struct {
	Name    string           `json:"name"`
	Kind    block.StepKind   `json:"kind"`
	Wave    int              `json:"wave"`
	Status  block.StepStatus `json:"status"`
	Begun   *time.Time       `json:"begun_at"`
	Seconds float64          `json:"seconds"`
	Error   string           `json:"error"`
}

// Subject is one volume of the drill.
type Subject struct {
	SourceZone block.Zone       `json:"source_zone"`
	Source     block.VolumeID   `json:"source_volume"`
	Name       string           `json:"name"`
	Wave       int              `json:"wave"`
	Status     block.StepStatus `json:"status"`
	Error      string           `json:"error"`
	Point      block.PointID    `json:"point"`
	At         *time.Time       `json:"at"`          // the instant of the point on the source's clock
	Age        float64          `json:"age_seconds"` // of what the point has, when the drill began to recover
	Root       string           `json:"root"`
	Size       int64            `json:"size"`
	Way        string           `json:"way"`                  // clone or copy
	Served     *float64         `json:"served_after_seconds"` // after the drill began to recover
	Clone      float64          `json:"clone_seconds"`
	Open       float64          `json:"open_seconds"` // until its first and last block were read
	Probes     []Probe          `json:"probes"`
}

// Probe is what a probe found.
type Probe struct {
	Kind    block.DrillProbeKind `json:"kind"`
	Name    string               `json:"name"`
	Status  block.StepStatus     `json:"status"`
	Seconds float64              `json:"seconds"`
	Text    string               `json:"text"`
	Output  string               `json:"output"` // the beginning of it
}

// Pair is a protection of which volumes were in the drill: how old the replica
// that was the furthest behind was, before the drill, while it ran, and after.
type Pair struct {
	SourceZone block.Zone `json:"source_zone"`
	Protection int64      `json:"protection"`
	Target     float64    `json:"rpo_target_seconds"`
	Before     Figures    `json:"before"`
	During     Figures    `json:"during"`
	After      Figures    `json:"after"`
	Points     uint64     `json:"points"`       // committed since the drill began to watch
	Whole      int        `json:"whole_copies"` // of them, that were sent whole
}

// Figures are of a stretch of time, in seconds.
type Figures struct {
	Seconds float64 `json:"seconds"` // how long it was
	Median  float64 `json:"median_seconds"`
	P99     float64 `json:"p99_seconds"`
	Worst   float64 `json:"worst_seconds"`
}

// Samples are ages of a replica, taken again and again. They are thinned out
// when there are many; the worst one stays.
type Samples struct {
	ages  []time.Duration
	every int // which are kept
	seen  int
	worst time.Duration
	from  time.Time
	to    time.Time
}

const mostSamples = 4096

// Add takes an age in.
func (s *Samples) Add(at time.Time, age time.Duration) {
	if s.every == 0 {
		s.every, s.from = 1, at
	}
	s.to, s.worst = at, max(s.worst, age)
	if s.seen++; s.seen%s.every != 0 {
		return
	}
	if s.ages = append(s.ages, age); len(s.ages) < mostSamples {
		return
	}
	for i := range len(s.ages) / 2 {
		s.ages[i] = s.ages[2*i+1]
	}
	s.ages, s.every = s.ages[:len(s.ages)/2], 2*s.every
}

// Figures sums the samples up.
func (s *Samples) Figures() Figures {
	if len(s.ages) == 0 {
		return Figures{}
	}
	sorted := slices.Sorted(slices.Values(s.ages))
	at := func(share int) float64 { return sorted[min(len(sorted)-1, len(sorted)*share/100)].Seconds() }
	return Figures{Seconds: s.to.Sub(s.from).Seconds(), Median: at(50), P99: at(99), Worst: s.worst.Seconds()}
}

// JSON is the report as it is kept.
func (r Report) JSON() ([]byte, error) { return json.Marshal(r) }

// Read is the inverse of JSON.
func Read(text []byte) (r Report, err error) {
	err = json.Unmarshal(text, &r)
	return r, err
}
