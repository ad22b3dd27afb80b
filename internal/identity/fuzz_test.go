package identity

import (
	"testing"

	"kvol/internal/block"
)

// Whatever is sent as a request for a token is refused as such or asks for
// something definite.
func FuzzParseAuth(f *testing.F) {
	for _, requests := range goldens {
		for _, q := range requests {
			f.Add([]byte(q.body))
		}
	}
	f.Add([]byte(`{"auth":{"identity":{"methods":["password"],"password":{"user":null}},"scope":"unscoped"}}`))
	f.Add([]byte(`{"auth":{"identity":{"methods":["token"],"token":{"id":"x"}},"scope":{"unscoped":{}}}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, parse := range []func([]byte) (loginRequest, error){parseV2Auth, parseV3Auth} {
			q, err := parse(body)
			switch {
			case err != nil:
				if !block.Is(err, block.Invalid) && !block.Is(err, block.Unauthorized) {
					t.Errorf("%s: %v", body, err)
				}
			case q.method == "password" && q.user == "", q.method == "token" && q.token == "", q.method == "":
				t.Errorf("%s: asks for %+v", body, q)
			}
		}
	})
}

// Whatever a stored hash looks like, it is refused or it is a cost that can be
// borne.
func FuzzParsePHC(f *testing.F) {
	f.Add("$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc")
	f.Add("$argon2id$v=19$m=8,t=1,p=1$$")
	f.Fuzz(func(t *testing.T, s string) {
		p, err := parsePHC(s)
		if err != nil {
			return
		}
		if p.cost.MemoryKiB > maxMemoryKiB || p.cost.Passes > maxPasses || len(p.hash) == 0 || p.lanes == 0 {
			t.Errorf("%q: %+v", s, p)
		}
		again, err := parsePHC(p.String())
		if err != nil || again.String() != p.String() {
			t.Errorf("%q reads back as %v, %v", s, again, err)
		}
	})
}
