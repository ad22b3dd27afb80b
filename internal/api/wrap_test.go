package api

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"kvol/internal/block"
)

func TestRequestIDs(t *testing.T) {
	var inside string
	h := Wrap(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		inside = RequestID(r.Context())
	}), Options{})
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
	if !strings.HasPrefix(inside, "req-") || w.Header().Get("X-Openstack-Request-Id") != inside ||
		w.Header().Get("X-Compute-Request-Id") != inside {
		t.Errorf("id %q, headers %v", inside, w.Header())
	}
	if RequestID(context.Background()) != "" {
		t.Error("a request id without a request")
	}
}

// The log tells who did what, and nothing that is secret.
func TestAccessLog(t *testing.T) {
	var out bytes.Buffer
	var clock time.Time
	now := func() time.Time { clock = clock.Add(time.Second); return clock }
	h := Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx := WithCaller(r.Context(), block.Caller{Project: "p1", User: "u1"})
		if c, ok := CallerOf(ctx); !ok || c.RequestID != RequestID(ctx) {
			t.Errorf("caller %+v", c)
		}
		WriteJSON(w, http.StatusAccepted, "x")
	}), Options{Log: slog.New(slog.NewTextHandler(&out, nil)), Now: now})
	r := httptest.NewRequest("POST", "/v2/p1/volumes?password=hidden", strings.NewReader("hidden"))
	r.Header.Set("X-Auth-Token", "hidden")
	r.Header.Set("Authorization", "Basic hidden")
	r.Header.Set("X-Openstack-Request-Id", "req-11111111-1111-1111-1111-111111111111")
	h.ServeHTTP(httptest.NewRecorder(), r)
	line := out.String()
	for _, want := range []string{"method=POST", "path=/v2/p1/volumes ", "status=202", "bytes=3", "took=1s", "project=p1",
		"user=u1", "global=req-11111111-1111-1111-1111-111111111111"} {
		if !strings.Contains(line, want) {
			t.Errorf("no %q in %s", want, line)
		}
	}
	if strings.Contains(line, "hidden") || strings.Count(line, "\n") != 1 {
		t.Errorf("log: %s", line)
	}
}

func TestForeignRequestIDIsChecked(t *testing.T) {
	for _, id := range []string{"", "x", "req-x", "req-11111111-1111-1111-1111-111111111111\n"} {
		if got := globalID(id); got != "" {
			t.Errorf("globalID(%q) = %q", id, got)
		}
	}
}

func TestPanicIsAnswered(t *testing.T) {
	var out bytes.Buffer
	log := slog.New(slog.NewTextHandler(&out, nil))
	h := Wrap(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("oops") }), Options{Log: log,
		Fault: func(w http.ResponseWriter, _ *http.Request) { WriteJSON(w, 500, map[string]int{"code": 500}) }})
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
	if w.Code != 500 || w.Body.String() != `{"code":500}` || !strings.Contains(out.String(), "oops") {
		t.Errorf("%d %s; log %s", w.Code, w.Body, out.String())
	}
	w = httptest.NewRecorder()
	Wrap(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { WriteJSON(w, 200, func() {}) }), Options{}).
		ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
	if w.Code != 500 || w.Body.Len() != 0 {
		t.Errorf("what can't be encoded: %d %s", w.Code, w.Body)
	}
}

// What was not done since its context ended is never answered as if it were.
func TestNothingWrittenIsNoSuccess(t *testing.T) {
	var out bytes.Buffer
	h := Wrap(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}),
		Options{Log: slog.New(slog.NewTextHandler(&out, nil))})
	ctx, end := context.WithCancel(t.Context())
	defer end()
	for _, want := range []int{200, 503} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequestWithContext(ctx, "GET", "/", nil))
		if w.Code != want || !strings.Contains(out.String(), "status="+strconv.Itoa(want)) {
			t.Errorf("%d; log %s", w.Code, out.String())
		}
		end()
	}
}

// Half an answer is never ended as if it were whole.
func TestPanicInTheMiddleCutsTheConnection(t *testing.T) {
	h := Wrap(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte("half"))
		_ = http.NewResponseController(w).Flush() // chunked: a normal end would look whole
		panic("oops")
	}), Options{})
	srv := httptest.NewServer(h)
	defer srv.Close()
	res, err := srv.Client().Get(srv.URL)
	if err == nil {
		_, err = io.ReadAll(res.Body)
		err = errors.Join(err, res.Body.Close())
	}
	if err == nil {
		t.Error("the client saw a whole answer")
	}
}

