package dr_test

import (
	"cmp"
	"errors"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"kvol/internal/api/dr"
	"kvol/internal/block"
	"kvol/internal/catalog"
)

// allowed is what the API answers to whom: its status for an administrator, for
// a member and a reader of the project whose things are asked for, and for a
// member of another project. Who has no token gets 401 everywhere.
type allowed struct {
	method, path                 string // as in the document
	at                           string // the path with its parameters filled in; "" for the same
	body                         string
	admin, member, reader, other int
}

const (
	ofVolume  = `{"scope":{"volumes":["` + string(source) + `"]},"point":{},"mapping":{},"accept_loss":true}`
	ofDrill   = `{"scope":{"volumes":["` + string(source) + `"]},"point":{},"mapping":{}}`
	aPlan     = `{"name":"new","waves":[{"name":"all","scope":{"volumes":["` + string(source) + `"]}}]}`
	aSchedule = `{"name":"new","when":"every 24h","request":` + ofDrill + `}`
	ofReplica = "/replicas/mitaka1/" + string(source)
	elsewhere = `{"destination":"nowhere"}`
)

// table has a row for each operation of the API.
var table = []allowed{
	{"GET", "/zones", "", "", 200, 403, 403, 403},
	{"GET", "/protections", "", "", 200, 403, 403, 403},
	{"GET", "/replicas", "", "", 200, 200, 200, 200},
	{"GET", "/replicas/{source_zone}/{volume_id}", ofReplica, "", 200, 200, 200, 404},
	{"GET", "/links", "", "", 200, 200, 200, 200},
	{"GET", "/relays", "", "", 200, 403, 403, 403},
	{"GET", "/limits", "", "", 200, 403, 403, 403},
	{"GET", "/operations/{kind}/{rowkey}", "/operations/recovery/88", "", 200, 200, 200, 404},
	{"GET", "/operations", "", "", 200, 200, 200, 200},
	{"GET", "/operations/{id}", "/operations/op1", "", 200, 200, 200, 404},
	{"GET", "/recoveries", "", "", 200, 200, 200, 200},
	{"GET", "/recoveries/{id}", "/recoveries/op1", "", 200, 200, 200, 404},
	{"GET", "/plans", "", "", 200, 200, 200, 200},
	{"GET", "/plans/{plan}", "/plans/plan1", "", 200, 200, 200, 404},
	{"GET", "/drills", "", "", 200, 200, 200, 200},
	{"GET", "/drills/{id}", "/drills/drill1", "", 200, 200, 200, 404},
	{"GET", "/drills/{id}/report", "/drills/drill1/report", "", 200, 200, 200, 404},
	{"GET", "/drills/{id}/report.html", "/drills/drill1/report.html", "", 200, 200, 200, 404},
	{"GET", "/drill-schedules", "", "", 200, 200, 200, 200},
	{"GET", "/drill-schedules/{schedule}", "/drill-schedules/s1", "", 200, 200, 200, 404},
	{"GET", "/failovers", "", "", 200, 200, 200, 200},
	{"GET", "/failovers/{id}", "/failovers/f1", "", 200, 200, 200, 404},
	{"GET", "/stale", "", "", 200, 200, 200, 200},
	{"GET", "/health", "", "", 200, 200, 200, 200},
	{"GET", "/events", "", "", 200, 200, 200, 200},
	{"GET", "/rtos", "", "", 200, 403, 403, 403},
	{"GET", "/keeps", "", "", 200, 200, 200, 200},
	{"GET", "/doctor", "", "", 200, 200, 200, 200},
	{"GET", "/audit", "", "", 200, 403, 403, 403},
	{"GET", "/audit/records", "", "", 200, 403, 403, 403},
	{"GET", "/audit/verify", "", "", 200, 403, 403, 403},
	{"GET", "/audit/heads", "", "", 200, 403, 403, 403},
	{"POST", "/volumes/{volume_id}/failover", "/volumes/" + string(mine) + "/failover", elsewhere, 400, 400, 403, 404},
	{"POST", "/volumes/{volume_id}/failback", "/volumes/" + string(mine) + "/failback", "{}", 400, 400, 403, 404},
	{"POST", "/operations/{id}/cancel", "/operations/o-{who}/cancel", "", 202, 202, 403, 404},
	{"POST", "/operations/{id}/consent", "/operations/op1/consent", "", 409, 403, 403, 404},
	{"POST", "/recoveries", "", ofVolume, 202, 202, 403, 409},
	{"POST", "/recoveries/{id}/cancel", "/recoveries/r-{who}/cancel", "", 202, 202, 403, 404},
	{"POST", "/drills", "", ofDrill, 202, 202, 403, 409},
	{"POST", "/drills/{id}/cancel", "/drills/d-{who}/cancel", "", 202, 202, 403, 404},
	{"POST", "/drill-schedules", "", aSchedule, 201, 201, 403, 201},
	{
		"PUT",
		"/drill-schedules/{schedule}",
		"/drill-schedules/s1",
		`{"name":"changed"` + aSchedule[len(`{"name":"new"`):],
		200,
		200,
		403,
		404,
	},
	{"DELETE", "/drill-schedules/{schedule}", "/drill-schedules/s-{who}", "", 204, 204, 403, 404},
	{"POST", "/plans", "", aPlan, 201, 201, 403, 201},
	{"PUT", "/plans/{plan}", "/plans/plan1", `{"name":"changed"` + aPlan[len(`{"name":"new"`):], 200, 200, 403, 404},
	{"DELETE", "/plans/{plan}", "/plans/plan-{who}", "", 204, 204, 403, 404},
	{"POST", "/replicas/{source_zone}/{volume_id}/points/{point}/keeps", ofReplica + "/points/point/keeps", "{}",
		201, 201, 403, 404},
	{"POST", "/replicas/{source_zone}/{volume_id}/dismiss", ofReplica + "/dismiss", "", 409, 409, 403, 404},
	{"POST", "/verifications", "", `{"volume_id":"` + string(source) + `"}`, 202, 202, 403, 404},
	{"PUT", "/keeps/{id}", "/keeps/k1", `{"name":"other"}`, 200, 200, 403, 404},
	{"DELETE", "/keeps/{id}", "/keeps/k-{who}", "", 204, 204, 403, 404},
	{"PUT", "/limits/{zone}", "/limits/kilo2", `{"rate":100000}`, 200, 403, 403, 403},
	{"PUT", "/limits/{zone}/{protection}", "/limits/kilo2/7", `{"rate":100000}`, 200, 403, 403, 403},
	{"DELETE", "/limits/{zone}", "/limits/kilo2", "", 204, 403, 403, 403},
	{"DELETE", "/limits/{zone}/{protection}", "/limits/kilo2/7", "", 204, 403, 403, 403},
	{"POST", "/audit/heads/{zone}/accept", "/audit/heads/kilo2/accept", "", 404, 403, 403, 403},
	{"POST", "/doctor", "", "", 200, 403, 403, 403},
}

