package dr

import (
	"net/http"

	"kvol/internal/api/openapi"
	"kvol/internal/block"
)

// root is what all paths begin with.
const root = "/api/dr/v1"

// read is an operation; those that only read. answer is a value of what it
// answers with, under the name member.
type read struct {
	path, summary string
	serve         func(*Server, *http.Request, block.Caller) (any, error)
	member        string
	answer        any
}

// reads are the operations: what is served and what is documented.
var reads = []read{
	{"/zones", "zones, and what is known of them", (*Server).zones, "zones", []zoneBody{}},
	{"/protections", "which types are replicated where", (*Server).protections, "protections", []protectionBody{}},
	{"/replicas", "replicas that this zone holds", (*Server).replicas, "replicas", []replicaBody{}},
	{"/replicas/{source_zone}/{volume_id}", "replicas of a volume with their recovery points", (*Server).replica,
		"replicas", []replicaBody{}},
	{"/links", "how far this zone's volumes are replicated", (*Server).links, "links", []linkBody{}},
	{"/operations/{kind}/{rowkey}", "a creation or a recovery, with its evidence", (*Server).operation, "operation",
		operationBody{}},
	{"/failovers", "failovers and failbacks, the newest first", (*Server).failovers, "failovers", []failoverBody{}},
	{"/failovers/{id}", "a failover or failback", (*Server).failover, "failover", failoverBody{}},
	{"/stale", "stale primaries, and what only they have", (*Server).stale, "stale", []staleBody{}},
	{"/audit", "the newest calls of the kvol API", (*Server).audit, "audit", []auditBody{}},
}

// begins are the operations that begin something.
var begins = []struct {
	path, summary string
	back          bool
}{
	{"/volumes/{volume_id}/failover", "move a volume to another zone", false},
	{"/volumes/{volume_id}/failback", "move a volume back", true},
}

// Document describes the API.
func Document() *openapi.Document {
	d := openapi.New(openapi.Info{Title: "Disaster recovery", Version: "1",
		Description: "What replication and recovery do, to look at, and failovers of volumes."},
		map[string]openapi.SecurityScheme{
			"token":  {Type: "apiKey", In: "header", Name: "X-Auth-Token", Description: "a token of the identity service"},
			"bearer": {Type: "http", Scheme: "bearer", Description: "the same token"}})
	for _, rd := range reads {
		d.Add(http.MethodGet, root+rd.path, &openapi.Operation{Summary: rd.summary, Tags: []string{rd.member},
			Responses: map[string]openapi.Response{
				"200": {Description: "OK", Content: openapi.JSON(openapi.Object(
					map[string]openapi.Schema{rd.member: openapi.Of(rd.answer)}))},
				"default": {Description: "a failure", Content: openapi.JSON(openapi.Of(errorBody{}))}}})
	}
	for _, b := range begins {
		d.Add(http.MethodPost, root+b.path, &openapi.Operation{Summary: b.summary, Tags: []string{"failovers"},
			RequestBody: &openapi.Body{Content: openapi.JSON(openapi.Schema{"type": "object", "properties": openapi.Schema{
				"destination": openapi.Text, "destination_type": openapi.Text}})},
			Responses: map[string]openapi.Response{
				"202": {Description: "Accepted", Content: openapi.JSON(openapi.Object(
					map[string]openapi.Schema{"failover": openapi.Of(failoverBody{})}))},
				"default": {Description: "a failure", Content: openapi.JSON(openapi.Of(errorBody{}))}}})
	}
	return d
}
