package control_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"kvol/internal/block"
	"kvol/internal/client/nbd"
	"kvol/internal/control"
	"kvol/internal/driver/drivertest"
	server "kvol/internal/export/nbd"
)

// serve starts an NBD server on the zone's exports and returns how to connect.
func (z *zone) serve() func(export string) (*nbd.Conn, error) {
	z.t.Helper()
	socket := filepath.Join(z.t.TempDir(), "nbd")
	l, err := net.Listen("unix", socket)
	must(z.t, err)
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	s := server.New(server.Config{Exports: z.Exports(), Log: slog.New(slog.DiscardHandler)})
	go func() { done <- s.Serve(ctx, l) }()
	z.t.Cleanup(func() { stop(); must(z.t, <-done) })
	return func(export string) (*nbd.Conn, error) {
		return nbd.DialExport(ctx, "unix", socket, export, nbd.Options{})
	}
}

// connect asks for a connection and returns its export's name.
func (z *zone) connect(id block.VolumeID, connector map[string]any) (name string, info control.ConnectionInfo) {
	z.t.Helper()
	info, err := z.InitializeConnection(z.ctx, alice, id, connector)
	must(z.t, err)
	return info.Data["export"].(string), info
}

func TestExports(t *testing.T) {
	z := newZone(t)
	v := z.make(control.NewVolume{Size: ptr(int64(1))})
	dial := z.serve()
	host := map[string]any{"host": "h", "ip": "::1", "multipath": false, "strange": []any{1.0}}
	name, info := z.connect(v.ID, host)
	if d := info.Data; info.DriverVolumeType != "nbd" || d["host"] != "::1" || d["port"] != 10809 || d["tls"] != false ||
		d["url"] != "nbd://[::1]:10809/"+name || d["unix_socket"] != "/run/nbd" || d["volume_id"] != string(v.ID) ||
		d["access_mode"] != "rw" || d["encrypted"] != false || d["discard"] != true || d["qos_specs"] != nil {
		t.Errorf("connection info %+v", info)
	}
	if again, _ := z.connect(v.ID, host); again != name {
		t.Error("the same connector gets another export")
	}
	other, _ := z.connect(v.ID, map[string]any{"host": "other"})
	conn, err := dial(name)
	must(t, err)
	second, err := dial(other)
	must(t, err)
	_, err = conn.WriteAt([]byte("hello"), 4096)
	must(t, err)
	p := make([]byte, 5)
	if _, err := second.ReadAt(p, 4096); err != nil || string(p) != "hello" {
		t.Errorf("the other host reads %q, %v", p, err)
	}
	for _, wrong := range []string{"", "x", string(v.ID), name + "x",
		strings.Split(name, ".")[0], name[:len(name)-1] + "!",
		strings.Replace(name, name[:2], "zz", 1)} {
		if _, err := dial(wrong); err == nil {
			t.Errorf("export %q is open to all", wrong)
		}
	}
	must(t, z.TerminateConnection(z.ctx, alice, v.ID, map[string]any{"host": "h"}))
	if _, err := conn.WriteAt([]byte("late"), 0); err == nil {
		t.Error("a write after the connection was terminated")
	}
	if _, err := dial(name); err == nil {
		t.Error("a terminated connection opens again")
	}
	if _, err := second.WriteAt([]byte("fine"), 0); err != nil {
		t.Errorf("the other host's connection ended too: %v", err)
	}
	must(t, z.TerminateConnection(z.ctx, alice, v.ID, nil))
	if _, err := second.ReadAt(p, 0); err == nil {
		t.Error("a read after all connections were terminated")
	}
}

