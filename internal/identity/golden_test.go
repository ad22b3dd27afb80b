package identity

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// request is one exchange of a golden file. In paths and bodies, {name} stands
// for a value of an earlier answer.
type request struct {
	method, path string
	token        string // name of an earlier token, sent as X-Auth-Token
	subject      string // likewise, as X-Subject-Token
	body         string
	keep         string // name under which this answer's token, or the id in it, is kept
}

const (
	v3Demo = `{"auth":{"identity":{"methods":["password"],"password":{"user":{"name":"demo",` +
		`"domain":{"name":"Default"},"password":"` + demoPassword + `"}}},` +
		`"scope":{"project":{"name":"demo","domain":{"id":"default"}}}}}`
	v3Admin = `{"auth":{"identity":{"methods":["password"],"password":{"user":{"name":"admin",` +
		`"domain":{"id":"default"},"password":"` + adminPassword + `"}}},` +
		`"scope":{"project":{"name":"admin","domain":{"name":"Default"}}}}}`
	v3Unscoped = `{"auth":{"identity":{"methods":["password"],"password":{"user":{"name":"demo",` +
		`"domain":{"id":"default"},"password":"` + demoPassword + `"}}}}}`
	v3Wrong = `{"auth":{"identity":{"methods":["password"],"password":{"user":{"name":"demo",` +
		`"domain":{"id":"default"},"password":"no"}}}}}`
)

