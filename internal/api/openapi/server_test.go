package openapi

import (
	"encoding/json"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"
)

type thing struct {
	ID    string          `json:"id"`
	Size  int64           `json:"size,omitempty"`
	At    *time.Time      `json:"at"`
	Parts []thing2        `json:"parts"`
	Rest  json.RawMessage `json:"rest"`
	own   int
}

type thing2 struct {
	On bool `json:"on"`
}

func TestSchemaOfStruct(t *testing.T) {
	got := indented(Of(thing{own: 1}))
	want := indented(Object(map[string]Schema{"id": Text, "size": Whole, "rest": Any,
		"at":    {"type": []string{"string", "null"}, "format": "date-time"},
		"parts": List(Object(map[string]Schema{"on": Boolean}))}, "size"))
	if got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
}

// TestServer: documents are served to everybody, are kept, and load nothing
// from elsewhere.
func TestServer(t *testing.T) {
	made := 0
	s := NewServer(map[string]func() *Document{"things": func() *Document {
		made++
		d := New(Info{Title: "Things <&>", Version: "1"}, nil)
		d.Add("GET", "/things/{id}", &Operation{Summary: "show <one>", Tags: []string{"things"},
			Responses: map[string]Response{"200": {Description: "OK", Content: JSON(Of(thing{}))}}})
		return d
	}})
	get := func(path string, headers ...string) *httptest.ResponseRecorder {
		r := httptest.NewRequest("GET", path, nil)
		for i := 0; i < len(headers); i += 2 {
			r.Header.Set(headers[i], headers[i+1])
		}
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		return w
	}
	document := get("/api/openapi/things.json")
	var d Document
	if err := json.Unmarshal(document.Body.Bytes(), &d); err != nil ||
		d.Paths["/things/{id}"]["get"].Parameters[0].Name != "id" {
		t.Errorf("%v %s", err, document.Body)
	}
	tag := document.Header().Get("Etag")
	if again := get("/api/openapi/things.json", "If-None-Match", tag); again.Code != 304 || again.Body.Len() != 0 ||
		tag == "" {
		t.Errorf("asked again: %d %s", again.Code, again.Body)
	}
	if made != 1 || !strings.Contains(document.Header().Get("Cache-Control"), "public") {
		t.Errorf("made %d times; %v", made, document.Header())
	}
	page := get("/api/openapi/things")
	for _, want := range []string{
		"Things &lt;&amp;&gt;", "show &lt;one&gt;", "<code>/things/{id}</code>", `href="things.json"`} {
		if !strings.Contains(page.Body.String(), want) {
			t.Errorf("no %s in %s", want, page.Body)
		}
	}
	for _, w := range []*httptest.ResponseRecorder{page, get("/api/openapi"), get("/api/openapi/")} {
		if w.Code != 200 || strings.Contains(w.Body.String(), "<script") || strings.Contains(w.Body.String(), "http") ||
			!strings.Contains(w.Header().Get("Content-Security-Policy"), "default-src 'none'") {
			t.Errorf("%d %v %s", w.Code, w.Header(), w.Body)
		}
	}
	if w := get("/api/openapi/other"); w.Code != 404 {
		t.Errorf("another document: %d", w.Code)
	}
	r := httptest.NewRequest("POST", "/api/openapi/things", nil)
	w := httptest.NewRecorder()
	if s.ServeHTTP(w, r); w.Code != 405 || !slices.Equal(w.Header()["Allow"], []string{"GET, HEAD"}) {
		t.Errorf("POST: %d %v", w.Code, w.Header())
	}
}
