package dr

import (
	"net/http"
	"slices"
	"strconv"

	"kvol/internal/api/openapi"
	"kvol/internal/block"
	"kvol/internal/control"
	"kvol/internal/drill"
	"kvol/internal/pace"
)

// root is what all paths begin with.
const root = "/api/dr/v1"

// read is an operation; those that only read. answer is a value of what it
// answers with, under the name member; a whole answer has members of its own.
// query are its parameters.
type read struct {
	path, summary string
	serve         func(*Server, *http.Request, block.Caller) (any, error)
	member        string
	answer        any
	whole         bool
	query         []string // whole numbers
	words         []string // texts
}

// body is the schema of the answer.
func (rd read) body() openapi.Schema {
	if rd.whole {
		return openapi.Of(rd.answer)
	}
	return openapi.Object(map[string]openapi.Schema{rd.member: openapi.Of(rd.answer)})
}

// parameters are those of the query.
func (rd read) parameters() []openapi.Parameter {
	var all []openapi.Parameter
	for _, name := range rd.query {
		all = append(all, openapi.Parameter{Name: name, In: "query", Schema: openapi.Whole})
	}
	for _, name := range rd.words {
		all = append(all, openapi.Parameter{Name: name, In: "query", Schema: openapi.Text})
	}
	return all
}

// reads are the operations: what is served and what is documented.
var reads = []read{
	{path: "/zones", summary: "zones, and what is known of them", serve: (*Server).zones, member: "zones",
		answer: []zoneBody{}},
	{path: "/protections", summary: "which types are replicated where", serve: (*Server).protections,
		member: "protections", answer: []protectionBody{}},
	{path: "/replicas", summary: "replicas that this zone holds", serve: (*Server).replicas, member: "replicas",
		answer: []replicaBody{}},
	{path: "/replicas/{source_zone}/{volume_id}", summary: "replicas of a volume with their recovery points",
		serve: (*Server).replica, member: "replicas", answer: []replicaBody{}},
	{path: "/links", summary: "how far this zone's volumes are replicated", serve: (*Server).links, member: "links",
		answer: []linkBody{}},
	{path: "/relays", summary: "how far replicas were sent on to third zones", serve: (*Server).relays, member: "relays",
		answer: []relayBody{}},
	{path: "/limits", summary: "how much this zone may send to others", serve: (*Server).limits, member: "limits",
		answer: []limitBody{}},
	{path: "/operations/{kind}/{rowkey}", summary: "a creation or a recovery, with its evidence",
		serve: (*Server).operation, member: "operation", answer: operationBody{}},
	{path: "/operations", summary: "recoveries and other durable operations, the newest first",
		serve: (*Server).operations, member: "operations", answer: []durableBody{}, query: []string{"kind"}},
	{path: "/operations/{id}", summary: "a durable operation with its steps", serve: (*Server).durable,
		member: "operation", answer: durableBody{}},
	{path: "/recoveries", summary: "recoveries, the newest first", serve: (*Server).recoveries, member: "operations",
		answer: []durableBody{}},
	{path: "/recoveries/{id}", summary: "a recovery with its steps", serve: (*Server).durable, member: "operation",
		answer: durableBody{}},
	{path: "/plans", summary: "recovery plans", serve: (*Server).plans, member: "plans",
		answer: []block.RecoveryPlan{}},
	{path: "/plans/{plan}", summary: "a recovery plan, by its id or name", serve: (*Server).plan, member: "plan",
		answer: block.RecoveryPlan{}},
	{path: "/drills", summary: "drills, the newest first", serve: (*Server).drills, member: "operations",
		answer: []durableBody{}},
	{path: "/drills/{id}", summary: "a drill with its steps", serve: (*Server).durable, member: "operation",
		answer: durableBody{}},
	{path: "/drills/{id}/report", summary: "what a drill showed that ended", serve: (*Server).drillReport,
		member: "report", answer: drill.Report{}},
	{path: "/drill-schedules", summary: "schedules of drills", serve: (*Server).drillSchedules, member: "schedules",
		answer: []scheduleBody{}},
	{path: "/drill-schedules/{schedule}", summary: "a schedule of drills, by its id or name",
		serve: (*Server).drillSchedule, member: "schedule", answer: scheduleBody{}},
	{path: "/failovers", summary: "failovers and failbacks, the newest first", serve: (*Server).failovers,
		member: "failovers", answer: []failoverBody{}},
	{path: "/failovers/{id}", summary: "a failover or failback", serve: (*Server).failover, member: "failover",
		answer: failoverBody{}},
	{path: "/stale", summary: "stale primaries, and what only they have", serve: (*Server).stale, member: "stale",
		answer: []staleBody{}},
	{path: "/health", summary: "how well everything could be recovered", serve: (*Server).health, member: "health",
		answer: healthBody{}, whole: true},
	{path: "/events", summary: "changes of health, the newest first", serve: (*Server).events, member: "events",
		answer: []block.DREvent{}, query: []string{"limit", "before"}},
	{path: "/rtos", summary: "how long recoveries took", serve: (*Server).rtos, member: "rtos", answer: []rtoBody{}},
	{path: "/keeps", summary: "pins and holds of recovery points", serve: (*Server).keeps, member: "keeps",
		answer: []keepBody{}},
	{path: "/doctor", summary: "what is not as it should be, and what to do", serve: (*Server).doctor,
		member: "doctor", answer: doctorBody{}, query: []string{"last"}},
	{path: "/audit", summary: "the newest records of the audit log", serve: (*Server).audit, member: "audit",
		answer: []auditBody{}, query: []string{"limit", "before"}, words: []string{"operation_id", "call"}},
	{path: "/audit/records", summary: "the audit log as it is kept, from old to new", serve: (*Server).auditRecords,
		member: "audit_records", answer: recordsBody{}, query: []string{"after"}},
	{path: "/audit/verify", summary: "whether the audit log is what was written", serve: (*Server).verifyAudit,
		member: "audit_report", answer: auditReportBody{}},
	{path: "/audit/heads", summary: "how far other zones' audit logs were told", serve: (*Server).auditHeads,
		member: "audit_heads", answer: headsBody{}},
}

