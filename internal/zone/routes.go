package zone

import (
	"cmp"
	"crypto/subtle"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"kvol/internal/api"
	"kvol/internal/api/cinder"
	"kvol/internal/api/dr"
	"kvol/internal/api/keymanager"
	"kvol/internal/api/kvol"
	"kvol/internal/api/openapi"
	"kvol/internal/api/store"
	"kvol/internal/block"
	"kvol/internal/identity"
	"kvol/internal/job"
	"kvol/internal/keystore"
)

// routes puts the front ends side by side on one address.
func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	options := api.Options{Log: s.log, Registry: s.registry, Now: s.env.Now}
	plain := func(h http.Handler) http.Handler { return api.Wrap(h, options) }
	streaming := options
	streaming.MaxBody = -1 // images are as long as they are; the service has its own limit

	blockAPI := options
	blockAPI.Fault = cinder.Fault
	blocks := cinder.Config{Control: s.control, Auth: s.auth, PublicURL: s.cfg.PublicURL,
		AuthURL: cmp.Or(s.authURL, s.URL()+"/identity"), Region: s.cfg.Region,
		V2ExtraFields: s.cfg.Block.V2ExtraFields, V2UploadTypeFormat: s.cfg.Block.V2UploadTypeFormat, Log: s.log}
	if s.placer != nil {
		blocks.KeyName = s.placer.Name
	}
	mux.Handle("/", s.led(api.Wrap(cinder.New(blocks), blockAPI)))
	if s.identity != nil {
		mux.Handle("/identity", plain(s.identity.Handler()))
		mux.Handle("/identity/", plain(s.identity.Handler()))
	}
	location, err := time.LoadLocation(s.cfg.KvolAPI.TimeZone)
	if err != nil {
		location = time.UTC // checked when the configuration was read
	}
	kvolAPI := plain(kvol.New(kvol.Config{Service: s.control, Tokens: s.kvol, Users: s.kvolUsers(),
		TimeZone: location, InternalStatus: s.cfg.KvolAPI.InternalErrorStatus, Now: s.env.Now, Log: s.log}))
	recovering := options
	recovering.MaxBody = dr.MaxBody
	drAPI := api.Wrap(dr.New(dr.Config{Service: s.control, Auth: s.auth, Log: s.log}), recovering)
	storeAPI := plain(store.New(store.Config{Service: s.upkeep, Auth: s.admitting(), Placements: s.placements,
		Log: s.log}))
	documents := plain(documents(blocks))
	keyManager := plain(keymanager.New(keymanager.Config{Service: keystore.NewService(s.catalog, s.control.Sealer()),
		Auth: s.auth, AuthURL: s.authURL, PublicURL: s.cfg.PublicURL, Log: s.log}))
	var images http.Handler
	if s.images != nil {
		images = api.Wrap(s.images.Handler(), streaming)
	}
	kvolTokens, processes := kvolAPI, storeAPI
	if s.follows() { // what is known only where the zone's work is done
		relay := s.of.relay(s.clients)
		kvolAPI, drAPI, storeAPI, images = relay, relay, relay, relay
	}
	if s.images != nil {
		mux.Handle("/image", images)
		mux.Handle("/image/", images)
	}
	for path, h := range map[string]http.Handler{"/api/openapi": documents,
		"/api/openapi/": documents, "/key-manager": keyManager, "/key-manager/": keyManager,
		"/api/store/v1/processes": processes, "/api/store": storeAPI, "/api/store/": storeAPI,
		"/api/token": kvolTokens, "/api/kvol": kvolAPI, "/api/kvol/": kvolAPI,
		"/api/dr": drAPI, "/api/dr/": drAPI} {
		mux.Handle(path, h)
	}
	mux.HandleFunc("/healthz", reading(s.health))
	mux.HandleFunc("/readyz", reading(s.readiness))
	mux.Handle("/metrics", reading(s.metrics().ServeHTTP))
	return s.clients.known(exactPaths(mux, plain(http.HandlerFunc(notFound))))
}

