package cinder

import (
	"context"
	"log/slog"
	"net/http"
	"slices"
	"strings"

	"kvol/internal/api"
	"kvol/internal/block"
	"kvol/internal/control"
)

// The forms of volume_type in the answer to os-volume_upload_image.
const (
	// UploadTypeRows shows extra_specs as a list of database rows, as the guide does.
	UploadTypeRows = "rows"
	// UploadTypeMap shows extra_specs as an object, as newer Cinders do and
	// gophercloud expects.
	UploadTypeMap = "map"
)

// Config is what the front end works with.
type Config struct {
	Control *control.Service
	Auth    api.Authenticator
	// PublicURL is the address that links begin with; "" for the one that the
	// request came to.
	PublicURL string
	// AuthURL is where a caller without a token is sent (WWW-Authenticate).
	AuthURL string
	Region  string
	// Host is the name before the @ in os-vol-host-attr:host; "" for "kvol".
	Host string
	// V2ExtraFields adds Cinder's keys that the guide does not name.
	V2ExtraFields bool
	// V2UploadTypeFormat is UploadTypeRows or UploadTypeMap; "" for rows.
	V2UploadTypeFormat string
	// KeyName is how the key manager that hosts ask names a key of a volume; false
	// while it does not have it. nil: as the zone does.
	KeyName func(block.SecretID) (block.SecretID, bool)
	Log     *slog.Logger // nil: silent
}

// keyName is Config.KeyName.
func (c *Config) keyName(id block.SecretID) (block.SecretID, bool) {
	if c.KeyName == nil {
		return id, true
	}
	return c.KeyName(id)
}

type server struct {
	cfg    Config
	v2, v3 *api.Router
}

// New returns the front end as a handler of "/", "/healthcheck", "/v2", "/v3" and
// all below them. Other paths are answered 404. It may serve many requests at once.
func New(cfg Config) http.Handler {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Host == "" {
		cfg.Host = "kvol"
	}
	s := &server{cfg: cfg}
	none, method := s.handle(
		func(*call) error { return errNoResource },
	), s.handle(
		func(*call) error { return errBadMethod },
	)
	s.v2, s.v3 = api.NewRouter(none, method), api.NewRouter(http.HandlerFunc(noPath), http.HandlerFunc(noPath))
	for _, rt := range describedRoutes() {
		serve := rt.serve
		if !slices.Contains(ofNoProject, rt.pattern) {
			serve = ofProject(serve)
		}
		if rt.since == 0 {
			s.v2.Handle(rt.method, "/v2/{project}"+rt.pattern, s.handle(serve))
		}
		if rt.since <= maxMinor {
			s.v3.Handle(rt.method, "/v3/{project}"+rt.pattern, s.handle(from(rt.since, serve)))
		}
	}
	return s
}

// ServeHTTP authenticates whatever is not a versions document.
func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/":
		s.versions(w, r, http.StatusMultipleChoices)
		return
	case "/v2", "/v2/", "/v3", "/v3/":
		s.versions(w, r, http.StatusOK)
		return
	case "/healthcheck":
		healthcheck(w, r)
		return
	}
	v3 := strings.HasPrefix(r.URL.Path, "/v3/")
	if !v3 && !strings.HasPrefix(r.URL.Path, "/v2/") {
		noPath(w, r)
		return
	}
	caller, err := s.authenticate(r)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	ctx := api.WithCaller(r.Context(), caller)
	if !v3 {
		s.v2.ServeHTTP(w, withoutSuffix(r.WithContext(ctx)))
		return
	}
	minor, err := negotiate(w, r)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	r = r.WithContext(context.WithValue(ctx, editionKey{}, edition{v3: true, minor: minor, short: !hasProject(r)}))
	s.v3.ServeHTTP(w, withoutSuffix(withProject(r, string(caller.Own()))))
}

// from serves an operation for those who ask in the microversion that brought
// it or in a newer one; to others it is not there.
func from(since int, serve func(*call) error) func(*call) error {
	return func(c *call) error {
		if c.view.minor < since {
			return errNoResource
		}
		return serve(c)
	}
}

// ofNoProject are the patterns of what tells nothing of any project. A caller
// without one may ask for it, whoever it is.
var ofNoProject = []string{"/extensions", "/extensions/{alias}", "/os-availability-zone", "/resource_filters"}

// ofProject refuses callers of no project, unless they are administrators, who see
// all projects (cinder/db/api.py, require_context).
func ofProject(serve func(*call) error) func(*call) error {
	return func(c *call) error {
		if c.caller.Project == "" && !c.caller.Admin() {
			return block.ErrNoProject
		}
		return serve(c)
	}
}

// authenticate asks who the token in X-Auth-Token belongs to. To one of no
// project, Cinder says of each path that has a project that it is wrong.
func (s *server) authenticate(r *http.Request) (block.Caller, error) {
	token := r.Header.Get("X-Auth-Token")
	if token == "" {
		return block.Caller{}, block.Errorf(block.Unauthorized, "no token")
	}
	c, err := api.AuthenticateAnyScope(s.cfg.Auth, r, token)
	if err == nil && c.Project == "" && (strings.HasPrefix(r.URL.Path, "/v2/") || hasProject(r)) {
		err = errBadURL
	}
	if err != nil {
		return c, err
	}
	return s.cfg.Control.Admit(c), nil
}

// withoutSuffix returns r with ".json" cut from its path, which Cinder's
// routes accept everywhere.
func withoutSuffix(r *http.Request) *http.Request {
	cut, ok := strings.CutSuffix(r.URL.Path, ".json")
	if !ok {
		return r
	}
	u := *r.URL
	u.Path = cut
	u.RawPath = strings.TrimSuffix(u.RawPath, ".json")
	short := *r
	short.URL = &u
	return &short
}

// call is one authenticated request on its way to its answer.
type call struct {
	s      *server
	w      http.ResponseWriter
	r      *http.Request
	caller block.Caller
	view   view
}

// handle makes a handler of fn. The project in the path must be the token's,
// for administrators too (cinder/api/openstack/wsgi.py, _process_stack).
func (s *server) handle(fn func(*call) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		caller, _ := api.CallerOf(r.Context())
		c := &call{s: s, w: w, r: r, caller: caller, view: s.viewFor(r, caller)}
		if p := r.PathValue("project"); p != "" && p != string(caller.Own()) {
			s.fail(w, r, errBadURL)
			return
		}
		if err := fn(c); err != nil {
			s.fail(w, r, err)
		}
	}
}

func (c *call) volumeID() block.VolumeID     { return block.VolumeID(c.r.PathValue("id")) }
func (c *call) snapshotID() block.SnapshotID { return block.SnapshotID(c.r.PathValue("id")) }

// answer writes v with a status. It returns nil so that handlers can end with it.
func (c *call) answer(status int, v any) error {
	api.WriteJSON(c.w, status, v)
	return nil
}

// empty answers without a body.
func (c *call) empty(status int) error {
	c.w.Header().Set("Content-Length", "0")
	c.w.WriteHeader(status)
	return nil
}

// accepted answers 202 without a body, or returns err.
func (c *call) accepted(err error) error {
	if err != nil {
		return err
	}
	return c.empty(http.StatusAccepted)
}
