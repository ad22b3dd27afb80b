package dr_test

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

// TestLimitsAreSetAndTakenOff: what an operator sets is shown, what makes no
// sense and what others ask is refused, and each change is in the audit log.
func TestLimitsAreSetAndTakenOff(t *testing.T) {
	srv := serve(t)
	send := func(method, path, token, body string, want int, has string) {
		t.Helper()
		req, err := http.NewRequest(method, srv.URL+"/api/dr/v1/"+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X-Auth-Token", token)
		req.Header.Set("Content-Type", "application/json")
		res, err := srv.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		text, err := io.ReadAll(res.Body)
		if err != nil || res.StatusCode != want || !strings.Contains(string(text), has) {
			t.Errorf("%s %s: %d %s, %v; want %d and %s", method, path, res.StatusCode, text, err, want, has)
		}
	}
	const office = `{"rate":1048576,"copy_rate":524288,"schedule":{"time_zone":"Asia/Seoul","windows":[
		{"days":["mon","tue"],"from":"08:00","to":"18:00","rate":65536}]}}`
	send("PUT", "limits/kilo2", "owner", office, 403, "administrator")
	send("PUT", "limits/kilo2", "admin", office, 200, `"rate_now":65536`) // 11:37 on a Tuesday in Seoul
	send("PUT", "limits/kilo2/7", "admin", `{"weight":300}`, 200, `"weight":300`)
	send("PUT", "limits/kilo2/8", "admin", `{"weight":300}`, 404, "protection 8")
	send("PUT", "limits/kilo2/0", "admin", `{"weight":300}`, 400, "above zero")
	send("PUT", "limits/mitaka1", "admin", `{"rate":1048576}`, 404, "sends nothing")
	send("PUT", "limits/kilo2", "admin", `{"rate":1}`, 400, "a rate is")
	send("PUT", "limits/kilo2", "admin", `{"speed":1}`, 400, "")
	send("PUT", "limits/kilo2", "admin", `{"schedule":{"time_zone":"Mars/Base"}}`, 400, "Mars/Base")
	send("GET", "limits", "admin", "", 200, `"zone":"kilo2","protection":0,"rate":1048576,"copy_rate":524288,"weight":100`)
	send("GET", "health", "admin", "", 200, `"limit_bytes_per_second":65536`)
	send("DELETE", "limits/kilo2", "owner", "", 403, "")
	send("DELETE", "limits/kilo2", "admin", "", 204, "")
	send("DELETE", "limits/kilo2", "admin", "", 404, "No limit")
	send("GET", "audit", "admin", "", 200, `"call":"limit delete"`)
}