// admitting answers for tokens where a front end asks who is an administrator and does
// not ask the control service.
func (s *Server) admitting() api.Authenticator {
	return api.Admitting(s.auth, func(c block.Caller) block.Caller { return s.control.Admit(c) })
}

// documents serves what describes the front ends.
func documents(blocks cinder.Config) http.Handler {
	return openapi.NewServer(map[string]func() *openapi.Document{
		"v2":   func() *openapi.Document { return cinder.Document(false, blocks) },
		"v3":   func() *openapi.Document { return cinder.Document(true, blocks) },
		"kvol": kvol.Document, "dr": dr.Document, "store": store.Document, "key-manager": keymanager.Document})
}

// kvolUsers are the names of those who may use the kvol API.
func (s *Server) kvolUsers() []string {
	var names []string
	for _, u := range s.cfg.KvolAPI.Users {
		if u.Name == "" {
			u.Name = identity.DefaultKvolUser
		}
		names = append(names, u.Name)
	}
	return names
}

// exactPaths keeps ServeMux from answering odd paths by itself: it redirects
// what it would clean, and the front ends have their own answers.
func exactPaths(mux *http.ServeMux, odd http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, "//") || strings.Contains(r.URL.Path, "/.") {
			odd.ServeHTTP(w, r)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

func notFound(w http.ResponseWriter, _ *http.Request) {
	api.WriteJSON(w, http.StatusNotFound, map[string]any{"itemNotFound": map[string]any{
		"code": http.StatusNotFound, "message": "The resource could not be found."}})
}

// reading refuses requests that are no GET or HEAD.
func reading(h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			w.WriteHeader(http.StatusMethodNotAllowed)
			return
		}
		h(w, r)
	}
}

// health says that the process answers.
func (s *Server) health(w http.ResponseWriter, _ *http.Request) {
	api.WriteJSON(w, http.StatusOK, map[string]string{"status": "ok"})
}

// readiness says whether requests make sense now: 503 until the peers were
// asked what they recovered.
func (s *Server) readiness(w http.ResponseWriter, _ *http.Request) {
	if !s.ready.Load() {
		api.WriteJSON(w, http.StatusServiceUnavailable, map[string]string{"status": "starting"})
		return
	}
	api.WriteJSON(w, http.StatusOK, map[string]string{"status": "ready"})
}

// metrics serves the registry, to who has the token where one is configured.
func (s *Server) metrics() http.Handler {
	s.registry.MustRegister(collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), &storeCollector{server: s})
	h := promhttp.HandlerFor(s.registry, promhttp.HandlerOpts{Registry: s.registry,
		ErrorHandling: promhttp.ContinueOnError}) // a store that hangs is no reason to tell nothing of the others
	want := []byte("Bearer " + s.cfg.MetricsToken)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.cfg.MetricsToken != "" && subtle.ConstantTimeCompare([]byte(r.Header.Get("Authorization")), want) != 1 {
			w.Header().Set("WWW-Authenticate", `Bearer realm="metrics"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		h.ServeHTTP(w, r)
	})
}

// observeJobs counts attempts at jobs.
func (s *Server) observeJobs() func(job.Attempt) {
	attempts := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "kvol_job_attempts_total",
		Help: "Attempts at jobs that ended, by kind and outcome."}, []string{"kind", "outcome"})
	took := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "kvol_job_attempt_duration_seconds",
		Help: "How long attempts at jobs took.", Buckets: prometheus.ExponentialBuckets(0.001, 4, 10)}, []string{"kind"})
	s.registry.MustRegister(attempts, took)
	return func(a job.Attempt) {
		attempts.WithLabelValues(a.Kind, string(a.Outcome)).Inc()
		took.WithLabelValues(a.Kind).Observe(a.Took.Seconds())
	}
}
