// Package store is the front end for operators who look after a zone's stores:
// /api/store/v1. Answers and errors are plain JSON documents of our own; see
// docs/api/store.md. A token of an administrator is needed, in X-Auth-Token or
// as a Bearer.
package store

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"

	"kvol/internal/api"
	"kvol/internal/block"
	"kvol/internal/upkeep"
)

// Config is what the front end works with. All but Log is needed.
type Config struct {
	Service *upkeep.Service
	Auth    api.Authenticator
	// Placements lists volumes for which no backend was found, or another one than at
	// first, of one volume where that is not "".
	Placements func(ctx context.Context, c block.Caller, volume block.VolumeID, limit int) ([]block.Placement, error)
	Log        *slog.Logger // discarded if nil
}

// Server is the front end: an http.Handler for /api/store/v1/.
type Server struct {
	cfg    Config
	routes *api.Router
}

// maxBody bounds a request, in bytes.
const maxBody = 4 << 10

// New makes a Server.
func New(cfg Config) *Server {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	s := &Server{cfg: cfg}
	s.routes = api.NewRouter(s.refuse(block.NotFound, "There is no such path."),
		s.refuse(block.Unsupported, "This path does not know that method."))
	for _, rt := range routes {
		s.routes.HandleFunc(rt.method, rt.path, s.answer(rt.status, func(r *http.Request, c block.Caller) (any, error) {
			return rt.serve(s, r, c)
		}))
	}
	return s
}

// handler answers a request of a caller.
type handler func(*http.Request, block.Caller) (any, error)

// ServeHTTP answers a request. It may be called by many at once.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	s.routes.ServeHTTP(w, r)
}

func (s *Server) answer(status int, fn handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		token := r.Header.Get("X-Auth-Token")
		if bearer, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok && token == "" {
			token = bearer
		}
		if token == "" {
			s.writeError(w, r, block.Errorf(block.Unauthorized, "A token is needed."))
			return
		}
		c, err := api.Authenticate(s.cfg.Auth, r, token)
		if err != nil {
			s.writeError(w, r, err)
			return
		}
		r = r.WithContext(api.WithCaller(r.Context(), c))
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		out, err := fn(r, c)
		if err != nil {
			s.writeError(w, r, err)
			return
		}
		api.WriteJSON(w, status, out)
	}
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

var statuses = map[block.Kind]int{block.Invalid: http.StatusBadRequest, block.Unauthorized: http.StatusUnauthorized,
	block.Forbidden: http.StatusForbidden, block.NotFound: http.StatusNotFound, block.Conflict: http.StatusConflict,
	block.Unsupported: http.StatusMethodNotAllowed, block.Unavailable: http.StatusServiceUnavailable}

func (s *Server) writeError(w http.ResponseWriter, r *http.Request, err error) {
	message, ok := block.UserMessage(err)
	if !ok {
		message = "A fault of this zone; its log says more."
		s.cfg.Log.Error("a call of the store API failed", "path", r.URL.Path, "request", api.RequestID(r.Context()),
			"err", err)
	}
	status, ok := statuses[block.KindOf(err)]
	if !ok {
		status = http.StatusInternalServerError
	}
	if status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", `Bearer realm="kvol"`)
	}
	api.SetRetryAfter(w.Header(), err)
	api.WriteJSON(w, status, errorBody{errorText{block.KindOf(err).String(), message}})
}

func (s *Server) stores(_ *http.Request, c block.Caller) (any, error) {
	all, err := s.cfg.Service.Stores(c)
	return map[string]any{"stores": each(all, storeView)}, err
}

func (s *Server) store(r *http.Request, c block.Caller) (any, error) {
	one, err := s.cfg.Service.Store(c, r.PathValue("store"))
	return map[string]any{"store": storeView(one)}, err
}

func (s *Server) processes(r *http.Request, c block.Caller) (any, error) {
	all, err := s.cfg.Service.Processes(r.Context(), c)
	return map[string]any{"processes": each(all, processView)}, err
}

func (s *Server) damages(r *http.Request, c block.Caller) (any, error) {
	var over bool
	switch r.URL.Query().Get("state") {
	case "", block.DamageStands:
	case "all":
		over = true
	default:
		return nil, block.Errorf(block.Invalid, "state must be damaged or all.")
	}
	all, err := s.cfg.Service.Damages(r.Context(), c, r.PathValue("store"), over)
	return map[string]any{"damages": each(all, damageView)}, err
}

// maxPlacements is how many placements an answer has at most.
const maxPlacements = 1000

func (s *Server) placements(r *http.Request, c block.Caller) (any, error) {
	all, err := s.cfg.Placements(r.Context(), c, block.VolumeID(r.URL.Query().Get("volume")), maxPlacements)
	return map[string]any{"placements": each(all, func(p block.Placement) block.Placement { return p })}, err
}

func (s *Server) runs(r *http.Request, c block.Caller) (any, error) {
	all, err := s.cfg.Service.Runs(c, r.PathValue("store"))
	return map[string]any{"runs": each(all, runView)}, err
}

// beginBody asks for a run.
type beginBody struct {
	Kind upkeep.Kind `json:"kind"`
	MiB  int64       `json:"mib_s"`
}

func decodeBegin(from io.Reader) (b beginBody, err error) {
	d := json.NewDecoder(from)
	d.DisallowUnknownFields()
	if err := d.Decode(&b); err != nil {
		return b, block.Wrap(block.Invalid, err, `The body must be {"kind": "check" or "scrub", "mib_s": number}.`)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return b, block.Errorf(block.Invalid, "The body must be one JSON object.")
	}
	return b, nil
}

func (s *Server) begin(r *http.Request, c block.Caller) (any, error) {
	if !c.Admin() { // before its body says anything
		return nil, block.Errorf(block.Forbidden, "Only an administrator may see to the stores.")
	}
	b, err := decodeBegin(r.Body)
	if err != nil {
		return nil, err
	}
	begun, err := s.cfg.Service.Begin(c, r.PathValue("store"), b.Kind, b.MiB)
	return map[string]any{"run": runView(begun)}, err
}

func (s *Server) run(r *http.Request, c block.Caller) (any, error) {
	id, err := runID(r)
	if err != nil {
		return nil, err
	}
	one, err := s.cfg.Service.Look(c, r.PathValue("store"), id)
	return map[string]any{"run": runView(one)}, err
}

func (s *Server) cancel(r *http.Request, c block.Caller) (any, error) {
	id, err := runID(r)
	if err != nil {
		return nil, err
	}
	one, err := s.cfg.Service.Cancel(r.Context(), c, r.PathValue("store"), id)
	return map[string]any{"run": runView(one)}, err
}

func runID(r *http.Request) (int64, error) {
	id, err := strconv.ParseInt(r.PathValue("run"), 10, 64)
	return id, block.Wrap(block.Invalid, err, "A run's id is a number.")
}

// each makes the views of a list; an empty one is [] and not null.
func each[T, V any](list []T, view func(T) V) []V {
	views := make([]V, 0, len(list))
	for _, one := range list {
		views = append(views, view(one))
	}
	return views
}