var goldens = map[string][]request{
	"versions": {
		{method: "GET", path: "/identity"},
		{method: "GET", path: "/identity/"},
		{method: "GET", path: "/identity/v3"},
		{method: "GET", path: "/identity/v3/"},
		{method: "GET", path: "/identity/v2.0/"},
		{method: "HEAD", path: "/identity/v3"},
		{method: "GET", path: "/identity/v3/nope"},
		{method: "GET", path: "/identity//v3"},
		{method: "PUT", path: "/identity/v3"},
	},
	"v2": {
		{method: "POST", path: "/identity/v2.0/tokens", keep: "scoped",
			body: `{"auth":{"tenantName":"demo","passwordCredentials":{"username":"demo","password":"` + demoPassword + `"}}}`},
		{method: "POST", path: "/identity/v2.0/tokens",
			body: `{"auth":{"passwordCredentials":{"username":"demo","password":"` + demoPassword + `"}}}`},
		{method: "POST", path: "/identity/v2.0/tokens", body: `{"auth":{"tenantName":"alt","token":{"id":"{scoped}"}}}`},
		{method: "GET", path: "/identity/v2.0/tenants", token: "scoped"},
		{method: "POST", path: "/identity/v2.0/tokens",
			body: `{"auth":{"tenantName":"demo","passwordCredentials":{"username":"demo","password":"no"}}}`},
		{method: "POST", path: "/identity/v2.0/tokens",
			body: `{"auth":{"tenantName":"admin","passwordCredentials":{"username":"demo","password":"` + demoPassword + `"}}}`},
		{method: "POST", path: "/identity/v2.0/tokens", body: `{"auth":{"tenantName":"alt"}}`},
		{method: "POST", path: "/identity/v2.0/tokens", body: `{}`},
		{method: "POST", path: "/identity/v2.0/tokens", body: `{"auth":{"tenantId":5}}`},
	},
	"v3": {
		{method: "POST", path: "/identity/v3/auth/tokens", body: v3Demo, keep: "demo"},
		{method: "POST", path: "/identity/v3/auth/tokens", body: v3Unscoped, keep: "unscoped"},
		{method: "POST", path: "/identity/v3/auth/tokens", body: v3Wrong},
		{method: "POST", path: "/identity/v3/auth/tokens?nocatalog", keep: "rescoped",
			body: `{"auth":{"identity":{"methods":["token"],"token":{"id":"{unscoped}"}},` +
				`"scope":{"project":{"name":"alt","domain":{"id":"default"}}}}}`},
		{method: "POST", path: "/identity/v3/auth/tokens", body: `{}`},
		{method: "POST", path: "/identity/v3/auth/tokens", body: `{`},
		{method: "POST", path: "/identity/v3/auth/tokens", body: `{"auth":{}}`},
		{method: "POST", path: "/identity/v3/auth/tokens", body: `{"auth":{"identity":{"methods":["saml2"]}}}`},
		{method: "POST", path: "/identity/v3/auth/tokens",
			body: strings.Replace(v3Demo, `"project":{"name":"demo"`, `"project":{"name":"nope"`, 1)},
		{method: "POST", path: "/identity/v3/auth/tokens",
			body: strings.Replace(v3Demo, `"domain":{"name":"Default"}`, `"domain":{"name":"Other"}`, 1)},
		{method: "POST", path: "/identity/v3/auth/tokens",
			body: strings.Replace(v3Unscoped, `}}}}}`, `}}},"scope":{"system":{"all":true}}}}`, 1)},
		{method: "GET", path: "/identity/v3/auth/tokens?nocatalog", token: "demo", subject: "rescoped"},
		{method: "HEAD", path: "/identity/v3/auth/tokens", token: "demo", subject: "demo"},
		{method: "GET", path: "/identity/v3/auth/tokens", token: "demo", subject: "nonsense"},
		{method: "GET", path: "/identity/v3/auth/tokens"},
		{method: "GET", path: "/identity/v3/auth/catalog", token: "demo"},
		{method: "GET", path: "/identity/v3/auth/catalog", token: "unscoped"},
		{method: "GET", path: "/identity/v3/auth/projects", token: "unscoped"},
		{method: "GET", path: "/identity/v3/auth/domains", token: "demo"},
		{method: "DELETE", path: "/identity/v3/auth/tokens", token: "demo", subject: "rescoped"},
		{method: "GET", path: "/identity/v3/auth/tokens", token: "demo", subject: "rescoped"},
	},
	"admin": {
		{method: "POST", path: "/identity/v3/auth/tokens?nocatalog", body: v3Admin, keep: "admin"},
		{method: "POST", path: "/identity/v3/auth/tokens?nocatalog", body: v3Demo, keep: "demo"},
		{method: "GET", path: "/identity/v3/projects", token: "admin"},
		{method: "GET", path: "/identity/v3/projects?name=demo", token: "admin"},
		{method: "GET", path: "/identity/v3/projects", token: "demo"},
		{method: "GET", path: "/identity/v3/projects"},
		{method: "GET", path: "/identity/v3/projects/nope", token: "admin"},
		{method: "GET", path: "/identity/v3/projects/" + derivedID("project", "demo"), token: "demo"},
		{method: "GET", path: "/identity/v3/users", token: "admin"},
		{method: "GET", path: "/identity/v3/users/" + derivedID("user", "demo"), token: "demo"},
		{method: "GET", path: "/identity/v3/users/" + derivedID("user", "admin"), token: "demo"},
		{method: "GET", path: "/identity/v3/roles", token: "admin"},
		{method: "GET", path: "/identity/v3/domains", token: "admin"},
		{method: "GET", path: "/identity/v3/regions", token: "demo"},
		{method: "GET", path: "/identity/v3/services?type=image", token: "admin"},
		{method: "GET", path: "/identity/v3/endpoints?interface=public", token: "admin"},
		{method: "POST", path: "/identity/v3/projects", token: "admin", keep: "project",
			body: `{"project":{"name":"made","description":"d","domain_id":"default"}}`},
		{method: "POST", path: "/identity/v3/projects", token: "admin", body: `{"project":{"name":"made"}}`},
		{method: "POST", path: "/identity/v3/projects", token: "demo", body: `{"project":{"name":"mine"}}`},
		{method: "PATCH", path: "/identity/v3/projects/{project}", token: "admin", body: `{"project":{"enabled":false}}`},
		{method: "POST", path: "/identity/v3/users", token: "admin", keep: "user",
			body: `{"user":{"name":"maker","password":"made up","email":"ignored"}}`},
		{method: "POST", path: "/identity/v3/users", token: "admin", body: `{"user":{"name":" "}}`},
		{method: "PATCH", path: "/identity/v3/users/{user}", token: "admin", body: `{"user":{"name":"demo"}}`},
		{method: "POST", path: "/identity/v3/users/{user}/password",
			body: `{"user":{"password":"new one","original_password":"made up"}}`},
		{method: "PUT", token: "admin",
			path: "/identity/v3/projects/{project}/users/{user}/roles/" + derivedID("role", "member")},
		{method: "GET", path: "/identity/v3/projects/{project}/users/{user}/roles", token: "admin"},
		{method: "HEAD", token: "admin",
			path: "/identity/v3/projects/{project}/users/{user}/roles/" + derivedID("role", "admin")},
		{method: "GET", path: "/identity/v3/role_assignments?user.id={user}&effective&include_names=1", token: "admin"},
		{method: "DELETE", token: "admin",
			path: "/identity/v3/projects/{project}/users/{user}/roles/" + derivedID("role", "member")},
		{method: "DELETE", token: "admin",
			path: "/identity/v3/projects/{project}/users/{user}/roles/" + derivedID("role", "member")},
		{method: "DELETE", path: "/identity/v3/roles/" + derivedID("role", "admin"), token: "admin"},
		{method: "DELETE", path: "/identity/v3/users/{user}", token: "admin"},
		{method: "DELETE", path: "/identity/v3/projects/{project}", token: "admin"},
	},
}

