package zone

import (
	"context"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"kvol/internal/block"
	"kvol/internal/control"
)

// maxVolumeSeries is of how many volumes there are series of their own, the
// worst first; those of pairs are always there.
const maxVolumeSeries = 2000

// The series of the health of replication. Times are instants and not ages: if
// whoever sets them stops, they grow old. role is this zone's end.
var (
	volumeLabels = []string{"role", "source_zone", "destination", "volume", "protection"}
	pairLabels   = []string{"role", "source_zone", "destination", "protection"}

	volumeTo = prometheus.NewDesc(
		"kvol_replicated_up_to_timestamp_seconds",
		"The instant, on this zone's clock, up to which the target has everything of a volume; 0 before the first point.",
		volumeLabels,
		nil,
	)
	volumePoint = prometheus.NewDesc("kvol_point_timestamp_seconds",
		"The instant of the newest committed point of a volume, on the source's clock.", volumeLabels, nil)
	volumeCommit = prometheus.NewDesc("kvol_point_commit_timestamp_seconds",
		"When the replica of a volume last advanced, as far as this process saw.", volumeLabels, nil)
	volumeBehind = prometheus.NewDesc("kvol_unreplicated_bytes",
		"Bytes that the backup zone lacks of a volume, as last counted by the source.", volumeLabels, nil)
	volumeTarget = prometheus.NewDesc("kvol_rpo_target_seconds", "How far a replica may be behind.", volumeLabels, nil)
	volumeBudget = prometheus.NewDesc("kvol_rpo_budget_used_ratio",
		"Share of thirty days' budget of time above the target that is used up.", volumeLabels, nil)
	volumeLeft = prometheus.NewDesc("kvol_volume_series_left_out",
		"Volumes that have no series of their own, since there are too many.", nil, nil)

	pairTo = prometheus.NewDesc("kvol_pair_replicated_up_to_timestamp_seconds",
		"The instant up to which the backup zone has everything of all volumes of a pair.", pairLabels, nil)
	pairTarget = prometheus.NewDesc("kvol_pair_rpo_target_seconds", "How far replicas of a pair may be behind.",
		pairLabels, nil)
	pairVolumes = prometheus.NewDesc("kvol_pair_volumes", "Volumes of a pair by the state of their health.",
		append([]string{"state"}, pairLabels...), nil)
	pairBehind = prometheus.NewDesc(
		"kvol_pair_unreplicated_bytes",
		"Bytes that the backup zone lacks of a pair's volumes.",
		pairLabels,
		nil,
	)
	pairBurn = prometheus.NewDesc("kvol_pair_rpo_burn_ratio",
		"How many times faster than allowed a window used the budget of time above the target.",
		append([]string{"window"}, pairLabels...), nil)
	pairHeard = prometheus.NewDesc("kvol_pair_heard_timestamp_seconds",
		"When the zone at the other end last told about itself; 0 for never.", pairLabels, nil)
	pairHolds = prometheus.NewDesc("kvol_pair_forecast_holds",
		"0 while more changes than the link carries, or the room of the target is used up within an hour.", pairLabels, nil)
	pairLimit = prometheus.NewDesc("kvol_pair_limit_bytes_per_second",
		"Bytes that may be sent for a pair in a second at this hour; 0 for no limit.", pairLabels, nil)
	pairNeeds = prometheus.NewDesc("kvol_pair_needs_bytes_per_second",
		"Bytes of the link that a pair's changes take in a second.", pairLabels, nil)
	pairTransport = prometheus.NewDesc("kvol_pair_transport_info",
		"1 for the transport that a pair's protection names: stream or rbd-mirror.",
		append([]string{"transport"}, pairLabels...), nil)
	pairBy = prometheus.NewDesc("kvol_pair_volumes_by_transport",
		"Volumes of a pair by how the bytes of their newest point came; of sources only.",
		append([]string{"transport"}, pairLabels...), nil)
	pairFull = prometheus.NewDesc("kvol_pair_room_full_timestamp_seconds",
		"When the room of the backup backend will be used up; absent while it won't be.", pairLabels, nil)
	leaseUntil = prometheus.NewDesc("kvol_lease_until_timestamp_seconds",
		"Until when the destination lets this zone's hosts write to a protection's volumes; 0 before its first word.",
		[]string{"destination", "protection"}, nil)
	clockAhead = prometheus.NewDesc("kvol_clock_ahead_seconds", "How far another zone's clock is ahead of this one's.",
		[]string{"peer"}, nil)
	rtoSeconds = prometheus.NewDesc("kvol_rto_seconds", "How long the newest recovery of a kind took.",
		[]string{"kind", "way"}, nil)
	doctorFound = prometheus.NewDesc("kvol_doctor_findings",
		"What the doctor found of a kind when it last looked by itself.", []string{"kind"}, nil)
	doctorAt = prometheus.NewDesc("kvol_doctor_visited_timestamp_seconds",
		"When the doctor last looked by itself; absent before the first time.", nil, nil)
	lookedAt = prometheus.NewDesc("kvol_health_assessed_timestamp_seconds",
		"When the health of replication was last assessed.", nil, nil)
)

// observer sees everything, for metrics.
var observer = block.Caller{Roles: []string{"admin"}}

