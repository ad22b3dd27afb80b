package api

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"kvol/internal/block"
)

// MaxBody is how many bytes of a request body are read by default
// (oslo.middleware sizelimit, max_request_body_size).
const MaxBody = 114688

// Options are what Wrap needs. The zero value is usable.
type Options struct {
	Log      *slog.Logger                             // nil: silent
	Registry prometheus.Registerer                    // nil: no metrics
	Now      func() time.Time                         // nil: time.Now
	MaxBody  int64                                    // bytes; 0: the constant MaxBody; negative: no limit
	Fault    func(http.ResponseWriter, *http.Request) // answers after a panic; nil: 500 without a body
}

// record is what becomes known of a request on its way through the handlers.
type record struct {
	id, global string
	route      string
	project    block.ProjectID
	user       block.UserID
}

type recordKey struct{}

// Wrap puts a front end behind what every request needs: an id in the headers
// X-Compute-Request-Id and X-Openstack-Request-Id (a caller's own
// X-Openstack-Request-Id is logged as its global id; oslo.middleware
// request_id), a limit on the body (a reader past it gets *http.MaxBytesError),
// recovery from panics, 503 where a handler whose context ended wrote nothing, one
// line in the access log without query, headers or
// bodies, and metrics. The ResponseWriter that it hands on has Unwrap, so
// http.ResponseController can hijack and flush.
func Wrap(h http.Handler, o Options) http.Handler {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.MaxBody == 0 {
		o.MaxBody = MaxBody
	}
	return &wrapped{next: h, o: o, meter: newMeter(o.Registry)}
}

type wrapped struct {
	next  http.Handler
	o     Options
	meter *meter
}

func (h *wrapped) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	start := h.o.Now()
	rec := &record{id: "req-" + block.NewID(), global: globalID(r.Header.Get("X-Openstack-Request-Id"))}
	w.Header().Set("X-Compute-Request-Id", rec.id)
	w.Header().Set("X-Openstack-Request-Id", rec.id)
	out := &response{ResponseWriter: w}
	r = r.WithContext(context.WithValue(WithRemote(r.Context(), r.RemoteAddr), recordKey{}, rec))
	if h.o.MaxBody > 0 && r.Body != nil {
		r.Body = http.MaxBytesReader(out, r.Body, h.o.MaxBody)
	}
	h.meter.begin()
	h.serve(out, r)
	took := h.o.Now().Sub(start)
	h.meter.end(rec.route, r.Method, out.code(), took)
	h.log(r, rec, out, took)
}

// serve runs the next handler and answers for it should it panic.
func (h *wrapped) serve(w *response, r *http.Request) {
	defer func() {
		cause := recover()
		if cause == nil {
			return
		}
		if err, ok := cause.(error); ok && errors.Is(err, http.ErrAbortHandler) {
			panic(cause) // the handler wants the connection cut; net/http does that
		}
		h.o.Log.ErrorContext(r.Context(), "request panicked", "request", RequestID(r.Context()),
			"err", cause, "stack", string(debug.Stack()))
		if w.status != 0 {
			panic(http.ErrAbortHandler) // half an answer is out; only a cut connection tells
		}
		if h.o.Fault != nil {
			h.o.Fault(w, r)
			return
		}
		w.WriteHeader(http.StatusInternalServerError)
	}()
	h.next.ServeHTTP(w, r)
	if w.status == 0 && r.Context().Err() != nil {
		w.WriteHeader(http.StatusServiceUnavailable) // net/http would say 200 of what was not done
	}
}

// Cut is the error for the user of a request that was not done since its context
// ended: its client has gone, or the process ends.
func Cut(cause error) error {
	return block.Wrap(block.Unavailable, cause, "The service ends, and did not finish this request. Try again.")
}

func (h *wrapped) log(r *http.Request, rec *record, out *response, took time.Duration) {
	attrs := []slog.Attr{
		slog.String("request", rec.id), slog.String("method", r.Method), slog.String("path", r.URL.Path),
		slog.Int("status", out.code()), slog.Int64("bytes", out.written), slog.Duration("took", took),
		slog.String("from", r.RemoteAddr),
	}
	if rec.global != "" {
		attrs = append(attrs, slog.String("global", rec.global))
	}
	if rec.project != "" || rec.user != "" {
		attrs = append(attrs, slog.String("project", string(rec.project)), slog.String("user", string(rec.user)))
	}
	h.o.Log.LogAttrs(r.Context(), slog.LevelInfo, "request", attrs...)
}

// globalID returns s if it is of the form req-<uuid>, and else "".
func globalID(s string) string {
	id, ok := strings.CutPrefix(s, "req-")
	if !ok {
		return ""
	}
	if _, ok = block.ParseID(id); !ok {
		return ""
	}
	return s
}

// response remembers what was answered.
type response struct {
	http.ResponseWriter
	status  int
	written int64
}

// Unwrap lets http.ResponseController reach the connection.
func (w *response) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// WriteHeader notes the first final status.
func (w *response) WriteHeader(status int) {
	if w.status == 0 && (status >= 200 || status == http.StatusSwitchingProtocols) {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

// Write counts the body's bytes.
func (w *response) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	n, err := w.ResponseWriter.Write(p)
	w.written += int64(n)
	return n, err
}

func (w *response) code() int {
	if w.status == 0 {
		return http.StatusOK
	}
	return w.status
}
