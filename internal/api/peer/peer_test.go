package peer_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"kvol/internal/api/peer"
	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/control"
	"kvol/internal/driver"
	"kvol/internal/driver/mem"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// echo is a receiver that sends back what it gets, in capitals.
type echo struct {
	mu   sync.Mutex
	from []block.Zone // guarded by mu
}

func (e *echo) ServeConn(ctx context.Context, conn net.Conn, from block.Zone) error {
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	e.mu.Lock()
	e.from = append(e.from, from)
	e.mu.Unlock()
	p := make([]byte, 5)
	_, err := io.ReadFull(conn, p)
	if err == nil {
		_, err = conn.Write(bytes.ToUpper(p))
	}
	return errors.Join(err, conn.Close())
}

type fixture struct {
	t        *testing.T
	ca       *peer.CA
	url      string
	server   *peer.Server
	receiver *echo
	service  *control.Service
}

// serve runs the peer listener of kilo1, whose peers are mitaka1 and kilo2.
func serve(t *testing.T) *fixture {
	t.Helper()
	ca, err := peer.NewCA(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	c, err := catalog.Open(context.Background(), catalog.Options{})
	if err != nil {
		t.Fatal(err)
	}
	store := mem.New(mem.Options{})
	set, err := driver.NewSet(map[string]driver.Driver{"s": store}, []block.Backend{{Name: "b", Store: "s"}})
	if err != nil {
		t.Fatal(err)
	}
	s, err := control.New(control.Config{Catalog: c, Backends: set, Zone: "kilo1", ZoneIndex: 1})
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{t: t, ca: ca, receiver: &echo{}, service: s}
	f.server = peer.NewServer(peer.ServerConfig{
		Service: s, Receiver: f.receiver, Zones: []block.Zone{"mitaka1", "kilo2"},
	})
	srv := httptest.NewUnstartedServer(f.server)
	srv.TLS = f.credentials(ca, "kilo1").Server()
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.StartTLS()
	f.url = "https://" + srv.Listener.Addr().String()
	t.Cleanup(func() {
		srv.Close()
		if err := errors.Join(c.Close(), store.Close()); err != nil {
			t.Error(err)
		}
	})
	return f
}

func (f *fixture) credentials(ca *peer.CA, zone block.Zone) peer.Credentials {
	f.t.Helper()
	issued, err := ca.IssueZone(zone, time.Now())
	if err != nil {
		f.t.Fatal(err)
	}
	trusted, err := f.ca.PEM()
	if err != nil {
		f.t.Fatal(err)
	}
	c, err := peer.NewCredentials(issued, trusted.Cert)
	if err != nil {
		f.t.Fatal(err)
	}
	return c
}

// client is that of a zone; ca signed its certificate, and name is what it
// takes the listener for.
func (f *fixture) client(ca *peer.CA, zone, name block.Zone) *peer.Client {
	f.t.Helper()
	c, err := peer.NewClient(peer.ClientConfig{Credentials: f.credentials(ca, zone),
		Peers: map[block.Zone]string{name: f.url}})
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(c.Close)
	return c
}

func TestOnlyPeers(t *testing.T) {
	f := serve(t)
	stranger, err := peer.NewCA(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	for _, c := range []struct {
		why        string
		ca         *peer.CA
		zone, name block.Zone
		want       string // part of the error; "" for none
	}{
		{"a peer", f.ca, "mitaka1", "kilo1", ""},
		{"a zone that is not configured", f.ca, "tokyo1", "kilo1", "refuses to talk"},
		{"the zone itself", f.ca, "kilo1", "kilo1", "refuses to talk"},
		{"a certificate of another authority", stranger, "mitaka1", "kilo1", "can't be reached"},
		{"a listener with another zone's certificate", f.ca, "mitaka1", "kilo2", "can't be reached"},
	} {
		client := f.client(c.ca, c.zone, c.name)
		err := client.Call(ctx, c.name, http.MethodGet, control.PathPairs, nil, nil)
		if c.want == "" && err != nil ||
			c.want != "" && (!block.Is(err, block.Unavailable) || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v", c.why, err)
		}
		conn, err := client.Replicate(ctx, c.name)
		if (err == nil) != (c.want == "") {
			t.Errorf("%s: a stream: %v", c.why, err)
		}
		if err == nil {
			_ = conn.Close() // the test ends here
		}
	}
	// A listener that asked for no certificate.
	rec := httptest.NewRecorder()
	peer.NewServer(peer.ServerConfig{Service: f.service, Zones: []block.Zone{"mitaka1"}}).
		ServeHTTP(rec, httptest.NewRequest(http.MethodGet, control.PathPairs, nil))
	if rec.Code != http.StatusUnauthorized {
		t.Errorf("without a certificate: %d", rec.Code)
	}
}

// TestOwnVoice: a zone may speak for itself only.
func TestOwnVoice(t *testing.T) {
	f := serve(t)
	ctx, m := context.Background(), f.client(f.ca, "mitaka1", "kilo1")
	err := m.Call(ctx, "kilo1", http.MethodPost, control.PathDocument, control.Document{Zone: "kilo2"}, nil)
	if err == nil || !strings.Contains(err.Error(), "may not speak for zone") {
		t.Errorf("another zone's document: %v", err)
	}
	err = m.Call(ctx, "kilo1", http.MethodGet, control.PathFences+"?zone=kilo2", nil, nil)
	if err == nil || !strings.Contains(err.Error(), "may not ask for zone") {
		t.Errorf("another zone's fences: %v", err)
	}
	var fences []block.Fence
	if err := m.Call(ctx, "kilo1", http.MethodGet, control.PathFences+"?zone=mitaka1", nil, &fences); err != nil {
		t.Errorf("its own fences: %v", err)
	}
	var d control.Document
	err = m.Call(ctx, "kilo1", http.MethodPost, control.PathDocument, control.Document{Zone: "mitaka1"}, &d)
	if err != nil || d.Zone != "kilo1" || d.Index != 1 {
		t.Errorf("its own document: %+v, %v", d, err)
	}
	forward := control.ForwardedDR{Request: block.DRRequest{Kind: block.DRRecovery, SourceZone: "mitaka1", SourceType: "t",
		SourceVolume: "v", Destination: "kilo2", Project: "p", DestinationType: "t"}}
	if err := m.Call(ctx, "kilo1", http.MethodPost, control.PathDR, forward, nil); !block.Is(err, block.Invalid) {
		t.Errorf("a request for a third zone: %v", err)
	}
}

func TestFaults(t *testing.T) {
	f := serve(t)
	ctx, m := context.Background(), f.client(f.ca, "mitaka1", "kilo1")
	for _, c := range []struct {
		method, path string
		in           any
		kind         block.Kind
	}{
		{http.MethodGet, "/peer/v1/nothing", nil, block.NotFound},
		{http.MethodGet, control.PathDR, nil, block.Unsupported},
		{http.MethodPost, control.PathDR, "text", block.Invalid},
		{http.MethodPost, peer.PathReplicate, nil, block.Unsupported},
		{http.MethodGet, control.PathDRJobs + "?rowkey=x&limit=1", nil, block.Invalid},
		{http.MethodGet, control.PathDRJobs + "?rowkey=1&limit=x", nil, block.Invalid},
		{http.MethodGet, control.PathDRJobs + "?rowkey=1&limit=1001", nil, block.Invalid},
		{http.MethodPost, control.PathDocument, strings.Repeat("x", 17<<20), block.Invalid},
	} {
		if err := m.Call(ctx, "kilo1", c.method, c.path, c.in, nil); !block.Is(err, c.kind) {
			t.Errorf("%s %s: %v, want %s", c.method, c.path, err, c.kind)
		}
	}
	if err := m.Call(ctx, "tokyo1", http.MethodGet, control.PathPairs, nil, nil); !block.Is(err, block.Unavailable) {
		t.Errorf("an unknown zone: %v", err)
	}
	cut, cancel := context.WithCancel(ctx)
	cancel()
	if err := m.Call(cut, "kilo1", http.MethodGet, control.PathPairs, nil, nil); !block.Is(err, block.Unavailable) {
		t.Errorf("no time: %v", err)
	}
	if _, err := m.Replicate(cut, "kilo1"); !block.Is(err, block.Unavailable) {
		t.Errorf("no time for a stream: %v", err)
	}
	_, err := peer.NewClient(peer.ClientConfig{Peers: map[block.Zone]string{"a": "http://x:1"}})
	if !block.Is(err, block.Invalid) {
		t.Errorf("plain http: %v", err)
	}
}

func TestStream(t *testing.T) {
	f := serve(t)
	m := f.client(f.ca, "mitaka1", "kilo1")
	conn, err := m.Replicate(context.Background(), "kilo1")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(conn)
	if err != nil || string(answer) != "HELLO" {
		t.Errorf("%q, %v", answer, err)
	}
	if err := conn.Close(); err != nil {
		t.Error(err)
	}
	f.receiver.mu.Lock()
	defer f.receiver.mu.Unlock()
	if !slices.Equal(f.receiver.from, []block.Zone{"mitaka1"}) {
		t.Errorf("the receiver heard of %v", f.receiver.from)
	}
}

// TestEndStreams: a zone that ends leaves no peer waiting for an answer on a stream,
// and still answers what it was asked.
func TestEndStreams(t *testing.T) {
	f := serve(t)
	m := f.client(f.ca, "mitaka1", "kilo1")
	before, err := m.Replicate(t.Context(), "kilo1")
	if err != nil {
		t.Fatal(err)
	}
	defer before.Close()
	f.server.EndStreams()
	after, err := m.Replicate(t.Context(), "kilo1")
	if err != nil {
		t.Fatal(err)
	}
	defer after.Close()
	for _, conn := range []net.Conn{before, after} {
		if n, err := conn.Read(make([]byte, 1)); n != 0 || err == nil {
			t.Errorf("read %d bytes, %v", n, err)
		}
	}
	if err := m.Call(t.Context(), "kilo1", http.MethodGet, control.PathPairs, nil, nil); err != nil {
		t.Error(err)
	}
}

// TestSilentPeer: a zone that takes connections and says nothing costs no more
// than the caller gives it.
func TestSilentPeer(t *testing.T) {
	f := serve(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := peer.NewClient(peer.ClientConfig{Credentials: f.credentials(f.ca, "mitaka1"),
		Peers: map[block.Zone]string{"kilo1": "https://" + l.Addr().String()}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if err := c.Call(ctx, "kilo1", http.MethodGet, control.PathPairs, nil, nil); !block.Is(err, block.Unavailable) {
		t.Errorf("call: %v", err)
	}
	if _, err := c.Replicate(ctx, "kilo1"); !block.Is(err, block.Unavailable) {
		t.Errorf("stream: %v", err)
	}
}

func TestFiles(t *testing.T) {
	ca, err := peer.NewCA(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	root, err := ca.PEM()
	if err != nil {
		t.Fatal(err)
	}
	again, err := peer.ParseCA(root)
	if err != nil {
		t.Fatal(err)
	}
	zone, err := again.IssueZone("kilo1", time.Now(), "127.0.0.1", "kilo1.example.com")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	names := []string{filepath.Join(dir, "zone.pem"), filepath.Join(dir, "zone.key"), filepath.Join(dir, "ca.pem")}
	for i, text := range [][]byte{zone.Cert, zone.Key, root.Cert} {
		if err := os.WriteFile(names[i], text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c, err := peer.LoadCredentials(names[0], names[1], names[2])
	if err != nil || c.Zone() != "kilo1" {
		t.Errorf("%q, %v", c.Zone(), err)
	}
	if _, err := peer.LoadCredentials(names[0], names[2], names[2]); err == nil {
		t.Error("a certificate is taken for a key")
	}
	if _, err := peer.NewCredentials(zone, []byte("nothing")); err == nil {
		t.Error("an empty authority is taken")
	}
	if _, err := peer.ParseCA(zone); err == nil {
		t.Error("a zone's certificate is taken for an authority")
	}
}
