package zone

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// Whom a proxy forwards is believed of those that are trusted only, and of what they
// wrote only.
func TestClientAddress(t *testing.T) {
	now := func() time.Time { return time.Unix(1e9, 0) }
	c, err := newClients(TrustedProxies{"10.0.0.0/8", "192.0.2.7", "fd00::/16"}, [32]byte{1}, now)
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		remote           string
		listed, standard []string
		want             string
	}{
		"no proxy":              {"198.51.100.1:9", []string{"203.0.113.5"}, []string{"for=203.0.113.5"}, "198.51.100.1:9"},
		"a proxy":               {"10.1.2.3:9", []string{"203.0.113.5"}, nil, "203.0.113.5:0"},
		"one that says nothing": {"10.1.2.3:9", nil, nil, "10.1.2.3:9"},
		"forged":                {"192.0.2.7:9", []string{"1.1.1.1, 203.0.113.5"}, nil, "203.0.113.5:0"},
		"forged, two headers":   {"192.0.2.7:9", []string{"1.1.1.1", "203.0.113.5"}, nil, "203.0.113.5:0"},
		"two proxies":           {"192.0.2.7:9", []string{"1.1.1.1, 203.0.113.5 , 10.9.9.9"}, nil, "203.0.113.5:0"},
		"another network's":     {"192.0.2.8:9", []string{"203.0.113.5"}, nil, "192.0.2.8:9"},
		"proxies only":          {"10.1.2.3:9", []string{"10.0.0.5, 10.0.0.6"}, nil, "10.0.0.5:0"},
		"nonsense":              {"10.1.2.3:9", []string{"1.1.1.1, me"}, nil, "10.1.2.3:9"},
		"nonsense before":       {"10.1.2.3:9", []string{"1.1.1.1, me, 10.0.0.6"}, nil, "10.0.0.6:0"},
		"a port":                {"10.1.2.3:9", []string{"203.0.113.5:4444"}, nil, "203.0.113.5:0"},
		"IPv6":                  {"[fd00::1]:9", []string{"2001:db8::1"}, nil, "[2001:db8::1]:0"},
		"IPv4 within IPv6":      {"[::ffff:10.1.2.3]:9", []string{"203.0.113.5"}, nil, "203.0.113.5:0"},
		"the standard":          {"10.1.2.3:9", nil, []string{"for=203.0.113.5;proto=https"}, "203.0.113.5:0"},
		"the standard, forged": {"10.1.2.3:9", nil, []string{"for=1.1.1.1", `by=x; For="[2001:db8::1]:4711"`},
			"[2001:db8::1]:0"},
		"the standard, hidden":    {"10.1.2.3:9", nil, []string{"for=1.1.1.1, for=_hidden"}, "10.1.2.3:9"},
		"the standard, a quote":   {"10.1.2.3:9", nil, []string{`for="`, "for=203.0.113.5"}, "203.0.113.5:0"},
		"both":                    {"10.1.2.3:9", []string{"203.0.113.5"}, []string{"for=203.0.113.5"}, "203.0.113.5:0"},
		"both, one of a client's": {"10.1.2.3:9", []string{"203.0.113.5"}, []string{"for=1.1.1.1"}, "10.1.2.3:9"},
	} {
		r := httptest.NewRequest(http.MethodGet, "/", http.NoBody)
		r.RemoteAddr = tt.remote
		r.Header["X-Forwarded-For"], r.Header["Forwarded"] = tt.listed, tt.standard
		if got := c.of(r); got != tt.want {
			t.Errorf("%s: %s, want %s", name, got, tt.want)
		}
	}
	for _, text := range []string{"", "proxy.example", "10.0.0.0/33", "fe80::1%eth0", "::ffff:10.0.0.0/104"} {
		if _, err := newClients(TrustedProxies{text}, [32]byte{}, now); err == nil {
			t.Errorf("%q is taken for an address", text)
		}
	}
}

// A process of the zone says whose request it relays; nobody else can, and what it
// said is good for that request and for a moment.
func TestSealedClient(t *testing.T) {
	at := time.Unix(1e9, 0)
	now := func() time.Time { return at }
	one, err := newClients(nil, [32]byte{1}, now)
	if err != nil {
		t.Fatal(err)
	}
	other, err := newClients(nil, [32]byte{2}, now)
	if err != nil {
		t.Fatal(err)
	}
	request := func(path string) *http.Request {
		r := httptest.NewRequest(http.MethodGet, path, http.NoBody)
		r.RemoteAddr = "10.0.0.2:9"
		return r
	}
	const path, client = "/api/kvol/list?a=b%2Fc", "203.0.113.5:77"
	sealed := func(c *clients, path string) string {
		r := request(path)
		c.seal(r, client)
		return r.Header.Get(relayedFor)
	}
	for name, tt := range map[string]struct {
		seal, want string
		later      time.Duration
	}{
		"own":             {seal: sealed(one, path), want: client},
		"a while ago":     {seal: sealed(one, path), later: sealTime, want: client},
		"long ago":        {seal: sealed(one, path), later: sealTime + time.Second, want: "10.0.0.2:9"},
		"another request": {seal: sealed(one, "/api/kvol/list?a=b"), want: "10.0.0.2:9"},
		"another zone":    {seal: sealed(other, path), want: "10.0.0.2:9"},
		"another client":  {seal: strings.Replace(sealed(one, path), "203", "204", 1), want: "10.0.0.2:9"},
		"nonsense":        {seal: "203.0.113.5", want: "10.0.0.2:9"},
	} {
		at = time.Unix(1e9, 0).Add(tt.later)
		r := request(path)
		r.Header.Set(relayedFor, tt.seal)
		if got := one.of(r); got != tt.want {
			t.Errorf("%s: %s, want %s", name, got, tt.want)
		}
	}
}

// A request that a process relays comes to the one that leads from who asked, which
// trusts no proxy and has no other way to know.
func TestRelayedClient(t *testing.T) {
	key, now := [32]byte{1}, func() time.Time { return time.Unix(1e9, 0) }
	seen := make(chan string, 1)
	tellSeen := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { seen <- r.RemoteAddr })
	leads, err := newClients(nil, key, now)
	if err != nil {
		t.Fatal(err)
	}
	leading := httptest.NewServer(leads.known(tellSeen))
	defer leading.Close()
	m := &Member{cfg: Config{Process: ProcessConfig{Name: "b", Lease: time.Minute}}, log: slog.New(slog.DiscardHandler)}
	m.seen.Store(&leader{URL: leading.URL, live: true})
	follows, err := newClients(TrustedProxies{"127.0.0.1"}, key, now)
	if err != nil {
		t.Fatal(err)
	}
	following := httptest.NewServer(follows.known(m.relay(follows)))
	defer following.Close()
	for _, path := range []string{"/api/kvol/list?user=a%20b;c&x=%zz", "/api/kvol/a%2Fb/../c?", "/"} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, following.URL+path, strings.NewReader("x"))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("X-Forwarded-For", "203.0.113.5")
		r.Header.Set(relayedFor, "1.1.1.1 1000000000 00")
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		if got := <-seen; got != "203.0.113.5:0" {
			t.Errorf("%s: the process that leads sees %s", path, got)
		}
	}
}
