package kvol_test

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"kvol/internal/api/kvol"
	"kvol/internal/api/openapi/openapitest"
	"kvol/internal/api/peer"
	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/control"
	"kvol/internal/driver"
	"kvol/internal/driver/mem"
	"kvol/internal/job"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The zones, types and backends of the kvol document.
const (
	sourceType = block.TypeID("6a21db69-dc6b-4423-834c-679ae153a638")
	targetType = block.TypeID("45856d65-9021-4702-b8a6-62d5326b8f4e")
	otherType  = block.TypeID("0c9e5f10-6a0e-4d0e-9b3f-cf3ad1f2ad55") // in kilo1, on another store
	sourceID   = block.VolumeID("b1c8b4d8-29e2-437a-830c-a012aed39c70")
	snapshotID = block.SnapshotID("b1c8b4d8-29e2-437a-830c-a012aed39c70")
	lateID     = block.SnapshotID("a7d1f7e8-0f0b-4f4c-8f7e-0d6f3b9a1c11") // taken, and not replicated
	emptyID    = block.VolumeID("5f3f6f1c-5ddf-4b34-8a9e-4a3b0f9d9c22")   // replica without a point
	tenant     = "e21dbcb88d314eefaf953c3de2aacea5"
)

// replicaSize is smaller than the volume that is made of it, so that copies are
// quick.
const replicaSize = int64(8 << 20)

var epoch = time.Date(2018, 9, 11, 2, 37, 41, 0, time.UTC)

func sourceBackend() block.Backend {
	return block.Backend{Name: "m", Store: "s", SVMName: "m_svm_nfs", SVMIP: "182.161.123.106", Path: "vol01"}
}

func backendsOf(name block.Zone) []block.Backend {
	switch name {
	case "mitaka1":
		return []block.Backend{sourceBackend()}
	case "kilo1":
		return []block.Backend{
			{Name: "k", Store: "s", SVMName: "k_svm_nfs", SVMIP: "182.161.123.108", Path: "vol01"},
			{Name: "other", Store: "t", SVMName: "k_svm_other", SVMIP: "182.161.123.107", Path: "vol02"},
			{Name: "bak", Store: "s", SVMName: "k_svm_nfs_bak", SVMIP: "182.161.123.109", ClusterIP: "182.161.123.103",
				Path: "vol01"},
		}
	}
	return []block.Backend{{Name: "bak2", Store: "s", SVMName: "k_svm_nfs_bak2", SVMIP: "182.161.123.120",
		ClusterIP: "182.161.123.103", Path: "vol01"}}
}

func typesOf(name block.Zone) []block.VolumeType {
	on := func(id block.TypeID, name, backend string) block.VolumeType {
		return block.VolumeType{ID: id, Name: name, Public: true,
			ExtraSpecs: map[string]string{"volume_backend_name": backend}}
	}
	switch name {
	case "mitaka1":
		return []block.VolumeType{on(sourceType, "nfs", "m")}
	case "kilo1":
		return []block.VolumeType{on(targetType, "nfs", "k"), on(otherType, "other", "other")}
	}
	return []block.VolumeType{on(targetType, "nfs", "bak2")}
}

func protectionsOf(name block.Zone) []block.Protection {
	if name != "mitaka1" {
		return nil
	}
	p := block.Protection{SourceZone: name, SourceType: sourceType, Source: sourceBackend(), Interval: time.Second,
		Enabled: true}
	one, two := p, p
	one.Seq, one.Destination, one.Backup = 2, "kilo1", block.Backend{Name: "bak"}
	two.Seq, two.Destination, two.Backup = 4, "kilo2", block.Backend{Name: "bak2"}
	return []block.Protection{two, one}
}

// tokens is a service of tokens with one of them.
type tokens struct{ expires time.Time }

func (t tokens) Issue(_ context.Context, user, password, _ string) (string, time.Time, error) {
	if user != kvol.DefaultUser || password != "secret" {
		return "", time.Time{}, block.Errorf(block.Unauthorized, "wrong user or password")
	}
	return "the-token", t.expires, nil
}

func (t tokens) Check(_ context.Context, user, token string) error {
	if user != kvol.DefaultUser || token != "the-token" {
		return block.Errorf(block.Unauthorized, "the token is expired or not valid")
	}
	return nil
}

// zone is one zone of a test, without stores of its own but for memory.
type zone struct {
	name    block.Zone
	t       testing.TB
	clock   *atomic.Int64 // microseconds
	path    string        // of the catalog; "" if it is in memory
	stores  map[string]driver.Driver
	catalog *catalog.Catalog
	service *control.Service
	peers   *peer.Client
	api     *httptest.Server
	peerAPI *httptest.Server
	lose    atomic.Bool   // the next answer to a forwarded request
	asked   atomic.Int64  // questions of zones that are about to take volumes over
	heard   chan struct{} // gets a token after each document of a peer
}

func (z *zone) now() time.Time { return time.UnixMicro(z.clock.Load()).UTC() }

