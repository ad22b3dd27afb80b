package cinder

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"kvol/internal/api"
	"kvol/internal/block"
)

// fault is an error that knows its status. The others have a block.Kind.
type fault struct {
	status  int
	message string
}

func (f *fault) Error() string { return f.message }

// Sentences of Cinder's wsgi layer (cinder/api/openstack/wsgi.py).
var (
	errNoResource  = &fault{http.StatusNotFound, "The resource could not be found."}
	errBadMethod   = &fault{http.StatusMethodNotAllowed, "The method is not allowed for this resource."}
	errBadURL      = &fault{http.StatusBadRequest, "Malformed request url"}
	errBadBody     = &fault{http.StatusBadRequest, "Malformed request body"}
	errContentType = &fault{http.StatusUnsupportedMediaType, "Unsupported Content-Type"}
	errBodyTooLong = &fault{http.StatusRequestEntityTooLarge,
		fmt.Sprintf("Request is too large. Larger than max_request_body_size (%d).", api.MaxBody)}
)

const faultMessage = "The server has either erred or is incapable of performing the requested operation."

// invalid makes a 400 with a sentence.
func invalid(format string, args ...any) error { return block.Errorf(block.Invalid, format, args...) }

// statusOf is this front end's one table from kinds to codes.
var statusOf = map[block.Kind]int{
	block.Invalid: 400, block.NotFound: 404, block.Conflict: 409, block.OverLimit: 413, block.Unauthorized: 401,
	block.Forbidden: 403, block.Unavailable: 503, block.NoSpace: 503, block.Stale: 409, block.Unsupported: 501,
}

// faultNames are the names of the error bodies (cinder wsgi.py, Fault); what
// is missing is a computeFault.
var faultNames = map[int]string{
	400: "badRequest", 401: "unauthorized", 403: "forbidden", 404: "itemNotFound", 405: "badMethod",
	409: "conflictingRequest", 413: "overLimit", 415: "badMediaType", 501: "notImplemented",
	503: "serviceUnavailable",
}

type faultBody struct {
	Code       int    `json:"code"`
	Message    string `json:"message"`
	RetryAfter string `json:"retryAfter,omitempty"`
}

// fail answers with the error body of err. Faults of ours are logged here and
// nowhere else, and the caller learns nothing about them.
func (s *server) fail(w http.ResponseWriter, r *http.Request, err error) {
	status, message := s.explain(r, err)
	if status == http.StatusUnauthorized {
		s.unauthorized(w)
		return
	}
	if errors.Is(err, errBodyTooLong) && strings.HasPrefix(r.URL.Path, "/v3/") {
		beforeVersions(w, status, http.StatusText(status), message)
		return
	}
	body := faultBody{Code: status, Message: message}
	api.SetRetryAfter(w.Header(), err)
	if block.Is(err, block.OverLimit) {
		w.Header().Set("Retry-After", "0")
		body.RetryAfter = "0"
	}
	name, ok := faultNames[status]
	if !ok {
		name = "computeFault"
	}
	api.WriteJSON(w, status, map[string]faultBody{name: body})
}

func (s *server) explain(r *http.Request, err error) (status int, message string) {
	var f *fault
	if errors.As(err, &f) {
		return f.status, f.message
	}
	status, ok := statusOf[block.KindOf(err)]
	message, shown := block.UserMessage(err)
	if ok && shown {
		return status, message
	}
	if errors.Is(err, context.Canceled) && r.Context().Err() != nil {
		return http.StatusServiceUnavailable, faultMessage // nobody waits for this answer
	}
	s.cfg.Log.ErrorContext(r.Context(), "request failed", "request", api.RequestID(r.Context()), "err", err)
	return http.StatusInternalServerError, faultMessage
}

// noPath answers as Cinder's web framework does where /v3 has no such path, or
// the path no such method.
func noPath(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Del("Allow")
	switch r.Method {
	case http.MethodOptions:
		forgetVersion(h)
		h.Set("Content-Length", "0")
		w.WriteHeader(http.StatusOK)
	case http.MethodHead:
		forgetVersion(h)
		h.Set("Content-Type", "text/html; charset=UTF-8")
		h.Set("Content-Length", "0")
		w.WriteHeader(http.StatusNotFound)
	default:
		beforeVersions(w, http.StatusNotFound, "Not Found", "The resource could not be found.")
	}
}

// beforeVersions answers in the form of what Cinder's web framework refuses before
// anything looks at the version (webob.exc).
func beforeVersions(w http.ResponseWriter, status int, title, message string) {
	forgetVersion(w.Header())
	api.WriteJSON(w, status, map[string]string{"code": fmt.Sprintf("%d %s", status, title), "title": title,
		"message": message + "<br /><br />\n\n\n"})
}

func forgetVersion(h http.Header) {
	h.Del(versionHeader)
	h.Del("Vary")
}

// unauthorized answers as keystonemiddleware does in front of Cinder.
func (s *server) unauthorized(w http.ResponseWriter) {
	w.Header().Set("WWW-Authenticate", fmt.Sprintf("Keystone uri=%q", s.cfg.AuthURL))
	api.WriteJSON(w, http.StatusUnauthorized, unauthorizedBody{unauthorizedError{http.StatusUnauthorized,
		"Unauthorized", "The request you have made requires authentication."}})
}

type unauthorizedBody struct {
	Error unauthorizedError `json:"error"`
}

type unauthorizedError struct {
	Code    int    `json:"code"`
	Title   string `json:"title"`
	Message string `json:"message"`
}

// Fault answers a request whose handler failed beyond repair, in this API's
// form. It is what api.Options wants as Fault.
func Fault(w http.ResponseWriter, _ *http.Request) {
	api.WriteJSON(w, http.StatusInternalServerError, map[string]faultBody{
		"computeFault": {Code: http.StatusInternalServerError, Message: faultMessage}})
}
