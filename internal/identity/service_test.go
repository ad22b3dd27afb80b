package identity

import (
	"bytes"
	"context"
	"flag"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"kvol/internal/block"
	"kvol/internal/catalog"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// cheap makes tests of anything but hashing fast.
var cheap = Cost{MemoryKiB: 64, Passes: 1}

// clock is a time that tests move. It may be used at once.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func newClock() *clock { return &clock{t: time.Date(2026, 4, 29, 3, 32, 28, 405_000, time.UTC)} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) move(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

// The people of the tests.
const (
	adminPassword = "correct-horse-battery"
	demoPassword  = "staple-of-the-demo"
)

func testConfig(k *clock) Config {
	return Config{
		Region: "KR1", Cost: cheap, Now: k.now,
		Projects: []Project{{Name: "admin"}, {Name: "demo", Description: "for trials"}, {Name: "alt"}},
		Users: []User{
			{Name: "admin", Password: adminPassword, Roles: []RoleIn{{"admin", "admin"}}},
			{Name: "demo", Password: demoPassword, Roles: []RoleIn{{"demo", "member"}, {"alt", "reader"}}},
			{Name: "nobody", Password: "no role anywhere"},
		},
		Catalog: []Endpoint{
			{Type: "volumev2", Name: "cinderv2", URL: "/v2/$(project_id)"},
			{Type: "volumev3", Name: "cinderv3", URL: "/v3/$(project_id)"},
			{Type: "image", Name: "glance", URL: "/image"},
			{Type: "identity", Name: "keystone", URL: "/identity/v3/"},
		},
	}
}

// open starts a service on the catalog at path, "" for one in memory.
func open(t *testing.T, path string, config Config) *Service {
	t.Helper()
	c, err := catalog.Open(t.Context(), catalog.Options{Path: path, Now: config.Now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	s, err := New(c, config)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Seed(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s
}

func serve(t *testing.T, s *Service) string {
	t.Helper()
	server := httptest.NewServer(s.Handler())
	t.Cleanup(server.Close)
	return server.URL
}

// ask sends a request and returns its answer.
func ask(t *testing.T, base, method, path, token, body string, header ...string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, base+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("X-Auth-Token", token)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(text)
}

func mustLogin(t *testing.T, s *Service, user, password, project string) string {
	t.Helper()
	token, _, err := s.login(t.Context(), user, false, password, "192.0.2.1:1", scope{projectName: project})
	if err != nil {
		t.Fatalf("login of %s: %v", user, err)
	}
	return token
}

// A token tells whom it was given to, with implied roles, until it expires.
func TestAuthenticate(t *testing.T) {
	k := newClock()
	s := open(t, "", testConfig(k))
	token := mustLogin(t, s, "admin", adminPassword, "admin")
	for range 2 { // the second from the cache
		c, err := s.Authenticate(t.Context(), token)
		if err != nil {
			t.Fatal(err)
		}
		if c.UserName != "admin" || !c.Admin() || !c.Has("member") || !c.Has("reader") || c.Project == "" {
			t.Fatalf("caller is %+v", c)
		}
	}
	reader := mustLogin(t, s, "demo", demoPassword, "alt")
	if c, err := s.Authenticate(t.Context(), reader); err != nil || !c.ReadOnly() {
		t.Errorf("demo in alt is %+v, %v; want a reader", c, err)
	}
	unscoped := mustLogin(t, s, "nobody", "no role anywhere", "")
	for name, bad := range map[string]string{"none": "", "unknown": "gibberish", "unscoped": unscoped,
		"long": strings.Repeat("a", 1<<20)} {
		if _, err := s.Authenticate(t.Context(), bad); !block.Is(err, block.Unauthorized) {
			t.Errorf("%s: %v, want unauthorized", name, err)
		}
	}
	k.move(12*time.Hour + time.Second)
	if _, err := s.Authenticate(t.Context(), token); !block.Is(err, block.Unauthorized) {
		t.Errorf("expired: %v, want unauthorized", err)
	}
}

// What takes a token's worth away does so at once, cache or not.
// TestLoginIsCut: a login whose context ended is no success without a token.
func TestLoginIsCut(t *testing.T) {
	s := open(t, "", testConfig(newClock()))
	ctx, end := context.WithCancel(t.Context())
	end()
	body := `{"auth": {"passwordCredentials": {"username": "demo", "password": "` + demoPassword + `"}}}`
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, httptest.NewRequestWithContext(ctx, "POST", "/identity/v2.0/tokens",
		strings.NewReader(body)))
	if w.Code != 503 || !strings.Contains(w.Body.String(), "did not finish") {
		t.Errorf("%d %q", w.Code, w.Body)
	}
}

func TestTokenLosesItsWorth(t *testing.T) {
	for name, do := range map[string]func(t *testing.T, s *Service, token string) error{
		"revoked":          func(t *testing.T, s *Service, token string) error { return s.revoke(t.Context(), token) },
		"password changed": func(t *testing.T, s *Service, _ string) error { return s.SetPassword(t.Context(), "demo", "x") },
		"user deleted":     func(t *testing.T, s *Service, _ string) error { return s.DeleteUser(t.Context(), "demo") },
		"role taken": func(t *testing.T, s *Service, _ string) error {
			return s.RevokeRole(t.Context(), "demo", "demo", "member")
		},
		"user disabled": func(t *testing.T, s *Service, _ string) error {
			no := false
			_, err := s.UpdateUser(t.Context(), block.UserID(derivedID("user", "demo")), Change{Enabled: &no})
			return err
		},
		"project disabled": func(t *testing.T, s *Service, _ string) error {
			no := false
			_, err := s.UpdateProject(t.Context(), block.ProjectID(derivedID("project", "demo")), Change{Enabled: &no})
			return err
		},
		"project deleted": func(t *testing.T, s *Service, _ string) error {
			return s.DeleteProject(t.Context(), block.ProjectID(derivedID("project", "demo")))
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, "", testConfig(newClock()))
			token := mustLogin(t, s, "demo", demoPassword, "demo")
			if _, err := s.Authenticate(t.Context(), token); err != nil {
				t.Fatal(err)
			}
			if err := do(t, s, token); err != nil {
				t.Fatal(err)
			}
			if c, err := s.Authenticate(t.Context(), token); !block.Is(err, block.Unauthorized) {
				t.Errorf("still good for %+v, %v", c, err)
			}
		})
	}
}

// A read that was overtaken by a change must not be remembered.
func TestCacheKeepsNothingOlderThanAClear(t *testing.T) {
	c := newCallerCache(newClock().now)
	generation := c.generation()
	c.clear()
	c.put("h", block.Caller{}, time.Now().Add(time.Hour), generation)
	if _, ok := c.get("h"); ok {
		t.Error("a caller that was read before the clear is remembered")
	}
}

// A restart keeps tokens, ids and what operators made; it brings back what the
// configuration says of those it names.
func TestRestart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "catalog.db")
	k := newClock()
	s := open(t, path, testConfig(k))
	token := mustLogin(t, s, "demo", demoPassword, "demo")
	before, err := s.Authenticate(t.Context(), token)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.CreateUser(t.Context(), User{Name: "made", Password: "by an operator"}); err != nil {
		t.Fatal(err)
	}
	if err := s.GrantRole(t.Context(), "made", "demo", "reader"); err != nil {
		t.Fatal(err)
	}
	if err := s.GrantRole(t.Context(), "demo", "admin", "admin"); err != nil {
		t.Fatal(err)
	}
	s.catalog.Close()

	s = open(t, path, testConfig(k))
	after, err := s.Authenticate(t.Context(), token)
	if err != nil || after.Project != before.Project || after.User != before.User {
		t.Errorf("after a restart the token is %+v, %v; was %+v", after, err, before)
	}
	mustLogin(t, s, "made", "by an operator", "demo")
	if _, _, err := s.login(t.Context(), "demo", false, demoPassword, "", scope{projectName: "admin"}); err == nil {
		t.Error("a configured user kept a role that the configuration does not give")
	}
	s.catalog.Close()

	config := testConfig(k)
	config.Users[1].Password = "another one"
	config.Users = config.Users[:2]
	s = open(t, path, config)
	if _, err := s.Authenticate(t.Context(), token); !block.Is(err, block.Unauthorized) {
		t.Errorf("the token outlived its user's password: %v", err)
	}
	mustLogin(t, s, "demo", "another one", "demo")
	if _, _, err := s.login(t.Context(), "nobody", false, "no role anywhere", "", scope{}); err == nil {
		t.Error("a user that the configuration names no more can log in")
	}
}

