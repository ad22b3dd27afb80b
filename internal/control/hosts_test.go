package control_test

import (
	"testing"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/control"
	"kvol/internal/driver"
	"kvol/internal/driver/drivertest"
	"kvol/internal/driver/mem"
)

// newLendingZone is a zone whose slow store lets hosts use its volumes by
// themselves.
func newLendingZone(t *testing.T) (*zone, *mem.Store) {
	t.Helper()
	z := newZone(t)
	store := mem.New(mem.Options{Lending: &driver.Lending{Protocol: "rbd", Data: map[string]any{"name": "rbd/x"}}})
	z.slow = drivertest.NewFaults(store)
	z.restart()
	return z, store
}

// lent makes a volume that hosts may use by themselves.
func (z *zone) lent() block.Volume {
	z.t.Helper()
	return z.make(control.NewVolume{Size: ptr(int64(1)), VolumeType: ptr("slow")})
}

// host asks for a path by the store's own protocol, and opens it.
func (z *zone) host(store *mem.Store, v block.Volume, name, ip string) driver.Device {
	z.t.Helper()
	info, err := z.InitializeConnection(z.ctx, alice, v.ID, map[string]any{"host": name, "ip": ip})
	must(z.t, err)
	if info.DriverVolumeType != "rbd" {
		z.t.Fatalf("host %s was given a path by %s", name, info.DriverVolumeType)
	}
	dev, err := store.Borrow(v.ID, ip+":"+name)
	must(z.t, err)
	z.mayWrite(name, dev)
	return dev
}

func writes(dev driver.Device) error { _, err := dev.WriteAt([]byte("x"), 0); return err }

func (z *zone) mayWrite(who string, dev driver.Device) {
	z.t.Helper()
	if err := writes(dev); err != nil {
		z.t.Fatalf("host %s may not write: %v", who, err)
	}
}

func (z *zone) cutOff(who string, dev driver.Device) {
	z.t.Helper()
	if err := writes(dev); !block.Is(err, block.Forbidden) {
		z.t.Fatalf("host %s was not cut off: %v", who, err)
	}
}

func TestLentConnectionInfo(t *testing.T) {
	z, _ := newLendingZone(t)
	v := z.lent()
	info, err := z.InitializeConnection(z.ctx, alice, v.ID, map[string]any{"host": "h", "initiator": "iqn.x"})
	must(t, err)
	if d := info.Data; info.DriverVolumeType != "rbd" || d["name"] != "rbd/x" || d["volume_id"] != string(v.ID) ||
		d["access_mode"] != "rw" || d["encrypted"] != false || d["qos_specs"] != nil {
		t.Errorf("connection info %+v", info)
	}
	for what, connector := range map[string]map[string]any{
		"that asks for NBD": {"host": "n", "protocol": "nbd"}, "that only reads": {"host": "r", "mode": "ro"},
	} {
		info, err := z.InitializeConnection(z.ctx, alice, v.ID, connector)
		must(t, err)
		if info.DriverVolumeType != "nbd" {
			t.Errorf("a host %s gets a path by %s", what, info.DriverVolumeType)
		}
	}
	fast := z.make(control.NewVolume{Size: ptr(int64(1))})
	if info, err := z.InitializeConnection(z.ctx, alice, fast.ID, nil); err != nil || info.DriverVolumeType != "nbd" {
		t.Errorf("of a store that lends nothing: %+v, %v", info, err)
	}
}

// TestHostsAreCutOff: a host that was let in writes until its connection is
// removed, others go on, and the one that comes next is not taken for it.
func TestHostsAreCutOff(t *testing.T) {
	z, store := newLendingZone(t)
	v := z.lent()
	one, two := z.host(store, v, "1", "192.0.2.1"), z.host(store, v, "2", "192.0.2.2")
	must(t, z.TerminateConnection(z.ctx, alice, v.ID, map[string]any{"host": "1"}))
	z.work(z.ctx)
	z.cutOff("1", one)
	z.mayWrite("2", two)
	must(t, z.TerminateConnection(z.ctx, alice, v.ID, map[string]any{"host": "2"}))
	three := z.host(store, v, "3", "192.0.2.3") // before the job that is to cut the second off has run
	z.cutOff("2", two)
	z.work(z.ctx)
	z.mayWrite("3", three)
	must(t, z.TerminateConnection(z.ctx, alice, v.ID, nil))
	name, _ := z.InitializeConnection(z.ctx, alice, v.ID, map[string]any{"host": "n", "protocol": "nbd"})
	x, err := z.Exports().Open(z.ctx, name.Data["export"].(string))
	must(t, err)
	x.Release()
	z.cutOff("3", three) // before anybody writes through the export
	z.work(z.ctx)
	must(t, z.catalog.View(z.ctx, func(tx *catalog.Tx) error {
		if _, lent, err := tx.Lent(v.ID); lent || err != nil {
			t.Errorf("a volume that no host has is lent still: %v", err)
		}
		return nil
	}))
}

