// Package keymanager is the front end for who needs keys: Barbican's secrets,
// under /key-manager/v1, as python3-barbicanclient and castellan (Nova, os-brick)
// ask for them. Paths, keys and errors are those of Barbican's API v1; orders,
// containers and consumers are not there.
package keymanager

import (
	"cmp"
	"log/slog"
	"net/http"
	"strings"

	"kvol/internal/api"
	"kvol/internal/block"
	"kvol/internal/keystore"
)

// Config is what the front end works with. Service and Auth are needed.
type Config struct {
	Service   *keystore.Service
	Auth      api.Authenticator
	PublicURL string       // of the zone; taken from the request if ""
	AuthURL   string       // where a caller without a token is sent; the zone's own identity service if ""
	Log       *slog.Logger // discarded if nil
}

// Server is the front end: an http.Handler for /key-manager/.
type Server struct {
	cfg    Config
	routes *api.Router
}

const (
	root    = "/key-manager"
	secrets = root + "/v1/secrets"
)

// New makes a Server.
func New(cfg Config) *Server {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	s := &Server{cfg: cfg}
	s.routes = api.NewRouter(s.refuse(block.NotFound, "Not Found. Sorry but your resource does not exist here."),
		s.refuse(block.Unsupported, "Method not allowed."))
	for _, path := range []string{root, root + "/{$}"} {
		s.routes.HandleFunc(http.MethodGet, path, s.versions)
	}
	for _, path := range []string{root + "/v1", root + "/v1/{$}"} {
		s.routes.HandleFunc(http.MethodGet, path, s.version)
	}
	for _, rt := range routes {
		h := s.answer(func(w http.ResponseWriter, r *http.Request, c block.Caller) error { return rt.serve(s, w, r, c) })
		s.routes.HandleFunc(rt.method, rt.path, h)
		if rt.path == secrets {
			s.routes.HandleFunc(rt.method, secrets+"/{$}", h)
		}
	}
	return s
}

// ServeHTTP answers a request. It may be called by many at once.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	s.routes.ServeHTTP(w, r)
}

// handler answers a request of a caller.
type handler func(http.ResponseWriter, *http.Request, block.Caller) error

func (s *Server) answer(fn handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		token := r.Header.Get("X-Auth-Token")
		if token == "" {
			s.writeError(w, r, block.Errorf(block.Unauthorized, "The request you have made requires authentication."))
			return
		}
		c, err := api.Authenticate(s.cfg.Auth, r, token)
		if err == nil {
			r = r.WithContext(api.WithCaller(r.Context(), c))
			err = fn(w, r, c)
		}
		if err != nil {
			s.writeError(w, r, err)
		}
	}
}

func (s *Server) refuse(kind block.Kind, message string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.writeError(w, r, block.Errorf(kind, "%s", message))
	})
}

// fault is how Barbican words errors.
type fault struct {
	Code        int    `json:"code"`
	Title       string `json:"title"`
	Description string `json:"description"`
}

var statuses = map[block.Kind]int{block.Invalid: http.StatusBadRequest, block.Unauthorized: http.StatusUnauthorized,
	block.Forbidden: http.StatusForbidden, block.NotFound: http.StatusNotFound, block.Conflict: http.StatusConflict,
	block.Unsupported: http.StatusMethodNotAllowed, block.Unavailable: http.StatusServiceUnavailable}

func (s *Server) writeError(w http.ResponseWriter, r *http.Request, err error) {
	message, ok := block.UserMessage(err)
	if !ok {
		message = "A fault of this zone; its log says more."
		s.cfg.Log.Error("a call of the key manager failed", "path", r.URL.Path, "request", api.RequestID(r.Context()),
			"err", err)
	}
	status, ok := statuses[block.KindOf(err)]
	if !ok {
		status = http.StatusInternalServerError
	}
	if status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", "Keystone uri='"+cmp.Or(s.cfg.AuthURL, s.public(r)+"/identity/v3")+"'")
	}
	api.SetRetryAfter(w.Header(), err)
	api.WriteJSON(w, status, fault{status, http.StatusText(status), message})
}

func (s *Server) public(r *http.Request) string {
	return strings.TrimRight(api.PublicURL(r, s.cfg.PublicURL), "/")
}

// versions is what clients choose the version by.
func (s *Server) versions(w http.ResponseWriter, r *http.Request) {
	api.WriteJSON(w, http.StatusMultipleChoices, map[string]any{
		"versions": map[string]any{"values": []any{s.versionDocument(r)}}})
}

func (s *Server) version(w http.ResponseWriter, r *http.Request) {
	api.WriteJSON(w, http.StatusOK, map[string]any{"version": s.versionDocument(r)})
}

// versionDocument is how a version is described.
type versionDocument struct {
	ID      string        `json:"id"`
	Status  string        `json:"status"`
	Updated string        `json:"updated"`
	Links   []versionLink `json:"links"`
	Media   []mediaType   `json:"media-types"`
}

type versionLink struct {
	Rel  string `json:"rel"`
	Href string `json:"href"`
}

type mediaType struct {
	Base string `json:"base"`
	Type string `json:"type"`
}

func (s *Server) versionDocument(r *http.Request) versionDocument {
	return versionDocument{ID: "v1", Status: "stable", Updated: "2015-04-28T00:00:00Z",
		Links: []versionLink{{"self", s.public(r) + root + "/v1/"}},
		Media: []mediaType{{"application/json", "application/vnd.openstack.key-manager-v1+json"}}}
}
