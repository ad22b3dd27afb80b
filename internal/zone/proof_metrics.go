package zone

import (
	"context"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"kvol/internal/block"
	"kvol/internal/catalog"
)

// The series of what is known of replicas' bytes; zone is that of the volume.
var (
	proofLabels   = []string{"source_zone", "volume", "protection"}
	proofVerified = prometheus.NewDesc("kvol_replica_verified_timestamp_seconds",
		"When all bytes of a replica were last read and found to be what was committed; 0 for never.", proofLabels, nil)
	proofDue = prometheus.NewDesc("kvol_replica_verify_due_timestamp_seconds",
		"When a replica should have been read again at the latest; absent where none are by themselves.", proofLabels, nil)
	proofDamaged = prometheus.NewDesc("kvol_replica_damaged_points",
		"Recovery points of a replica that are not what was committed.", proofLabels, nil)
	suspectSince = prometheus.NewDesc("kvol_replica_suspect_since_timestamp_seconds",
		"Since when a volume looks as if it were encrypted suddenly; of such volumes only.", proofLabels, nil)
)

// replicas tells of at most maxVolumeSeries replicas.
func (c *storeCollector) replicas(ctx context.Context, to chan<- prometheus.Metric) {
	within := c.server.prover.Within()
	err := c.server.catalog.View(ctx, func(tx *catalog.Tx) error {
		all, err := tx.Replicas("")
		if err != nil {
			return err
		}
		proofs, err := tx.Proofs()
		if err != nil {
			return err
		}
		damaged, err := tx.AllDamagedPoints()
		if err != nil {
			return err
		}
		suspects, err := tx.Suspicions()
		if err != nil {
			return err
		}
		for _, r := range all[:min(len(all), maxVolumeSeries)] {
			labels := []string{string(r.SourceZone), string(r.Source), strconv.FormatInt(r.Protection, 10)}
			gauge := func(d *prometheus.Desc, v float64) {
				to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
			}
			gauge(proofDamaged, float64(len(damaged[r.ID])))
			if s, ok := suspects[r.ID]; ok {
				gauge(suspectSince, float64(s.Since.UnixMicro())/1e6)
			}
			c.verified(gauge, r, proofs[r.ID])
			if within > 0 && r.Newest.ID != "" {
				from := r.CreatedAt
				if at := proofs[r.ID].Last.At; !at.IsZero() {
					from = at
				}
				gauge(proofDue, float64(from.Add(within).UnixMicro())/1e6)
			}
		}
		return nil
	})
	if err != nil {
		to <- prometheus.NewInvalidMetric(proofDamaged, err)
	}
}

func (c *storeCollector) verified(gauge func(*prometheus.Desc, float64), r block.Replica, p block.Proof) {
	at := 0.0
	if !p.Last.At.IsZero() {
		at = float64(p.Last.At.UnixMicro()) / 1e6
	}
	if r.Newest.ID != "" {
		gauge(proofVerified, at)
	}
}
