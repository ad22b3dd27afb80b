package identity

import (
	"testing"
	"time"

	"kvol/internal/block"
	"kvol/internal/catalog"
)

func openKvol(t *testing.T, k *clock, c *catalog.Catalog, users ...KvolUser) *Kvol {
	t.Helper()
	kvol, err := NewKvol(c, KvolConfig{Users: users, Guesses: tight, Cost: cheap, Now: k.now})
	if err != nil {
		t.Fatal(err)
	}
	if err := kvol.Seed(t.Context()); err != nil {
		t.Fatal(err)
	}
	return kvol
}

// A token of the kvol API is good for its user, for an hour.
func TestKvol(t *testing.T) {
	k := newClock()
	c, err := catalog.Open(t.Context(), catalog.Options{Now: k.now})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	both := []KvolUser{{Password: "first"}, {Name: "other", Password: "second"}}
	kvol := openKvol(t, k, c, both...)
	token, expires, err := kvol.Issue(t.Context(), DefaultKvolUser, "first", "192.0.2.1:1")
	if err != nil {
		t.Fatal(err)
	}
	if left := expires.Sub(k.now()); left > time.Hour || left < time.Hour-time.Second || len(token) < 32 {
		t.Errorf("token %d characters long, good for %v", len(token), left)
	}
	check := func(user, token string, good bool) {
		t.Helper()
		err := kvol.Check(t.Context(), user, token)
		if good && err != nil || !good && !block.Is(err, block.Unauthorized) {
			t.Errorf("%s with %.8s...: %v, want good %v", user, token, err, good)
		}
	}
	check(DefaultKvolUser, token, true)
	check("other", token, false)
	check(DefaultKvolUser, "first", false) // the password is no token
	check(DefaultKvolUser, "", false)
	check("", token, false)
	kvol = openKvol(t, k, c, both...)
	check(DefaultKvolUser, token, true) // a restart changes nothing
	k.move(time.Hour)
	check(DefaultKvolUser, token, false)

	for user, password := range map[string]string{DefaultKvolUser: "second", "unknown": "first", "other": ""} {
		if _, _, err := kvol.Issue(t.Context(), user, password, "192.0.2.1:1"); !block.Is(err, block.Unauthorized) {
			t.Errorf("%s with %q: %v", user, password, err)
		}
	}
}

// Another password, or none at all, ends what the old one was good for; and
// guessing is slowed down.
func TestKvolChangesAndGuesses(t *testing.T) {
	k := newClock()
	c, err := catalog.Open(t.Context(), catalog.Options{Now: k.now})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	kvol := openKvol(t, k, c, KvolUser{Password: "first"})
	token, _, err := kvol.Issue(t.Context(), DefaultKvolUser, "first", "192.0.2.1:1")
	if err != nil {
		t.Fatal(err)
	}
	kvol = openKvol(t, k, c, KvolUser{Password: "changed"})
	if err := kvol.Check(t.Context(), DefaultKvolUser, token); !block.Is(err, block.Unauthorized) {
		t.Errorf("the token outlived its user's password: %v", err)
	}
	if token, _, err = kvol.Issue(t.Context(), DefaultKvolUser, "changed", "192.0.2.1:1"); err != nil {
		t.Fatal(err)
	}
	kvol = openKvol(t, k, c, KvolUser{Name: "other", Password: "x"})
	if err := kvol.Check(t.Context(), DefaultKvolUser, token); !block.Is(err, block.Unauthorized) {
		t.Errorf("the token outlived its user: %v", err)
	}
	for range tight.User {
		if _, _, err := kvol.Issue(t.Context(), "other", "guess", "192.0.2.1:1"); !block.Is(err, block.Unauthorized) {
			t.Fatal(err)
		}
	}
	_, _, err = kvol.Issue(t.Context(), "other", "x", "192.0.2.9:1")
	if _, ok := RetryAfter(err); !ok || !block.Is(err, block.OverLimit) {
		t.Errorf("after too many guesses: %v", err)
	}
}
