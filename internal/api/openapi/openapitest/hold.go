// Package openapitest holds what a front end answers in its tests against the
// document that describes it.
package openapitest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"kvol/internal/api/openapi"
)

// Hold passes requests on to a handler, and complains of what they and their
// answers have that a document does not describe: operations, parameters that
// were taken, statuses, types and members of bodies. ignored are parameters of
// queries that mean nothing and are sent all the same.
func Hold(t testing.TB, d *openapi.Document, next http.Handler, ignored ...string) http.Handler {
	h := &holder{document: d, ignored: ignored, mux: http.NewServeMux(), schemas: map[string]*jsonschema.Schema{}}
	for path, methods := range d.Paths {
		for method := range methods {
			h.mux.Handle(strings.ToUpper(method)+" "+path, http.NotFoundHandler())
		}
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		r.Body = io.NopCloser(bytes.NewReader(asked))
		out := httptest.NewRecorder()
		next.ServeHTTP(out, r)
		if err := h.check(r, asked, out); err != nil {
			t.Errorf("%s %s %s\n%d %s\n%v", r.Method, r.URL, asked, out.Code, out.Body, err)
		}
		maps.Copy(w.Header(), out.Header())
		w.WriteHeader(out.Code)
		_, _ = w.Write(out.Body.Bytes()) // whoever asked may be gone
	})
}

// Validate fails the test where a document is not OpenAPI 3.1, as kin-openapi
// understands it.
func Validate(t testing.TB, name string, d *openapi.Document) {
	t.Helper()
	text, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	read, err := openapi3.NewLoader().LoadFromData(text)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	if err := read.Validate(t.Context()); err != nil {
		t.Errorf("%s: %v", name, err)
	}
}

type holder struct {
	document *openapi.Document
	ignored  []string
	mux      *http.ServeMux

	mu      sync.Mutex // guards schemas
	schemas map[string]*jsonschema.Schema
}

func (h *holder) check(r *http.Request, asked []byte, out *httptest.ResponseRecorder) error {
	method := r.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	_, pattern := h.mux.Handler(httptest.NewRequest(method, strings.TrimSuffix(r.URL.EscapedPath(), "/"), nil))
	verb, path, _ := strings.Cut(pattern, " ")
	o := h.document.Paths[path][strings.ToLower(verb)]
	if o == nil {
		if out.Code < 400 {
			return fmt.Errorf("no such operation is described")
		}
		return nil
	}
	response, ok := o.Responses[strconv.Itoa(out.Code)]
	if !ok && out.Code >= 400 {
		response, ok = o.Responses["default"]
	}
	if !ok {
		return fmt.Errorf("%s has no answer %d", pattern, out.Code)
	}
	if r.Method != http.MethodHead {
		key := pattern + " " + strconv.Itoa(out.Code)
		if err := h.fits(key, out.Header().Get("Content-Type"), response.Content, out.Body.Bytes()); err != nil {
			return err
		}
	}
	if out.Code >= 400 {
		return nil
	}
	if err := h.parameters(r, o); err != nil {
		return err
	}
	if o.RequestBody == nil || len(asked) == 0 {
		return nil
	}
	return h.fits(pattern, r.Header.Get("Content-Type"), o.RequestBody.Content, asked)
}

// parameters says which of the query of a request that was answered well are
// not described, and which are missing although the document needs them.
func (h *holder) parameters(r *http.Request, o *openapi.Operation) error {
	left := r.URL.Query()
	for _, p := range o.Parameters {
		if p.In != "query" {
			continue
		}
		if !left.Has(p.Name) && p.Required {
			return fmt.Errorf("it was answered without the parameter %s", p.Name)
		}
		delete(left, p.Name)
	}
	for name := range left {
		if slices.Contains(h.ignored, name) {
			continue
		}
		return fmt.Errorf("the parameter %s is not described", name)
	}
	return nil
}

// fits reports what of a body is not as described.
func (h *holder) fits(key, contentType string, content map[string]openapi.Media, body []byte) error {
	if len(content) == 0 {
		if len(body) > 0 {
			return fmt.Errorf("%s has no body", key)
		}
		return nil
	}
	kind, _, err := mime.ParseMediaType(contentType)
	if err != nil && len(content) == 1 { // a client that says nothing of its body
		for kind = range content {
			break
		}
	}
	media, ok := content[kind]
	if !ok {
		return fmt.Errorf("%s has no body of type %q", key, contentType)
	}
	if kind != "application/json" {
		return nil
	}
	s, err := h.schema(key, media)
	if err != nil {
		return err
	}
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(body))
	if err != nil {
		return err
	}
	return s.Validate(v)
}

func (h *holder) schema(key string, of openapi.Media) (*jsonschema.Schema, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if s, ok := h.schemas[key]; ok {
		return s, nil
	}
	text, err := json.Marshal(of.Schema)
	if err != nil {
		return nil, err
	}
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	compiler := jsonschema.NewCompiler()
	if err = compiler.AddResource("s.json", document); err != nil {
		return nil, err
	}
	s, err := compiler.Compile("s.json")
	h.schemas[key] = s
	return s, err
}
