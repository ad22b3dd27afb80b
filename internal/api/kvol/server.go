package kvol

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"time"

	"golang.org/x/time/rate"

	"kvol/internal/api"
	"kvol/internal/block"
	"kvol/internal/control"
)

// Tokens vouches for the users of this API. Its methods may be called at once.
// Unauthorized is for a wrong password and for an unknown, expired or other
// user's token.
type Tokens interface {
	// Issue gives a user a token. remote is the caller's address, for limits on
	// guessing.
	Issue(ctx context.Context, user, password, remote string) (token string, expires time.Time, err error)
	// Check says whether a token is the user's and valid still.
	Check(ctx context.Context, user, token string) error
}

// DefaultUser is the user that the document names.
const DefaultUser = "gabianet"

// Config is what the front end works with. Service and Tokens are needed.
type Config struct {
	Service *control.Service
	Tokens  Tokens
	// Users are who may use the API; DefaultUser if empty.
	Users []string
	// TimeZone is that of the times in answers; UTC if nil.
	TimeZone *time.Location
	// InternalStatus answers faults of ours: 405 as documented if zero.
	InternalStatus int
	Now            func() time.Time // time.Now if nil
	Log            *slog.Logger     // discarded if nil
}

const (
	maxBody     = 64 << 10 // bytes of a posted form
	maxAuthText = 4 << 10  // bytes of a user's name or a token
	// Refused calls are written to the audit log at this rate at most, so that a
	// flood of them does not fill it.
	refusedPerSecond, refusedBurst = 10, 100
)

// Server is the front end. It is an http.Handler for /api/token and /api/kvol/.
type Server struct {
	cfg     Config
	routes  *api.Router
	refused *rate.Limiter
}

// New makes a Server.
func New(cfg Config) *Server {
	if len(cfg.Users) == 0 {
		cfg.Users = []string{DefaultUser}
	}
	if cfg.TimeZone == nil {
		cfg.TimeZone = time.UTC
	}
	if cfg.InternalStatus == 0 {
		cfg.InternalStatus = http.StatusMethodNotAllowed
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	s := &Server{cfg: cfg, refused: rate.NewLimiter(refusedPerSecond, refusedBurst)}
	s.routes = api.NewRouter(
		message(http.StatusNotFound, "no such path"), message(http.StatusMethodNotAllowed, "method not allowed"))
	for _, c := range calls {
		s.route(c.path, c)
	}
	return s
}

// ServeHTTP answers a request. It may be called by many at once.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store") // GET starts jobs here
	s.routes.ServeHTTP(w, r)
}

// request is a call under way.
type request struct {
	*http.Request
	query
	user, password string // of Basic authentication, as given
}

// answer is what a call found.
type answer struct {
	body   any // nil: no such data
	rowkey int64
	fresh  control.Freshness
}

func (s *Server) route(path string, c call) {
	h := func(w http.ResponseWriter, r *http.Request) { s.serve(w, r, c) }
	s.routes.HandleFunc(http.MethodGet, path, h)
	s.routes.HandleFunc(http.MethodPost, path, h)
}

// serve runs a call: first who asks, then what, as the document's codes have
// it, and then the line in the audit log.
func (s *Server) serve(w http.ResponseWriter, r *http.Request, c call) {
	req := &request{Request: r, query: query{used: url.Values{}}}
	user, password, given := r.BasicAuth()
	if given && len(user) <= maxAuthText && len(password) <= maxAuthText {
		req.user, req.password = user, password
	}
	err := s.authenticate(req, c)
	var a answer
	if err == nil {
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		if req.err = r.ParseForm(); req.err != nil {
			req.err = block.Errorf(block.Invalid, "the parameters can't be read")
		}
		req.values = r.Form
		req.Request = r.WithContext(block.WithRequester(r.Context(), block.Requester{User: block.UserID(req.user),
			Remote: hostOf(r.RemoteAddr), Roles: []string{"kvol"}}))
		a, err = c.run(s, req)
	}
	code := s.write(w, r, a, err)
	s.audit(req, c, code, a.rowkey)
}

func (s *Server) authenticate(r *request, c call) error {
	if c.open {
		return nil
	}
	if !slices.Contains(s.cfg.Users, r.user) || r.password == "" {
		return block.Errorf(block.Unauthorized, "a token of /api/token is needed as password")
	}
	return s.cfg.Tokens.Check(r.Context(), r.user, r.password)
}

// audit writes a call down. A caller whose job was started hears of it even if
// that fails.
func (s *Server) audit(r *request, c call, code int, rowkey int64) {
	now := s.cfg.Now()
	if code == http.StatusUnauthorized && !s.refused.AllowN(now, 1) {
		return
	}
	err := s.cfg.Service.Audit(context.WithoutCancel(r.Context()), block.Audit{
		At: now.UTC(), User: clip(r.user), Remote: hostOf(r.RemoteAddr), Call: c.name, Params: r.used.Encode(), Code: code,
		Rowkey: rowkey,
	})
	if err != nil {
		s.cfg.Log.Error("a call could not be written to the audit log", "call", c.name, "rowkey", rowkey, "err", err)
	}
}

// hostOf is an address without its port.
func hostOf(remote string) string {
	if host, _, err := net.SplitHostPort(remote); err == nil {
		return host
	}
	return remote
}

func clip(text string) string { return text[:min(len(text), 255)] }
