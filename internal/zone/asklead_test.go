package zone

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/client"
	"kvol/internal/client/nbd"
	"kvol/internal/driver"
	"kvol/internal/driver/mem"
	"kvol/internal/duty"
	"kvol/test/postgres"
)

// among is the configuration of a process of a zone: its name, lease, database and
// the directory of all.
const among = `
zone: mitaka1
listen: 127.0.0.1:0
process: {name: %[1]s, lease: %[2]s, drain: 1ms}
catalog: {url: %[3]q}
data_dir: %[4]s/%[1]s
shared_dir: %[4]s/shared
exports: {nbd: "127.0.0.1:0"}
availability_zones: [a]
default_volume_type: ssd
stores: [{name: main, driver: mem}]
backends: [{name: fast, store: main}]
volume_types: [{id: 6a21db69-dc6b-4423-834c-679ae153a638, name: ssd, extra_specs: {volume_backend_name: fast}}]
identity:
  projects: [{name: blue}]
  users: [{name: alice, password: a long password, roles: [{project: blue, role: member}]}]
`

// askPatience is for what has to happen, on a machine however busy.
const askPatience = 5 * time.Minute

// hung is a store of which writes can be held up.
type hung struct {
	driver.Driver
	entered chan struct{} // gets a token when a write is held up

	mu   sync.Mutex
	gate chan struct{} // closed to let them go on; nil: none is held up; guarded by mu
}

// Unwrap implements driver.Unwrapper.
func (h *hung) Unwrap() driver.Driver { return h.Driver }

// OpenVolume implements driver.Driver.
func (h *hung) OpenVolume(ctx context.Context, id block.VolumeID) (driver.Device, error) {
	d, err := h.Driver.OpenVolume(ctx, id)
	if err != nil {
		return nil, err
	}
	return &hungDevice{d, h}, nil
}

// hang holds writes up until what it returns is called.
func (h *hung) hang() (goOn func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	gate := make(chan struct{})
	h.gate = gate
	return sync.OnceFunc(func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.gate = nil
		close(gate)
	})
}

type hungDevice struct {
	driver.Device
	h *hung
}

// WriteAt implements io.WriterAt.
func (d *hungDevice) WriteAt(p []byte, off int64) (int, error) {
	d.h.mu.Lock()
	gate := d.h.gate
	d.h.mu.Unlock()
	if gate != nil {
		d.h.entered <- struct{}{}
		<-gate
	}
	return d.Device.WriteAt(p, off)
}

// joined runs a process until the test ends.
func joined(t *testing.T, dir, name, lease, database string, store driver.Driver) *Member {
	t.Helper()
	path := filepath.Join(dir, name+".yaml")
	if err := os.WriteFile(path, fmt.Appendf(nil, among, name, lease, database, dir), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := LoadConfig(path)
	if err != nil {
		t.Fatal(err)
	}
	env := Environment{}
	if store != nil {
		env.Stores = map[string]driver.Driver{"main": store}
	}
	m, err := OpenMember(t.Context(), cfg, env, "")
	if err != nil {
		t.Fatal(err)
	}
	// As on machines of their own: by its pid each would be the dead run of another.
	m.keeper = duty.New(duty.Config{Catalog: m.catalog, Name: name, URL: m.url(), Lease: cfg.Process.Lease, Place: name,
		Now: m.env.Now, Log: m.log})
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- m.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return m
}

// until waits until check is true.
func until(t *testing.T, what string, check func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), askPatience)
	defer cancel()
	if err := client.Poll(ctx, 20*time.Millisecond, func() (bool, error) { return check(), nil }); err != nil {
		t.Fatalf("not yet: %s: %v", what, err)
	}
}

// asking is a host with a path, whose end is asked of a process that does not lead.
type asking struct {
	t      *testing.T
	s      *client.Session // of the process that is asked
	volume string
	conn   *nbd.Conn
}

var askingHost = map[string]any{"host": "h"}

func newAsking(t *testing.T, m *Member) *asking {
	t.Helper()
	a := &asking{t: t}
	until(t, "alice logs in", func() (ok bool) {
		var err error
		a.s, err = client.Login(t.Context(), client.Auth{URL: m.url() + "/identity", User: "alice",
			Password: "a long password", Project: "blue"})
		return err == nil
	})
	v, err := a.s.CreateVolume(t.Context(), client.NewVolume{Name: "v", Size: 1})
	if err == nil {
		v, err = a.s.WaitVolume(t.Context(), v.ID, nil, "available")
	}
	if err != nil {
		t.Fatal(err)
	}
	a.volume = v.ID
	a.open()
	return a
}

func (a *asking) open() {
	a.t.Helper()
	until(a.t, "the host reaches the volume", func() bool {
		info, err := a.s.Connect(a.t.Context(), a.volume, askingHost)
		if err == nil {
			a.conn, err = nbd.Dial(a.t.Context(), info.NBDURL(), nbd.Options{})
		}
		return err == nil
	})
	a.t.Cleanup(func() { a.conn.Close() })
}

