package image

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"

	"kvol/internal/api"
	"kvol/internal/block"
)

// Handler serves Glance's v2 under Config.Prefix. Uploads are as long as they
// are: whoever wraps it sets no limit on bodies; all others are limited here.
func (s *Service) Handler() http.Handler {
	rt := api.NewRouter(
		http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			writeError(w, http.StatusNotFound, "The resource could not be found.")
		}),
		http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			writeError(w, http.StatusMethodNotAllowed, "The method is not allowed for this resource.")
		}))
	s.versionRoutes(rt)
	s.handle(rt, http.MethodGet, "/v2/images", s.list)
	s.handle(rt, http.MethodPost, "/v2/images", s.post)
	s.handle(rt, http.MethodGet, "/v2/images/{image}", s.show)
	s.handle(rt, http.MethodPatch, "/v2/images/{image}", s.patch)
	s.handle(rt, http.MethodDelete, "/v2/images/{image}", s.remove)
	s.handle(rt, http.MethodGet, "/v2/images/{image}/file", s.download)
	s.handle(rt, http.MethodPut, "/v2/images/{image}/file", s.put)
	s.handle(rt, http.MethodPost, "/v2/images/{image}/actions/deactivate", s.deactivate)
	s.handle(rt, http.MethodPost, "/v2/images/{image}/actions/reactivate", s.reactivate)
	s.handle(rt, http.MethodPut, "/v2/images/{image}/tags/{tag}", s.addTag)
	s.handle(rt, http.MethodDelete, "/v2/images/{image}/tags/{tag}", s.removeTag)
	s.handle(rt, http.MethodGet, "/v2/schemas/image", s.schemaImage)
	s.handle(rt, http.MethodGet, "/v2/schemas/images", s.schemaImages)
	return rt
}

// action is what an authenticated caller asks for; its error is answered in
// Glance's form.
type action func(w http.ResponseWriter, r *http.Request, c block.Caller) error

func (s *Service) handle(rt *api.Router, method, pattern string, do action) {
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := api.Authenticate(s.config.Authenticator, r, r.Header.Get("X-Auth-Token"))
		if err != nil {
			s.fail(w, r, err)
			return
		}
		ctx := api.WithCaller(r.Context(), c)
		r = r.WithContext(ctx)
		c, _ = api.CallerOf(ctx)
		if err := do(w, r, c); err != nil {
			s.fail(w, r, err)
		}
	})
	rt.Handle(method, s.config.Prefix+pattern, h)
	if method == http.MethodGet {
		rt.Handle(http.MethodHead, s.config.Prefix+pattern, h)
	}
}

var statusOf = map[block.Kind]int{
	block.Invalid:      http.StatusBadRequest,
	block.Unauthorized: http.StatusUnauthorized,
	block.Forbidden:    http.StatusForbidden,
	block.NotFound:     http.StatusNotFound,
	block.Conflict:     http.StatusConflict,
	block.OverLimit:    http.StatusRequestEntityTooLarge,
	block.NoSpace:      http.StatusRequestEntityTooLarge,
	block.Unsupported:  http.StatusUnsupportedMediaType,
	block.Unavailable:  http.StatusServiceUnavailable,
}

func (s *Service) fail(w http.ResponseWriter, r *http.Request, err error) {
	var tooLong *http.MaxBytesError
	switch {
	case errors.Is(err, context.Canceled) && r.Context().Err() != nil:
		err = api.Cut(err) // an empty answer would be a 200
	case errors.As(err, &tooLong):
		writeError(w, http.StatusRequestEntityTooLarge, "The request's body is too long.")
		return
	case block.Is(err, block.Unauthorized) && s.config.Unauthorized != nil:
		s.config.Unauthorized.ServeHTTP(w, r)
		return
	}
	status, known := statusOf[block.KindOf(err)]
	message, say := block.UserMessage(err)
	if !known || !say {
		s.log.ErrorContext(r.Context(), "image request failed", "request", api.RequestID(r.Context()), "err", err)
		status, message = http.StatusInternalServerError, "The server has either erred or is incapable of "+
			"performing the requested operation."
	}
	api.SetRetryAfter(w.Header(), err)
	writeError(w, status, message)
}

// writeError answers as Glance does those who accept JSON.
func writeError(w http.ResponseWriter, status int, message string) {
	api.WriteJSON(w, status, struct {
		Message string `json:"message"`
		Code    string `json:"code"`
		Title   string `json:"title"`
	}{message, statusLine(status), http.StatusText(status)})
}

// decode reads a JSON body into v.
func decode(r *http.Request, v any) error {
	body, err := io.ReadAll(http.MaxBytesReader(nil, r.Body, api.MaxBody))
	if err != nil {
		return err
	}
	return decodeBytes(body, v)
}

func decodeBytes(body []byte, v any) error {
	if err := json.Unmarshal(body, v); err != nil {
		return block.Wrap(block.Invalid, err, "The request body is not the JSON that is expected.")
	}
	return nil
}
