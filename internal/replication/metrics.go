package replication

import (
	"context"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"kvol/internal/catalog"
)

var (
	_ prometheus.Collector = (*Sender)(nil)
	_ prometheus.Collector = (*Receiver)(nil)
)

// The series of both ends. They tell instants and not lags, so that one that
// stands still is seen to grow old; role is "source" or "target", zone the one
// at the other end, volume the source volume.
var (
	upToDesc = prometheus.NewDesc("kvol_replicated_up_to_timestamp_seconds",
		"Instant up to which the target has everything; 0 before the first point.", linkLabels(), nil)
	sinceDesc = prometheus.NewDesc("kvol_unreplicated_since_timestamp_seconds",
		"When the first change was noticed that the target may lack; 0 if there is none.", linkLabels(), nil)
	sentDesc = prometheus.NewDesc("kvol_replication_sent_bytes_total",
		"Bytes that went out to the target.", linkLabels(), nil)
	failingDesc = prometheus.NewDesc("kvol_replication_failing",
		"1 if the last attempt failed.", linkLabels(), nil)
	pointDesc = prometheus.NewDesc("kvol_point_timestamp_seconds",
		"Instant of the newest committed point; 0 before the first.", linkLabels(), nil)
)

func linkLabels() []string { return []string{"role", "zone", "volume", "protection"} }

// Describe implements prometheus.Collector.
func (s *Sender) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{upToDesc, sinceDesc, sentDesc, failingDesc} {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (s *Sender) Collect(out chan<- prometheus.Metric) {
	for _, l := range s.Status() {
		labels := []string{"source", string(l.Zone), string(l.Volume), strconv.FormatInt(l.Protection, 10)}
		tell := func(d *prometheus.Desc, kind prometheus.ValueType, v float64) {
			out <- prometheus.MustNewConstMetric(d, kind, v, labels...)
		}
		tell(upToDesc, prometheus.GaugeValue, seconds(l.ReplicatedTo))
		tell(sinceDesc, prometheus.GaugeValue, seconds(l.UnreplicatedSince))
		tell(sentDesc, prometheus.CounterValue, float64(l.BytesSent))
		tell(failingDesc, prometheus.GaugeValue, oneIf(l.State == catalog.LinkError))
	}
}

// Describe implements prometheus.Collector.
func (r *Receiver) Describe(out chan<- *prometheus.Desc) {
	// None are named, since the Sender's are the same in part and may be collected
	// beside: the labels tell them apart.
}

// Collect implements prometheus.Collector. A catalog that can't be read gives
// no series.
func (r *Receiver) Collect(out chan<- prometheus.Metric) {
	all, err := r.Status(context.Background())
	if err != nil {
		out <- prometheus.NewInvalidMetric(pointDesc, err)
		return
	}
	for _, s := range all {
		labels := []string{"target", string(s.SourceZone), string(s.Source), strconv.FormatInt(s.Protection, 10)}
		out <- prometheus.MustNewConstMetric(upToDesc, prometheus.GaugeValue, seconds(s.ReplicatedTo), labels...)
		out <- prometheus.MustNewConstMetric(pointDesc, prometheus.GaugeValue, seconds(s.Newest.At), labels...)
	}
}

func seconds(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixMicro()) / 1e6
}

func oneIf(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}
