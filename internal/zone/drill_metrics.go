package zone

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"
)

// The series of drills: an instant for each schedule, so that one whose drills
// don't pass any more, or don't begin, grows old.
var (
	scheduleLabels = []string{"schedule", "project"}

	drillPassed = prometheus.NewDesc("kvol_drill_passed_timestamp_seconds",
		"When the last drill of a schedule passed; when the schedule was made if none did.", scheduleLabels, nil)
	drillEvery = prometheus.NewDesc("kvol_drill_interval_seconds",
		"The time between the next two drills of a schedule.", scheduleLabels, nil)
	drillFailed = prometheus.NewDesc("kvol_drill_failed", "1 if the last drill of a schedule did not pass.",
		scheduleLabels, nil)
	drillsRunning = prometheus.NewDesc("kvol_drills_running", "Drills that run or wait for their turn.", nil, nil)
	drillClones   = prometheus.NewDesc("kvol_drill_clones", "Clones of drills in the stores.", nil, nil)
)

// drills tells how drills do.
func (c *storeCollector) drills(ctx context.Context, to chan<- prometheus.Metric) {
	f, err := c.server.control.DrillFigures(ctx)
	if err != nil {
		to <- prometheus.NewInvalidMetric(drillsRunning, err)
		return
	}
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	gauge(drillsRunning, float64(f.Running))
	gauge(drillClones, float64(f.Clones))
	for _, s := range f.Schedules[:min(len(f.Schedules), maxVolumeSeries)] {
		passed, failed := s.Passed, 0.0
		if passed.IsZero() {
			passed = s.Since
		}
		if s.Failed {
			failed = 1
		}
		gauge(drillPassed, seconds(passed), s.ID, string(s.Project))
		gauge(drillEvery, s.Every.Seconds(), s.ID, string(s.Project))
		gauge(drillFailed, failed, s.ID, string(s.Project))
	}
}
