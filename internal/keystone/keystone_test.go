package keystone

import (
	"context"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strconv"
	"testing"
	"time"

	"kvol/internal/api"
	"kvol/internal/block"
)

// TestPathMatches has the rules of keystonemiddleware's own tests, and some that
// would be anything but rules to a regular expression.
func TestPathMatches(t *testing.T) {
	for _, row := range []struct {
		rule, path string
		matches    bool
	}{
		{"/v2.1/servers", "/v2.1/servers", true},
		{"/v2.1/servers", "/v2x1/servers", false},
		{"/v2.1/servers", "/v2.1/servers/", false},
		{"/v2.1/servers/{server_id}", "/v2.1/servers/1", true},
		{"/v2.1/servers/{server_id}", "/v2.1/servers/", false},
		{"/v2.1/servers/{server_id}", "/v2.1/servers/1/action", false},
		{"/v2.1/servers/*/action", "/v2.1/servers/1/action", true},
		{"/v2.1/servers/*/action", "/v2.1/servers/1/2/action", false},
		{"/v2.1/**", "/v2.1/servers/1/action", true},
		{"/v2.1/**", "/v2.1", false},
		{"/v2.1/*/**/action", "/v2.1/servers/1/2/action", true},
		{"***", "/anything", true},
		{"/(.*)+", "/volumes", false},
		{"/v3/{open", "/v3/{open", true},
		{"/v3/{open", "/v3/x", false},
		{"", "", true},
		{"", "/", false},
	} {
		if got := pathMatches(row.rule, row.path); got != row.matches {
			t.Errorf("%q and %q: %v", row.rule, row.path, got)
		}
	}
}

// TestCacheIsBounded: the token that was used the longest ago is forgotten first,
// and each one when its time is over.
func TestCacheIsBounded(t *testing.T) {
	c, now := newTokenCache(2), time.Unix(0, 0)
	key := func(n int) (k [32]byte) { k[0] = byte(n); return k }
	for n := range 4 {
		c.put(key(n), subject{caller: block.Caller{UserName: strconv.Itoa(n)}}, now.Add(time.Duration(n)*time.Minute))
		c.get(key(1), now) // which thus stays
	}
	for n, want := range []bool{false, true, false, true} {
		if who, ok := c.get(key(n), now); ok != want || ok && who.caller.UserName != strconv.Itoa(n) {
			t.Errorf("token %d: %v %v", n, who.caller.UserName, ok)
		}
	}
	if _, ok := c.get(key(1), now.Add(time.Minute)); ok {
		t.Error("a token is believed after its time")
	}
	if c.order.Len() != 1 || len(c.byHash) != 1 {
		t.Errorf("%d and %d tokens are left", c.order.Len(), len(c.byHash))
	}
}

// TestRenewal: kvol's own token is replaced before it ends, be its life long or
// short, and when a service does not take it.
func TestRenewal(t *testing.T) {
	for _, life := range []time.Duration{time.Hour, time.Minute} {
		now, given := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), 0
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			given++
			w.Header().Set("X-Subject-Token", strconv.Itoa(given))
			w.WriteHeader(http.StatusCreated)
			_, _ = w.Write([]byte(`{"token":{"expires_at":"` + now.Add(life).Format(time.RFC3339) + `"}}`))
		}))
		defer server.Close()
		s, err := New(Config{AuthURL: server.URL, User: "u", Password: "p", Now: func() time.Time { return now }})
		if err != nil {
			t.Fatal(err)
		}
		ask := func(stale, want string) {
			t.Helper()
			if got, err := s.ServiceToken(t.Context(), stale); err != nil || got != want {
				t.Errorf("the token is %q, %v; want %q", got, err, want)
			}
		}
		ask("", "1")
		ask("", "1")
		ask("1", "2")
		ask("1", "2") // somebody else who had the old one
		now = now.Add(life / 2)
		ask("", "2")
		now = now.Add(life/2 - time.Second)
		ask("", "3")
	}
}

// TestScopes reads what tokens are of.
func TestScopes(t *testing.T) {
	for scope, want := range map[string]block.Caller{
		`"project":{"id":"p","domain":{"id":"pd"}}`: {Project: "p", ProjectDomain: "pd"},
		`"system":{"all":true}`:                     {System: true},
		`"system":{"all":false}`:                    {},
		`"domain":{"id":"d","name":"n"}`:            {Domain: "d"},
		`"methods":["password"]`:                    {},
	} {
		who, err := decodeSubject([]byte(`{"token":{"expires_at":"2100-01-01T00:00:00Z","user":{"id":"u"},` + scope + `}}`))
		want.User = "u"
		if err != nil || !reflect.DeepEqual(who.caller, want) {
			t.Errorf("%s: %+v, %v", scope, who.caller, err)
		}
	}
}

// FuzzKeystone gives the service answers of all kinds: it believes none that is not
// a token's, says nothing but that the token is bad or that Keystone can't be asked,
// and follows to no other place. What is of a project is of nothing else, and the
// front ends that know of nothing but projects let in nobody without one.
func FuzzKeystone(f *testing.F) {
	const good = `{"token":{"expires_at":"2100-01-01T00:00:00.000000Z","user":{"id":"u","name":"n","domain":{"id":"d"}},` +
		`"project":{"id":"p","domain":{"id":"d"}},"roles":[{"name":"member"}]`
	f.Add(uint16(0), uint16(1), "own", []byte(good+`}}`), "/v3/p/volumes")
	f.Add(uint16(0), uint16(1), "own", []byte(good+`,"application_credential":{"access_rules":`+
		`[{"service":"volumev3","method":"GET","path":"/v3/**"}]}}}`), "/v3/p/volumes")
	f.Add(uint16(204), uint16(1), "own", []byte(`{}`), "")
	f.Add(uint16(201), uint16(1), "own", []byte(good+`}}`), "")
	f.Add(uint16(100), uint16(101), "\n", []byte(`{"token":null}`), "")
	f.Add(uint16(0), uint16(1), "own", []byte(`{"token":{"expires_at":"2100-01-01T00:00:00Z","user":{"id":"u"}}}`), "")
	f.Add(uint16(0), uint16(1), "own", []byte(good+`,"system":{"all":true},"domain":{"id":"d"}}}`), "")
	f.Fuzz(func(t *testing.T, status, login uint16, own string, body []byte, path string) {
		strayed := false
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			strayed = strayed || r.URL.Path == "/elsewhere"
			w.Header().Set("Location", "/elsewhere")
			code := 200 + int(status)%400
			if r.Method == http.MethodPost {
				code = 200 + int(login)%400
				w.Header().Set("X-Subject-Token", own)
			}
			w.WriteHeader(code)
			_, _ = w.Write(body) // refused where a status has no body
		}))
		defer server.Close()
		s, err := New(Config{AuthURL: server.URL, User: "u", Password: "p"})
		if err != nil {
			t.Fatal(err)
		}
		r := httptest.NewRequestWithContext(context.Background(), http.MethodGet, "/", http.NoBody)
		r.URL.Path = path
		c, err := s.AuthenticateRequest(r, "token")
		switch {
		case err == nil && (c.User == "" || c.Token != "token" || c.Project != "" && (c.System || c.Domain != "")):
			t.Errorf("it lets in %+v", c)
		case err != nil && !block.Is(err, block.Unauthorized) && !block.Is(err, block.Unavailable):
			t.Errorf("an error of another kind: %v", err)
		}
		if c, err := api.Authenticate(s, r, "token"); err == nil && c.Project == "" {
			t.Errorf("it lets in %+v without a project", c)
		}
		if strayed {
			t.Error("it followed to another place")
		}
	})
}
