package control_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/control"
	"kvol/internal/driver"
	"kvol/internal/driver/mem"
	"kvol/internal/export/nbd"
)

// exportOpen is a new volume whose export a host has open.
func exportOpen(t *testing.T, s *control.Service, c *catalog.Catalog, store driver.Driver) (
	block.VolumeID, nbd.Export,
) {
	t.Helper()
	caller := block.Caller{Project: "p", User: "u", Roles: []string{"admin"}}
	id := block.VolumeID(block.NewID())
	must(t, store.CreateVolume(t.Context(), id, block.GiB))
	must(t, c.Update(t.Context(), func(tx *catalog.Tx) error {
		return tx.InsertVolume(block.Volume{ID: id, Project: "p", User: "u", Size: 1, Status: block.VolumeAvailable,
			Backend: "fast", AvailabilityZone: "z", Epoch: 1, ReplicationStatus: block.ReplicationDisabled,
			Metadata: map[string]string{}})
	}))
	info, err := s.InitializeConnection(t.Context(), caller, id, map[string]any{"host": "h"})
	must(t, err)
	name, _ := info.Data["export"].(string)
	x, err := s.Exports().Open(context.WithoutCancel(t.Context()), name)
	must(t, err)
	return id, x
}

// TestLookAgainCostsWhatChanged: of many exports that are open only those are asked
// of the catalog that another process names.
func TestLookAgainCostsWhatChanged(t *testing.T) {
	const many = 200
	var statements atomic.Int64
	c, err := catalog.Open(t.Context(), catalog.Options{Observe: func(text string) {
		if strings.HasPrefix(text, "SELECT") {
			statements.Add(1)
		}
	}})
	must(t, err)
	defer func() { must(t, c.Close()) }()
	store := mem.New(mem.Options{})
	set, err := driver.NewSet(map[string]driver.Driver{"one": store}, []block.Backend{{Name: "fast", Store: "one"}})
	must(t, err)
	s, err := control.New(
		control.Config{Catalog: c, Backends: set, Zone: "mitaka1", Key: [32]byte{1}, TempDir: t.TempDir(),
			ExportAddress: func() string { return "[::1]:10809" }},
	)
	must(t, err)
	var ids []string
	opened := map[string]<-chan struct{}{}
	for range many {
		id, x := exportOpen(t, s, c, store)
		defer x.Release()
		ids, opened[string(id)] = append(ids, string(id)), x.Revoked
	}
	gone := ids[7]
	must(t, c.Update(t.Context(), func(tx *catalog.Tx) error {
		v, err := tx.Volume(block.VolumeID(gone))
		if err != nil {
			return err
		}
		v.Readonly = true
		return tx.UpdateVolume(v)
	}))
	cost := func(all bool, about ...string) int64 {
		before := statements.Load()
		ended, err := s.LookAgain(t.Context(), all, about...)
		must(t, err)
		ended()
		return statements.Load() - before
	}
	if n := cost(false); n != 0 {
		t.Errorf("%d statements for nothing", n)
	}
	one := cost(false, gone, block.NewID())
	select {
	case <-opened[gone]:
	default:
		t.Error("an export that may not write any more was not ended")
	}
	if all := cost(true); one*(many-1) > all { // the one that ended is not asked of again
		t.Errorf("%d statements for one export, %d for all %d", one, all, many)
	}
	for _, id := range ids {
		select {
		case <-opened[id]:
			if id != gone {
				t.Error("an export was ended that nothing was changed of")
			}
		default:
		}
	}
	t.Logf("of %d exports that are open, one costs %d statements", many, one)
}

// stuck is a store of which writes are held up.
type stuck struct {
	driver.Driver
	entered, gate chan struct{}
}

// OpenVolume implements driver.Driver.
func (s *stuck) OpenVolume(ctx context.Context, id block.VolumeID) (driver.Device, error) {
	d, err := s.Driver.OpenVolume(ctx, id)
	return &stuckDevice{d, s}, err
}

type stuckDevice struct {
	driver.Device
	s *stuck
}

// WriteAt implements io.WriterAt.
func (d *stuckDevice) WriteAt(p []byte, off int64) (int, error) {
	close(d.s.entered)
	<-d.s.gate
	return d.Device.WriteAt(p, off)
}

