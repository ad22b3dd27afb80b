package control_test

import (
	"testing"
	"time"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/control"
	"kvol/internal/driver"
)

// leased makes a type on a backend whose volumes are written to while a lease is held,
// which nobody grants here.
func (z *zone) leased(backend string) {
	z.t.Helper()
	vt := block.VolumeType{ID: block.TypeID(block.NewID()), Name: "leased", Public: true,
		ExtraSpecs: map[string]string{"volume_backend_name": backend}}
	z.update(func(tx *catalog.Tx) error { return tx.UpsertType(vt) })
	z.policies = []block.Protection{{Seq: 7, Enabled: true, SourceZone: "mitaka1", SourceType: vt.ID, Destination: "kilo1",
		Lease: 10 * time.Second}}
}

// TestRetypeToALease: a host that has the volume open writes no more without the lease
// that the new type needs, in this process and in the one that serves the exports.
func TestRetypeToALease(t *testing.T) {
	for _, elsewhere := range []bool{false, true} {
		z := newZone(t)
		z.leased("fast")
		v := z.make(control.NewVolume{Size: ptr(int64(1))})
		name, _ := z.connect(v.ID, map[string]any{"host": "h"})
		serving := z.Service
		x, err := serving.Exports().Open(z.ctx, name)
		must(t, err)
		write := func() error { _, err := x.Device.WriteAt(make([]byte, driver.BlockSize), 0); return err }
		must(t, write())
		if elsewhere {
			z.restart()
		}
		must(t, z.RetypeVolume(z.ctx, alice, v.ID, "leased", control.MigrateNever))
		z.work(z.ctx)
		if elsewhere {
			_, err := serving.LookAgain(z.ctx, false, string(v.ID))
			must(t, err)
		}
		if err := write(); !block.Is(err, block.Unavailable) {
			t.Errorf("served elsewhere %v: a write without the lease: %v", elsewhere, err)
		}
		x.Release()
	}
}

// TestRetypeOfLent: a volume that hosts use by themselves gets no type whose lease
// nothing would keep them to, also where they come while it is retyped.
func TestRetypeOfLent(t *testing.T) {
	z, store := newLendingZone(t)
	z.leased("slow")
	v := z.lent()
	must(t, z.RetypeVolume(z.ctx, alice, v.ID, "leased", control.MigrateNever))
	z.mayWrite("1", z.host(store, v, "1", "192.0.2.1"))
	z.work(z.ctx)
	if got := z.volume(v.ID); got.TypeID != v.TypeID || got.Status != block.VolumeAvailable {
		t.Errorf("it is of type %s now, and %s", got.TypeID, got.Status)
	}
	wantError(t, "lent", z.RetypeVolume(z.ctx, alice, v.ID, "leased", control.MigrateNever), block.Invalid,
		"Invalid volume: Volume "+string(v.ID)+" is used by hosts past this zone's exports; a lease, which volumes of type "+
			"leased need, can't be kept for it.")
}
