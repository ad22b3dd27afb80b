// Package zonetest runs several zones in one process, on stores in memory or on
// embedded ones,
// with a network between them that can be cut and zones that can be killed. It
// is for tests of what only whole zones together can get wrong; what one room
// can show alone is tested there.
package zonetest

import (
	"bytes"
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"kvol/internal/api/peer"
	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/catalog/catalogtest"
	"kvol/internal/client"
	"kvol/internal/driver"
	"kvol/internal/driver/logstore"
	"kvol/internal/driver/mem"
	"kvol/internal/pace"
	"kvol/internal/zone"
	"kvol/test/port"
)

// The users of a Cloud: all zones know them, with Password.
const (
	Admin    = "admin"
	Alice    = "alice"
	Bob      = "bob"
	Password = "correct horse battery staple"
	KvolUser = "gabianet"
	TypeName = "ssd"
)

// Names of the zones, each a source for the others.
var Names = []string{"mitaka1", "kilo1", "kilo2"}

// Cloud is three zones that protect each other.
type Cloud struct {
	// Level is the least level of what zones log that a failed test tells.
	Level slog.Level
	// Damaged are zones whose embedded store is left damaged: it is not checked
	// when the test ends, as the others are.
	Damaged []string

	t        *testing.T
	dir      string
	ca       *peer.CA
	Projects map[string]string // user -> project id
	zones    map[string]*life
	links    map[[2]string]*link // from, to
}

// life is a zone: what outlives a kill, and the process that runs now.
type life struct {
	config zone.Config
	store  driver.Driver // nil for an embedded one
	plug   *plug
	server *zone.Server
	cancel context.CancelFunc
	ended  chan error
	lives  int
	ahead  atomic.Int64 // of the zone's clock
}

// New starts three zones on stores in memory. They are stopped when the test
// ends.
func New(t *testing.T) *Cloud { return start(t, false, nil, nil) }

// NewOn starts three zones on stores that are given, by zone, and in memory where
// none is. They outlive the Cloud. adjust changes their configurations.
func NewOn(t *testing.T, stores map[string]driver.Driver, adjust ...func(*zone.Config)) *Cloud {
	return startOn(t, false, func(name string) driver.Driver {
		if d, ok := stores[name]; ok {
			return d
		}
		return mem.New(mem.Options{})
	}, func(cfg *zone.Config) {
		for _, change := range adjust {
			change(cfg)
		}
	})
}

// NewSmall is New with stores of a bounded number of bytes, by zone.
func NewSmall(t *testing.T, room map[string]int64) *Cloud { return start(t, false, room, nil) }

// NewWith is New for zones whose configurations adjust changes.
func NewWith(t *testing.T, adjust func(*zone.Config)) *Cloud { return start(t, false, nil, adjust) }

// NewEmbedded starts three zones on embedded stores, which are checked when the
// test ends. They can be stopped, and not be killed.
func NewEmbedded(t *testing.T) *Cloud { return start(t, true, nil, nil) }

// NewEmbeddedWith is NewEmbedded for zones whose configurations adjust changes.
func NewEmbeddedWith(t *testing.T, adjust func(*zone.Config)) *Cloud {
	return start(t, true, nil, adjust)
}

func start(t *testing.T, embedded bool, room map[string]int64, adjust func(*zone.Config)) *Cloud {
	t.Helper()
	return startOn(t, embedded, func(name string) driver.Driver {
		return mem.New(mem.Options{Capacity: room[name]})
	}, adjust)
}

func startOn(t *testing.T, embedded bool, store func(name string) driver.Driver, adjust func(*zone.Config)) *Cloud {
	t.Helper()
	c := &Cloud{Level: slog.LevelWarn, t: t, dir: t.TempDir(), Projects: map[string]string{}, zones: map[string]*life{},
		links: map[[2]string]*link{}}
	for _, user := range []string{Admin, Alice, Bob} {
		c.Projects[user] = hexID()
	}
	var err error
	if c.ca, err = peer.NewCA(time.Now()); err != nil {
		t.Fatal(err)
	}
	ports := c.ports()
	for i, name := range Names {
		l := &life{config: c.config(i, name, ports)}
		if adjust != nil {
			adjust(&l.config)
		}
		if c.zones[name] = l; embedded {
			l.config.Stores[0] = zone.StoreConfig{Name: "main", Driver: "logstore", SegmentMiB: 1,
				Dir: filepath.Join(l.config.DataDir, "main")}
		} else {
			l.store = store(name)
		}
	}
	t.Cleanup(c.close)
	for _, name := range Names {
		c.Start(name)
	}
	return c
}