// health tells of replication as the watchdog sees it.
func (c *storeCollector) health(ctx context.Context, to chan<- prometheus.Metric) {
	h, err := c.server.control.Health(ctx, observer)
	if err != nil {
		to <- prometheus.NewInvalidMetric(lookedAt, err)
		return
	}
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	for p, until := range c.server.control.Leases() {
		at := 0.0
		if !until.IsZero() {
			at = seconds(until)
		}
		gauge(leaseUntil, at, string(p.Destination), strconv.FormatInt(p.Seq, 10))
	}
	gauge(lookedAt, seconds(h.At))
	gauge(volumeLeft, float64(max(0, len(h.Volumes)-maxVolumeSeries)))
	for _, v := range h.Volumes[:min(len(h.Volumes), maxVolumeSeries)] {
		volumeSeries(gauge, v)
	}
	clocks := map[block.Zone]bool{}
	for _, p := range h.Pairs {
		pairSeries(gauge, h, p)
		other := p.Destination
		if p.Role == control.RoleTarget {
			other = p.SourceZone
		}
		if p.Clock.Known && !clocks[other] {
			clocks[other] = true
			gauge(clockAhead, p.Clock.By.Seconds(), string(other))
		}
	}
	c.rtos(ctx, to, gauge)
	c.doctor(ctx, to, gauge)
}

// doctor tells what the doctor found, each kind also where that is nothing.
func (c *storeCollector) doctor(
	ctx context.Context,
	to chan<- prometheus.Metric,
	gauge func(*prometheus.Desc, float64, ...string),
) {
	f, ok, err := c.server.control.LastVisit(ctx, observer)
	if err != nil {
		to <- prometheus.NewInvalidMetric(doctorAt, err)
	}
	if !ok || err != nil {
		return
	}
	counts := map[block.FindingKind]int{}
	for _, kind := range block.FindingKinds {
		counts[kind] = 0
	}
	for _, one := range f.All {
		counts[one.Kind]++
	}
	for kind, n := range counts {
		gauge(doctorFound, float64(n), string(kind))
	}
	gauge(doctorAt, seconds(f.At))
}

func volumeSeries(gauge func(*prometheus.Desc, float64, ...string), v control.VolumeState) {
	if v.Protection == 0 || v.State == block.HealthStale {
		return
	}
	labels := []string{v.Role, string(v.SourceZone), string(v.Destination), string(v.Volume),
		strconv.FormatInt(v.Protection, 10)}
	gauge(volumeTarget, v.Target.Seconds(), labels...)
	upTo := 0.0
	if !v.UpTo.IsZero() {
		upTo = seconds(v.UpTo)
	}
	gauge(volumeTo, upTo, labels...)
	if v.Point.ID != "" {
		gauge(volumePoint, seconds(v.Point.At), labels...)
	}
	if !v.Advanced.IsZero() {
		gauge(volumeCommit, seconds(v.Advanced), labels...)
	}
	if v.Unreplicated >= 0 {
		gauge(volumeBehind, float64(v.Unreplicated), labels...)
	}
	gauge(volumeBudget, v.Lag.Used30d, labels...)
}

func pairSeries(gauge func(*prometheus.Desc, float64, ...string), h control.Health, p control.PairState) {
	labels := []string{p.Role, string(p.SourceZone), string(p.Destination), strconv.FormatInt(p.Seq, 10)}
	gauge(pairTarget, p.RPO().Seconds(), labels...)
	if !p.UpTo.IsZero() {
		gauge(pairTo, seconds(p.UpTo), labels...)
	}
	for state, n := range p.Volumes {
		gauge(pairVolumes, float64(n), append([]string{string(state)}, labels...)...)
	}
	gauge(pairBurn, p.Lag.Burn1h, append([]string{"1h"}, labels...)...)
	gauge(pairBurn, p.Lag.Burn24h, append([]string{"24h"}, labels...)...)
	gauge(pairTransport, 1, append([]string{transportLabel(p.Transport)}, labels...)...)
	if p.Role == control.RoleSource {
		for _, t := range []block.Transport{block.TransportStream, block.TransportMirror} {
			gauge(pairBy, float64(p.By[t]), append([]string{transportLabel(t)}, labels...)...)
		}
		gauge(pairBehind, float64(p.Unreplicated), labels...)
		gauge(pairLimit, float64(p.Limit), labels...)
		gauge(pairNeeds, p.Needs, labels...)
	}
	heard, holds := 0.0, 1.0
	if !p.Heard.IsZero() {
		heard = seconds(p.Heard)
	}
	if p.Volumes[block.HealthCannotHold] > 0 || p.Busy >= 1 || p.Room.Low {
		holds = 0
	}
	gauge(pairHeard, heard, labels...)
	gauge(pairHolds, holds, labels...)
	if p.Room.Known && p.Room.FullIn >= 0 {
		gauge(pairFull, seconds(h.At.Add(p.Room.FullIn)), labels...)
	}
}

// transportLabel is a transport's name, or "other" for one that only another zone
// knows.
func transportLabel(t block.Transport) string {
	if t != block.TransportStream && t != block.TransportMirror {
		return "other"
	}
	return t.String()
}

// rtos tells the newest of each kind and way.
func (c *storeCollector) rtos(ctx context.Context, to chan<- prometheus.Metric,
	gauge func(*prometheus.Desc, float64, ...string),
) {
	all, err := c.server.control.RTOs(ctx, observer, maxVolumeSeries)
	if err != nil {
		to <- prometheus.NewInvalidMetric(rtoSeconds, err)
		return
	}
	told := map[[2]string]bool{}
	for _, r := range all {
		if k := [2]string{r.Kind, r.Way}; !told[k] {
			told[k] = true
			gauge(rtoSeconds, r.Took.Seconds(), r.Kind, r.Way)
		}
	}
}