var auditID = regexp.MustCompile(`"[A-Za-z0-9_-]{22}"`)

// The service's answers are those in testdata, but for what is random.
func TestGolden(t *testing.T) {
	for name, requests := range goldens {
		t.Run(name, func(t *testing.T) {
			config := testConfig(newClock())
			config.PublicURL = "http://zone.example"
			base := serve(t, open(t, "", config))
			kept := map[string]string{"nonsense": "nonsense"}
			var b strings.Builder
			for _, q := range requests {
				exchange(t, &b, base, q, kept)
			}
			got := auditID.ReplaceAllString(b.String(), `"<audit id>"`)
			for _, k := range slices.Sorted(maps.Keys(kept)) {
				got = strings.ReplaceAll(got, kept[k], "<"+k+">")
			}
			got = regexp.MustCompile(`[0-9a-f]{64}`).ReplaceAllString(got, "<token>")
			compare(t, filepath.Join("testdata", name+".txt"), got)
		})
	}
}

func exchange(t *testing.T, b *strings.Builder, base string, q request, kept map[string]string) {
	t.Helper()
	fill := func(s string) string {
		for k, v := range kept {
			s = strings.ReplaceAll(s, "{"+k+"}", v)
		}
		return s
	}
	q.path, q.body = fill(q.path), fill(q.body)
	fmt.Fprintf(b, "> %s %s\n", q.method, q.path)
	header := []string{"Content-Type", "application/json"}
	if q.token != "" {
		fmt.Fprintf(b, "> X-Auth-Token: %s\n", kept[q.token])
	}
	if q.subject != "" {
		fmt.Fprintf(b, "> X-Subject-Token: %s\n", kept[q.subject])
		header = append(header, "X-Subject-Token", kept[q.subject])
	}
	if q.body != "" {
		fmt.Fprintf(b, "> %s\n", q.body)
	}
	resp, text := ask(t, base, q.method, q.path, kept[q.token], q.body, header...)
	fmt.Fprintf(b, "< %d\n", resp.StatusCode)
	for _, name := range []string{"Content-Type", "Location", "Www-Authenticate", "Vary", "Allow", "X-Subject-Token"} {
		if v := resp.Header.Get(name); v != "" {
			fmt.Fprintf(b, "< %s: %s\n", name, v)
		}
	}
	var indented bytes.Buffer
	if text != "" {
		if err := json.Indent(&indented, []byte(text), "", " "); err != nil {
			t.Fatalf("%s %s: %v in %s", q.method, q.path, err, text)
		}
		b.WriteString(indented.String() + "\n")
	}
	b.WriteString("\n")
	if q.keep != "" {
		kept[q.keep] = tokenOrID(t, resp, text)
	}
}

func tokenOrID(t *testing.T, resp *http.Response, text string) string {
	t.Helper()
	if token := resp.Header.Get("X-Subject-Token"); token != "" {
		return token
	}
	var v struct {
		Access  struct{ Token struct{ ID string } }
		Project struct{ ID string }
		User    struct{ ID string }
	}
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatal(err)
	}
	id := v.Access.Token.ID + v.Project.ID + v.User.ID
	if id == "" {
		t.Fatalf("neither token nor id in %s", text)
	}
	return id
}

func compare(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("answers differ from %s (run with -update and look at the difference):\n%s", path, got)
	}
}
