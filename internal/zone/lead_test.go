package zone

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/control"
	"kvol/internal/driver"
	"kvol/internal/driver/mem"
	"kvol/test/postgres"
)

// TestLooksUnasked: the process that leads finds an export whose connection is gone
// also when nobody asked it to look, since the answer to who removed it was lost.
func TestLooksUnasked(t *testing.T) {
	looks := make(chan struct{}, 1)
	server := postgres.Start(t)
	c, err := catalog.Open(t.Context(), catalog.Options{URL: server.Database(t), Observe: func(text string) {
		if strings.Contains(text, "FROM processes") {
			select {
			case looks <- struct{}{}:
			default:
			}
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	store := mem.New(mem.Options{})
	set, err := driver.NewSet(map[string]driver.Driver{"one": store}, []block.Backend{{Name: "fast", Store: "one"}})
	if err != nil {
		t.Fatal(err)
	}
	s, err := control.New(control.Config{Catalog: c, Backends: set, Zone: "mitaka1", Key: [32]byte{1},
		TempDir: t.TempDir(), ExportAddress: func() string { return "[::1]:10809" }})
	if err != nil {
		t.Fatal(err)
	}
	m := &Member{catalog: c, log: slog.New(slog.DiscardHandler)}
	m.cfg.Process.Lease = 30 * time.Millisecond
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- m.lookAgain(ctx, &Server{control: s}) }()
	defer func() { stop(); <-ended }()
	<-looks // the first one, at all
	<-looks // the one after it

	id := block.VolumeID(block.NewID())
	caller := block.Caller{Project: "p", User: "u", Roles: []string{"admin"}}
	if err := store.CreateVolume(t.Context(), id, block.GiB); err != nil {
		t.Fatal(err)
	}
	if err := c.Update(t.Context(), func(tx *catalog.Tx) error {
		return tx.InsertVolume(block.Volume{ID: id, Project: "p", User: "u", Size: 1, Status: block.VolumeAvailable,
			Backend: "fast", AvailabilityZone: "z", Epoch: 1, ReplicationStatus: block.ReplicationDisabled,
			Metadata: map[string]string{}})
	}); err != nil {
		t.Fatal(err)
	}
	info, err := s.InitializeConnection(t.Context(), caller, id, map[string]any{"host": "h"})
	if err != nil {
		t.Fatal(err)
	}
	name, _ := info.Data["export"].(string)
	x, err := s.Exports().Open(context.WithoutCancel(t.Context()), name)
	if err != nil {
		t.Fatal(err)
	}
	defer x.Release()
	if err := c.Update(t.Context(), func(tx *catalog.Tx) error {
		conns, err := tx.Connections(id)
		if err != nil || len(conns) != 1 {
			t.Errorf("%d connections, %v", len(conns), err)
			return err
		}
		return tx.DeleteConnection(conns[0].ID)
	}); err != nil {
		t.Fatal(err)
	}
	select {
	case <-x.Revoked:
	case <-time.After(time.Minute):
		t.Error("an export whose connection is gone was not ended")
	}
}

// shared is the configuration of a process of a zone, on a database.
const shared = `
zone: mitaka1
listen: 127.0.0.1:0
process: {name: a}
catalog: {url: %q}
availability_zones: [a]
default_volume_type: ssd
stores: [{name: main, driver: mem}]
backends: [{name: fast, store: main}]
volume_types: [{id: 6a21db69-dc6b-4423-834c-679ae153a638, name: ssd, extra_specs: {volume_backend_name: fast}}]
identity:
  projects: [{name: blue}]
  users: [{name: alice, password: a long password, roles: [{project: blue, role: member}]}]
`

// TestMemberDoubts: a process that loses the answer to a COMMIT owes a look at all
// exports, whatever it wrote; one that could not begin to write does not.
func TestMemberDoubts(t *testing.T) {
	server := postgres.Start(t)
	proxy := server.Proxy(t)
	path := filepath.Join(t.TempDir(), "kvol.yaml")
	text := fmt.Sprintf(shared, proxy.URL(t, server.Database(t)))
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := LoadConfig(path)
	if err != nil {
		t.Fatal(err)
	}
	m, err := OpenMember(t.Context(), cfg, Environment{}, "")
	if err != nil {
		t.Fatal(err)
	}
	defer m.close() // without the database, which its connections miss
	if m.owes.Load() {
		t.Error("it owes a look from the beginning")
	}
	write := func() error {
		return m.catalog.Update(t.Context(), func(tx *catalog.Tx) error { return tx.SetSetting("test", []byte{1}) })
	}
	lost := proxy.LoseCommit()
	if err := write(); !block.Is(err, block.Unavailable) || !m.owes.Swap(false) {
		t.Errorf("an answer was lost: %v, and nothing is owed", err)
	}
	<-lost
	if err := write(); err != nil {
		t.Error(err)
	}
	server.Kill()
	if err := write(); !block.Is(err, block.Unavailable) || m.owes.Load() {
		t.Errorf("without the database: %v, and a look is owed for nothing", err)
	}
}