// begins are the operations that begin something.
var begins = []struct {
	path, summary string
	back          bool
}{
	{"/volumes/{volume_id}/failover", "move a volume to another zone", false},
	{"/volumes/{volume_id}/failback", "move a volume back", true},
}

// change is an operation that changes something: its status when it is
// accepted, what it takes (nil for no body), and what it answers with under the
// name member (nil for nothing; the answer itself where there is no name).
type change struct {
	method, path, summary string
	status                int
	serve                 func(*Server, *http.Request, block.Caller) (any, error)
	takes                 any
	member                string
	answer                any
}

// drillPagePath is where the report of a drill is read by people.
const drillPagePath = "/drills/{id}/report.html"

// changes are those beside the failovers.
var changes = []change{
	{http.MethodPost, "/operations/{id}/cancel", "begin no further step of an operation", http.StatusAccepted,
		(*Server).cancelDurable, nil, "operation", durableBody{}},
	{http.MethodPost, "/operations/{id}/consent", "agree to a recovery as a second administrator", http.StatusAccepted,
		(*Server).consent, nil, "operation", durableBody{}},
	{
		http.MethodPost,
		"/recoveries",
		"recover volumes, a group, a plan, a project or a zone here, or tell what that would do",
		http.StatusAccepted,
		(*Server).recover,
		block.RecoveryRequest{},
		"",
		recoveryAnswer{},
	},
	{http.MethodPost, "/recoveries/{id}/cancel", "begin no further step of a recovery", http.StatusAccepted,
		(*Server).cancelDurable, nil, "operation", durableBody{}},
	{http.MethodPost, "/drills", "recover volumes as isolated clones, look at these and delete them",
		http.StatusAccepted, (*Server).startDrill, block.DrillRequest{}, "operation", durableBody{}},
	{http.MethodPost, "/drills/{id}/cancel", "end a drill; its clones are deleted", http.StatusAccepted,
		(*Server).cancelDurable, nil, "operation", durableBody{}},
	{http.MethodPost, "/drill-schedules", "have drills begin by themselves", http.StatusCreated,
		(*Server).createDrillSchedule, scheduleRequest{}, "schedule", scheduleBody{}},
	{http.MethodPut, "/drill-schedules/{schedule}", "put another schedule of drills into the place of one",
		http.StatusOK, (*Server).updateDrillSchedule, scheduleRequest{}, "schedule", scheduleBody{}},
	{http.MethodDelete, "/drill-schedules/{schedule}", "forget a schedule of drills", http.StatusNoContent,
		(*Server).deleteDrillSchedule, nil, "schedules", nil},
	{http.MethodPost, "/plans", "make a recovery plan", http.StatusCreated, (*Server).createPlan, planRequest{}, "plan",
		block.RecoveryPlan{}},
	{http.MethodPut, "/plans/{plan}", "put another recovery plan into the place of one", http.StatusOK,
		(*Server).updatePlan, planRequest{}, "plan", block.RecoveryPlan{}},
	{
		http.MethodDelete,
		"/plans/{plan}",
		"forget a recovery plan",
		http.StatusNoContent,
		(*Server).deletePlan,
		nil,
		"plans",
		nil,
	},
	{http.MethodPost, "/replicas/{source_zone}/{volume_id}/points/{point}/keeps", "pin or hold a recovery point",
		http.StatusCreated, (*Server).keepPoint, keepRequest{}, "keep", keepBody{}},
	{http.MethodPost, "/replicas/{source_zone}/{volume_id}/dismiss", "say that a volume was not encrypted suddenly",
		http.StatusNoContent, (*Server).dismiss, nil, "replicas", nil},
	{http.MethodPost, "/verifications", "read the replicas of a volume here, and compare all bytes", http.StatusAccepted,
		(*Server).verify, control.VerifyRequest{}, "operation", durableBody{}},
	{http.MethodPut, "/keeps/{id}", "rename a pin or hold, or lengthen a hold", http.StatusOK, (*Server).changeKeep,
		keepRequest{}, "keep", keepBody{}},
	{http.MethodDelete, "/keeps/{id}", "take a pin off", http.StatusNoContent, (*Server).releaseKeep, nil, "keeps", nil},
	{http.MethodPut, "/limits/{zone}", "limit what is sent to a zone", http.StatusOK, (*Server).setLimit, pace.Limit{},
		"limit", limitBody{}},
	{http.MethodPut, "/limits/{zone}/{protection}", "limit what is sent under a protection", http.StatusOK,
		(*Server).setLimit, pace.Limit{}, "limit", limitBody{}},
	{http.MethodDelete, "/limits/{zone}", "take the limit to a zone off", http.StatusNoContent, (*Server).deleteLimit, nil,
		"limits", nil},
	{http.MethodDelete, "/limits/{zone}/{protection}", "take the limit of a protection off", http.StatusNoContent,
		(*Server).deleteLimit, nil, "limits", nil},
	{http.MethodPost, "/audit/heads/{zone}/accept", "begin anew with another zone's audit log", http.StatusNoContent,
		(*Server).acceptAudit, nil, "audit_heads", nil},
	{http.MethodPost, "/doctor", "mend what can be mended without losing anything", http.StatusOK, (*Server).mend,
		nil, "doctor", doctorBody{}},
}

