package zone_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"kvol/internal/api/peer"
	"kvol/internal/client"
	"kvol/internal/client/nbd"
	"kvol/internal/driver"
	"kvol/internal/zone"
)

const typeID = "6a21db69-dc6b-4423-834c-679ae153a638"

// lonely is the configuration of a zone without peers; %s are lines of its own.
const lonely = `
zone: mitaka1
listen: 127.0.0.1:0
availability_zones: [a]
default_volume_type: ssd
stores: [{name: main, driver: mem}]
backends: [{name: fast, store: main}]
volume_types: [{id: ` + typeID + `, name: ssd, extra_specs: {volume_backend_name: fast}}]
identity:
  projects: [{name: blue}]
  users: [{name: alice, password: a long password, roles: [{project: blue, role: member}]}]
%s
`

// serve runs a zone in dir until the test ends and returns its address.
func serve(t *testing.T, dir, more string) string {
	t.Helper()
	return serveConfig(t, dir, fmt.Sprintf(lonely, more))
}

// serveConfig is serve with a configuration of its own.
func serveConfig(t *testing.T, dir, text string) string {
	t.Helper()
	return serveOn(t, dir, text, nil)
}

// serveOn is serveConfig on stores that are open already, which the zone closes.
func serveOn(t *testing.T, dir, text string, stores map[string]driver.Driver) string {
	t.Helper()
	path := filepath.Join(dir, "kvol.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := zone.LoadConfig(path)
	if err != nil {
		t.Fatal(err)
	}
	s, err := zone.Open(t.Context(), c, zone.Environment{Stores: stores})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return s.URL()
}

// certificates puts the certificates of an authority, of a server and of a host
// into dir and returns what the host trusts and shows.
func certificates(t *testing.T, dir string) (trusted *x509.CertPool, host tls.Certificate) {
	t.Helper()
	ca, err := peer.NewCA(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	authority, err := ca.PEM()
	if err != nil {
		t.Fatal(err)
	}
	server, err := ca.IssueZone("server", time.Now(), "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string][]byte{"ca.crt": authority.Cert, "tls.crt": server.Cert, "tls.key": server.Key} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	shown, err := ca.IssueZone("host", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if host, err = tls.X509KeyPair(shown.Cert, shown.Key); err != nil {
		t.Fatal(err)
	}
	trusted = x509.NewCertPool()
	trusted.AppendCertsFromPEM(authority.Cert)
	return trusted, host
}

// volume makes a volume and connects a host to it.
func volume(t *testing.T, url string, h *http.Client) client.Connection {
	t.Helper()
	s, err := client.Login(t.Context(), client.Auth{URL: url + "/identity", User: "alice", Password: "a long password",
		Project: "blue", HTTP: h})
	if err != nil {
		t.Fatal(err)
	}
	v, err := s.CreateVolume(t.Context(), client.NewVolume{Name: "v", Size: 1})
	if err != nil {
		t.Fatal(err)
	}
	if v, err = s.WaitVolume(t.Context(), v.ID, nil, "available"); err != nil {
		t.Fatal(err)
	}
	info, err := s.Connect(t.Context(), v.ID, map[string]any{"host": "h"})
	if err != nil {
		t.Fatal(err)
	}
	return info
}

// TestTLS runs the APIs over HTTPS and the exports over TLS that wants the
// hosts' certificates: with one everything works; without one, or without TLS,
// nothing does.
func TestTLS(t *testing.T) {
	dir := t.TempDir()
	trusted, host := certificates(t, dir)
	url := serve(t, dir, `
tls: {cert: tls.crt, key: tls.key}
exports: {nbd: "127.0.0.1:0", require_tls: true, tls: {cert: tls.crt, key: tls.key, client_ca: ca.crt}}
`)
	if !strings.HasPrefix(url, "https://127.0.0.1:") {
		t.Fatalf("the zone says that it is at %s", url)
	}
	h := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: trusted}}}
	defer h.CloseIdleConnections()
	if answer, err := h.Get("http" + strings.TrimPrefix(url, "https") + "/healthz"); err == nil {
		if answer.Body.Close(); answer.StatusCode == http.StatusOK {
			t.Error("the APIs answer without TLS")
		}
	}
	info := volume(t, url, h)
	if info.Data["tls"] != true || !strings.HasPrefix(info.NBDURL(), "nbds://") {
		t.Fatalf("connection %+v", info)
	}
	c, err := nbd.Dial(t.Context(), info.NBDURL(), nbd.Options{
		TLS: &tls.Config{RootCAs: trusted, Certificates: []tls.Certificate{host}}})
	if err != nil {
		t.Fatal(err)
	}
	exchange(t, c)
	for what, o := range map[string]nbd.Options{
		"without a certificate":        {TLS: &tls.Config{RootCAs: trusted}},
		"with an unknown authority":    {TLS: &tls.Config{RootCAs: x509.NewCertPool()}},
		"with somebody's certificate":  {TLS: &tls.Config{RootCAs: trusted, Certificates: []tls.Certificate{stranger(t)}}},
		"in clear, though TLS is told": {},
	} {
		address := info.NBDURL()
		if o.TLS == nil {
			address = "nbd" + strings.TrimPrefix(address, "nbds")
		}
		if c, err := nbd.Dial(t.Context(), address, o); err == nil {
			t.Errorf("the export opens %s", what)
			c.Close()
		}
	}
}