// ports finds a peer address for each zone and puts a link in front of it for
// each other zone.
func (c *Cloud) ports() map[string]string {
	ports := map[string]string{}
	for _, to := range Names {
		ports[to] = port.Address(c.t)
		for _, from := range Names {
			if from == to {
				continue
			}
			k, err := newLink(ports[to])
			if err != nil {
				c.t.Fatal(err)
			}
			c.links[[2]string{from, to}] = k
		}
	}
	return ports
}

// TypeID is the id of a zone's volume type.
func TypeID(name string) string {
	return map[string]string{"mitaka1": "6a21db69-dc6b-4423-834c-679ae153a638",
		"kilo1": "45856d65-9021-4702-b8a6-62d5326b8f4e", "kilo2": "9f2b6c1e-3d1a-4a4b-9c55-0e5d3a1f7b20"}[name]
}

func (c *Cloud) config(index int, name string, ports map[string]string) zone.Config {
	dir := filepath.Join(c.dir, name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		c.t.Fatal(err)
	}
	c.certificates(dir, name)
	if err := os.WriteFile(filepath.Join(dir, "catalog.db"), catalogtest.Empty(), 0o600); err != nil {
		c.t.Fatal(err)
	}
	cfg := zone.Config{
		Zone: block.Zone(name), Index: index, Region: name, Listen: "127.0.0.1:0", DataDir: dir, SharedDir: dir,
		AvailabilityZones: []string{name + "-a"}, DefaultVolumeType: TypeName, IsolatedStart: "any",
		Peer: zone.PeerConfig{Listen: ports[name], Cert: filepath.Join(dir, "zone.crt"),
			Key: filepath.Join(dir, "peer.key"), CA: filepath.Join(dir, "ca.crt")},
		Exports: zone.ExportConfig{NBD: "127.0.0.1:0"},
		Stores:  []zone.StoreConfig{{Name: "main", Driver: "mem"}},
		Backends: []zone.BackendConfig{
			{
				Name:      name + "-ssd",
				Store:     "main",
				SVMName:   name + "-svm",
				SVMIP:     "192.0.2.1",
				ClusterIP: "192.0.2.9",
				Path:      "vol01",
			},
			{
				Name:      name + "-backup",
				Store:     "main",
				SVMName:   name + "-svm-bak",
				SVMIP:     "192.0.2.2",
				ClusterIP: "192.0.2.9",
				Path:      "vol02",
			}},
		VolumeTypes: []zone.TypeConfig{{ID: block.TypeID(TypeID(name)), Name: TypeName,
			ExtraSpecs: map[string]string{"volume_backend_name": name + "-ssd"}}},
		Identity: zone.IdentityConfig{TokenTTL: time.Hour},
		KvolAPI: zone.KvolAPIConfig{Users: []zone.KvolUser{{Name: KvolUser, Password: Password}}, TokenTTL: time.Hour,
			TimeZone: "UTC", InternalErrorStatus: http.StatusMethodNotAllowed},
		Block: zone.BlockAPIConfig{V2UploadTypeFormat: "rows"},
		DR:    zone.DRConfig{RivalTimeout: 30 * time.Second}, // a machine with much else to do is no dead zone
	}
	for i, other := range Names {
		if other == name {
			continue
		}
		cfg.Peers = append(
			cfg.Peers,
			zone.PeerZone{Zone: block.Zone(other), URL: "https://" + c.links[[2]string{name, other}].address()},
		)
		cfg.Protections = append(cfg.Protections, zone.ProtectionConfig{Seq: int64(10*index + i + 1), VolumeType: TypeName,
			Destination: block.Zone(other), BackupBackend: zone.BackendConfig{Name: other + "-backup"},
			Interval: 100 * time.Millisecond})
	}
	for user, role := range map[string]string{Admin: "admin", Alice: "member", Bob: "member"} {
		cfg.Identity.Projects = append(
			cfg.Identity.Projects,
			zone.ProjectConfig{ID: block.ProjectID(c.Projects[user]), Name: user},
		)
		cfg.Identity.Users = append(cfg.Identity.Users, zone.UserConfig{Name: user, Password: Password,
			Roles: []zone.RoleConfig{{Project: user, Role: role}}})
	}
	return cfg
}