// keyed are the paths of changes that take an idempotency key.
var keyed = []string{"/recoveries", "/drills", "/verifications"}

var keyParameter = openapi.Parameter{Name: "Idempotency-Key", In: "header", Schema: openapi.Text,
	Description: "one of the caller's project, 255 bytes at most, instead of idempotency_key: the same request with it " +
		"begins one thing however often it is made, and another request with it is refused with 409"}

// operation describes a change.
func (c change) operation() *openapi.Operation {
	status := strconv.Itoa(c.status)
	op := &openapi.Operation{Summary: c.summary, Tags: []string{c.member}, Responses: map[string]openapi.Response{
		status:    {Description: http.StatusText(c.status)},
		"default": {Description: "a failure", Content: openapi.JSON(openapi.Of(errorBody{}))}}}
	if c.answer != nil && c.member == "" {
		op.Tags = []string{"recoveries"}
		op.Responses[status] = openapi.Response{Description: http.StatusText(c.status),
			Content: openapi.JSON(openapi.Of(c.answer))}
	} else if c.answer != nil {
		op.Responses[status] = openapi.Response{Description: http.StatusText(c.status), Content: openapi.JSON(openapi.Object(
			map[string]openapi.Schema{c.member: openapi.Of(c.answer)}))}
	}
	if slices.Contains(keyed, c.path) {
		op.Parameters = []openapi.Parameter{keyParameter}
	}
	if c.takes != nil {
		op.RequestBody = &openapi.Body{Content: openapi.JSON(openapi.Of(c.takes))}
	}
	return op
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
			Parameters: rd.parameters(),
			Responses: map[string]openapi.Response{
				"200":     {Description: "OK", Content: openapi.JSON(rd.body())},
				"default": {Description: "a failure", Content: openapi.JSON(openapi.Of(errorBody{}))}}})
	}
	for _, b := range begins {
		d.Add(http.MethodPost, root+b.path, &openapi.Operation{Summary: b.summary, Tags: []string{"failovers"},
			Parameters: []openapi.Parameter{keyParameter},
			RequestBody: &openapi.Body{Content: openapi.JSON(openapi.Schema{"type": "object", "properties": openapi.Schema{
				"destination": openapi.Text, "destination_type": openapi.Text, "idempotency_key": openapi.Text}})},
			Responses: map[string]openapi.Response{
				"202": {Description: "Accepted", Content: openapi.JSON(openapi.Object(
					map[string]openapi.Schema{"failover": openapi.Of(failoverBody{})}))},
				"default": {Description: "a failure", Content: openapi.JSON(openapi.Of(errorBody{}))}}})
	}
	for _, c := range changes {
		d.Add(c.method, root+c.path, c.operation())
	}
	d.Add(http.MethodGet, root+drillPagePath, &openapi.Operation{Summary: "the same as a page to read",
		Tags: []string{"report"}, Responses: map[string]openapi.Response{
			"200":     {Description: "OK", Content: map[string]openapi.Media{"text/html": {Schema: openapi.Text}}},
			"default": {Description: "a failure", Content: openapi.JSON(openapi.Of(errorBody{}))}}})
	return d
}
