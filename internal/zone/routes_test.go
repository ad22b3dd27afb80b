package zone_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"kvol/internal/block"
	"kvol/internal/client"
)

// twoAdmins is a zone in which boss and root are administrators of a project each.
const twoAdmins = `
zone: mitaka1
listen: 127.0.0.1:0
availability_zones: [a]
default_volume_type: ssd
stores: [{name: main, driver: mem}]
backends: [{name: fast, store: main}]
volume_types: [{id: ` + typeID + `, name: ssd, extra_specs: {volume_backend_name: fast}}]
identity:
  projects: [{id: 10000000000000000000000000000001, name: blue}, {id: 10000000000000000000000000000002, name: ops}]
  users:
  - {name: boss, password: a long password, roles: [{project: blue, role: admin}]}
  - {name: root, password: a long password, roles: [{project: ops, role: admin}]}
%s
`

// asker asks a zone as a user.
func asker(t *testing.T, url, user, project string) func(method, path, body string) (int, string) {
	t.Helper()
	s, err := client.Login(t.Context(), client.Auth{URL: url + "/identity", User: user, Password: "a long password",
		Project: project})
	if err != nil {
		t.Fatal(err)
	}
	return func(method, path, body string) (int, string) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, url+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("X-Auth-Token", s.Token)
		r.Header.Set("Content-Type", "application/json")
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		text, err := io.ReadAll(answer.Body)
		if err != nil {
			t.Fatal(err)
		}
		return answer.StatusCode, string(text)
	}
}

// TestLongRecoveries: as many volumes as a recovery may name reach the DR API, and what
// is longer is called so.
func TestLongRecoveries(t *testing.T) {
	url := serveConfig(t, t.TempDir(), fmt.Sprintf(twoAdmins, ""))
	root := asker(t, url, "root", "ops")
	ids := make([]string, 10000)
	for i := range ids {
		ids[i] = fmt.Sprintf("%q", block.NewID())
	}
	body := `{"dry_run": true, "scope": {"volumes": [` + strings.Join(ids, ",") + `]}}`
	if code, text := root("POST", "/api/dr/v1/recoveries", body); code == http.StatusRequestEntityTooLarge ||
		strings.Contains(text, "JSON") || strings.Contains(text, "documented form") {
		t.Errorf("%d %.300s", code, text)
	} else if code != http.StatusAccepted && code != http.StatusOK && code != http.StatusNotFound && code != http.StatusConflict {
		t.Errorf("%d %.300s", code, text)
	}
	body = `{"dry_run": true, "scope": {"volumes": ["` + strings.Repeat("x", 1<<20) + `"]}}`
	if code, text := root("POST", "/api/dr/v1/recoveries", body); code != http.StatusRequestEntityTooLarge ||
		!strings.Contains(text, "longer than 1048576 bytes") {
		t.Errorf("%d %.300s", code, text)
	}
}