// world is three zones that talk to each other over loopback.
type world struct {
	t     testing.TB
	ca    *peer.CA
	zones map[block.Zone]*zone
	clock atomic.Int64
	urls  map[block.Zone]string
}

func newWorld(t testing.TB) *world { t.Helper(); return openWorld(t, false) }

// newLastingWorld is one whose zones can be restarted.
func newLastingWorld(t testing.TB) *world { t.Helper(); return openWorld(t, true) }

func openWorld(t testing.TB, lasting bool) *world {
	t.Helper()
	w := &world{t: t, zones: map[block.Zone]*zone{}, urls: map[block.Zone]string{}}
	w.clock.Store(epoch.UnixMicro())
	var err error
	if w.ca, err = peer.NewCA(time.Now()); err != nil {
		t.Fatal(err)
	}
	for _, name := range []block.Zone{"mitaka1", "kilo1", "kilo2"} {
		z := &zone{name: name, t: t, clock: &w.clock, heard: make(chan struct{}, 1),
			stores: map[string]driver.Driver{"s": mem.New(mem.Options{}), "t": mem.New(mem.Options{})}}
		if lasting {
			z.path = filepath.Join(t.TempDir(), "catalog")
		}
		w.zones[name] = z
		z.peerAPI = httptest.NewUnstartedServer(nil)
		w.urls[name] = "https://" + z.peerAPI.Listener.Addr().String()
	}
	for _, z := range w.zones {
		w.start(z)
	}
	for _, z := range w.zones {
		z.service.TellPeers(context.Background())
	}
	t.Cleanup(func() {
		for _, z := range w.zones {
			z.stop()
			for _, s := range z.stores {
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			}
		}
	})
	return w
}

// start opens a zone's catalog and serves its APIs. Jobs are run by runJobs.
func (w *world) start(z *zone) {
	w.t.Helper()
	ctx := context.Background()
	var err error
	if z.catalog, err = catalog.Open(ctx, catalog.Options{Path: z.path, Now: z.now}); err != nil {
		w.t.Fatal(err)
	}
	set, err := driver.NewSet(z.stores, backendsOf(z.name))
	if err != nil {
		w.t.Fatal(err)
	}
	others := map[block.Zone]string{}
	var names []block.Zone
	for name, url := range w.urls {
		if name != z.name {
			others[name] = url
			names = append(names, name)
		}
	}
	issued, err := w.ca.IssueZone(z.name, time.Now(), "127.0.0.1")
	if err != nil {
		w.t.Fatal(err)
	}
	ca, err := w.ca.PEM()
	if err != nil {
		w.t.Fatal(err)
	}
	credentials, err := peer.NewCredentials(issued, ca.Cert)
	if err != nil {
		w.t.Fatal(err)
	}
	if z.peers, err = peer.NewClient(peer.ClientConfig{Credentials: credentials, Peers: others}); err != nil {
		w.t.Fatal(err)
	}
	z.service, err = control.New(control.Config{
		Catalog: z.catalog, Backends: set, Zone: z.name, Region: string(z.name), AvailabilityZones: []string{"nova"},
		ZoneIndex:   map[block.Zone]int{"mitaka1": 1, "kilo1": 24, "kilo2": 63}[z.name],
		Protections: func() []block.Protection { return protectionsOf(z.name) },
		DR:          control.DR{Peers: z.peers, PeerTimeout: 10 * time.Second}, Now: z.now,
	})
	if err != nil {
		w.t.Fatal(err)
	}
	z.must(func(tx *catalog.Tx) error {
		for _, t := range typesOf(z.name) {
			if err := tx.UpsertType(t); err != nil {
				return err
			}
		}
		return nil
	})
	z.serve(credentials, names)
}

func (z *zone) serve(credentials peer.Credentials, peers []block.Zone) {
	zones := peer.NewServer(peer.ServerConfig{Service: z.service, Zones: peers})
	z.peerAPI.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == control.PathBids {
			z.asked.Add(1)
		}
		zones.ServeHTTP(w, r)
		if r.URL.Path == control.PathDR && z.lose.CompareAndSwap(true, false) {
			panic(http.ErrAbortHandler) // the answer is lost, and what it tells of is done
		}
		if r.URL.Path == control.PathDocument {
			select {
			case z.heard <- struct{}{}:
			default:
			}
		}
	})
	z.peerAPI.TLS = credentials.Server()
	z.peerAPI.StartTLS()
	z.api = httptest.NewServer(openapitest.Hold(z.t, kvol.Document(), kvol.New(kvol.Config{
		Service: z.service, Tokens: tokens{epoch.Add(time.Hour)}, Now: z.now,
	}), "unknown", "token"))
}

func (z *zone) stop() {
	if z.api == nil {
		return
	}
	z.api.Close()
	z.peerAPI.Close()
	z.peers.Close()
	if err := z.catalog.Close(); err != nil {
		z.t.Error(err)
	}
	z.api = nil
}

