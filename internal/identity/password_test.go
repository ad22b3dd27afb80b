package identity

import (
	"context"
	"strings"
	"testing"

	"kvol/internal/block"
)

// A hash belongs to its password only, differs each time, and says what it
// cost.
func TestHash(t *testing.T) {
	h := newHasher(Cost{})
	one, err := h.hash(t.Context(), "secret")
	if err != nil {
		t.Fatal(err)
	}
	two, err := h.hash(t.Context(), "secret")
	if err != nil {
		t.Fatal(err)
	}
	if one == two || !strings.HasPrefix(one, "$argon2id$v=19$m=9216,t=4,p=1$") {
		t.Errorf("hashes are %s and %s", one, two)
	}
	for password, want := range map[string]bool{"secret": true, "Secret": false, "": false,
		strings.Repeat("s", MaxPasswordBytes+1): false} {
		if ok, err := newHasher(cheap).verify(t.Context(), one, password); ok != want || err != nil {
			t.Errorf("%.10q: %v, %v; want %v", password, ok, err, want)
		}
	}
	// From the reference implementation: echo -n password | argon2 somesalt -id -t 2 -m 16 -p 1 -l 32
	const known = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc"
	if ok, err := h.verify(t.Context(), known, "password"); !ok || err != nil {
		t.Errorf("the reference implementation's hash: %v, %v", ok, err)
	}
}

// A password is never found for somebody who has none, not even the one that
// the dummy stands for.
func TestNobodyHasAPassword(t *testing.T) {
	h := newHasher(cheap)
	h.dummy, _ = parsePHC(mustHash(t, h, "dummy"))
	for _, password := range []string{"", "x", "dummy"} {
		if ok, err := h.verify(t.Context(), "", password); ok || err != nil {
			t.Errorf("%q: %v, %v", password, ok, err)
		}
	}
}

func mustHash(t *testing.T, h *hasher, password string) string {
	t.Helper()
	s, err := h.hash(t.Context(), password)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Hashes that are no argon2id ones, or would cost too much, are refused.
func TestCheckHash(t *testing.T) {
	good := mustHash(t, newHasher(cheap), "x")
	if err := CheckHash(good); err != nil {
		t.Error(err)
	}
	for _, bad := range []string{"", "secret", "$2b$12$abc", strings.Replace(good, "argon2id", "argon2i", 1),
		strings.Replace(good, "m=64", "m=999999999", 1), strings.Replace(good, "t=1", "t=0", 1),
		strings.Replace(good, "p=1", "p=0", 1), good[:strings.LastIndex(good, "$")+1], good + "$"} {
		if err := CheckHash(bad); !block.Is(err, block.Invalid) {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

// Logins beyond those that may run or wait are refused at once, and waiting
// ends with its context.
func TestHasherIsBounded(t *testing.T) {
	h := newHasher(cheap)
	for range hashersAtOnce {
		if err := h.enter(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	for range hashersWaiting {
		go func() { done <- h.enter(ctx) }()
	}
	for len(h.queue) < cap(h.queue) {
		select {
		case err := <-done:
			t.Fatal(err)
		default:
		}
	}
	if _, err := h.verify(t.Context(), "", "x"); !block.Is(err, block.Unavailable) {
		t.Errorf("one too many: %v", err)
	}
	cancel()
	for range hashersWaiting {
		if err := <-done; err == nil {
			t.Error("somebody got in")
		}
	}
	for range hashersAtOnce {
		h.leave()
	}
	if len(h.queue) != 0 || len(h.slots) != 0 {
		t.Errorf("%d in the queue, %d in the slots after all left", len(h.queue), len(h.slots))
	}
}

func BenchmarkLogin(b *testing.B) {
	h := newHasher(DefaultCost)
	hash, err := h.hash(b.Context(), "secret")
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if ok, err := h.verify(b.Context(), hash, "secret"); !ok || err != nil {
			b.Fatal(ok, err)
		}
	}
}

// Unknown, disabled and wrong users are all hashed for, so that none is
// answered sooner: with no room for another hash, none is answered at all.
func TestEveryLoginIsHashed(t *testing.T) {
	s := open(t, "", testConfig(newClock()))
	for range cap(s.hasher.queue) {
		s.hasher.queue <- struct{}{}
	}
	for user, password := range map[string]string{"demo": "wrong", "unknown": "x", "nobody": "", "admin": adminPassword,
		"demo ": strings.Repeat("x", MaxPasswordBytes+1)} {
		_, _, err := s.login(t.Context(), user, false, password, "192.0.2.1:1", scope{})
		if !block.Is(err, block.Unavailable) {
			t.Errorf("%s is answered without a hash: %v", user, err)
		}
	}
}
