package openapi

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"encoding/json"
	"html/template"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
)

//go:embed page.html
var pageFile embed.FS

// maxAge is how long, in seconds, a document may be kept without asking for it
// again; then its ETag says whether it is another.
const maxAge = "300"

// policy lets a page load and run nothing: it has its style and no scripts.
const policy = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"

// Server serves documents: /api/openapi/ lists them, /api/openapi/NAME is one to
// read and /api/openapi/NAME.json one for programs. Nobody needs a token.
type Server struct {
	texts map[string]func() *text // by the last step of the path
}

// entry is a document in the list.
type entry struct {
	Name     string
	Document *Document
}

// text is an answer that never changes.
type text struct{ kind, tag, body string }

// NewServer makes a Server of documents by name. They are made when they are
// first asked for.
func NewServer(documents map[string]func() *Document) *Server {
	s := &Server{texts: map[string]func() *text{}}
	page := template.Must(template.New("page.html").Funcs(template.FuncMap{"upper": strings.ToUpper,
		"members": members, "type": func(s Schema) string { return members(s)[0].Type },
		"indent": func(depth int) int { return max(1, depth*3/2) }}).ParseFS(pageFile, "page.html"))
	read := func(data map[string]any) *text {
		var b bytes.Buffer
		if err := page.Execute(&b, data); err != nil {
			panic(err) // the template does not fit the documents
		}
		return newText("text/html; charset=utf-8", b.String())
	}
	made := map[string]func() *Document{}
	for name, of := range documents {
		document := sync.OnceValue(of)
		made[name] = document
		s.texts[name+".json"] = sync.OnceValue(func() *text { return newText("application/json", indented(document())) })
		s.texts[name] = sync.OnceValue(func() *text { return read(map[string]any{"Name": name, "Document": document()}) })
	}
	s.texts[""] = sync.OnceValue(func() *text {
		var list []entry
		for _, name := range slices.Sorted(maps.Keys(made)) {
			list = append(list, entry{name, made[name]()})
		}
		return read(map[string]any{"List": list})
	})
	return s
}

func newText(kind, body string) *text {
	sum := sha256.Sum256([]byte(body))
	return &text{kind, `"` + hex.EncodeToString(sum[:16]) + `"`, body}
}

// indented is how documents are written.
func indented(v any) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(v); err != nil {
		panic(err) // documents hold nothing that has no JSON form
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// ServeHTTP answers a request. It may be called by many at once.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		w.WriteHeader(http.StatusMethodNotAllowed)
		return
	}
	of, ok := s.texts[strings.TrimPrefix(strings.TrimPrefix(r.URL.Path, "/api/openapi"), "/")]
	if !ok {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	t, h := of(), w.Header()
	h.Set("Cache-Control", "public, max-age="+maxAge)
	h.Set("Etag", t.tag)
	if strings.Contains(r.Header.Get("If-None-Match"), t.tag) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	h.Set("Content-Type", t.kind)
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	if r.Method == http.MethodHead {
		return
	}
	_, _ = w.Write([]byte(t.body)) // an error means that nobody listens any more
}
