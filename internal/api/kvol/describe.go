package kvol

import (
	"net/http"

	"kvol/internal/api/openapi"
)

// call is one function of the API. POST is our own addition to each, for those
// who do not like a GET that changes something.
type call struct {
	path, name, summary string
	run                 func(*Server, *request) (answer, error)
	open                bool // needs no token
	body                any  // a value of what it answers with
	params              []param
}

// param is a parameter of a call, in the query or in a posted form.
type param struct {
	name, what string
	required   bool
}

// The parameters that calls have in common.
var (
	sourceZone  = param{"src-zone", "the zone of the source", true}
	sourceType  = param{"src-volume-type-id", "the UUID of the source's volume type", true}
	destination = []param{{"bootable", "yes or no; no if it is left out", false},
		{"dst-zone", "the zone in which the volume is made", true},
		{"dst-tenant-id", "the project that gets the volume", true},
		{"dst-volume-type-id", "the UUID of the new volume's type", true}}
	newest = []param{{"rowkey", "only this job; 0 for all", false},
		{"limit", "how many jobs at most, 1 to 1000; 5 if it is left out", false}}
)

// calls are what is served and what is documented.
var calls = []call{
	{"/api/token", "token", "get a token; user and password of Basic authentication are the account's", (*Server).token,
		true, tokenBody{}, nil},
	{"/api/kvol/list", "list", "where volumes of a type are backed up", (*Server).list, false, listBody{},
		[]param{{"zone", "the zone of the type", true}, {"volume-type-id", "the UUID of the type", true}}},
	{"/api/kvol/show", "show", "how a type is backed up", (*Server).show, false, showBody{},
		[]param{sourceZone, sourceType, {"dst-zone", "only this zone; None for all", false}}},
	{"/api/kvol/create", "create", "make a volume of a snapshot in another zone", (*Server).create, false, startedBody{},
		append([]param{sourceZone, sourceType, {"src-snapshot-id", "the UUID of the snapshot", true}}, destination...)},
	{"/api/kvol/createlist", "createlist", "jobs of create, the newest first", (*Server).createList, false,
		jobsBody[createRow]{}, newest},
	{"/api/kvol/recovery", "recovery", "make a volume of a replica in another zone", (*Server).recovery, false,
		startedBody{}, append([]param{sourceZone, sourceType, {"src-volume-id", "the UUID of the volume", true}},
			destination...)},
	{"/api/kvol/recoverylist", "recoverylist", "jobs of recovery, the newest first", (*Server).recoveryList, false,
		jobsBody[recoveryRow]{}, newest},
}

// Document describes the API.
func Document() *openapi.Document {
	d := openapi.New(openapi.Info{Title: "kvol", Version: "1", Description: "Backups of volumes in other zones, and " +
		"recovery from them. Each call can be posted as a form too."},
		map[string]openapi.SecurityScheme{"basic": {Type: "http", Scheme: "basic",
			Description: "the user's name, and as password a token of /api/token"}})
	failed := openapi.JSON(openapi.Of(messageBody{}))
	for _, c := range calls {
		responses := map[string]openapi.Response{
			"200":     {Description: "OK", Content: openapi.JSON(openapi.Of(c.body))},
			"204":     {Description: "there is no such thing"},
			"400":     {Description: "a parameter is wrong", Content: failed},
			"401":     {Description: "who asks is not known", Content: failed},
			"default": {Description: "a failure", Content: failed}}
		get := &openapi.Operation{ID: c.name, Summary: c.summary, Tags: []string{"kvol"}, Responses: responses}
		post := &openapi.Operation{ID: c.name + "_posted", Summary: c.summary, Tags: []string{"kvol"}, Responses: responses}
		form, optional := map[string]openapi.Schema{}, []string{}
		for _, p := range c.params {
			get.Parameters = append(get.Parameters, openapi.Parameter{Name: p.name, In: "query", Description: p.what,
				Required: p.required, Schema: openapi.Text})
			post.Parameters = append(post.Parameters, openapi.Parameter{Name: p.name, In: "query",
				Description: p.what + "; here or in the form", Schema: openapi.Text})
			form[p.name] = openapi.Text.With("description", p.what)
			optional = append(optional, p.name) // it may be in the query
		}
		if len(form) > 0 {
			post.RequestBody = &openapi.Body{Content: map[string]openapi.Media{
				"application/x-www-form-urlencoded": {Schema: openapi.Object(form, optional...)}}}
		}
		d.Add(http.MethodGet, c.path, get)
		d.Add(http.MethodPost, c.path, post)
	}
	return d
}
