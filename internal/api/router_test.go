package api

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

func say(text string, status int) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("X-Id", r.PathValue("id"))
		w.WriteHeader(status)
		_, _ = w.Write([]byte(text))
	})
}

func testRouter() *Router {
	rt := NewRouter(say("none", 404), say("method", 405))
	rt.Handle("GET", "/{$}", say("root", 200))
	rt.Handle("GET", "/v/{id}", say("show", 200))
	rt.Handle("PUT", "/v/{id}", say("update", 200))
	rt.Handle("GET", "/v/detail", say("detail", 200))
	rt.HandleFunc("POST", "/v", say("create", 202).ServeHTTP)
	rt.Handle("GET", "/only/", say("subtree", 200))
	rt.Handle("GET", "/end/{$}", say("end", 200))
	return rt
}

func TestRouter(t *testing.T) {
	rt := testRouter()
	for _, tt := range []struct{ method, path, body, id string }{
		{"GET", "/", "root", ""}, {"GET", "/v/7", "show", "7"}, {"PUT", "/v/a%2Fb", "update", "a/b"},
		{"GET", "/v/detail", "detail", ""}, {"POST", "/v", "create", ""}, {"GET", "/only/x/y", "subtree", ""},
		{"GET", "/only/", "subtree", ""}, {"GET", "/end/", "end", ""},
		{"HEAD", "/v/7", "method", "7"}, {"DELETE", "/v/7", "method", "7"}, {"PUT", "/v/detail", "method", ""},
		{"GET", "/v", "method", ""}, {"OPTIONS", "/v", "method", ""},
		{"GET", "/only", "none", ""}, {"GET", "/end", "none", ""}, {"GET", "/v/", "none", ""}, {"GET", "/v/7/", "none", ""},
		{"GET", "//v/7", "none", ""}, {"GET", "/v//7", "none", ""}, {"GET", "/v/../v/7", "none", ""},
		{"GET", "/v/.", "none", ""}, {"GET", "/nope", "none", ""}, {"GET", "/v/%2F%2F", "none", ""},
	} {
		r := httptest.NewRequest(tt.method, tt.path, nil)
		w := httptest.NewRecorder()
		rt.ServeHTTP(w, r)
		if w.Body.String() != tt.body || w.Header().Get("X-Id") != tt.id {
			t.Errorf("%s %s = %s (id %q), want %s", tt.method, tt.path, w.Body, w.Header().Get("X-Id"), tt.body)
		}
		if allow := w.Header().Get("Allow"); (allow != "") != (tt.body == "method") {
			t.Errorf("%s %s: Allow %q", tt.method, tt.path, allow)
		}
	}
	w := httptest.NewRecorder()
	rt.ServeHTTP(w, httptest.NewRequest("POST", "/v/1", nil))
	if got := w.Header().Get("Allow"); got != "GET, PUT" {
		t.Errorf("Allow: %s", got)
	}
}

func TestRouterRefusesTwice(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("the same route was taken twice")
		}
	}()
	testRouter().Handle("POST", "/v", say("again", 200))
}

// FuzzRouter: no path makes it panic, redirect or speak for itself. (A wildcard
// bound to an empty segment can make PathValue panic: golang/go#81222.)
func FuzzRouter(f *testing.F) {
	for _, p := range []string{"/", "//", "/v//x", "/v/%2F", "/v/%", "*", "", "/only", "/v/\x00", "/end", "/v/..%2f"} {
		f.Add(p)
	}
	rt := testRouter()
	f.Fuzz(func(t *testing.T, path string) {
		r := httptest.NewRequest("GET", "/", nil)
		u, err := url.ParseRequestURI(path)
		if err != nil {
			u = &url.URL{Path: path}
		}
		r.URL = u
		w := httptest.NewRecorder()
		rt.ServeHTTP(w, r)
		if w.Header().Get("Content-Type") != "application/json" || strings.HasPrefix(w.Header().Get("Location"), "/") {
			t.Errorf("%q: %d %v", path, w.Code, w.Header())
		}
	})
}