func stranger(t *testing.T) tls.Certificate {
	t.Helper()
	_, host := certificates(t, t.TempDir())
	return host
}

// exchange writes and reads back, and closes.
func exchange(t *testing.T, c *nbd.Conn) {
	t.Helper()
	want, got := bytes.Repeat([]byte("kvol"), 1024), make([]byte, 4096)
	if _, err := c.WriteAt(want, 8192); err != nil {
		t.Error(err)
	}
	if err := c.Flush(); err != nil {
		t.Error(err)
	}
	if _, err := c.ReadAt(got, 8192); err != nil || !bytes.Equal(got, want) {
		t.Errorf("read back %.8q, %v", got, err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

// TestSocket serves exports on a Unix socket alone, over one that a process
// left when it was killed.
func TestSocket(t *testing.T) {
	dir, err := os.MkdirTemp("", "kvol") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket := filepath.Join(dir, "nbd.sock")
	if err := os.WriteFile(socket, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	info := volume(t, serve(t, dir, "exports: {nbd_socket: nbd.sock}"), nil)
	if info.Data["unix_socket"] != socket || info.Data["url"] != nil {
		t.Fatalf("connection %+v", info)
	}
	name, _ := info.Data["export"].(string)
	c, err := nbd.DialExport(t.Context(), "unix", socket, name, nbd.Options{})
	if err != nil {
		t.Fatal(err)
	}
	exchange(t, c)
}

// TestSecretFiles shows that nobody but the zone's user can read what it keeps.
func TestSecretFiles(t *testing.T) {
	dir := t.TempDir()
	serve(t, dir, "")
	files := 0
	err := filepath.WalkDir(filepath.Join(dir, "data"), func(path string, e os.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // the zone runs, and removed it
		}
		if err != nil {
			return err
		}
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		files++
		if err == nil && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		return err
	})
	if err != nil || files < 3 {
		t.Fatalf("%d files were looked at, %v", files, err)
	}
	if info, err := os.Stat(filepath.Join(dir, "data", "zone.key")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("zone.key: %v, %v", info, err)
	}
}

// TestGuessesBehindProxy: behind a proxy that is trusted what one client guesses holds
// up no other one.
func TestGuessesBehindProxy(t *testing.T) {
	url := serve(t, t.TempDir(), "trusted_proxies: [127.0.0.0/8]")
	login := func(client, user string) int {
		body := `{"auth": {"passwordCredentials": {"username": "` + user + `", "password": "guess"}}}`
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/identity/v2.0/tokens",
			strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("X-Forwarded-For", "1.1.1.1, "+client)
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		return answer.StatusCode
	}
	guesses := 0
	for login("203.0.113.5", fmt.Sprint("user", guesses)) == http.StatusUnauthorized {
		if guesses++; guesses > 10_000 {
			t.Fatal("nobody minds guesses")
		}
	}
	if got := login("203.0.113.6", "user0"); got != http.StatusUnauthorized {
		t.Errorf("after %d guesses of one client another one gets %d", guesses, got)
	}
}

// TestPathsAroundTheAPIs asks for what no front end has, and for what says how
// the zone is.
func TestPathsAroundTheAPIs(t *testing.T) {
	url := serve(t, t.TempDir(), "metrics_token: sesame")
	for _, c := range []struct {
		method, path, token string
		want                int
		identified          bool
	}{
		{"GET", "/healthz", "", 200, false}, {"HEAD", "/readyz", "", 200, false}, {"POST", "/healthz", "", 405, false},
		{"GET", "/metrics", "", 401, false}, {"GET", "/metrics", "Bearer sesame", 200, false},
		{"GET", "/metrics", "Bearer open", 401, false}, {"PUT", "/metrics", "Bearer sesame", 405, false},
		{"GET", "//v2/x/volumes", "", 404, true}, {"GET", "/v2/x/../y", "", 404, true}, {"GET", "/api/kvol", "", 404, true},
		{"GET", "/api/dr", "", 404, true}, {"GET", "/api", "", 404, true}, {"GET", "/healthz/", "", 404, true},
		{"GET", "/healthz", strings.Repeat("x", 80<<10), 431, false},
		{"GET", "/", "", 300, true}, {"OPTIONS", "/api/kvol/list", "", 405, true}, {"HEAD", "/api/token", "", 405, true},
	} {
		r, err := http.NewRequestWithContext(t.Context(), c.method, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.URL.Path = c.path
		if c.token != "" {
			r.Header.Set("Authorization", c.token)
		}
		answer, err := http.DefaultTransport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(answer.Body)
		answer.Body.Close()
		if err != nil || answer.StatusCode != c.want {
			t.Errorf("%s %s: %s %q, %v", c.method, c.path, answer.Status, body, err)
		}
		if id := answer.Header.Get("X-Openstack-Request-Id"); (id != "") != c.identified {
			t.Errorf("%s %s: request id %q", c.method, c.path, id)
		}
		if c.identified && c.method != "HEAD" && !json.Valid(body) {
			t.Errorf("%s %s: %q", c.method, c.path, body)
		}
	}
	http.DefaultClient.CloseIdleConnections()
}