// TestHostsAreCutOffAfterACrash: what a process had to do when it was killed is
// done by the next one.
func TestHostsAreCutOffAfterACrash(t *testing.T) {
	z, store := newLendingZone(t)
	v := z.lent()
	dev := z.host(store, v, "1", "192.0.2.1")
	must(t, z.TerminateConnection(z.ctx, alice, v.ID, nil))
	z.restart()
	z.work(z.ctx)
	z.cutOff("1", dev)
}

// TestAttachmentsLend is the same by attachments, whose hosts come and go with
// them, and a volume that is moved to another zone.
func TestAttachmentsLend(t *testing.T) {
	z, store := newLendingZone(t)
	v := z.lent()
	host := func(ip string) map[string]any { return map[string]any{"host": "h" + ip, "ip": ip} }
	a, err := z.CreateAttachment(z.ctx, alice, control.NewAttachment{VolumeID: v.ID, Connector: host("192.0.2.1")})
	must(t, err)
	if a.Info == nil || a.Info.DriverVolumeType != "rbd" {
		t.Fatalf("the attachment's path is %+v", a.Info)
	}
	must(t, z.CompleteAttachment(z.ctx, alice, a.ID))
	one, err := store.Borrow(v.ID, "192.0.2.1:1")
	must(t, err)
	z.mayWrite("1", one)
	if _, err := z.DeleteAttachment(z.ctx, alice, a.ID); err != nil {
		t.Fatal(err)
	}
	z.work(z.ctx)
	z.cutOff("1", one)
	two := z.host(store, v, "2", "192.0.2.2")
	must(t, z.Fence(z.ctx, block.Fence{SourceZone: "mitaka1", Source: v.ID,
		Recovered: block.Recovered{Zone: "kilo1", Volume: "w", Epoch: 9}}))
	z.work(z.ctx)
	z.cutOff("2", two)
	again, err := store.Borrow(v.ID, "192.0.2.9:1")
	must(t, err)
	z.cutOff("that comes later", again)
	info, err := z.InitializeConnection(z.ctx, alice, v.ID, map[string]any{"host": "2", "ip": "192.0.2.2"})
	must(t, err)
	if info.Data["access_mode"] != "ro" {
		t.Errorf("the path to a volume that lives elsewhere is %+v", info)
	}
	z.cutOff("2", two)
}

// TestLentVolumesStay: what needs the zone between a volume and its hosts is
// refused, and what the zone holds back is not lent.
func TestLentVolumesStay(t *testing.T) {
	z, store := newLendingZone(t)
	v := z.lent()
	dev := z.host(store, v, "1", "192.0.2.1")
	if err := z.MigrateVolume(z.ctx, operator, v.ID, control.Migration{Backend: "fast", Host: "h"}); !block.Is(err,
		block.Invalid) {
		t.Errorf("moving it to another backend: %v", err)
	}
	must(t, z.SetReadonly(z.ctx, alice, v.ID, true))
	z.work(z.ctx)
	z.cutOff("1", dev)
	must(t, z.SetReadonly(z.ctx, alice, v.ID, false))
	z.work(z.ctx)
	dev, err := store.Borrow(v.ID, "192.0.2.1:2")
	must(t, err)
	z.mayWrite("1", dev)
	w := z.lent()
	z.HoldExports(func(v block.Volume) bool { return v.ID == w.ID })
	if _, err := z.InitializeConnection(z.ctx, alice, w.ID, nil); !block.Is(err, block.Unavailable) {
		t.Errorf("a volume that waits for its backup zones is lent: %v", err)
	}
}
