package identity

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"kvol/internal/block"
)

var tight = GuessLimits{User: 3, UserRefill: 10 * time.Second, Address: 5, AddressRefill: time.Second, Entries: 4}

// Guessing one user's password ends after a few tries and goes on slowly; the
// right password is refused too meanwhile, but not where the user has been
// before.
func TestGuessingOneUser(t *testing.T) {
	k := newClock()
	config := testConfig(k)
	config.Guesses = tight
	s := open(t, "", config)
	try := func(password, remote string) error {
		_, _, err := s.login(t.Context(), "demo", false, password, remote, scope{})
		return err
	}
	for i := range 10 {
		if err := try(demoPassword, "192.0.2.1:1"); err != nil {
			t.Fatalf("right password, time %d: %v", i, err)
		}
	}
	for i := range 3 {
		if err := try("guess", fmt.Sprintf("198.51.100.%d:1", i)); !block.Is(err, block.Unauthorized) {
			t.Fatalf("guess %d: %v", i, err)
		}
	}
	err := try(demoPassword, "198.51.100.9:1")
	wait, ok := RetryAfter(err)
	if !block.Is(err, block.OverLimit) || !ok || wait <= 0 || wait > 10*time.Second {
		t.Fatalf("after three guesses: %v, wait %v", err, wait)
	}
	if err := try(demoPassword, "192.0.2.1:2"); err != nil {
		t.Errorf("where the user has been before: %v", err)
	}
	k.move(wait)
	if err := try(demoPassword, "198.51.100.9:1"); err != nil {
		t.Errorf("after waiting %v: %v", wait, err)
	}
}

// One address can't guess many users' passwords; others are not held up.
func TestGuessingFromOneAddress(t *testing.T) {
	k := newClock()
	g := newGuard(tight, k.now)
	for i := range 5 {
		if _, err := g.begin(fmt.Sprint("user", i), fmt.Sprintf("[2001:db8::%d]:5", i)); err != nil {
			t.Fatalf("guess %d: %v", i, err)
		}
	}
	if _, err := g.begin("another", "[2001:db8::ffff]:9"); !block.Is(err, block.OverLimit) {
		t.Errorf("a sixth guess from one network: %v", err)
	}
	if _, err := g.begin("another", "[2001:db8:1::1]:9"); err != nil {
		t.Errorf("somebody else: %v", err)
	}
	k.move(time.Second)
	if _, err := g.begin("another", "[2001:db8::ffff]:9"); err != nil {
		t.Errorf("a second later: %v", err)
	}
}

// Who has logged in from an address lately is not held up by what others guess from
// there, as behind a proxy; but not even that user can be guessed at faster than from
// an address at all.
func TestSharedAddress(t *testing.T) {
	k := newClock()
	limits := tight
	limits.Entries = 1000
	g := newGuard(limits, k.now)
	const remote = "10.0.0.1:1"
	try, err := g.begin("operator", remote)
	if err != nil {
		t.Fatal(err)
	}
	try.succeed()
	for i := range limits.Address {
		if _, err := g.begin(fmt.Sprint("nobody", i), remote); err != nil {
			t.Fatalf("guess %d: %v", i, err)
		}
	}
	if _, err := g.begin("another", remote); !block.Is(err, block.OverLimit) {
		t.Errorf("somebody who has not been there: %v", err)
	}
	for i := range 10 * limits.Address {
		try, err := g.begin("operator", remote)
		if err != nil {
			t.Fatalf("the user who has, time %d: %v", i, err)
		}
		try.succeed()
	}
	for i := range limits.Address {
		if _, err := g.begin("operator", remote); err != nil {
			t.Fatalf("guess %d of that user: %v", i, err)
		}
	}
	if _, err := g.begin("operator", remote); !block.Is(err, block.OverLimit) {
		t.Errorf("one guess more: %v", err)
	}
	k.move(limits.AddressRefill)
	if _, err := g.begin("operator", remote); err != nil {
		t.Errorf("after a while: %v", err)
	}
	k.move(knownTime)
	for i := range limits.User {
		if _, err := g.begin("operator", remote); err != nil {
			t.Fatalf("long after, guess %d: %v", i, err)
		}
	}
	if _, err := g.begin("operator", remote); !block.Is(err, block.OverLimit) {
		t.Errorf("long after it counts as a user like any: %v", err)
	}
}

// The tables stay as small as they are allowed to be.
func TestGuardIsBounded(t *testing.T) {
	k := newClock()
	g := newGuard(tight, k.now)
	for i := range 1000 {
		try, err := g.begin(fmt.Sprint("user", i), fmt.Sprintf("10.0.%d.%d:1", i/256, i%256))
		if err != nil {
			t.Fatal(err)
		}
		if i%2 == 0 {
			try.succeed()
			if _, err := g.begin(fmt.Sprint("user", i), fmt.Sprintf("10.0.%d.%d:1", i/256, i%256)); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, a := range map[string]allowances{"users": g.users, "addresses": g.addresses, "known": g.known,
		"there": g.there} {
		if len(a.byKey) > tight.Entries || len(a.byKey) != a.order.Len() {
			t.Errorf("%s: %d entries, %d in order; at most %d are allowed", name, len(a.byKey), a.order.Len(),
				tight.Entries)
		}
	}
}

// Over HTTP the refusal is 429 with Retry-After.
func TestTooManyOverHTTP(t *testing.T) {
	config := testConfig(newClock())
	config.Guesses = tight
	base := serve(t, open(t, "", config))
	const body = `{"auth":{"passwordCredentials":{"username":"demo","password":"guess"}}}`
	for range 3 {
		if resp, text := ask(t, base, "POST", "/identity/v2.0/tokens", "", body); resp.StatusCode != http.StatusUnauthorized {
			t.Fatalf("%d %s", resp.StatusCode, text)
		}
	}
	resp, text := ask(t, base, "POST", "/identity/v2.0/tokens", "", body)
	if resp.StatusCode != http.StatusTooManyRequests || resp.Header.Get("Retry-After") != "10" {
		t.Errorf("%d, Retry-After %q: %s", resp.StatusCode, resp.Header.Get("Retry-After"), text)
	}
}