// Nothing in the database's files lets anybody in.
func TestNothingAtRest(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "catalog.db")
	k := newClock()
	s := open(t, path, testConfig(k))
	kvol, err := NewKvol(s.catalog, KvolConfig{Users: []KvolUser{{Password: "kvol-secret-word"}}, Cost: cheap, Now: k.now})
	if err != nil {
		t.Fatal(err)
	}
	if err := kvol.Seed(t.Context()); err != nil {
		t.Fatal(err)
	}
	token := mustLogin(t, s, "demo", demoPassword, "demo")
	kvolToken, _, err := kvol.Issue(t.Context(), DefaultKvolUser, "kvol-secret-word", "192.0.2.1:1")
	if err != nil {
		t.Fatal(err)
	}
	var all []byte
	files, err := filepath.Glob(path + "*")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, text...)
	}
	if !bytes.Contains(all, []byte(tokenHash(token))) || !bytes.Contains(all, []byte("$argon2id$")) {
		t.Fatal("this test does not see what is at rest")
	}
	for name, secret := range map[string]string{"password": demoPassword, "admin's": adminPassword, "token": token,
		"kvol password": "kvol-secret-word", "kvol token": kvolToken} {
		if bytes.Contains(all, []byte(secret)) {
			t.Errorf("the %s lies in the database", name)
		}
	}
}

// Many logins, checks, changes and revocations at once.
func TestAtOnce(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "catalog.db"), testConfig(newClock()))
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 5 {
				token, _, err := s.login(context.Background(), "demo", false, demoPassword, "192.0.2.1:1",
					scope{projectName: "demo"})
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := s.Authenticate(context.Background(), token); err != nil {
					t.Error(err)
				}
				if err := s.revoke(context.Background(), token); err != nil {
					t.Error(err)
				}
				if _, err := s.Authenticate(context.Background(), token); !block.Is(err, block.Unauthorized) {
					t.Errorf("revoked, and %v", err)
				}
			}
		})
	}
	wg.Wait()
}

// Expired tokens of both kinds are removed.
func TestSweep(t *testing.T) {
	k := newClock()
	s := open(t, "", testConfig(k))
	mustLogin(t, s, "demo", demoPassword, "demo")
	k.move(6 * time.Hour)
	late := mustLogin(t, s, "demo", demoPassword, "demo")
	k.move(7 * time.Hour)
	if err := s.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Authenticate(t.Context(), late); err != nil {
		t.Errorf("a good token was swept: %v", err)
	}
}