// things are what the rows ask for, all of project p. What is deleted there is
// once for the administrator and once for others.
func things(tx *catalog.Tx) error {
	op := block.Operation{ID: "drill1", Kind: block.OperationDrill, Project: "p", Status: block.OperationSucceeded}
	r, err := tx.Replica("replica")
	if err != nil {
		return err
	}
	r.Entry.TypeName, r.Holders = "t", []block.Zone{} // no third zone has one
	err = errors.Join(tx.UpdateReplica(r), tx.UpsertType(block.VolumeType{ID: "t", Name: "t", Public: true,
		ExtraSpecs: map[string]string{"volume_backend_name": "b"}}), tx.InsertOperation(&op, nil),
		tx.InsertDrillReport(block.DrillReport{Operation: "drill1", Project: "p",
			Report: []byte(`{"steps":[],"reasons":[],"notes":[],"volumes":[],"probes":[],"pairs":[]}`)}, 10),
		tx.PutFailover(block.Failover{ID: "f1", Volume: mine, Project: "p", Phase: block.FailoverBack, Started: now,
			Ended: now}))
	for _, which := range []string{"1", "-admin", "-owner"} {
		plan := block.RecoveryPlan{ID: "plan" + which, Project: "p", Name: which, Waves: []block.RecoveryWave{{}}}
		schedule := block.DrillSchedule{ID: "s" + which, Project: "p", User: "u", Roles: []string{"member"}, Name: which,
			When: "every 24h", Enabled: true, NextAt: now.AddDate(1, 0, 0)}
		keep := block.Keep{ID: "k" + which, Kind: block.KeepPin, SourceZone: "mitaka1", Source: source, Replica: "replica",
			Point: "snap", Project: "p", User: "u"}
		err = errors.Join(err, tx.InsertPlan(&plan), tx.InsertDrillSchedule(&schedule), tx.InsertKeep(&keep))
		for _, kind := range []string{"o", "r", "d"} {
			op := block.Operation{ID: kind + which, Kind: block.OperationRecover, Project: "p", Status: block.OperationRunning}
			err = errors.Join(err, tx.InsertOperation(&op, []block.OperationStep{{Status: block.StepWaiting}}))
		}
	}
	return err
}

// TestEveryRouteHasItsRoles asks each operation of the document as everybody. A
// route without a row fails, and a row without a route.
func TestEveryRouteHasItsRoles(t *testing.T) {
	routes := map[string]bool{}
	for path, operations := range dr.Document().Paths {
		for method := range operations {
			routes[strings.ToUpper(method)+" "+strings.TrimPrefix(path, "/api/dr/v1")] = true
		}
	}
	srv := serve(t, things)
	for _, row := range table {
		name := row.method + " " + row.path
		if !routes[name] {
			t.Errorf("%s: there is no such route, or it has two rows", name)
		}
		delete(routes, name)
		row.ask(t, srv)
	}
	for name := range routes {
		t.Errorf("%s: nobody said who may", name)
	}
}

// ask asks for what a row says as everybody, who may least first.
func (row allowed) ask(t *testing.T, srv *httptest.Server) {
	t.Helper()
	for _, one := range []struct {
		token string
		want  int
	}{{"", 401}, {"guess", 401}, {"reader", row.reader}, {"other", row.other}, {"owner", row.member},
		{"admin", row.admin}} {
		who := "owner"
		if one.token == "admin" {
			who = "admin"
		}
		at := strings.ReplaceAll(cmp.Or(row.at, row.path), "{who}", who)
		code, body := send(t, srv, row.method, at, one.token, row.body)
		if code != one.want {
			t.Errorf("%s %s as %q: %d, want %d: %s", row.method, at, one.token, code, one.want, body)
		}
		stranger := slices.Contains([]string{"", "guess", "other"}, one.token)
		if stranger && (strings.Contains(body, `"data"`) || strings.Contains(body, `ab00000000`)) {
			t.Errorf("%s %s tells %q: %s", row.method, at, one.token, body)
		}
	}
}
