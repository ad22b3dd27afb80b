package cinder_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"kvol/internal/api/cinder"
	"kvol/internal/api/openapi"
	"kvol/internal/api/openapi/openapitest"
)

// contract holds what is asked and answered in all tests of this package
// against the documents: answers have exactly the members that the document of
// their microversion has, and bodies that are taken are as described.
type contract struct {
	mu       sync.Mutex // guards the maps
	editions map[string]*describedEdition
	schemas  map[string]*jsonschema.Schema
}

// describedEdition is a document, and a mux that finds its operations.
type describedEdition struct {
	document *openapi.Document
	mux      *http.ServeMux
}

var documents = contract{editions: map[string]*describedEdition{}, schemas: map[string]*jsonschema.Schema{}}

// edition makes the document of a version as answers name it: "2" or "volume 3.N".
func (d *contract) edition(version string, extra bool) *describedEdition {
	key := fmt.Sprint(version, extra)
	if e, ok := d.editions[key]; ok {
		return e
	}
	options := cinder.Config{V2ExtraFields: extra}
	e := &describedEdition{document: cinder.Document(false, options), mux: http.NewServeMux()}
	if minor, ok := strings.CutPrefix(version, "volume 3."); ok {
		n, _ := strconv.Atoi(minor)
		e.document = cinder.DocumentOf(n, options)
	}
	for path, methods := range e.document.Paths {
		for method := range methods {
			e.mux.Handle(strings.ToUpper(method)+" "+path, http.NotFoundHandler())
		}
	}
	d.editions[key] = e
	return e
}

// find returns the operation that a request is, and its name.
func (e *describedEdition) find(r *http.Request) (*openapi.Operation, string) {
	steps := strings.Split(strings.TrimSuffix(r.URL.EscapedPath(), ".json"), "/")
	if len(steps) > 2 && steps[1] == "v3" && strings.Trim(steps[2], "0123456789abcdef-") != "" {
		steps = append([]string{"", "v3", project}, steps[2:]...)
	}
	_, pattern := e.mux.Handler(httptest.NewRequest(r.Method, strings.Join(steps, "/"), nil))
	method, path, _ := strings.Cut(pattern, " ")
	return e.document.Paths[path][strings.ToLower(method)], pattern
}

// around complains of what a handler answers that the documents do not say.
func (d *contract) around(t testing.TB, extra bool, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		r.Body = io.NopCloser(bytes.NewReader(asked))
		out := httptest.NewRecorder()
		next.ServeHTTP(out, r)
		if strings.Count(r.URL.Path, "/") > 2 {
			if err := d.check(r, extra, asked, out); err != nil {
				t.Errorf("%s %s %s\n%d %s\n%v", r.Method, r.URL, asked, out.Code, out.Body, err)
			}
		}
		maps.Copy(w.Header(), out.Header())
		w.WriteHeader(out.Code)
		_, _ = w.Write(out.Body.Bytes())
	})
}

func (d *contract) check(r *http.Request, extra bool, asked []byte, out *httptest.ResponseRecorder) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	version := out.Header().Get("OpenStack-API-Version")
	if out.Code == http.StatusNotAcceptable || strings.HasPrefix(r.URL.Path, "/v3/") && version == "" {
		return nil // it is no microversion of ours
	}
	e := d.edition(version, extra)
	o, name := e.find(r)
	if o == nil {
		if out.Code < 400 {
			return fmt.Errorf("not described in %s", version)
		}
		return nil
	}
	key := fmt.Sprint(version, extra, " ", name, " ")
	if out.Code >= 400 {
		if out.Body.Len() == 0 {
			return nil
		}
		return d.fits(key+"default", o.Responses["default"].Content, out.Body.Bytes())
	}
	response, ok := o.Responses[strconv.Itoa(out.Code)]
	if !ok {
		return fmt.Errorf("%s has no answer %d", name, out.Code)
	}
	mayBeEmpty := strings.HasSuffix(name, "action") || strings.Contains(name, "{action}") ||
		strings.HasSuffix(name, "{key}")
	switch {
	case response.Content == nil && out.Body.Len() > 0:
		return fmt.Errorf("%s has no body", name)
	case response.Content == nil, out.Body.Len() == 0 && mayBeEmpty:
	default:
		if err := d.fits(key+strconv.Itoa(out.Code), response.Content, out.Body.Bytes()); err != nil {
			return err
		}
	}
	if o.RequestBody == nil || len(asked) == 0 {
		return nil
	}
	return d.fits(key+"request", o.RequestBody.Content, asked)
}

// fits reports what of a body is not as described.
func (d *contract) fits(key string, content map[string]openapi.Media, body []byte) error {
	s, ok := d.schemas[key]
	if !ok {
		text, err := json.Marshal(content["application/json"].Schema)
		if err != nil {
			return err
		}
		document, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
		if err != nil {
			return err
		}
		compiler := jsonschema.NewCompiler()
		if err = compiler.AddResource("s.json", document); err != nil {
			return err
		}
		if s, err = compiler.Compile("s.json"); err != nil {
			return err
		}
		d.schemas[key] = s
	}
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(body))
	if err != nil {
		return err
	}
	return s.Validate(v)
}

// TestDocuments: the documents are OpenAPI 3.1, and every route is described.
func TestDocuments(t *testing.T) {
	for name, d := range map[string]*openapi.Document{"v2": cinder.Document(false, cinder.Config{}),
		"v3": cinder.Document(true, cinder.Config{}), "3.0": cinder.DocumentOf(0, cinder.Config{})} {
		openapitest.Validate(t, name, d)
		for path, methods := range d.Paths {
			for method, o := range methods {
				if o.Summary == "not described" {
					t.Errorf("%s: %s %s has no description", name, method, path)
				}
			}
		}
	}
	v2, v3 := cinder.Document(false, cinder.Config{}), cinder.Document(true, cinder.Config{})
	if v2.Paths["/v2/{project}/attachments"] != nil || v3.Paths["/v3/{project}/attachments"] == nil {
		t.Error("attachments are of /v3 alone")
	}
}
