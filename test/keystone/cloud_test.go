package keystone_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"kvol/internal/client"
	"kvol/internal/zone"
	"kvol/test/glance"
	"kvol/test/keystone"
)

const typeID = "6a21db69-dc6b-4423-834c-679ae153a638"

// config is a zone whose users are in a Keystone and whose images in a Glance.
const config = `
zone: mitaka1
region: RegionOne
listen: 127.0.0.1:0
availability_zones: [nova]
default_volume_type: ssd
stores: [{name: main, driver: logstore, segment_mib: 8}]
backup: {directory: backups}
backends: [{name: fast, store: main}]
volume_types: [{id: ` + typeID + `, name: ssd, extra_specs: {volume_backend_name: fast}}]
keystone: {auth_url: %q, user: kvol, password: kvols-password, cache_size: 100, timeout: 5m}
glance: {interface: internal, stall: 15s}
exports: {nbd: 127.0.0.1:0}
`

// cloud is a zone, its Keystone, its Glance, and two tenants of a domain.
type cloud struct {
	*testing.T
	keystone *keystone.Server
	glance   *glance.Server
	url      string       // of the zone
	ahead    atomic.Int64 // how far the zone's clock goes ahead, in nanoseconds
	stopped  atomic.Int64 // where the zone's clock stands without that, in nanoseconds of Unix; 0 while it goes

	domain, service, blue, green string // ids: the tenants' domain, and projects
	alice, bob                   string // ids: a member of each
}

// TestOpenStack is a zone in an OpenStack: Debian's Keystone and Glance, its
// openstack client. Both servers are started once for all of it.
func TestOpenStack(t *testing.T) {
	c := &cloud{T: t, keystone: keystone.Start(t)}
	c.serve()
	c.glance = glance.Start(t, c.keystone)
	k := c.keystone
	// What was registered long ago, at another address, before register.sh runs.
	k.Service(t, "volumev3", "cinderv3", "http://elsewhere.example:8776/v3/%(project_id)s")
	registered := c.register()
	c.domain = k.Domain(t, "acme")
	c.blue, c.green = k.Project(t, "blue", c.domain), k.Project(t, "green", c.domain)
	c.alice, c.bob = k.User(t, "alice", "alice's password", c.domain), k.User(t, "bob", "bob's password", c.domain)
	k.Grant(t, c.alice, c.blue, "member")
	k.Grant(t, c.bob, c.green, "member")
	registered()
	c.service = k.ProjectNamed(t, "service")
	c.glance.Register(t, k, c.service)
	c.glance.Await(t)
	for _, part := range []struct {
		name string
		run  func(*cloud)
	}{
		{"tokens", tokens}, {"scopes", scopes}, {"operators", operators}, {"the system's catalog", systemsCatalog},
		{"service tokens", serviceTokens},
		{"application credentials", applicationCredentials}, {"revocation", revocation},
		{"keystone away", keystoneAway}, {"kvol's own token", ownToken},
		{"images", images}, {"unfit", unfit}, {"taken", taken}, {"attacks", attacks}, {"image failures", imageFailures},
		{"kvol dies", kvolDies}, {"glance dies", glanceDies}, {"journey", journey},
	} {
		t.Run(part.name, func(t *testing.T) {
			one := c.with(t)
			shared = c
			part.run(one)
		})
	}
}

// with is the same cloud for another test, with a clock that is not looked at.
func (c *cloud) with(t *testing.T) *cloud {
	return &cloud{T: t, keystone: c.keystone, glance: c.glance, url: c.url, domain: c.domain, service: c.service,
		blue: c.blue, green: c.green, alice: c.alice, bob: c.bob}
}

// shared is the cloud whose clock the zone goes by.
var shared *cloud

// serve runs the zone until the test ends.
func (c *cloud) serve() {
	c.Helper()
	dir := c.TempDir()
	path := filepath.Join(dir, "kvol.yaml")
	if err := os.WriteFile(path, fmt.Appendf(nil, config, c.keystone.URL()), 0o600); err != nil {
		c.Fatal(err)
	}
	cfg, err := zone.LoadConfig(path)
	if err != nil {
		c.Fatal(err)
	}
	s, err := zone.Open(c.Context(), cfg, zone.Environment{Now: c.now})
	if err != nil {
		c.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	c.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			c.Error(err)
		}
	})
	c.url = s.URL()
}