// restart stops a zone if it runs, and starts it at the same address.
func (w *world) restart(z *zone) {
	w.t.Helper()
	if z.path == "" {
		w.t.Fatal("what is in memory is lost")
	}
	address := z.peerAPI.Listener.Addr().String()
	z.stop()
	z.peerAPI = httptest.NewUnstartedServer(nil)
	z.ok(z.peerAPI.Listener.Close())
	var err error
	z.peerAPI.Listener, err = net.Listen("tcp", address)
	z.ok(err)
	w.start(z)
}

func (z *zone) must(fn func(*catalog.Tx) error) {
	z.t.Helper()
	if err := z.catalog.Update(context.Background(), fn); err != nil {
		z.t.Fatal(err)
	}
}

// runJobs runs the zone's jobs until n attempts ended.
func (z *zone) runJobs(n int) {
	z.t.Helper()
	ended := make(chan job.Attempt, 100)
	r := job.New(job.Config{Catalog: z.catalog, Handlers: z.service.Handlers(), Log: discard(), Owner: "test",
		Workers: 2, Now: z.now, Observe: func(a job.Attempt) { ended <- a }})
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := r.Run(ctx); err != nil && ctx.Err() == nil {
			z.t.Error(err)
		}
	})
	for range n {
		<-ended
	}
	cancel()
	wg.Wait()
}

// addReplica gives kilo1 a replica of the source volume with one committed
// point of content, which is also a tenant's snapshot, and one that is later.
func (z *zone) addReplica(content string) (newest block.Point) {
	z.t.Helper()
	ctx := context.Background()
	id, d := block.VolumeID(block.NewID()), z.stores["s"]
	z.ok(d.CreateVolume(ctx, id, replicaSize))
	v, err := d.OpenVolume(ctx, id)
	z.ok(err)
	write := func(text string) {
		_, err := v.WriteAt([]byte(text), 4096)
		z.ok(err)
		z.ok(v.Flush())
	}
	point := func(pid block.PointID, seq uint64) block.Point {
		z.ok(d.CreateSnapshot(ctx, driver.SnapshotRef{Volume: id, Name: pid}))
		return block.Point{ID: pid, Volume: sourceID, Epoch: 1, Sequence: seq, At: z.now().Add(-time.Second),
			Size: replicaSize, Root: block.RootHash{byte(seq)}}
	}
	write(content + " then")
	named := point(block.PointID(snapshotID), 1)
	named.Name = string(snapshotID)
	write(strings.ToUpper(content))
	newest = point(block.PointID(block.NewID()), 2)
	z.ok(v.Close())
	name := "data"
	entry := block.Entry{TypeName: "nfs", Volume: block.Volume{ID: sourceID, Project: "p", User: "u", Name: &name, Size: 1,
		Status: block.VolumeInUse, TypeID: sourceType, Bootable: true, Metadata: map[string]string{"a": "b"}}}
	for _, s := range []block.SnapshotID{snapshotID, lateID} {
		entry.Snapshots = append(entry.Snapshots, block.Snapshot{ID: s, VolumeID: sourceID})
	}
	z.must(func(tx *catalog.Tx) error {
		r := block.Replica{ID: id, SourceZone: "mitaka1", Source: sourceID, Protection: 2, Backend: "bak", Epoch: 1,
			Entry: entry, Newest: newest, Current: z.now()}
		if err := tx.InsertReplica(r); err != nil {
			return err
		}
		empty := block.Replica{ID: block.VolumeID(block.NewID()), SourceZone: "mitaka1", Source: emptyID, Protection: 2,
			Backend: "bak", Epoch: 1, Entry: block.Entry{Volume: block.Volume{ID: emptyID, Size: 1}}}
		if err := tx.InsertReplica(empty); err != nil {
			return err
		}
		if err := tx.InsertPoint(id, named, block.RootHash{}); err != nil {
			return err
		}
		return tx.InsertPoint(id, newest, block.RootHash{})
	})
	return newest
}

func (z *zone) ok(err error) {
	z.t.Helper()
	if err != nil {
		z.t.Fatal(err)
	}
}

// reply is an answer as a client sees it.
type reply struct {
	code   int
	body   string
	header http.Header
}

func (r reply) into(t testing.TB, v any) {
	t.Helper()
	if err := json.Unmarshal([]byte(r.body), v); err != nil {
		t.Fatalf("%s: %v", r.body, err)
	}
}

// ask sends a request to a zone's kvol API with the token.
func (z *zone) ask(method, path string, edit ...func(*http.Request)) reply {
	z.t.Helper()
	req, err := http.NewRequest(method, z.api.URL+path, nil)
	z.ok(err)
	req.SetBasicAuth(kvol.DefaultUser, "the-token")
	for _, e := range edit {
		e(req)
	}
	res, err := z.api.Client().Do(req)
	z.ok(err)
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	z.ok(err)
	return reply{res.StatusCode, string(body), res.Header}
}

func (z *zone) get(path string) reply { z.t.Helper(); return z.ask(http.MethodGet, path) }