func TestBodyLimit(t *testing.T) {
	for _, tt := range []struct {
		limit int64
		size  int
		fits  bool
	}{{0, MaxBody, true}, {0, MaxBody + 1, false}, {4, 4, true}, {4, 5, false}, {-1, 4 * MaxBody, true}} {
		var err error
		h := Wrap(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, err = io.ReadAll(r.Body) }),
			Options{MaxBody: tt.limit})
		h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("POST", "/", strings.NewReader(strings.Repeat("x", tt.size))))
		var tooLong *http.MaxBytesError
		if errors.As(err, &tooLong) == tt.fits {
			t.Errorf("limit %d, %d bytes: %v", tt.limit, tt.size, err)
		}
	}
}

// The zone-to-zone stream takes over connections.
func TestHijack(t *testing.T) {
	h := Wrap(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		_, _ = conn.Write([]byte("HTTP/1.1 101 Switching Protocols\r\n\r\n"))
		_, _ = io.Copy(conn, conn)
		_ = conn.Close()
	}), Options{MaxBody: 1})
	srv := httptest.NewServer(h)
	defer srv.Close()
	conn, err := net.Dial("tcp", srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, _ = conn.Write([]byte("POST / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"))
	head := make([]byte, len("HTTP/1.1 101 Switching Protocols\r\n\r\n"))
	if _, err = io.ReadFull(conn, head); err != nil {
		t.Fatal(err)
	}
	_, _ = conn.Write([]byte("echo"))
	if _, err = io.ReadFull(conn, head[:4]); err != nil || string(head[:4]) != "echo" {
		t.Errorf("%q, %v", head[:4], err)
	}
}

func TestMetrics(t *testing.T) {
	registry := prometheus.NewRegistry()
	var h http.Handler
	for range 2 { // two listeners, one registry
		h = Wrap(testRouter(), Options{Registry: registry})
	}
	for _, r := range []*http.Request{httptest.NewRequest("GET", "/v/1", nil), httptest.NewRequest("GET", "/v/2", nil),
		httptest.NewRequest("BREW", "/v/1", nil), httptest.NewRequest("GET", "/nope", nil)} {
		h.ServeHTTP(httptest.NewRecorder(), r)
	}
	want := map[string]float64{"200 GET /v/{id}": 2, "404 GET ": 1, "405 other /v/{id}": 1}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		if f.GetName() != "kvol_http_requests_total" {
			continue
		}
		for _, m := range f.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, l.GetValue())
			}
			got[strings.Join(labels, " ")] = m.GetCounter().GetValue()
		}
	}
	if !maps.Equal(got, want) {
		t.Errorf("counted %v, want %v", got, want)
	}
}

func TestPublicURL(t *testing.T) {
	for _, tt := range []struct{ configured, proto, host, want string }{
		{"https://a.example/", "http", "evil", "https://a.example"},
		{"", "", "", "http://example.com"},
		{"", "https", "", "https://example.com"},
		{"", "HTTPS, http", "front:443, inner", "https://front:443"},
		{"", "gopher", "a/b", "http://example.com"},
		{"", "", `x"y`, "http://example.com"},
		{"", "", `x\y`, "http://example.com"},
		{"", "", "[2001:db8::1]:8776", "http://[2001:db8::1]:8776"},
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.Header.Set("X-Forwarded-Proto", tt.proto)
		r.Header.Set("X-Forwarded-Host", tt.host)
		if got := PublicURL(r, tt.configured); got != tt.want {
			t.Errorf("PublicURL(%+v) = %s", tt, got)
		}
	}
}

func TestWriteJSON(t *testing.T) {
	w := httptest.NewRecorder()
	WriteJSON(w, 201, map[string]string{"a": "<&>"})
	if w.Code != 201 || w.Body.String() != `{"a":"<&>"}` || w.Header().Get("Content-Length") != "11" ||
		w.Header().Get("Content-Type") != "application/json" {
		t.Errorf("%d %v %s", w.Code, w.Header(), w.Body)
	}
}