func (a *asking) write() error {
	_, err := a.conn.WriteAt(make([]byte, driver.BlockSize), 0)
	return err
}

// end asks for the end of the path.
func (a *asking) end() <-chan error {
	answered := make(chan error, 1)
	go func() { answered <- a.s.Disconnect(context.WithoutCancel(a.t.Context()), a.volume, askingHost) }()
	return answered
}

// ended waits for the answer, and expects that the host's path is no more.
func (a *asking) ended(answered <-chan error) {
	a.t.Helper()
	select {
	case err := <-answered:
		if err != nil {
			a.t.Error(err)
		}
	case <-time.After(askPatience):
		a.t.Fatal("the request is not answered")
	}
	if a.write() == nil {
		a.t.Error("the host writes through a path of which was said that it was taken back")
	}
}

// TestAskedUntilKnown: a process that does not lead says that a path was taken back
// when the one that leads has ended it, and not before: not when that one waits for
// a write on a store that hangs, however long, and not when the database is out of
// reach between the request's commit and the question to who leads. Others than the
// path with that write are taken back meanwhile.
func TestAskedUntilKnown(t *testing.T) {
	dir, server := t.TempDir(), postgres.Start(t)
	database := server.Database(t)
	store := &hung{Driver: mem.New(mem.Options{}), entered: make(chan struct{}, 1)}
	leads := joined(t, dir, "a", "5m", database, store)
	until(t, "it leads", func() bool { return leads.front.Load().leads })

	t.Run("StoreHangs", func(t *testing.T) {
		const lease = time.Second
		a := newAsking(t, joined(t, dir, "b", lease.String(), database, nil))
		goOn := store.hang()
		defer goOn()
		written := make(chan error, 1)
		go func() { written <- a.write() }()
		select {
		case <-store.entered:
		case err := <-written:
			t.Fatalf("the write was not held up: %v", err)
		}
		answered := a.end()
		select {
		case err := <-answered:
			t.Fatalf("a write is under way, and the path was taken back, %v", err)
		case <-time.After(4 * lease):
		}
		goOn()
		a.ended(answered)
		<-written // well or not
	})
	t.Run("AnotherHangs", func(t *testing.T) {
		m := joined(t, dir, "d", "1s", database, nil)
		a, b := newAsking(t, m), newAsking(t, m)
		goOn := store.hang()
		defer goOn()
		written := make(chan error, 1)
		go func() { written <- a.write() }()
		select {
		case <-store.entered:
		case err := <-written:
			t.Fatalf("the write was not held up: %v", err)
		}
		answered := a.end()
		until(t, "the process that leads is asked", func() bool { return !allAnswered(t, leads) })
		if _, err := m.ask(t.Context()); err != nil { // about all, as who does not know what he has to ask
			t.Fatal(err)
		}
		b.ended(b.end())
		select {
		case err := <-answered:
			t.Errorf("a write is under way, and the path was taken back, %v", err)
		default:
		}
		goOn()
		a.ended(answered)
		<-written // well or not
		until(t, "all is answered", func() bool { return allAnswered(t, leads) })
	})
	t.Run("DatabaseAway", func(t *testing.T) {
		proxy := server.Proxy(t)
		defer proxy.Lighten()
		a := newAsking(t, joined(t, dir, "c", "10s", proxy.URL(t, database), nil))
		for { // until the commit after which it is dark is that of the request
			dark := proxy.DarkenAfterCommit()
			answered := a.end()
			<-dark
			if a.connections(leads) > 0 {
				proxy.Lighten()
				<-answered // well or not
				a.open()
				continue
			}
			until(t, "the database is asked for", func() bool { return proxy.Refused() > 5 })
			select {
			case err := <-answered:
				t.Fatalf("nobody could be asked, and the path was taken back, %v", err)
			default:
			}
			proxy.Lighten()
			a.ended(answered)
			return
		}
	})
}

// allAnswered reports whether nothing is left of what the process that leads was asked.
func allAnswered(t *testing.T, m *Member) bool {
	t.Helper()
	var d catalog.Duty
	err := m.catalog.View(t.Context(), func(tx *catalog.Tx) (err error) {
		d, err = tx.Duty(leadDuty)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return d.Done >= d.Asked
}

// connections counts the paths to the volume, by a process that reaches the database.
func (a *asking) connections(m *Member) (n int) {
	a.t.Helper()
	err := m.catalog.View(a.t.Context(), func(tx *catalog.Tx) error {
		all, err := tx.Connections(block.VolumeID(a.volume))
		n = len(all)
		return err
	})
	if err != nil {
		a.t.Fatal(err)
	}
	return n
}
