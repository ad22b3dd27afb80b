package keystone_test

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	"kvol/internal/block"
	"kvol/internal/client"
	ours "kvol/internal/keystone"
)

// volumes is where a project's are listed.
func volumes(project string) string { return "/v3/" + project + "/volumes" }

// tokens: who has a token of a project is let in, as whom it is of.
func tokens(c *cloud) {
	alice := c.login("alice", c.blue)
	c.want(200, alice, "GET", volumes(c.blue), "")
	c.want(200, alice, "GET", "/v2/"+c.blue+"/volumes", "")
	c.want(200, " "+alice+" ", "GET", volumes(c.blue), "")
	c.want(400, alice, "GET", volumes(c.green), "")
	c.want(403, alice, "POST", "/v3/"+c.blue+"/types", `{"volume_type":{"name":"hers"}}`)
	c.want(200, c.admin(), "GET", "/v3/volumes?all_tenants=1", "")
	c.want(200, alice, "GET", "/api/dr/v1/failovers", "")

	for what, token := range map[string]string{"none": "", "nonsense": "nonsense",
		"a changed one": alice[:len(alice)-4] + "AAAA",
		"too long":      strings.Repeat("a", 9<<10), "no ASCII": "gAAAAÄ"} {
		a := c.want(401, token, "GET", volumes(c.blue), "")
		if got := a.header.Get("WWW-Authenticate"); got != `Keystone uri="`+c.keystone.URL()+`"` {
			c.Errorf("%s: WWW-Authenticate is %q", what, got)
		}
		if a.at("error", "message") != "The request you have made requires authentication." {
			c.Errorf("%s: %s", what, a.text)
		}
	}
	expired := c.keystone.Expired(c.T, c.alice, c.blue)
	c.want(401, expired, "GET", volumes(c.blue), "")

	// A reader looks and touches nothing; a role of the whole domain is one in its projects.
	k := c.keystone
	carol := k.User(c.T, "carol", "carol's password", c.domain)
	k.Grant(c.T, carol, c.blue, "reader")
	reader := c.login("carol", c.blue)
	c.want(200, reader, "GET", volumes(c.blue), "")
	c.want(403, reader, "POST", volumes(c.blue), `{"volume":{"size":1}}`)
	k.Call(c.T, "PUT", "/OS-INHERIT/domains/"+c.domain+"/users/"+carol+"/roles/"+k.Role(c.T, "member")+
		"/inherited_to_projects", nil, nil)
	made := c.want(202, c.login("carol", c.green), "POST", volumes(c.green), `{"volume":{"size":1}}`)
	if user := made.at("volume", "user_id"); user != carol {
		c.Errorf("the volume is of user %v, not %s", user, carol)
	}
}

// serviceTokens: a service may pass on a token that has expired; nobody else may.
func serviceTokens(c *cloud) {
	k := c.keystone
	nova := k.User(c.T, "nova", "nova's password", c.domain)
	k.Grant(c.T, nova, c.service, "service")
	service, other := c.login("nova", c.service), c.login("bob", c.green)
	expired, alice := k.Expired(c.T, c.alice, c.blue), c.login("alice", c.blue)
	for _, row := range []struct {
		user, service string
		status        int
	}{
		{alice, service, 200}, {expired, service, 200}, {alice, other, 401}, {expired, other, 401},
		{alice, "nonsense", 401}, {expired, "", 401}, {alice, expired, 401},
		{expired, service, 200}, // of which the answers before tell nothing
	} {
		if a := c.ask(row.user, "GET", volumes(c.blue), "", "X-Service-Token", row.service); a.status != row.status {
			c.Errorf("expired %v, service token %.8q: %d, want %d", row.user == expired, row.service, a.status, row.status)
		}
	}
	// What the compute service alone may do needs its token.
	made := c.want(202, alice, "POST", volumes(c.blue), `{"volume":{"size":1}}`).at("volume", "id").(string)
	c.await(alice, c.blue, made, "available")
	server := block.NewID()
	attached := c.want(200, alice, "POST", "/v3/"+c.blue+"/attachments", fmt.Sprintf(
		`{"attachment":{"volume_uuid":%q,"instance_uuid":%q,"connector":{"host":"h","ip":"127.0.0.1"}}}`, made, server),
		"OpenStack-API-Version", "volume 3.54").at("attachment", "id").(string)
	path := "/v3/" + c.blue + "/attachments/" + attached
	c.want(409, alice, "DELETE", path, "", "OpenStack-API-Version", "volume 3.54")
	c.want(401, alice, "DELETE", path, "", "OpenStack-API-Version", "volume 3.54", "X-Service-Token", other)
	c.want(200, alice, "DELETE", path, "", "OpenStack-API-Version", "volume 3.54", "X-Service-Token", service)
	c.want(202, alice, "DELETE", volumes(c.blue)+"/"+made, "")
}

