package dr_test

import (
	"encoding/json"
	"net/http"
	"testing"
)

// refusals are the records of the audit log that tell of refused calls.
func refusals(t *testing.T, ask func(method, path, token string) (int, string)) (calls []struct {
	User, Remote, Call, Outcome string
	Code                        int
},
) {
	t.Helper()
	code, body := ask(http.MethodGet, "audit?limit=1000&call=refused", "admin")
	var out struct {
		Audit []struct {
			User, Remote, Call, Outcome string
			Code                        int
		}
	}
	if err := json.Unmarshal([]byte(body), &out); err != nil || code != http.StatusOK {
		t.Fatalf("%d %s: %v", code, body, err)
	}
	return out.Audit
}

// TestRefusedCallsAreAudited: who may not, and who is nobody knows who, is in the
// audit log, for reading as for changing; a flood does not fill it, and one of
// strangers hides nothing that others do.
func TestRefusedCallsAreAudited(t *testing.T) {
	srv := serve(t, things)
	ask := func(method, path, token string) (int, string) { return get(t, srv, method, path, token) }
	for _, c := range []struct {
		method, path, token string
		code                int
	}{
		{http.MethodGet, "zones", "owner", 403}, {http.MethodGet, "audit", "other", 403},
		{http.MethodPost, "doctor", "reader", 403}, {http.MethodDelete, "plans/plan1", "reader", 403},
		{http.MethodGet, "zones", "", 401}, {http.MethodPost, "recoveries", "guess", 401},
		{http.MethodGet, "drills/drill1/report.html", "guess", 401},
	} {
		if code, body := ask(c.method, c.path, c.token); code != c.code {
			t.Errorf("%s %s as %q: %d %s", c.method, c.path, c.token, code, body)
		}
		all := refusals(t, ask)
		if len(all) == 0 || all[0].Call != "refused "+c.method+" /api/dr/v1/"+c.path || all[0].Code != c.code ||
			all[0].Remote == "" || all[0].Outcome == "" || (all[0].User == "anonymous") != (c.code == 401) {
			t.Fatalf("%s %s as %q is told as %+v", c.method, c.path, c.token, all)
		}
	}
	before := len(refusals(t, ask))
	for range 200 {
		ask(http.MethodGet, "zones", "guess")
	}
	if n := len(refusals(t, ask)) - before; n == 0 || n > 20 {
		t.Errorf("a flood of strangers makes %d records", n)
	}
	if ask(http.MethodGet, "audit", "owner"); refusals(t, ask)[0].Call != "refused GET /api/dr/v1/audit" {
		t.Error("the flood hides what somebody does who is known")
	}
	for range 300 {
		ask(http.MethodGet, "audit", "owner")
	}
	if n := len(refusals(t, ask)); n > 120 {
		t.Errorf("a flood of somebody makes %d records", n)
	}
}