// TestTerminateNamesItsHost: a connector ends the paths of the host that it names, by
// whatever of it both know, and no other's.
func TestTerminateNamesItsHost(t *testing.T) {
	z := newZone(t)
	v := z.make(control.NewVolume{Size: ptr(int64(1))})
	a, _ := z.connect(v.ID, map[string]any{"host": "a"})
	b, _ := z.connect(v.ID, map[string]any{"host": "b", "initiator": "iqn.b", "protocol": "nbd"})
	list, _ := z.connect(v.ID, map[string]any{"host": []any{"c"}})
	open := func(name string) error {
		x, err := z.Exports().Open(z.ctx, name)
		if err == nil {
			x.Release()
		}
		return err
	}
	must(t, z.TerminateConnection(z.ctx, alice, v.ID, map[string]any{"initiator": "iqn.b"}))
	must(t, open(a))
	must(t, open(list))
	if open(b) == nil {
		t.Error("the host that was named has its path still")
	}
	must(t, z.TerminateConnection(z.ctx, alice, v.ID, map[string]any{"host": []any{"c"}, "initiator": "iqn.x"}))
	must(t, open(a))
	if open(list) == nil {
		t.Error("a host that is named by a list has its path still")
	}
	must(t, z.TerminateConnection(z.ctx, alice, v.ID, map[string]any{"ip": "192.0.2.1"})) // which names no host
	if open(a) == nil {
		t.Error("a connector that names no host leaves paths")
	}
}

func TestExportsEndWithTheVolume(t *testing.T) {
	z := newZone(t)
	v := z.make(control.NewVolume{Size: ptr(int64(1))})
	dial := z.serve()
	name, _ := z.connect(v.ID, nil)
	conn, err := dial(name)
	must(t, err)
	must(t, z.DeleteVolume(z.ctx, alice, v.ID, false))
	if _, err := conn.ReadAt(make([]byte, 1), 0); err == nil {
		t.Error("a deleted volume can be read")
	}
	if _, err := dial(name); err == nil {
		t.Error("a deleted volume can be opened")
	}
	z.work(z.ctx)
	z.wantStored()
}

func TestExportsThatOnlyRead(t *testing.T) {
	z := newZone(t)
	dial := z.serve()
	for name, c := range map[string]struct {
		connector map[string]any
		change    func(block.VolumeID) error
	}{
		"connector": {map[string]any{"mode": "ro"}, func(block.VolumeID) error { return nil }},
		"attachment": {nil, func(id block.VolumeID) error {
			return z.Attach(z.ctx, alice, id, control.AttachRequest{HostName: ptr("h"), Mode: "ro"})
		}},
		"flag":  {nil, func(id block.VolumeID) error { return z.SetReadonly(z.ctx, alice, id, true) }},
		"fence": {nil, func(id block.VolumeID) error { return z.Fence(z.ctx, fenceOf(id)) }},
	} {
		v := z.make(control.NewVolume{Size: ptr(int64(1))})
		export, _ := z.connect(v.ID, c.connector)
		before, err := dial(export)
		must(t, err)
		must(t, c.change(v.ID))
		if _, err := before.WriteAt([]byte("x"), 0); err == nil {
			t.Errorf("%s: a write through what was open before", name)
		}
		after, err := dial(export)
		must(t, err)
		if _, err := after.ReadAt(make([]byte, 1), 0); err != nil || !after.ReadOnly() {
			t.Errorf("%s: read-only is %v, reading: %v", name, after.ReadOnly(), err)
		}
		if _, err := after.WriteAt([]byte("x"), 0); err == nil {
			t.Errorf("%s: a write", name)
		}
		if _, info := z.connect(v.ID, c.connector); info.Data["access_mode"] != "ro" {
			t.Errorf("%s: access mode %v", name, info.Data["access_mode"])
		}
		must(t, after.Close())
		x, err := z.Exports().Open(z.ctx, export) // whatever a protocol makes of ReadOnly
		must(t, err)
		if _, err := x.Device.WriteAt([]byte("x"), 0); !x.ReadOnly || !block.Is(err, block.Forbidden) {
			t.Errorf("%s: a write past the protocol: %v", name, err)
		}
		if err := x.Device.Zero(0, 4096); !block.Is(err, block.Forbidden) {
			t.Errorf("%s: zeroing past the protocol: %v", name, err)
		}
		x.Release()
	}
}

