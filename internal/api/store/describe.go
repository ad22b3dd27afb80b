package store

import (
	"net/http"

	"kvol/internal/api/openapi"
	"kvol/internal/block"
)

// route is an operation: what is served and what is documented. answer is a
// value of what it answers with, under the name member.
type route struct {
	method, path, summary string
	status                int
	serve                 func(*Server, *http.Request, block.Caller) (any, error)
	member                string
	answer                any
}

const (
	root = "/api/store/v1/stores"
	one  = root + "/{store}"

	placements = "/api/store/v1/placements"
)

var routes = []route{
	{http.MethodGet, root, "stores, and how they are", http.StatusOK, (*Server).stores, "stores", []storeBody{}},
	{http.MethodGet, one, "one of them", http.StatusOK, (*Server).store, "store", storeBody{}},
	{http.MethodGet, one + "/damages", "what is damaged, the newest change first, at most 1,000", http.StatusOK,
		(*Server).damages, "damages", []damageBody{}},
	{http.MethodGet, one + "/runs", "the last 20 runs, the newest first", http.StatusOK, (*Server).runs, "runs",
		[]runBody{}},
	{http.MethodPost, one + "/runs", "begin a run; a store has one at a time", http.StatusAccepted, (*Server).begin,
		"run", runBody{}},
	{http.MethodGet, one + "/runs/{run}", "how a run stands", http.StatusOK, (*Server).run, "run", runBody{}},
	{
		http.MethodGet,
		placements,
		"volumes without a place, or with another one than at first, the newest first, at most 1,000",
		http.StatusOK,
		(*Server).placements,
		"placements",
		[]block.Placement{},
	},
	{http.MethodDelete, one + "/runs/{run}", "cancel a run; answered when it has ended", http.StatusOK,
		(*Server).cancel, "run", runBody{}},
	{http.MethodGet, "/api/store/v1/processes", "the processes that serve the zone together; none where one does",
		http.StatusOK, (*Server).processes, "processes", []processBody{}},
}

// Document describes the API.
func Document() *openapi.Document {
	d := openapi.New(openapi.Info{Title: "Stores", Version: "1",
		Description: "The embedded stores of a running zone, for administrators: state, damage, checks and scrubs."},
		map[string]openapi.SecurityScheme{
			"token":  {Type: "apiKey", In: "header", Name: "X-Auth-Token", Description: "a token of the identity service"},
			"bearer": {Type: "http", Scheme: "bearer", Description: "the same token"}})
	for _, rt := range routes {
		o := &openapi.Operation{Summary: rt.summary, Tags: []string{rt.member},
			Responses: map[string]openapi.Response{
				openapi.Status(rt.status): {Description: http.StatusText(rt.status), Content: openapi.JSON(openapi.Object(
					map[string]openapi.Schema{rt.member: openapi.Of(rt.answer)}))},
				"default": {Description: "a failure", Content: openapi.JSON(openapi.Of(errorBody{}))}}}
		if rt.member == "damages" {
			o.Parameters = []openapi.Parameter{{Name: "state", In: "query", Schema: openapi.Text.With("enum",
				[]string{block.DamageStands, "all"}), Description: "all: also what was healed or is gone"}}
		}
		if rt.member == "placements" {
			o.Parameters = []openapi.Parameter{
				{Name: "volume", In: "query", Schema: openapi.Text, Description: "of this volume alone"}}
		}
		if rt.method == http.MethodPost {
			o.RequestBody = &openapi.Body{Required: true, Content: openapi.JSON(openapi.Object(map[string]openapi.Schema{
				"kind": openapi.Text.With("enum", []string{"check", "scrub"}),
				"mib_s": openapi.Whole.With("minimum", 0).With("description",
					"bounds what is read in a second; 0: as fast as it goes")}, "mib_s"))}
		}
		d.Add(rt.method, rt.path, o)
	}
	return d
}
