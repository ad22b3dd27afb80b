package api

import (
	"maps"
	"net/http"
	"path"
	"slices"
	"strings"
)

// Router finds the handler of a request. Patterns are those of
// http.ServeMux without method and host ("/v2/{tenant}/volumes/{id}"). Unlike
// ServeMux it answers nothing by itself: paths with "//", "." or ".." and
// unknown ones go to notFound, known paths with other methods to
// methodNotAllowed with the header Allow set, and HEAD is not GET.
type Router struct {
	mux              *http.ServeMux
	methods          map[string]map[string]http.Handler // pattern -> method
	notFound         http.Handler
	methodNotAllowed http.Handler
}

// NewRouter makes a Router without routes.
func NewRouter(notFound, methodNotAllowed http.Handler) *Router {
	r := &Router{mux: http.NewServeMux(), methods: map[string]map[string]http.Handler{},
		notFound: notFound, methodNotAllowed: methodNotAllowed}
	return r
}

// Handle adds a route. All routes must be added before the first request. Two
// patterns that overlap without one being more special, and the same route
// twice, are programming errors and panic, as with ServeMux.
func (rt *Router) Handle(method, pattern string, h http.Handler) {
	byMethod, ok := rt.methods[pattern]
	if !ok {
		byMethod = map[string]http.Handler{}
		rt.methods[pattern] = byMethod
		rt.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) { rt.dispatch(w, r, pattern) })
	}
	if _, twice := byMethod[method]; twice {
		panic("api: two handlers for " + method + " " + pattern)
	}
	byMethod[method] = h
}

// HandleFunc is Handle for functions.
func (rt *Router) HandleFunc(method, pattern string, h http.HandlerFunc) {
	rt.Handle(method, pattern, h)
}

// ServeHTTP passes the request on. It may be called by many at once.
func (rt *Router) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !clean(r.URL.Path) {
		rt.notFound.ServeHTTP(w, r)
		return
	}
	// ServeMux would answer an unknown path in plain text and one that lacks
	// only a trailing slash with a redirect (the path is then shorter than the
	// pattern); Handler says beforehand what it would do.
	_, pattern := rt.mux.Handler(r)
	if rt.methods[pattern] == nil || strings.Count(r.URL.EscapedPath(), "/") < strings.Count(pattern, "/") {
		rt.notFound.ServeHTTP(w, r)
		return
	}
	rt.mux.ServeHTTP(w, r)
}

func (rt *Router) dispatch(w http.ResponseWriter, r *http.Request, pattern string) {
	if rec, ok := r.Context().Value(recordKey{}).(*record); ok {
		rec.route = pattern
	}
	byMethod := rt.methods[pattern]
	if h, ok := byMethod[r.Method]; ok {
		h.ServeHTTP(w, r)
		return
	}
	w.Header().Set("Allow", strings.Join(slices.Sorted(maps.Keys(byMethod)), ", "))
	rt.methodNotAllowed.ServeHTTP(w, r)
}

// clean reports whether ServeMux would take the path as it is.
func clean(p string) bool {
	if !strings.HasPrefix(p, "/") {
		return false
	}
	want := path.Clean(p)
	if strings.HasSuffix(p, "/") && want != "/" {
		want += "/"
	}
	return p == want
}
