package identity

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"kvol/internal/block"
	"kvol/internal/catalog"
)

// A token that was got by another one ends when that one would have.
func TestRescopedTokenEndsWithItsParent(t *testing.T) {
	k := newClock()
	s := open(t, "", testConfig(k))
	first := mustLogin(t, s, "demo", demoPassword, "demo")
	k.move(6 * time.Hour)
	second, a, err := s.rescope(t.Context(), first, scope{projectName: "alt"})
	if err != nil {
		t.Fatal(err)
	}
	parent, err := s.session(t.Context(), first)
	if err != nil {
		t.Fatal(err)
	}
	if !a.token.ExpiresAt.Equal(parent.token.ExpiresAt) {
		t.Errorf("ends at %v, its parent at %v", a.token.ExpiresAt, parent.token.ExpiresAt)
	}
	if _, _, err := s.rescope(t.Context(), second, scope{projectName: "admin"}); !block.Is(err, block.Unauthorized) {
		t.Errorf("into a project without a role: %v", err)
	}
	if _, _, err := s.rescope(t.Context(), "gibberish", scope{}); !block.Is(err, block.Unauthorized) {
		t.Errorf("by an unknown token: %v", err)
	}
}

// A login that was judged by a password that is changed meanwhile fails.
func TestPasswordChangedDuringLogin(t *testing.T) {
	s := open(t, "", testConfig(newClock()))
	u, err := s.checkPassword(t.Context(), "demo", false, demoPassword, "192.0.2.1:1")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.SetPassword(t.Context(), "demo", "changed"); err != nil {
		t.Fatal(err)
	}
	token := catalog.Token{User: u.ID, Methods: []string{"password"}, AuditIDs: []string{newAuditID()}}
	if _, _, err := s.open(t.Context(), token, u.PasswordHash, scope{}); !block.Is(err, block.Unauthorized) {
		t.Errorf("the old password still opens a session: %v", err)
	}
}

// Who is disabled can neither log in nor use a token that is left.
func TestDisabledByConfiguration(t *testing.T) {
	k := newClock()
	config := testConfig(k)
	s := open(t, "", config)
	token := mustLogin(t, s, "demo", demoPassword, "demo")
	s.config.Users = s.config.Users[:1]
	if err := s.Seed(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Authenticate(t.Context(), token); !block.Is(err, block.Unauthorized) {
		t.Errorf("the token of a disabled user: %v", err)
	}
	_, err := s.checkPassword(t.Context(), "demo", false, demoPassword, "192.0.2.1:1")
	if !block.Is(err, block.Unauthorized) {
		t.Errorf("the password of a disabled user: %v", err)
	}
}

// Others' tokens are only administrators' to look at and to end.
func TestOthersTokens(t *testing.T) {
	s := open(t, "", testConfig(newClock()))
	base := serve(t, s)
	admin, demo := mustLogin(t, s, "admin", adminPassword, "admin"), mustLogin(t, s, "demo", demoPassword, "demo")
	for _, c := range []struct {
		method, who, whose string
		want               int
	}{
		{"GET", demo, admin, http.StatusForbidden},
		{"DELETE", demo, admin, http.StatusForbidden},
		{"GET", demo, demo, http.StatusOK},
		{"GET", admin, demo, http.StatusOK},
		{"DELETE", admin, demo, http.StatusNoContent},
		{"GET", demo, admin, http.StatusUnauthorized},
	} {
		resp, text := ask(t, base, c.method, "/identity/v3/auth/tokens", c.who, "", "X-Subject-Token", c.whose)
		if resp.StatusCode != c.want {
			t.Errorf("%s: %d, want %d: %s", c.method, resp.StatusCode, c.want, text)
		}
	}
}

// The helper for other services answers as keystonemiddleware does.
func TestUnauthorized(t *testing.T) {
	config := testConfig(newClock())
	config.PublicURL = "http://zone.example"
	s := open(t, "", config)
	w := httptest.NewRecorder()
	s.Unauthorized().ServeHTTP(w, httptest.NewRequest("GET", "/v3/volumes", nil))
	const want = `{"error":{"code":401,"title":"Unauthorized",` +
		`"message":"The request you have made requires authentication."}}`
	if w.Code != http.StatusUnauthorized || w.Body.String() != want ||
		w.Header().Get("WWW-Authenticate") != `Keystone uri="http://zone.example/identity"` {
		t.Errorf("%d %v %s", w.Code, w.Header(), w.Body)
	}
}
