package dr

import (
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"kvol/internal/api"
	"kvol/internal/block"
	"kvol/internal/control"
)

// Config is what the front end works with. Service and Auth are needed.
type Config struct {
	Service *control.Service
	Auth    api.Authenticator
	Log     *slog.Logger     // discarded if nil
	Now     func() time.Time // time.Now if nil; of what limits the audit log's growth
}

// Server is the front end: an http.Handler for /api/dr/v1/.
type Server struct {
	cfg    Config
	routes *api.Router
	// Refused requests that may be written down: with no valid token, and others.
	strangers, refused *refusals
}

// New makes a Server.
func New(cfg Config) *Server {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	s := &Server{cfg: cfg, strangers: newRefusals(strangersBurst, strangersEvery, cfg.Now),
		refused: newRefusals(refusedBurst, refusedEvery, cfg.Now)}
	s.routes = api.NewRouter(s.refuse(block.NotFound, "There is no such path."),
		s.refuse(block.Unsupported, "This path can only be read."))
	for _, rd := range reads {
		s.routes.HandleFunc(http.MethodGet, root+rd.path, s.answer(s.noted(false,
			func(r *http.Request, c block.Caller) (any, error) { return rd.serve(s, r, c) })))
	}
	for _, b := range begins {
		s.routes.HandleFunc(http.MethodPost, root+b.path, s.accept(s.noted(true, s.beginFailover(b.back))))
	}
	for _, ch := range changes {
		serve := func(r *http.Request, c block.Caller) (any, error) { return ch.serve(s, r, c) }
		s.routes.HandleFunc(ch.method, root+ch.path, s.respond(ch.status, s.noted(true, serve)))
	}
	s.routes.HandleFunc(http.MethodGet, root+drillPagePath, s.drillPage)
	return s
}

// ServeHTTP answers a request. It may be called by many at once.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	s.routes.ServeHTTP(w, r)
}

func (s *Server) answer(fn func(*http.Request, block.Caller) (any, error)) http.HandlerFunc {
	return s.respond(http.StatusOK, fn)
}

// accept is answer for what begins something.
func (s *Server) accept(fn func(*http.Request, block.Caller) (any, error)) http.HandlerFunc {
	return s.respond(http.StatusAccepted, fn)
}

func (s *Server) respond(status int, fn func(*http.Request, block.Caller) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		r, c, err := s.admit(r)
		if err != nil {
			s.writeError(w, r, err)
			return
		}
		out, err := fn(r, c)
		if err != nil {
			s.writeError(w, r, err)
			return
		}
		if status == http.StatusNoContent {
			w.WriteHeader(status)
			return
		}
		api.WriteJSON(w, status, out)
	}
}

// admit finds out who asks. Of who may not even ask the audit log tells.
func (s *Server) admit(r *http.Request) (*http.Request, block.Caller, error) {
	r = r.WithContext(api.WithRemote(r.Context(), r.RemoteAddr))
	c, err := s.caller(r)
	if err != nil {
		if block.Is(err, block.Unauthorized) || block.Is(err, block.Forbidden) {
			s.noteRefused(r, c, "", err)
		}
		return r, c, err
	}
	return r.WithContext(api.WithCaller(r.Context(), c)), c, nil
}

// caller is who asks.
func (s *Server) caller(r *http.Request) (block.Caller, error) {
	token := r.Header.Get("X-Auth-Token")
	if bearer, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok && token == "" {
		token = bearer
	}
	if token == "" {
		return block.Caller{}, block.Errorf(block.Unauthorized, "A token is needed.")
	}
	c, err := api.Authenticate(s.cfg.Auth, r, token)
	if err != nil {
		return c, err
	}
	return s.cfg.Service.Admit(c), nil
}

func (s *Server) refuse(kind block.Kind, message string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.writeError(w, r, block.Errorf(kind, "%s", message))
	})
}

type errorBody struct {
	Error errorText `json:"error"`
}

type errorText struct {
	Kind    string `json:"kind"`
	Message string `json:"message"`
}

func (s *Server) writeError(w http.ResponseWriter, r *http.Request, err error) {
	message, ok := block.UserMessage(err)
	if !ok {
		message = "A fault of this zone; its log says more."
		s.cfg.Log.Error("a call of the DR API failed", "path", r.URL.Path, "request", api.RequestID(r.Context()), "err", err)
	}
	status := statusOf(err)
	if status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", `Bearer realm="kvol"`)
	}
	api.SetRetryAfter(w.Header(), err)
	api.WriteJSON(w, status, errorBody{errorText{block.KindOf(err).String(), message}})
}

// statusOf is the HTTP status of an error.
func statusOf(err error) int {
	switch block.KindOf(err) {
	case block.Invalid:
		return http.StatusBadRequest
	case block.Unauthorized:
		return http.StatusUnauthorized
	case block.Forbidden:
		return http.StatusForbidden
	case block.NotFound:
		return http.StatusNotFound
	case block.Conflict:
		return http.StatusConflict
	case block.OverLimit:
		return http.StatusRequestEntityTooLarge
	case block.Unsupported:
		return http.StatusMethodNotAllowed
	case block.Unavailable:
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}

func (s *Server) zones(r *http.Request, c block.Caller) (any, error) {
	zones, err := s.cfg.Service.KnownZones(r.Context(), c)
	return map[string]any{"zones": each(zones, zoneView)}, err
}

func (s *Server) protections(r *http.Request, c block.Caller) (any, error) {
	pairs, err := s.cfg.Service.KnownPairs(r.Context(), c)
	return map[string]any{"protections": each(pairs, protectionView)}, err
}

func (s *Server) replicas(r *http.Request, c block.Caller) (any, error) {
	replicas, err := s.cfg.Service.Replicas(r.Context(), c)
	by := transportsOf(s.cfg.Service.KnownProtections())
	return map[string]any{"replicas": each(replicas, func(r block.Replica) replicaBody { return replicaView(r, by) })}, err
}

func (s *Server) replica(r *http.Request, c block.Caller) (any, error) {
	id, ok := block.ParseID(r.PathValue("volume_id"))
	if !ok {
		return nil, block.Errorf(block.Invalid, "volume_id must be a UUID.")
	}
	found, err := s.cfg.Service.Replica(r.Context(), c, block.Zone(r.PathValue("source_zone")), block.VolumeID(id))
	by := transportsOf(s.cfg.Service.KnownProtections())
	return map[string]any{"replicas": each(found, func(r control.ReplicaPoints) replicaBody {
		return replicaPointsView(r, by)
	})}, err
}

func (s *Server) links(r *http.Request, c block.Caller) (any, error) {
	links, err := s.cfg.Service.Links(r.Context(), c)
	return map[string]any{"links": each(links, linkView)}, err
}

func (s *Server) operation(r *http.Request, c block.Caller) (any, error) {
	kind := block.DRKind(r.PathValue("kind"))
	if kind != block.DRCreate && kind != block.DRRecovery {
		return nil, block.Errorf(block.NotFound, "Operations are of kind create or recovery.")
	}
	rowkey, err := strconv.ParseInt(r.PathValue("rowkey"), 10, 64)
	if err != nil {
		return nil, block.Wrap(block.Invalid, err, "A rowkey is a number.")
	}
	op, err := s.cfg.Service.DROperation(r.Context(), c, kind, rowkey)
	return map[string]any{"operation": operationView(op)}, err
}

// each makes the views of a list; an empty one is [] and not null.
func each[T, V any](list []T, view func(T) V) []V {
	views := make([]V, 0, len(list))
	for _, one := range list {
		views = append(views, view(one))
	}
	return views
}