func (c *Cloud) certificates(dir, name string) {
	authority, err := c.ca.PEM()
	if err != nil {
		c.t.Fatal(err)
	}
	issued, err := c.ca.IssueZone(block.Zone(name), time.Now(), "127.0.0.1")
	if err != nil {
		c.t.Fatal(err)
	}
	for file, text := range map[string][]byte{"ca.crt": authority.Cert, "zone.crt": issued.Cert, "peer.key": issued.Key} {
		if err := os.WriteFile(filepath.Join(dir, file), text, 0o600); err != nil {
			c.t.Fatal(err)
		}
	}
}

// Start starts a zone that does not run and waits until it is ready.
func (c *Cloud) Start(name string) {
	c.t.Helper()
	l := c.zones[name]
	stores := map[string]driver.Driver{}
	if l.store != nil {
		l.plug = &plug{Driver: l.store}
		stores["main"] = l.plug
	}
	l.lives++
	ctx, cancel := context.WithCancel(context.Background())
	server, err := zone.Open(ctx, l.config, zone.Environment{Log: c.log(name, l.lives),
		Stores: stores, Now: func() time.Time { return time.Now().Add(time.Duration(l.ahead.Load())) }})
	if err != nil {
		cancel()
		c.t.Fatalf("start %s: %v", name, err)
	}
	l.server, l.cancel, l.ended = server, cancel, make(chan error, 1)
	go func() { l.ended <- server.Run(ctx) }()
	err = client.Poll(c.t.Context(), 5*time.Millisecond, func() (bool, error) {
		answer, err := http.Get(server.URL() + "/readyz")
		if err != nil {
			return false, nil // not serving yet
		}
		answer.Body.Close()
		return answer.StatusCode == http.StatusOK, nil
	})
	if err != nil {
		c.t.Fatalf("zone %s is not ready: %v", name, err)
	}
}

// log keeps what a life of a zone warns of, and tells it if the test failed.
func (c *Cloud) log(name string, life int) *slog.Logger {
	said := &transcript{}
	c.t.Cleanup(func() {
		if c.t.Failed() {
			c.t.Logf("%s, life %d:\n%s", name, life, said.String())
		}
	})
	return slog.New(slog.NewTextHandler(said, &slog.HandlerOptions{Level: c.Level}))
}

// transcript is a buffer for many writers.
type transcript struct {
	mu   sync.Mutex
	text bytes.Buffer // guarded by mu
}

func (b *transcript) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *transcript) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// Kill ends a zone as SIGKILL would: from one moment on nothing it does
// reaches its store or its catalog. What the store acknowledged and the
// catalog committed is what the next Start finds.
func (c *Cloud) Kill(name string) {
	c.t.Helper()
	l := c.zones[name]
	catalog := filepath.Join(l.config.DataDir, "catalog.db")
	kept := filepath.Join(c.dir, fmt.Sprintf("%s-%d.db", name, l.lives))
	if err := copyCatalog(catalog, kept, func() { l.plug.pulled.Store(true) }); err != nil {
		c.t.Fatalf("kill %s: %v", name, err)
	}
	l.cancel()
	<-l.ended // whatever it says, nobody hears it any more
	l.server = nil
	for _, suffix := range []string{"", "-wal", "-shm"} {
		if err := os.Remove(catalog + suffix); err != nil && !os.IsNotExist(err) {
			c.t.Fatal(err)
		}
	}
	if err := os.Rename(kept, catalog); err != nil {
		c.t.Fatal(err)
	}
}

// copyCatalog copies what is committed at one instant, at which it calls pull:
// nobody commits what it learned from what pull did.
func copyCatalog(from, to string, pull func()) error {
	db, err := sql.Open("sqlite", "file:"+from+"?_pragma=busy_timeout(60000)&_txlock=immediate")
	if err != nil {
		return err
	}
	defer db.Close()
	writer, err := db.Begin()
	if err != nil {
		return err
	}
	pull()
	_, err = db.Exec("VACUUM INTO ?", to)
	return errors.Join(err, writer.Rollback())
}

// Stop ends a zone cleanly.
func (c *Cloud) Stop(name string) {
	c.t.Helper()
	l := c.zones[name]
	l.cancel()
	if err := <-l.ended; err != nil {
		c.t.Errorf("zone %s ended: %v", name, err)
	}
	l.server = nil
}

// Cut breaks the network between two zones, both ways; Mend joins it again.
func (c *Cloud) Cut(a, b string) { c.set(a, b, true) }

