package openapi

import (
	"regexp"
	"strconv"
	"strings"
)

// Document is an API: https://spec.openapis.org/oas/v3.1.0. Once it is served it
// must not be changed.
type Document struct {
	OpenAPI    string                           `json:"openapi"`
	Info       Info                             `json:"info"`
	Security   []map[string][]string            `json:"security"`
	Tags       []Tag                            `json:"tags"`
	Paths      map[string]map[string]*Operation `json:"paths"` // by path and method, in lower case
	Components Components                       `json:"components"`
}

// Info says what a document is about.
type Info struct {
	Title       string `json:"title"`
	Description string `json:"description"` // plain text
	Version     string `json:"version"`
}

// Tag names a group of operations.
type Tag struct {
	Name string `json:"name"`
}

// Components are the ways to say who asks.
type Components struct {
	SecuritySchemes map[string]SecurityScheme `json:"securitySchemes"`
}

// SecurityScheme is a way to say who asks.
type SecurityScheme struct {
	Type        string `json:"type"`
	Name        string `json:"name,omitempty"`
	In          string `json:"in,omitempty"`
	Scheme      string `json:"scheme,omitempty"`
	Description string `json:"description,omitempty"`
}

// Operation is a method of a path.
type Operation struct {
	ID          string                 `json:"operationId"`
	Summary     string                 `json:"summary"`
	Description string                 `json:"description,omitempty"`
	Tags        []string               `json:"tags"`
	Parameters  []Parameter            `json:"parameters,omitempty"`
	RequestBody *Body                  `json:"requestBody,omitempty"`
	Responses   map[string]Response    `json:"responses"`
	Security    *[]map[string][]string `json:"security,omitempty"` // where it is not the document's
}

// Parameter is a part of a path, of a query or of the head of a request.
type Parameter struct {
	Name        string `json:"name"`
	In          string `json:"in"`
	Description string `json:"description,omitempty"`
	Required    bool   `json:"required,omitempty"`
	Schema      Schema `json:"schema"`
}

// Body is the body of a request.
type Body struct {
	Required bool             `json:"required,omitempty"`
	Content  map[string]Media `json:"content"`
}

// Media is what a body is in one media type.
type Media struct {
	Schema Schema `json:"schema"`
}

// Response is an answer.
type Response struct {
	Description string           `json:"description"`
	Content     map[string]Media `json:"content,omitempty"`
}

// JSON is a body of application/json.
func JSON(s Schema) map[string]Media { return map[string]Media{"application/json": {s}} }

// New makes a document without operations, whose callers name themselves by a
// token in a header unless security says otherwise.
func New(info Info, security map[string]SecurityScheme) *Document {
	d := &Document{OpenAPI: "3.1.0", Info: info, Paths: map[string]map[string]*Operation{},
		Components: Components{SecuritySchemes: security}}
	for name := range security {
		d.Security = append(d.Security, map[string][]string{name: {}})
	}
	return d
}

var pathParameter = regexp.MustCompile(`{([a-z_]+)}`)

// Add adds an operation. The parameters of its path are added to its own, its
// id is made of method and path where it has none.
func (d *Document) Add(method, path string, o *Operation) {
	var all []Parameter
	for _, m := range pathParameter.FindAllStringSubmatch(path, -1) {
		all = append(all, Parameter{Name: m[1], In: "path", Required: true, Schema: Text})
	}
	o.Parameters = append(all, o.Parameters...)
	if o.ID == "" {
		o.ID = strings.ToLower(method) + pathParameter.ReplaceAllString(strings.NewReplacer("-", "_").Replace(path), "by_$1")
		o.ID = strings.ReplaceAll(o.ID, "/", "_")
	}
	if d.Paths[path] == nil {
		d.Paths[path] = map[string]*Operation{}
	}
	d.Paths[path][strings.ToLower(method)] = o
	for _, tag := range o.Tags {
		d.tag(tag)
	}
}

func (d *Document) tag(name string) {
	for _, t := range d.Tags {
		if t.Name == name {
			return
		}
	}
	d.Tags = append(d.Tags, Tag{name})
}

// Status is how a document names the answers of a status.
func Status(code int) string { return strconv.Itoa(code) }
