package keymanager

import (
	"maps"
	"net/http"
	"slices"
	"strings"

	"kvol/internal/api/openapi"
	"kvol/internal/block"
	"kvol/internal/keystore"
)

// route is an operation: what is served and what is documented.
type route struct {
	method, path, summary string
	serve                 func(*Server, http.ResponseWriter, *http.Request, block.Caller) error
	status                int
	answer                map[string]openapi.Media // of success; nil: no body
}

var routes = []route{
	{http.MethodGet, secrets, "list secrets", (*Server).list, http.StatusOK, openapi.JSON(openapi.Object(
		map[string]openapi.Schema{"secrets": openapi.List(openapi.Of(secretView{})), "total": openapi.Whole,
			"previous": openapi.Text, "next": openapi.Text}, "previous", "next"))},
	{http.MethodPost, secrets, "keep a secret", (*Server).create, http.StatusCreated, openapi.JSON(openapi.Object(
		map[string]openapi.Schema{"secret_ref": openapi.Text}))},
	{http.MethodGet, secrets + "/{id}", "show a secret; its payload if nothing else is accepted", (*Server).show,
		http.StatusOK, shown()},
	{http.MethodPut, secrets + "/{id}", "give a secret the payload that it was made without", (*Server).setPayload,
		http.StatusNoContent, nil},
	{http.MethodDelete, secrets + "/{id}", "delete a secret", (*Server).delete, http.StatusNoContent, nil},
	{http.MethodGet, secrets + "/{id}/payload", "a secret's payload", (*Server).payload, http.StatusOK, payloads()},
	{http.MethodGet, acls, "who may read a secret besides its project, or in its place", (*Server).showACL,
		http.StatusOK, openapi.JSON(openapi.Of(aclBody{}))},
	{http.MethodPut, acls, "say who may read a secret", (*Server).putACL, http.StatusOK, aclRef()},
	{http.MethodPatch, acls, "change who may read a secret", (*Server).patchACL, http.StatusOK, aclRef()},
	{http.MethodDelete, acls, "let its project read a secret, and nobody else", (*Server).deleteACL, http.StatusOK, nil},
}

// acls is the path of a secret's access list.
const acls = secrets + "/{id}/acl"

func aclRef() map[string]openapi.Media {
	return openapi.JSON(openapi.Object(map[string]openapi.Schema{"acl_ref": openapi.Text}))
}

// askedACL is the schema of a new access list.
func askedACL() openapi.Schema {
	return openapi.Object(map[string]openapi.Schema{"read": openapi.Object(map[string]openapi.Schema{
		"users": openapi.List(openapi.Text), "project-access": openapi.Of(true)}, "users", "project-access")})
}

// payloads are the types of payloads.
func payloads() map[string]openapi.Media {
	return map[string]openapi.Media{octets: {Schema: openapi.Any}, plain: {Schema: openapi.Text}}
}

// shown are the types of what is asked for a secret.
func shown() map[string]openapi.Media {
	all := payloads()
	maps.Copy(all, openapi.JSON(openapi.Of(secretView{})))
	return all
}

// asked is the schema of a new secret; further members are passed over.
func asked() openapi.Schema {
	s := openapi.Of(newSecret{}).With("additionalProperties", true)
	delete(s, "required") // With made a copy of it
	members, _ := s["properties"].(map[string]openapi.Schema)
	kinds := slices.Sorted(maps.Keys(keystore.Kinds))
	members["secret_type"] = openapi.OrNull(openapi.Text).With("description", "opaque if left out; one of "+
		strings.Join(kinds, ", "))
	members["payload_content_encoding"] = openapi.OrNull(openapi.Text).With("description",
		"base64, needed for application/octet-stream")
	return s
}

// queries are the parameters of the list.
var queries = []openapi.Parameter{
	{Name: "name", In: "query", Schema: openapi.Text, Description: "only secrets of this name"},
	{Name: "limit", In: "query", Schema: openapi.Text, Description: "how many at most, up to 100; 10 if left out"},
	{Name: "offset", In: "query", Schema: openapi.Text, Description: "how many are passed over"},
}

// Document describes the API.
func Document() *openapi.Document {
	d := openapi.New(openapi.Info{Title: "Key manager", Version: "v1",
		Description: "Keys and other secrets of projects: what of Barbican's API python-barbicanclient and castellan use."},
		map[string]openapi.SecurityScheme{"token": {Type: "apiKey", In: "header", Name: "X-Auth-Token",
			Description: "a token of the identity service, of a project"}})
	for _, rt := range routes {
		o := &openapi.Operation{Summary: rt.summary, Tags: []string{"secrets"}, Responses: map[string]openapi.Response{
			openapi.Status(rt.status): {Description: http.StatusText(rt.status), Content: rt.answer},
			"default":                 {Description: "a failure", Content: openapi.JSON(openapi.Of(fault{}))}}}
		switch {
		case rt.path == acls && (rt.method == http.MethodPut || rt.method == http.MethodPatch):
			o.RequestBody = &openapi.Body{Required: true, Content: openapi.JSON(askedACL())}
		case rt.method == http.MethodPost:
			o.RequestBody = &openapi.Body{Required: true, Content: openapi.JSON(asked())}
		case rt.method == http.MethodPut:
			o.RequestBody = &openapi.Body{Required: true, Content: payloads()}
		case rt.path == secrets:
			o.Parameters = queries
		}
		d.Add(rt.method, rt.path, o)
	}
	self := openapi.Of(versionDocument{})
	open := []map[string][]string{}
	d.Add(http.MethodGet, root, &openapi.Operation{Summary: "versions", Tags: []string{"versions"}, Security: &open,
		Responses: map[string]openapi.Response{"300": {Description: "Multiple Choices", Content: openapi.JSON(openapi.Object(
			map[string]openapi.Schema{"versions": openapi.Object(map[string]openapi.Schema{"values": openapi.List(self)})}))}}})
	d.Add(http.MethodGet, root+"/v1", &openapi.Operation{Summary: "the version", Tags: []string{"versions"},
		Security: &open, Responses: map[string]openapi.Response{"200": {Description: "OK", Content: openapi.JSON(
			openapi.Object(map[string]openapi.Schema{"version": self}))}}})
	return d
}
