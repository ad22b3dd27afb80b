package zone

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"kvol/internal/replication"
)

// storeCollector tells of stores and replication at the moment of each scrape.
// Times are instants and not ages, so that one who stops looking sees them
// grow old.
type storeCollector struct {
	server *Server
}

var (
	storeTotal = prometheus.NewDesc(
		"kvol_store_bytes",
		"Room of the store that a backend lies on.",
		[]string{"backend"},
		nil,
	)
	storeFree = prometheus.NewDesc(
		"kvol_store_free_bytes",
		"Free room of the store that a backend lies on.",
		[]string{"backend"},
		nil,
	)
	linkTo = prometheus.NewDesc("kvol_replicated_up_to_timestamp_seconds",
		"The instant up to which a backup zone has everything of a volume.", []string{"volume", "destination"}, nil)
	linkSent = prometheus.NewDesc("kvol_replication_sent_bytes_total", "Bytes sent to a backup zone for a volume.",
		[]string{"volume", "destination"}, nil)
	linkFailing = prometheus.NewDesc("kvol_replication_failing", "1 while the last try to replicate a volume failed.",
		[]string{"volume", "destination"}, nil)
	replicaTo = prometheus.NewDesc("kvol_replica_up_to_timestamp_seconds",
		"The instant of which this zone's replica of a volume is a whole copy.", []string{"source_zone", "volume"}, nil)
)

// scrapeTimeout bounds what a scrape may ask of stores and catalog.
const scrapeTimeout = 5 * time.Second

// Describe implements prometheus.Collector.
func (c *storeCollector) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{storeTotal, storeFree, linkTo, linkSent, linkFailing, replicaTo} {
		to <- d
	}
}

// Collect implements prometheus.Collector.
func (c *storeCollector) Collect(to chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTimeout)
	defer cancel()
	s := c.server
	for _, b := range s.stores.Backends() {
		capacity, err := s.stores.Capacity(ctx, b.Name)
		if err != nil {
			to <- prometheus.NewInvalidMetric(storeTotal, err)
			continue
		}
		to <- prometheus.MustNewConstMetric(storeTotal, prometheus.GaugeValue, float64(capacity.Total), b.Name)
		to <- prometheus.MustNewConstMetric(storeFree, prometheus.GaugeValue, float64(capacity.Free), b.Name)
	}
	if s.peers == nil {
		return
	}
	for _, l := range s.sender.Status() {
		c.link(to, l)
	}
	replicas, err := s.receiver.Status(ctx)
	if err != nil {
		to <- prometheus.NewInvalidMetric(replicaTo, err)
	}
	for _, r := range replicas {
		if !r.ReplicatedTo.IsZero() {
			to <- prometheus.MustNewConstMetric(replicaTo, prometheus.GaugeValue, seconds(r.ReplicatedTo),
				string(r.SourceZone), string(r.Source))
		}
	}
}

func (c *storeCollector) link(to chan<- prometheus.Metric, l replication.LinkStatus) {
	volume, zone := string(l.Volume), string(l.Zone)
	if !l.ReplicatedTo.IsZero() {
		to <- prometheus.MustNewConstMetric(linkTo, prometheus.GaugeValue, seconds(l.ReplicatedTo), volume, zone)
	}
	failing := 0.0
	if l.LastError != "" {
		failing = 1
	}
	to <- prometheus.MustNewConstMetric(linkFailing, prometheus.GaugeValue, failing, volume, zone)
	to <- prometheus.MustNewConstMetric(linkSent, prometheus.CounterValue, float64(l.BytesSent), volume, zone)
}

func seconds(t time.Time) float64 { return float64(t.UnixNano()) / 1e9 }
