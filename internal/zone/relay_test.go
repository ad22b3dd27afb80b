package zone

import (
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"kvol/internal/api/peer"
)

// TestRelayShowsItsCertificate: where clients need certificates, so do the processes of
// the zone that pass requests on, and they have one.
func TestRelayShowsItsCertificate(t *testing.T) {
	dir := t.TempDir()
	ca, err := peer.NewCA(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	authority, err := ca.PEM()
	if err != nil {
		t.Fatal(err)
	}
	own, err := ca.IssueZone("process", time.Now(), "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string][]byte{"ca.crt": authority.Cert, "tls.crt": own.Cert, "tls.key": own.Key} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	at := func(name string) string { return filepath.Join(dir, name) }
	for name, ca := range map[string]string{"needed": at("ca.crt"), "not needed": ""} {
		files := &TLSFiles{Cert: at("tls.crt"), Key: at("tls.key"), ClientCA: ca}
		config, err := files.server()
		if err != nil {
			t.Fatal(err)
		}
		shown := make(chan int, 1)
		leading := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			shown <- len(r.TLS.PeerCertificates)
			_, _ = io.WriteString(w, "done")
		}))
		leading.TLS = config
		leading.StartTLS()
		defer leading.Close()
		clients, err := newClients(nil, [32]byte{1}, time.Now)
		if err != nil {
			t.Fatal(err)
		}
		m := &Member{cfg: Config{TLS: files, Process: ProcessConfig{Name: "b", Lease: time.Minute, CA: at("ca.crt")}},
			log: slog.New(slog.DiscardHandler)}
		_, port, _ := net.SplitHostPort(leading.Listener.Addr().String())
		m.seen.Store(&leader{URL: "https://127.0.0.1:" + port, live: true})
		w := httptest.NewRecorder()
		clients.known(m.relay(clients)).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/api/kvol/list", nil))
		if w.Code != http.StatusOK || w.Body.String() != "done" {
			t.Errorf("certificates are %s: %d %s", name, w.Code, w.Body)
			continue
		}
		if n := <-shown; (n > 0) != (ca != "") {
			t.Errorf("certificates are %s, and %d were shown", name, n)
		}
	}
}