func fenceOf(id block.VolumeID) block.Fence {
	return block.Fence{SourceZone: "mitaka1", Source: id,
		Recovered: block.Recovered{Zone: "kilo1", Volume: "77777777-7777-7777-7777-777777777777", Epoch: 2}}
}

func TestFence(t *testing.T) {
	z := newZone(t)
	v := z.make(control.NewVolume{Size: ptr(int64(1))})
	f := fenceOf(v.ID)
	must(t, z.Fence(z.ctx, f))
	must(t, z.Fence(z.ctx, f))
	got := z.volume(v.ID)
	if got.RecoveredTo == nil || *got.RecoveredTo != f.Recovered || got.Status != block.VolumeAvailable ||
		got.ReplicationStatus != "failed-over" {
		t.Errorf("a fenced volume: %+v", got)
	}
	sentence := "Invalid volume: Volume " + string(v.ID) + " was recovered in zone kilo1 as volume " +
		string(f.Recovered.Volume) + " and lives on there; this copy is read-only."
	wantError(t, "extend", z.ExtendVolume(z.ctx, alice, v.ID, 2), block.Invalid, sentence)
	wantError(t, "attach", z.Attach(z.ctx, alice, v.ID, control.AttachRequest{HostName: ptr("h")}),
		block.Invalid, sentence)
	must(t, z.Attach(z.ctx, alice, v.ID, control.AttachRequest{HostName: ptr("h"), Mode: "ro"}))
	must(t, z.Detach(z.ctx, alice, v.ID, nil))
	z.snap(v.ID)

	newer := f
	newer.Recovered.Epoch = 3
	must(t, z.Fence(z.ctx, newer))
	must(t, z.Fence(z.ctx, f))
	if e := z.volume(v.ID).RecoveredTo.Epoch; e != 3 {
		t.Errorf("an older fence took over: epoch %d", e)
	}
	low := fenceOf(z.make(control.NewVolume{Size: ptr(int64(1))}).ID)
	low.Recovered.Epoch = 1
	if err := z.Fence(z.ctx, low); !block.Is(err, block.Stale) {
		t.Errorf("a fence of the volume's own epoch: %v", err)
	}
	low.SourceZone = "kilo1"
	if err := z.Fence(z.ctx, low); !block.Is(err, block.Invalid) {
		t.Errorf("another zone's fence: %v", err)
	}
	if err := z.Fence(z.ctx, fenceOf("x")); !block.Is(err, block.NotFound) {
		t.Errorf("a fence for nothing: %v", err)
	}
}

// TestFenceWaitsForWrites holds a write up in the store: Fence returns only
// after it, so that nothing is written once the other zone was told.
func TestFenceWaitsForWrites(t *testing.T) {
	z := newZone(t)
	v := z.make(control.NewVolume{Size: ptr(int64(1))})
	name, _ := z.connect(v.ID, nil)
	x, err := z.Exports().Open(z.ctx, name)
	must(t, err)
	begun, goOn := make(chan struct{}), make(chan struct{})
	var written atomic.Bool
	z.fast.SetRule(func(c drivertest.Call) error {
		switch {
		case c.Op == drivertest.OpWrite && !c.After:
			close(begun)
			<-goOn
		case c.Op == drivertest.OpWrite:
			written.Store(true)
		}
		return nil
	})
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := x.Device.WriteAt([]byte("x"), 0); err != nil {
			t.Errorf("the write that was under way: %v", err)
		}
	})
	<-begun
	fenced := make(chan struct{})
	wg.Go(func() {
		if err := z.Fence(z.ctx, fenceOf(v.ID)); err != nil {
			t.Error(err)
		}
		if !written.Load() {
			t.Error("fenced with a write under way")
		}
		close(fenced)
	})
	select {
	case <-fenced:
		t.Error("fenced with a write under way")
	case <-z.fencedInCatalog(v.ID):
	}
	close(goOn)
	wg.Wait()
	<-x.Revoked
	if _, err := x.Device.WriteAt([]byte("x"), 0); err == nil {
		t.Error("a write after the fence")
	}
	x.Release()
}