// register begins to run the script that operators run, as they run it, with more in
// its environment. The function waits for it, and looks at what is in the catalog
// then: what was there is changed, and what was not is made.
func (c *cloud) register(more ...string) (wait func()) {
	c.Helper()
	cmd := exec.CommandContext(c.Context(), "../../deploy/openstack/register.sh")
	cmd.Env = append(c.environment("admin", keystone.Password, "Default", "admin"), "KVOL_URL="+c.url,
		"KVOL_PASSWORD=kvols-password")
	cmd.Env = append(cmd.Env, more...)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		c.Fatal(err)
	}
	return func() {
		c.Helper()
		if err := cmd.Wait(); err != nil {
			c.Fatalf("register.sh: %v\n%s\n%s", err, &said, c.keystone.Log())
		}
		var endpoints struct{ Endpoints []struct{ URL string } }
		c.keystone.Call(c, "GET", "/endpoints", nil, &endpoints)
		ours := 0
		for _, e := range endpoints.Endpoints {
			if strings.HasPrefix(e.URL, c.url+"/v") {
				ours++
			}
			if strings.Contains(e.URL, "elsewhere") {
				c.Errorf("the catalog still has %s", e.URL)
			}
		}
		if ours != 9 {
			c.Errorf("the catalog has %d of 9 endpoints at %s: %v", ours, c.url, endpoints)
		}
	}
}

// environment is what the openstack client goes by. Domain and project are names; no
// project is the system.
func (c *cloud) environment(user, password, domain, project string) []string {
	env := slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "OS_") })
	env = append(env, "OS_AUTH_URL="+c.keystone.URL(), "OS_IDENTITY_API_VERSION=3", "OS_USERNAME="+user,
		"OS_PASSWORD="+password, "OS_USER_DOMAIN_NAME="+domain, "OS_REGION_NAME=RegionOne", "PYTHONDONTWRITEBYTECODE=1")
	if project == "" {
		return append(env, "OS_SYSTEM_SCOPE=all")
	}
	return append(env, "OS_PROJECT_NAME="+project, "OS_PROJECT_DOMAIN_NAME="+domain)
}

// now is the zone's time.
func (c *cloud) now() time.Time {
	now := time.Now()
	if at := c.stopped.Load(); at != 0 {
		now = time.Unix(0, at)
	}
	return now.Add(time.Duration(c.ahead.Load()))
}

// stopClock has the zone's clock go by later alone until the part ends.
func (c *cloud) stopClock() {
	shared.stopped.Store(time.Now().UnixNano())
	c.Cleanup(func() { shared.stopped.Store(0) })
}

// later moves the zone's clock.
func (c *cloud) later(d time.Duration) { shared.ahead.Add(int64(d)) }

// in is a scope: a project by id.
func in(project string) map[string]any {
	return map[string]any{"project": map[string]any{"id": project}}
}

// login returns a new token of a user of the tenants' domain in a project.
func (c *cloud) login(user, project string) string {
	c.Helper()
	return c.keystone.Token(c, map[string]any{"identity": keystone.ByPassword(user, user+"'s password", "acme"),
		"scope": in(project)})
}

// admin returns a token of the admin in the project admin.
func (c *cloud) admin() string {
	c.Helper()
	return c.keystone.Token(c, map[string]any{"identity": keystone.ByPassword("admin", keystone.Password, "Default"),
		"scope": map[string]any{"project": map[string]any{"name": "admin", "domain": map[string]any{"id": "default"}}}})
}

// answer is what the zone said.
type answer struct {
	status int
	header http.Header
	body   map[string]any
	text   string
}

// at finds a value in the body.
func (a answer) at(path ...string) any {
	var v any = a.body
	for _, step := range path {
		m, _ := v.(map[string]any)
		v = m[step]
	}
	return v
}

// ask asks the zone. headers are names and values in turn.
func (c *cloud) ask(token, method, path, body string, headers ...string) answer {
	c.Helper()
	r, err := http.NewRequestWithContext(c.Context(), method, c.url+path, strings.NewReader(body))
	if err != nil {
		c.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	if token != "" {
		r.Header.Set("X-Auth-Token", token)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		c.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		c.Fatal(err)
	}
	return decoded(resp, text)
}

func decoded(resp *http.Response, text []byte) answer {
	a := answer{status: resp.StatusCode, header: resp.Header, text: string(text)}
	_ = json.Unmarshal(text, &a.body) // not every answer has one
	return a
}

// want is ask for an answer of a status.
func (c *cloud) want(status int, token, method, path, body string, headers ...string) answer {
	c.Helper()
	a := c.ask(token, method, path, body, headers...)
	if a.status != status {
		c.Fatalf("%s %s: %d %s, want %d", method, path, a.status, a.text, status)
	}
	return a
}

// await asks until a volume is in a status, or in error where that is not it.
func (c *cloud) await(token, project, volume, status string) answer {
	c.Helper()
	var a answer
	err := client.Poll(c.Context(), 50*time.Millisecond, func() (bool, error) {
		a = c.want(200, token, "GET", "/v3/"+project+"/volumes/"+volume, "")
		now := a.at("volume", "status")
		if now != status && strings.HasPrefix(fmt.Sprint(now), "error") {
			return false, fmt.Errorf("the volume is in %v: %s", now, c.messages(token, project))
		}
		return now == status, nil
	})
	if err != nil {
		c.Fatal(err)
	}
	return a
}

// messages are what the tenant is told.
func (c *cloud) messages(token, project string) string {
	c.Helper()
	return c.want(200, token, "GET", "/v3/"+project+"/messages", "", "OpenStack-API-Version", "volume 3.3").text
}
