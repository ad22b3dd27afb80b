package zone

import (
	"github.com/prometheus/client_golang/prometheus"

	"kvol/internal/policy"
)

// openPolicy reads the operator's rules. A file that is broken when the zone
// starts keeps it from starting; one that breaks later changes nothing.
func (s *Server) openPolicy() (*policy.Enforcer, error) {
	if s.of != nil && s.of.api != nil {
		s.registry.MustRegister(s.of.api.policyMetrics...)
		return s.of.api.policy, nil
	}
	reads := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "kvol_policy_reads_total",
		Help: "How often the policy file was read again, by outcome."}, []string{"outcome"})
	broken := prometheus.NewGauge(prometheus.GaugeOpts{Name: "kvol_policy_file_broken",
		Help: "1 while the policy file can't be understood and the rules are those that it had before."})
	s.policyMetrics = []prometheus.Collector{reads, broken}
	s.registry.MustRegister(s.policyMetrics...)
	olds := s.cfg.Policy.EnforceNewDefaults != nil && !*s.cfg.Policy.EnforceNewDefaults
	return policy.New(policy.Config{Path: s.cfg.Policy.File, OldDefaults: olds, Log: s.log, Observe: func(err error) {
		if err != nil {
			reads.WithLabelValues("broken").Inc()
			broken.Set(1)
			return
		}
		reads.WithLabelValues("read").Inc()
		broken.Set(0)
	}})
}
