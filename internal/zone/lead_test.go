package zone

import (
	"context"
	"log/slog"
	"strings"
	"sync/atomic"
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
// Where that may be so, control says that it doubts.
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
	var doubts atomic.Int64
	s, err := control.New(control.Config{Catalog: c, Backends: set, Zone: "mitaka1", Key: [32]byte{1},
		TempDir: t.TempDir(), ExportAddress: func() string { return "[::1]:10809" }, Doubted: func() { doubts.Add(1) }})
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
	server.Kill()
	err = s.TerminateConnection(t.Context(), caller, id, nil)
	if !block.Is(err, block.Unavailable) || doubts.Load() != 1 {
		t.Errorf("without the database: %v, %d doubts", err, doubts.Load())
	}
}
