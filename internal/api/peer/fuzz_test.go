package peer_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"kvol/internal/api/peer"
	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/control"
	"kvol/internal/driver"
	"kvol/internal/driver/mem"
)

// messages are what zones send each other, by path.
var messages = []struct{ path, like string }{
	{control.PathDocument, `{"zone":"mitaka1","at":"2026-01-02T03:04:05Z","protections":[{"protection":{"Seq":2,` +
		`"SourceZone":"mitaka1","SourceType":"t","Destination":"kilo1","Interval":1000000000,"Enabled":true},"health":{}}]}`},
	{control.PathDR, `{"request":{"kind":"recovery","source_zone":"mitaka1","source_type":"t","source_volume":"v",` +
		`"destination":"kilo1","destination_type":"t","project":"p","idempotency_key":"k"},"user":"u"}`},
	{control.PathFences, `{"source_zone":"kilo1","source":"v","recovered":{"Zone":"mitaka1","Volume":"w","Epoch":65}}`},
	{control.PathBlock, `{"volume":"v","replica":"r","sum":1}`},
	{control.PathProof, `{"verb":"sums","volume":"v","protection":2,"point":"p","ranges":[{"Off":0,"Len":4096}]}`},
	{control.PathPromote, `{"id":"i","request":{"kind":"recovery","source_zone":"mitaka1","source_type":"t",` +
		`"source_volume":"v","destination":"kilo1","destination_type":"t","project":"p","idempotency_key":"failover/i"},` +
		`"epoch":1,"point":"p"}`},
	{control.PathLeave, `{"id":"i","request":{"kind":"recovery","source_zone":"mitaka1","source_type":"t",` +
		`"source_volume":"v","destination":"kilo1","destination_type":"t","project":"p","idempotency_key":"failover/i"}}`},
	{control.PathLease, `{"protection":2,"for":1000000000}`},
	{control.PathBids, `{"index":24,"bids":[{"source_zone":"kilo2","volume":"v","epoch":88}]}`},
	{control.PathBids, `{"index":24,"look":true,"bids":[{"source_zone":"kilo2","volume":"v"}]}`},
	{control.PathWithdraw, `{"index":24,"bids":[{"source_zone":"kilo2","volume":"v","epoch":88}]}`},
	{control.PathBringBack, `{"volumes":["v"]}`},
}

// FuzzMessages has a zone that is known send anything. The answer is a document,
// and what the zone does not understand is no fault of this one.
func FuzzMessages(f *testing.F) {
	for i, m := range messages {
		f.Add(uint8(i), []byte(m.like))
	}
	server, cert := listener(f)
	f.Fuzz(func(t *testing.T, which uint8, body []byte) {
		m := messages[int(which)%len(messages)]
		answer := httptest.NewRecorder()
		server.ServeHTTP(answer, request(m.path, string(body), cert))
		if answer.Code == http.StatusInternalServerError || !json.Valid(answer.Body.Bytes()) {
			t.Fatalf("%s: %d %q", m.path, answer.Code, answer.Body)
		}
	})
}

// listener is a zone that just began to serve, and the certificate of another.
func listener(t testing.TB) (*peer.Server, *x509.Certificate) {
	t.Helper()
	ca, err := peer.NewCA(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	issued, err := ca.IssueZone("mitaka1", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	text, _ := pem.Decode(issued.Cert)
	cert, err := x509.ParseCertificate(text.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	c, err := catalog.Open(context.Background(), catalog.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	set, err := driver.NewSet(
		map[string]driver.Driver{"s": mem.New(mem.Options{})},
		[]block.Backend{{Name: "b", Store: "s"}},
	)
	if err != nil {
		t.Fatal(err)
	}
	s, err := control.New(control.Config{Catalog: c, Backends: set, Zone: "kilo1", ZoneIndex: 1})
	if err != nil {
		t.Fatal(err)
	}
	return peer.NewServer(peer.ServerConfig{Service: s, Zones: []block.Zone{"mitaka1", "kilo2"}}), cert
}

// TestTheFirstMessage: any message may be the first that a zone gets; none waits for
// what only an earlier one would have brought.
func TestTheFirstMessage(t *testing.T) {
	for _, m := range messages {
		server, cert := listener(t)
		answer := httptest.NewRecorder()
		server.ServeHTTP(answer, request(m.path, m.like, cert))
		if answer.Code == http.StatusInternalServerError || !json.Valid(answer.Body.Bytes()) {
			t.Errorf("%s: %d %q", m.path, answer.Code, answer.Body)
		}
	}
}

func request(path, body string, cert *x509.Certificate) *http.Request {
	r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(body))
	r.TLS = &tls.ConnectionState{VerifiedChains: [][]*x509.Certificate{{cert}}}
	return r
}
