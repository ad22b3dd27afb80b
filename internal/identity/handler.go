package identity

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"

	"kvol/internal/api"
	"kvol/internal/block"
)

// maxBody is the longest request body, in bytes (oslo.middleware sizelimit).
const maxBody = api.MaxBody

// Handler serves Keystone's v2.0 and v3 under Config.Prefix.
func (s *Service) Handler() http.Handler {
	rt := api.NewRouter(
		http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			s.fail(w, r, block.Errorf(block.NotFound, "The resource could not be found."))
		}),
		http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			writeError(w, http.StatusMethodNotAllowed, "The method is not allowed for the requested URL.")
		}))
	s.versionRoutes(rt)
	s.tokenRoutes(rt)
	s.userRoutes(rt)
	s.projectRoutes(rt)
	s.roleRoutes(rt)
	s.catalogRoutes(rt)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Add("Vary", "X-Auth-Token")
		rt.ServeHTTP(w, r)
	})
}

// Unauthorized answers a request without a good token as keystonemiddleware
// does for every service (_exceptions.py, _make_unauthorized).
func (s *Service) Unauthorized() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("WWW-Authenticate", `Keystone uri="`+s.base(r)+`"`)
		message, _ := block.UserMessage(errUnauthorized)
		api.WriteJSON(w, http.StatusUnauthorized, map[string]any{"error": struct {
			Code    int    `json:"code"`
			Title   string `json:"title"`
			Message string `json:"message"`
		}{http.StatusUnauthorized, "Unauthorized", message}})
	})
}

// action is a handler whose error is answered in Keystone's form.
type action func(w http.ResponseWriter, r *http.Request) error

// signedIn is an action of somebody whose token was found good.
type signedIn func(w http.ResponseWriter, r *http.Request, a session) error

func (s *Service) handle(rt *api.Router, method, pattern string, do action) {
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := do(w, r); err != nil {
			s.fail(w, r, err)
		}
	})
	rt.Handle(method, s.config.Prefix+pattern, h)
	if method == http.MethodGet {
		rt.Handle(http.MethodHead, s.config.Prefix+pattern, h)
	}
}

// authenticated lets through whoever has a good token, scoped or not.
func (s *Service) authenticated(do signedIn) action {
	return func(w http.ResponseWriter, r *http.Request) error {
		a, err := s.sender(r)
		if err != nil {
			return err
		}
		return do(w, r, a)
	}
}

// admin lets through administrators, and those whom unless excepts. rule is
// Keystone's name for what is asked.
func (s *Service) admin(rule string, do signedIn, unless ...func(*http.Request, session) bool) action {
	return s.authenticated(func(w http.ResponseWriter, r *http.Request, a session) error {
		allowed := a.has("admin")
		for _, f := range unless {
			allowed = allowed || f(r, a)
		}
		if !allowed {
			return block.Errorf(block.Forbidden,
				"You are not authorized to perform the requested action: %s.", rule)
		}
		return do(w, r, a)
	})
}

// sender is the session of a request's token.
func (s *Service) sender(r *http.Request) (session, error) {
	token := r.Header.Get("X-Auth-Token")
	if token == "" || len(token) > maxTokenBytes {
		return session{}, errUnauthorized
	}
	a, err := s.session(r.Context(), token)
	if block.Is(err, block.NotFound) {
		return session{}, errUnauthorized
	}
	return a, err
}

// malformed is how Keystone's sentences about requests end.
const malformed = " The server could not comply with the request since it is either malformed or otherwise " +
	"incorrect. The client is assumed to be in error."

func expecting(what, where string) error {
	return block.Errorf(block.Invalid, "Expecting to find %s in %s.%s", what, where, malformed)
}

// decode reads a request's JSON body into v; Invalid if it isn't such JSON.
// Keys that v does not have are ignored.
func decode(r *http.Request, v any) error {
	body, err := io.ReadAll(http.MaxBytesReader(nil, r.Body, maxBody))
	var tooLong *http.MaxBytesError
	if errors.As(err, &tooLong) {
		return err
	}
	if err != nil {
		return block.Wrap(block.Invalid, err, "The request body could not be read.")
	}
	return decodeBytes(body, v)
}

func decodeBytes(body []byte, v any) error {
	err := json.Unmarshal(body, v)
	var kind *json.UnmarshalTypeError
	if errors.As(err, &kind) && kind.Field != "" {
		return block.Errorf(block.Invalid, "Invalid input for field '%s': a %s is of the wrong type.",
			kind.Field, kind.Value)
	}
	if err != nil {
		return expecting("valid JSON", "request body")
	}
	return nil
}

var statusOf = map[block.Kind]int{
	block.Invalid:      http.StatusBadRequest,
	block.Unauthorized: http.StatusUnauthorized,
	block.Forbidden:    http.StatusForbidden,
	block.NotFound:     http.StatusNotFound,
	block.Conflict:     http.StatusConflict,
	block.OverLimit:    http.StatusTooManyRequests,
	block.Unavailable:  http.StatusServiceUnavailable,
}

// fail answers an error; only what is our fault is logged.
func (s *Service) fail(w http.ResponseWriter, r *http.Request, err error) {
	var tooLong *http.MaxBytesError
	if errors.As(err, &tooLong) {
		writeError(w, http.StatusRequestEntityTooLarge, "Request is too large.")
		return
	}
	if errors.Is(err, context.Canceled) {
		err = api.Cut(err) // an empty answer would be a 200
	}
	status, known := statusOf[block.KindOf(err)]
	message, say := block.UserMessage(err)
	if !known || !say {
		s.log.ErrorContext(r.Context(), "identity request failed", "request", api.RequestID(r.Context()), "err", err)
		writeError(w, http.StatusInternalServerError,
			"An unexpected error prevented the server from fulfilling your request.")
		return
	}
	switch status {
	case http.StatusUnauthorized:
		w.Header().Set("WWW-Authenticate", `Keystone uri="`+s.base(r)+`/v3"`)
	case http.StatusTooManyRequests:
		if wait, ok := RetryAfter(err); ok {
			w.Header().Set("Retry-After", strconv.FormatInt(seconds(wait), 10))
		}
	}
	writeError(w, status, message)
}

func writeError(w http.ResponseWriter, status int, message string) {
	api.WriteJSON(w, status, map[string]any{"error": struct {
		Code    int    `json:"code"`
		Message string `json:"message"`
		Title   string `json:"title"`
	}{status, message, http.StatusText(status)}})
}