// fencedInCatalog is closed once the catalog says that a volume is fenced.
func (z *zone) fencedInCatalog(id block.VolumeID) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			if v, err := z.Volume(context.Background(), operator, id); err != nil || v.RecoveredTo != nil {
				return
			}
		}
	}()
	return done
}

func TestHoldExports(t *testing.T) {
	z := newZone(t)
	held, free := z.make(control.NewVolume{Size: ptr(int64(1))}), z.make(control.NewVolume{Size: ptr(int64(1))})
	heldName, _ := z.connect(held.ID, nil)
	freeName, _ := z.connect(free.ID, nil)
	x, err := z.Exports().Open(z.ctx, heldName)
	must(t, err)
	y, err := z.Exports().Open(z.ctx, freeName)
	must(t, err)
	for range 2 { // again and again, as long as a peer is silent
		z.HoldExports(func(v block.Volume) bool { return v.ID == held.ID })
	}
	<-x.Revoked
	x.Release()
	select {
	case <-y.Revoked:
		t.Error("an export that is not held ended")
	default:
	}
	y.Release()
	if _, err := z.Exports().Open(z.ctx, heldName); !block.Is(err, block.Unavailable) {
		t.Errorf("a held export: %v", err)
	}
	x, err = z.Exports().Open(z.ctx, freeName)
	must(t, err)
	x.Release()
	z.ReleaseExports()
	x, err = z.Exports().Open(z.ctx, heldName)
	must(t, err)
	x.Release()
}

// TestOpenWhileClosing holds up the closing of a device: who wants it meanwhile
// waits, and gets one that is open.
func TestOpenWhileClosing(t *testing.T) {
	z := newZone(t)
	v := z.make(control.NewVolume{Size: ptr(int64(1))})
	name, _ := z.connect(v.ID, nil)
	x, err := z.Exports().Open(z.ctx, name)
	must(t, err)
	closing, goOn := make(chan struct{}), make(chan struct{})
	z.closer.hold(func() { close(closing); <-goOn })
	var wg sync.WaitGroup
	wg.Go(x.Release)
	<-closing
	z.closer.hold(nil)
	impatient, cancel := context.WithCancel(z.ctx)
	wg.Go(func() {
		if _, err := z.Exports().Open(impatient, name); !errors.Is(err, context.Canceled) {
			t.Errorf("open while it closes, with no patience: %v", err)
		}
		close(goOn)
	})
	wg.Go(func() {
		x, err := z.Exports().Open(z.ctx, name)
		if err != nil {
			t.Error(err)
			return
		}
		if _, err := x.Device.ReadAt(make([]byte, 1), 0); err != nil {
			t.Errorf("a read after reopening: %v", err)
		}
		x.Release()
	})
	cancel()
	wg.Wait()
}

// TestOneDeviceForAll opens and releases an export from many sides at once: the
// store, which opens a volume once at a time, is never asked twice.
func TestOneDeviceForAll(t *testing.T) {
	z := newZone(t)
	v := z.make(control.NewVolume{Size: ptr(int64(1))})
	name, _ := z.connect(v.ID, nil)
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			for range 20 {
				x, err := z.Exports().Open(z.ctx, name)
				if err != nil {
					t.Errorf("open: %v", err)
					return
				}
				if _, err := x.Device.WriteAt([]byte{byte(i)}, int64(i)); err != nil {
					t.Errorf("write: %v", err)
				}
				x.Release()
			}
		})
	}
	wg.Wait()
	if got := z.content(v, 4); got != "\x00\x01\x02\x03" { // opens it: nobody else has it
		t.Errorf("it reads %q", got)
	}
	must(t, z.ExtendVolume(z.ctx, alice, v.ID, 2))
	x, err := z.Exports().Open(z.ctx, name)
	must(t, err)
	z.work(z.ctx)
	if x.Device.Size() != 2*block.GiB {
		t.Errorf("an open device of an extended volume has %d bytes", x.Device.Size())
	}
	x.Release()
}
