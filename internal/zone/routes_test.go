package zone_test

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
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

// TestEveryFrontEndKnowsWhoIsAdministrator: the operator's rule is that of all of them,
// not of the block storage API alone, whose own rules may let others in, too.
func TestEveryFrontEndKnowsWhoIsAdministrator(t *testing.T) {
	dir := t.TempDir()
	rule := `"context_is_admin": "role:admin and project_id:10000000000000000000000000000002"`
	if err := os.WriteFile(filepath.Join(dir, "policy.yaml"), []byte(rule), 0o600); err != nil {
		t.Fatal(err)
	}
	url := serveConfig(t, dir, fmt.Sprintf(twoAdmins, "policy: {file: policy.yaml}"))
	boss, root := asker(t, url, "boss", "blue"), asker(t, url, "root", "ops")
	const public = `{"name": "i", "visibility": "public", "disk_format": "raw", "container_format": "bare"}`
	for _, c := range []struct{ method, path, body string }{
		{"GET", "/api/dr/v1/zones", ""},
		{"GET", "/api/store/v1/stores", ""},
		{"GET", "/api/store/v1/processes", ""},
		{"GET", "/api/store/v1/placements", ""},
		{"POST", "/image/v2/images", public},
	} {
		if code, text := root(c.method, c.path, c.body); code/100 != 2 {
			t.Errorf("%s %s, whom the rule makes an administrator: %d %s", c.method, c.path, code, text)
		}
		if code, text := boss(c.method, c.path, c.body); code != http.StatusForbidden {
			t.Errorf("%s %s, whom the rule makes none: %d %s", c.method, c.path, code, text)
		}
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
	} else if code != http.StatusAccepted && code != http.StatusOK && code != http.StatusNotFound &&
		code != http.StatusConflict {
		t.Errorf("%d %.300s", code, text)
	}
	body = `{"dry_run": true, "scope": {"volumes": ["` + strings.Repeat("x", 1<<20) + `"]}}`
	if code, text := root("POST", "/api/dr/v1/recoveries", body); code != http.StatusRequestEntityTooLarge ||
		!strings.Contains(text, "longer than 1048576 bytes") {
		t.Errorf("%d %.300s", code, text)
	}
}
