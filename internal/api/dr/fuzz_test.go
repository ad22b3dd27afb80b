package dr_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"kvol/internal/api/dr"
)

// written are the documents that callers write, by the path that takes them.
var written = []struct{ method, path, like string }{
	{
		http.MethodPost,
		"/recoveries",
		`{"scope":{"volumes":["` + string(source) + `"]},"point":{"at":"2026-01-02T03:04:05Z"},` +
			`"mapping":{"type":{"*":"t"},"name":"{name}-{zone}"},"parallel":3,"dry_run":true}`,
	},
	{http.MethodPost, "/recoveries", `{"scope":{"zone":"mitaka1"},"point":{"last_clean":true},"accept_loss":true,` +
		`"skip_unrecoverable":true,"accept_rivals":["kilo2"],"again":true,"over_quota":true,"idempotency_key":"k"}`},
	{http.MethodPost, "/plans", `{"name":"shop","waves":[{"scope":{"zone":"mitaka1"},"wait_seconds":1,"parallel":2}],` +
		`"mapping":{"availability_zone":{"*":"a"}}}`},
	{http.MethodPut, "/plans/plan1", aPlan},
	{http.MethodPost, "/drills", `{"scope":{"zone":"mitaka1"},"probes":[{"kind":"fsck","timeout_seconds":1}],` +
		`"watch_seconds":1,"timeout_seconds":60}`},
	{http.MethodPost, "/drill-schedules", aSchedule},
	{http.MethodPut, "/drill-schedules/s1", `{"name":"n","when":"5 4 * * 1","enabled":false,"request":{}}`},
	{http.MethodPost, ofReplica + "/points/point/keeps", `{"name":"n","until":"2030-01-02T03:04:05Z"}`},
	{http.MethodPut, "/keeps/k1", `{"seconds":100}`},
	{http.MethodPost, "/volumes/" + string(mine) + "/failover", elsewhere},
	{http.MethodPost, "/volumes/" + string(mine) + "/failback", `{"idempotency_key":"k"}`},
	{http.MethodPost, "/verifications", `{"volume_id":"` + string(source) + `","zone":"mitaka1"}`},
	{http.MethodPut, "/limits/kilo2", `{"rate":1000,"windows":[{"days":["mon"],"from":"01:00","to":"02:00","rate":5}]}`},
}

// FuzzDocuments sends documents of any kind to every path that takes one, as a
// member and as an administrator. Whatever they say, the answer is a document,
// and no fault.
func FuzzDocuments(f *testing.F) {
	for i, w := range written {
		f.Add(uint8(i), false, []byte(w.like))
		f.Add(uint8(i), true, []byte(w.like))
	}
	service, tidy := service(f, things)
	f.Cleanup(tidy)
	api := dr.New(dr.Config{Service: service, Auth: everybody, Now: clock})
	f.Fuzz(func(t *testing.T, which uint8, admin bool, body []byte) {
		w := written[int(which)%len(written)]
		r := httptest.NewRequest(w.method, "/api/dr/v1"+w.path, strings.NewReader(string(body)))
		r.Header.Set("X-Auth-Token", map[bool]string{true: "admin", false: "owner"}[admin])
		answer := httptest.NewRecorder()
		api.ServeHTTP(answer, r)
		if answer.Code >= 500 && answer.Code != http.StatusServiceUnavailable || answer.Code < 200 {
			t.Fatalf("%s: %d %s", w.path, answer.Code, answer.Body)
		}
		if answer.Body.Len() > 0 && !json.Valid(answer.Body.Bytes()) {
			t.Fatalf("%s: %d %q", w.path, answer.Code, answer.Body)
		}
	})
}