// applicationCredentials: their tokens are a user's, and may do what their rules
// name where they have any.
func applicationCredentials(c *cloud) {
	alice := c.login("alice", c.blue)
	credential := func(name string, rules []map[string]any) string {
		c.Helper()
		body := map[string]any{"name": name}
		if rules != nil {
			body["access_rules"] = rules
		}
		return c.keystone.ApplicationToken(c.T, alice, c.alice, body)
	}
	c.want(200, credential("all", nil), "GET", volumes(c.blue), "")
	limited := credential("some", []map[string]any{
		{"service": "volumev3", "method": "GET", "path": "/v3/{project_id}/volumes"},
		{"service": "block-storage", "method": "GET", "path": "/v3/*/snapshots/**"},
		{"service": "compute", "method": "GET", "path": "/v3/{project_id}/types"},
	})
	for _, row := range []struct {
		method, path string
		status       int
	}{
		{"GET", volumes(c.blue), 200}, {"POST", volumes(c.blue), 401}, {"GET", volumes(c.blue) + "/detail", 401},
		{"GET", "/v3/" + c.blue + "/snapshots/detail", 200}, {"GET", "/v3/" + c.blue + "/types", 401},
		{"GET", "/api/dr/v1/failovers", 401},
	} {
		if a := c.ask(limited, row.method, row.path, `{"volume":{"size":1}}`); a.status != row.status {
			c.Errorf("%s %s: %d, want %d", row.method, row.path, a.status, row.status)
		}
	}
}

// revocation: a token that was revoked is believed until its time in the cache is
// over, and not one moment more.
func revocation(c *cloud) {
	c.stopClock()
	alice := c.login("alice", c.blue)
	c.want(200, alice, "GET", volumes(c.blue), "")
	c.keystone.Revoke(c.T, alice)
	c.want(200, alice, "GET", volumes(c.blue), "")
	c.later(4*time.Minute + 50*time.Second)
	c.want(200, alice, "GET", volumes(c.blue), "")
	c.later(11 * time.Second)
	c.want(401, alice, "GET", volumes(c.blue), "")
	fresh := c.login("alice", c.blue)
	c.keystone.Revoke(c.T, fresh)
	c.want(401, fresh, "GET", volumes(c.blue), "")

	// A project that is disabled has no good tokens, after the same time.
	grey := c.keystone.Project(c.T, "grey", c.domain)
	c.keystone.Grant(c.T, c.bob, grey, "member")
	bob := c.login("bob", grey)
	c.want(200, bob, "GET", volumes(grey), "")
	c.keystone.Call(c.T, "PATCH", "/projects/"+grey, map[string]any{"project": map[string]any{"enabled": false}}, nil)
	c.later(5*time.Minute + time.Second)
	c.want(401, bob, "GET", volumes(grey), "")
}

// keystoneAway: while Keystone is dead, tokens that are known are served for their
// time and others get a clear 503; while it hangs, nobody waits for longer than the
// time-out.
func keystoneAway(c *cloud) {
	c.stopClock()
	known, unknown := c.login("alice", c.blue), c.login("bob", c.green)
	c.want(200, known, "GET", volumes(c.blue), "")
	c.keystone.Kill()
	c.want(200, known, "GET", volumes(c.blue), "")
	for range 2 {
		a := c.want(503, unknown, "GET", volumes(c.green), "")
		if a.header.Get("Retry-After") != "5" ||
			a.at("serviceUnavailable", "message") != "The Keystone service is temporarily unavailable." {
			c.Errorf("%v %s", a.header, a.text)
		}
	}
	c.want(503, unknown, "GET", "/api/dr/v1/failovers", "")
	c.want(503, unknown, "GET", "/key-manager/v1/secrets", "")
	c.want(401, "", "GET", volumes(c.blue), "")
	c.later(5*time.Minute + time.Second)
	c.want(503, known, "GET", volumes(c.blue), "")
	c.keystone.Resume(c.T)
	c.want(200, known, "GET", volumes(c.blue), "")
	c.want(200, unknown, "GET", volumes(c.green), "")

	s, err := ours.New(ours.Config{AuthURL: c.keystone.URL(), User: "kvol", Password: "kvols-password",
		Timeout: time.Second})
	if err != nil {
		c.Fatal(err)
	}
	c.keystone.Pause(c.T)
	_, err = s.Authenticate(c.Context(), known)
	c.keystone.Continue(c.T)
	if !block.Is(err, block.Unavailable) {
		c.Errorf("a Keystone that hangs: %v", err)
	}
}

// ownToken: kvol's own token is renewed when Keystone does not take it any more;
// while kvol's user can't log in, that is said, and not that tokens are bad.
func ownToken(c *cloud) {
	k := c.keystone
	var found struct{ Users []struct{ ID string } }
	k.Call(c.T, "GET", "/users?name=kvol&domain_id=default", nil, &found)
	// Each new password revokes the user's tokens.
	password := func(now string) {
		k.Call(c.T, "PATCH", "/users/"+found.Users[0].ID, map[string]any{"user": map[string]any{"password": now}}, nil)
	}
	// Keystone takes no token that was made in the same second.
	letIn := func() {
		c.Helper()
		err := client.Poll(c.Context(), 100*time.Millisecond, func() (bool, error) {
			a := c.ask(c.login("alice", c.blue), "GET", volumes(c.blue), "")
			if a.status != 200 && a.status != 503 {
				return false, fmt.Errorf("%d %s", a.status, a.text)
			}
			return a.status == 200, nil
		})
		if err != nil {
			c.Fatal(err)
		}
	}
	letIn()
	password("kvols-password")
	letIn()
	password("another one")
	c.want(503, c.login("alice", c.blue), "GET", volumes(c.blue), "")
	password("kvols-password")
	letIn()
	if a := c.want(http.StatusOK, "", "GET", "/metrics", ""); !strings.Contains(a.text,
		`kvol_keystone_tokens_total{outcome="unavailable"}`) {
		c.Error("the metrics do not tell of tokens that could not be validated")
	}
}