// Shape holds what goes from one zone to another, over connections that it made,
// to so many bytes a second; 0 for no limit.
func (c *Cloud) Shape(from, to string, rate int64) {
	c.links[[2]string{from, to}].shape.Set(pace.Limit{Rate: rate}, nil)
}

// Sent is how many bytes went from one zone to another over connections that it
// made.
func (c *Cloud) Sent(from, to string) int64 { return c.links[[2]string{from, to}].sent.Load() }

// Mend undoes Cut.
func (c *Cloud) Mend(a, b string) { c.set(a, b, false) }

// Hold holds back what one zone answers another that asks, or lets it go on.
func (c *Cloud) Hold(asks, answers string, on bool) { c.links[[2]string{asks, answers}].hold(on) }

func (c *Cloud) set(a, b string, cut bool) {
	c.links[[2]string{a, b}].set(cut)
	c.links[[2]string{b, a}].set(cut)
}

// Configure changes the configuration of a zone and starts it anew with it.
func (c *Cloud) Configure(name string, change func(*zone.Config)) {
	c.t.Helper()
	c.Stop(name)
	change(&c.zones[name].config)
	c.Start(name)
}

// SetClock sets a zone's clock so far ahead of the others', while it runs.
func (c *Cloud) SetClock(name string, ahead time.Duration) { c.zones[name].ahead.Store(int64(ahead)) }

// ConfigureResting changes the configuration of a zone that does not run.
func (c *Cloud) ConfigureResting(name string, change func(*zone.Config)) {
	change(&c.zones[name].config)
}

// Catalog opens the catalog of a zone that does not run, for what a bug of former
// days, or an operator's hand, may have left in it.
func (c *Cloud) Catalog(name string, change func(*catalog.Tx) error) {
	c.t.Helper()
	k, err := catalog.Open(c.t.Context(), catalog.Options{Path: filepath.Join(c.zones[name].config.DataDir, "catalog.db")})
	if err != nil {
		c.t.Fatal(err)
	}
	if err := errors.Join(k.Update(c.t.Context(), change), k.Close()); err != nil {
		c.t.Fatal(err)
	}
}

// Running reports whether a zone runs.
func (c *Cloud) Running(name string) bool { return c.zones[name].server != nil }

// URL is the address of a zone that runs.
func (c *Cloud) URL(name string) string { return c.zones[name].server.URL() }

// StoreDir is where a zone's embedded store lies.
func (c *Cloud) StoreDir(name string) string { return c.zones[name].config.Stores[0].Dir }

// DataDir is where a zone keeps all but its embedded store.
func (c *Cloud) DataDir(name string) string { return c.zones[name].config.DataDir }

// Store is a zone's store; reading it while the zone runs is allowed.
func (c *Cloud) Store(name string) driver.Driver { return c.zones[name].store }

// Session logs a user in.
func (c *Cloud) Session(name, user string) *client.Session {
	c.t.Helper()
	s, err := client.Login(c.t.Context(), client.Auth{URL: c.URL(name) + "/identity", User: user, Password: Password,
		Project: c.Projects[user]})
	if err != nil {
		c.t.Fatalf("log in at %s: %v", name, err)
	}
	return s
}

// Kvol gets a token of the kvol API from a zone.
func (c *Cloud) Kvol(name string) *client.Kvol {
	c.t.Helper()
	k, err := client.KvolLogin(c.t.Context(), c.URL(name), KvolUser, Password)
	if err != nil {
		c.t.Fatalf("kvol token of %s: %v", name, err)
	}
	return k
}

func (c *Cloud) close() {
	for name, l := range c.zones {
		if l.server != nil {
			c.Stop(name)
		}
		if l.store == nil && !slices.Contains(c.Damaged, name) {
			c.check(name)
		}
	}
	for _, k := range c.links {
		if err := k.close(); err != nil {
			c.t.Error(err)
		}
	}
}

// check checks the embedded store of a zone that is stopped.
func (c *Cloud) check(name string) {
	s, err := logstore.Open(context.Background(), logstore.Options{Dir: c.StoreDir(name),
		Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		c.t.Errorf("the store of %s: %v", name, err)
		return
	}
	if err := s.Check(context.Background()); err != nil {
		c.t.Errorf("the store of %s: %v", name, err)
	}
	if err := s.Close(); err != nil {
		c.t.Errorf("the store of %s: %v", name, err)
	}
}

func hexID() string {
	var b [16]byte
	rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}