// besideStuck is a zone with a store whose writes hang, of which open opens volumes.
func besideStuck(t *testing.T) (s *control.Service, c *catalog.Catalog, store *stuck,
	open func() (block.VolumeID, nbd.Export)) {
	t.Helper()
	c, err := catalog.Open(t.Context(), catalog.Options{})
	must(t, err)
	t.Cleanup(func() { must(t, c.Close()) })
	store = &stuck{mem.New(mem.Options{}), make(chan struct{}), make(chan struct{})}
	set, err := driver.NewSet(map[string]driver.Driver{"one": store}, []block.Backend{{Name: "fast", Store: "one"}})
	must(t, err)
	s, err = control.New(
		control.Config{Catalog: c, Backends: set, Zone: "mitaka1", Key: [32]byte{1}, TempDir: t.TempDir(),
			ExportAddress: func() string { return "[::1]:10809" }},
	)
	must(t, err)
	open = func() (block.VolumeID, nbd.Export) { return exportOpen(t, s, c, store) }
	return s, c, store, open
}

// TestLooksDoNotWait: a write that a store holds up keeps no look from its end, however
// often is looked, nor from ending other exports. Who waits for what was ended waits for
// that write, also where an earlier look ended it.
func TestLooksDoNotWait(t *testing.T) {
	s, c, store, open := besideStuck(t)
	readOnly := func(id block.VolumeID, yes bool) {
		must(t, c.Update(t.Context(), func(tx *catalog.Tx) error {
			v, err := tx.Volume(id)
			if err != nil {
				return err
			}
			v.Readonly = yes
			return tx.UpdateVolume(v)
		}))
	}
	look := func(all bool, about ...string) (over chan struct{}) {
		ended, err := s.LookAgain(t.Context(), all, about...)
		must(t, err)
		over = make(chan struct{})
		go func() { ended(); close(over) }()
		return over
	}
	hung, held := open()
	defer held.Release()
	other, free := open()
	defer free.Release()
	written := make(chan struct{})
	go func() {
		defer close(written)
		_, _ = held.Device.WriteAt(make([]byte, driver.BlockSize), 0) // well or not
	}()
	<-store.entered
	readOnly(hung, true)
	waits := []chan struct{}{look(false, string(hung)), look(true)}
	readOnly(hung, false) // what is ended stays so
	waits = append(waits, look(false, string(hung)))
	readOnly(other, true)
	<-look(false, string(other))
	select {
	case <-free.Revoked:
	default:
		t.Error("an export that may not write any more was not ended")
	}
	for i, over := range waits {
		select {
		case <-over:
			t.Errorf("look %d has ended an export, and a write is under way", i)
		default:
		}
	}
	close(store.gate)
	<-written
	for _, over := range waits {
		<-over
	}
	<-held.Revoked
}

// TestFencesAreHeardBesideAHungStore: a zone that is told what lives on elsewhere ends the
// exports of each volume, also while a write to another one hangs; who told it of that
// one waits no longer than he wants to.
func TestFencesAreHeardBesideAHungStore(t *testing.T) {
	s, c, store, open := besideStuck(t)
	hung, held := open()
	defer held.Release()
	other, free := open()
	defer free.Release()
	written := make(chan struct{})
	go func() {
		defer close(written)
		_, _ = held.Device.WriteAt(make([]byte, driver.BlockSize), 0) // well or not
	}()
	<-store.entered
	tell := func(ctx context.Context, id block.VolumeID) error {
		return s.HearFence(ctx, "kilo1", block.Fence{SourceZone: "mitaka1", Source: id,
			Recovered: block.Recovered{Zone: "kilo1", Volume: block.VolumeID(block.NewID()), Epoch: 65}})
	}
	impatient, stop := context.WithTimeout(t.Context(), time.Second)
	defer stop()
	if err := tell(impatient, hung); !block.Is(err, block.Unavailable) {
		t.Errorf("a write hangs, and who told of it hears %v", err)
	}
	must(t, c.View(t.Context(), func(tx *catalog.Tx) error {
		v, err := tx.Volume(hung)
		if err == nil && v.RecoveredTo == nil {
			t.Error("what was told is not written down")
		}
		return err
	}))
	must(t, tell(t.Context(), other))
	<-free.Revoked
	close(store.gate)
	<-written
	<-held.Revoked
	must(t, tell(t.Context(), hung))
}
