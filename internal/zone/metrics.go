package zone

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"kvol/internal/driver"
	"kvol/internal/driver/logstore"
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
	storeLive = prometheus.NewDesc("kvol_store_live_bytes", "Data in full segments of the log, at most.",
		[]string{"backend"}, nil)
	storeGarbage = prometheus.NewDesc("kvol_store_garbage_bytes", "What compaction gets back when it is needed, about.",
		[]string{"backend"}, nil)
	storeMemory = prometheus.NewDesc("kvol_store_index_memory_bytes", "What the store keeps in memory, index and all.",
		[]string{"backend"}, nil)
	storeMemoryPart = prometheus.NewDesc("kvol_store_memory_bytes", "What the store keeps in memory, by what it is for.",
		[]string{"backend", "part"}, nil)
	storeMemoryBound = prometheus.NewDesc("kvol_store_memory_bound_bytes",
		"The setting (cache_mib) that the parts index, leaves and places stay below together.", []string{"backend"}, nil)
	storeHeld = prometheus.NewDesc("kvol_store_held_writes_total", "Writes that waited for compaction, since the start.",
		[]string{"backend"}, nil)
	storeLevel = prometheus.NewDesc("kvol_store_level", "1 for the level that the store is at.",
		[]string{"backend", "level"}, nil)
	storeDamaged = prometheus.NewDesc("kvol_store_damaged", "Places that are damaged, as far as is known, and not healed.",
		[]string{"backend"}, nil)
	storeHealed = prometheus.NewDesc("kvol_store_healed_total", "Damaged places that were healed since the start.",
		[]string{"backend"}, nil)
	storeScrubbed = prometheus.NewDesc("kvol_store_scrubbed_bytes_total", "Bytes read by the scrubber.",
		[]string{"backend"}, nil)
	linkSent = prometheus.NewDesc("kvol_replication_sent_bytes_total", "Bytes sent to a backup zone for a volume.",
		[]string{"volume", "destination"}, nil)
	linkFailing = prometheus.NewDesc("kvol_replication_failing", "1 while the last try to replicate a volume failed.",
		[]string{"volume", "destination"}, nil)
	givenUp = prometheus.NewDesc("kvol_replication_points_given_up_total",
		"Points that targets which were behind needed, and that were given up since a store ran out of room.", nil, nil)
	rivalVolumes = prometheus.NewDesc("kvol_rivals",
		"Volumes that this zone and another one took over, while either has something to do about it.", nil, nil)
	setAside = prometheus.NewDesc("kvol_backup_set_aside_total",
		"Damaged manifests of backups that the catalog does not know, put out of the way since the start.", nil, nil)
)

// scrapeTimeout bounds what a scrape may ask of stores and catalog.
const scrapeTimeout = 5 * time.Second

// Describe implements prometheus.Collector.
func (c *storeCollector) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{storeTotal, storeFree, storeLive, storeGarbage, storeMemory,
		storeMemoryPart, storeMemoryBound, storeHeld, storeLevel, storeDamaged, storeHealed, storeScrubbed,
		linkSent, linkFailing, volumeTo, volumePoint,
		volumeCommit, volumeBehind, volumeTarget, volumeBudget, volumeLeft, pairTo, pairTarget, pairVolumes, pairBehind,
		pairBurn, pairHeard, pairHolds, pairFull, clockAhead, rtoSeconds, drillPassed, drillEvery, drillFailed,
		drillsRunning, drillClones, lookedAt,
		proofVerified, proofDue, proofDamaged, suspectSince, setAside, rivalVolumes} {
		to <- d
	}
}

// Collect implements prometheus.Collector.
func (c *storeCollector) Collect(to chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTimeout)
	defer cancel()
	s := c.server
	ask, stop := context.WithTimeout(ctx, scrapeTimeout/2) // what does not answer leaves time for the others
	defer stop()
	for backend, room := range s.stores.Rooms(ask) {
		if room.Err != nil {
			to <- prometheus.NewInvalidMetric(storeTotal, room.Err)
			continue
		}
		to <- prometheus.MustNewConstMetric(storeTotal, prometheus.GaugeValue, float64(room.Total), backend)
		to <- prometheus.MustNewConstMetric(storeFree, prometheus.GaugeValue, float64(room.Free), backend)
		c.store(to, backend)
	}
	to <- prometheus.MustNewConstMetric(setAside, prometheus.CounterValue, float64(s.control.SetAside()))
	if s.peers == nil {
		return
	}
	to <- prometheus.MustNewConstMetric(givenUp, prometheus.CounterValue, float64(s.sender.GivenUp()))
	if n, err := s.control.Rivals(ctx); err != nil {
		to <- prometheus.NewInvalidMetric(rivalVolumes, err)
	} else {
		to <- prometheus.MustNewConstMetric(rivalVolumes, prometheus.GaugeValue, float64(n))
	}
	links := s.sender.Status()
	for _, l := range links[:min(len(links), maxVolumeSeries)] {
		c.link(to, l)
	}
	c.health(ctx, to)
	c.replicas(ctx, to)
	c.drills(ctx, to)
}

// store tells what a store says of itself, where it says something.
func (c *storeCollector) store(to chan<- prometheus.Metric, backend string) {
	d, err := c.server.stores.Of(backend)
	if err != nil {
		return
	}
	s, ok := driver.As[interface{ Status() logstore.Status }](d)
	if !ok {
		return
	}
	st := s.Status()
	gauge := func(d *prometheus.Desc, v int64) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(v), backend)
	}
	gauge(storeLive, st.LiveBytes)
	gauge(storeGarbage, st.GarbageBytes)
	gauge(storeMemory, st.MemoryBytes)
	for part, n := range map[string]int64{"index": st.Memory.Index, "leaves": st.Memory.Leaves,
		"places": st.Memory.Places, "nouns": st.Memory.Nouns} {
		to <- prometheus.MustNewConstMetric(storeMemoryPart, prometheus.GaugeValue, float64(n), backend, part)
	}
	gauge(storeMemoryBound, st.Memory.Bound)
	to <- prometheus.MustNewConstMetric(storeHeld, prometheus.CounterValue, float64(st.Held), backend)
	gauge(storeDamaged, st.Damaged)
	to <- prometheus.MustNewConstMetric(storeHealed, prometheus.CounterValue, float64(st.Healed), backend)
	to <- prometheus.MustNewConstMetric(storeLevel, prometheus.GaugeValue, 1, backend, string(st.Level))
	to <- prometheus.MustNewConstMetric(storeScrubbed, prometheus.CounterValue, float64(st.Scrub.Bytes), backend)
}

func (c *storeCollector) link(to chan<- prometheus.Metric, l replication.LinkStatus) {
	volume, zone := string(l.Volume), string(l.Zone)
	failing := 0.0
	if l.LastError != "" {
		failing = 1
	}
	to <- prometheus.MustNewConstMetric(linkFailing, prometheus.GaugeValue, failing, volume, zone)
	to <- prometheus.MustNewConstMetric(linkSent, prometheus.CounterValue, float64(l.BytesSent), volume, zone)
}

func seconds(t time.Time) float64 { return float64(t.UnixNano()) / 1e9 }
