package api

import (
	"errors"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// meter counts requests. A nil *meter counts nothing.
type meter struct {
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
	inFlight prometheus.Gauge
}

func newMeter(registry prometheus.Registerer) *meter {
	if registry == nil {
		return nil
	}
	return &meter{
		requests: register(registry, prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "kvol_http_requests_total", Help: "Requests answered, by route, method and status."},
			[]string{"route", "method", "code"})),
		duration: register(registry, prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "kvol_http_request_duration_seconds", Help: "Time to answer a request, by route and method.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 3, 10)}, []string{"route", "method"})),
		inFlight: register(registry, prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "kvol_http_requests_in_flight", Help: "Requests being answered now."})),
	}
}

// register returns c, or what is registered already where several listeners
// share a registry.
func register[C prometheus.Collector](registry prometheus.Registerer, c C) C {
	err := registry.Register(c)
	var are prometheus.AlreadyRegisteredError
	if errors.As(err, &are) {
		if have, ok := are.ExistingCollector.(C); ok {
			return have
		}
	}
	return c
}

func (m *meter) begin() {
	if m != nil {
		m.inFlight.Inc()
	}
}

func (m *meter) end(route, method string, code int, took time.Duration) {
	if m == nil {
		return
	}
	known := []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch,
		http.MethodDelete, http.MethodOptions}
	if !slices.Contains(known, method) {
		method = "other" // what callers make up must not become series
	}
	m.inFlight.Dec()
	m.requests.WithLabelValues(route, method, strconv.Itoa(code)).Inc()
	m.duration.WithLabelValues(route, method).Observe(took.Seconds())
}
