package control_test

import (
	"testing"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/control"
	"kvol/internal/driver/drivertest"
	"kvol/internal/recovery"
)

// TestRestoredElsewhere: a volume made of a backup whose backend fails is made on
// another one, and nothing of it stays behind.
func TestRestoredElsewhere(t *testing.T) {
	for op, cause := range map[drivertest.Op]error{
		drivertest.OpCreateVolume: block.Errorf(block.NoSpace, "The store is full."),
		drivertest.OpOpenVolume:   block.Errorf(block.Unavailable, "The store does not answer."),
	} {
		t.Run(string(op), func(t *testing.T) {
			z := racks(t, nil)
			source := z.put(1, "fast", nil)
			z.work(z.ctx)
			b, err := z.CreateBackup(z.ctx, alice, control.NewBackup{VolumeID: source.ID})
			must(t, err)
			z.work(z.ctx)
			z.racks["r1"].SetRule(func(c drivertest.Call) error {
				if c.Op == op && !c.After {
					return cause
				}
				return nil
			})
			v := z.put(1, "rack", func(r *control.NewVolume) { r.BackupID = &b.ID })
			if v.Backend != "r1" {
				t.Fatalf("the volume is first on %s", v.Backend)
			}
			z.work(z.ctx)
			if got := z.volume(v.ID); got.Status != block.VolumeAvailable || got.Backend != "r2" {
				t.Errorf("the volume is %s on %s", got.Status, got.Backend)
			}
			for info, err := range z.racks["r1"].Volumes(z.ctx) {
				t.Errorf("left: %v, %v", info, err)
			}
			z.settled()
		})
	}
}

// TestRecoveredPlace: a volume of a replica lies where there is room, near the
// replica if it can; where filters refuse all, a recovery is tried all the same; and
// when its store turns out to be full, another one of the type takes it.
func TestRecoveredPlace(t *testing.T) {
	z := racks(t, nil)
	var rack block.VolumeType
	must(t, z.catalog.View(z.ctx, func(tx *catalog.Tx) error {
		types, err := tx.Types(block.ListQuery{Limit: -1}, true)
		for _, one := range types {
			if one.Name == "rack" {
				rack = one
			}
		}
		return err
	}))
	v := block.Volume{ID: block.VolumeID(block.NewID()), Project: alice.Project, User: "u", Size: 1, TypeID: rack.ID,
		Status: block.VolumeCreating, AvailabilityZone: "kr-a", Epoch: 1, ReplicationStatus: block.ReplicationDisabled,
		Metadata: map[string]string{}}
	place := func(near string, zoned bool, want, zone string) block.Volume {
		t.Helper()
		got := v
		z.update(func(tx *catalog.Tx) error { return z.PlaceRecovered(tx, &got, rack, near, zoned) })
		if got.Backend != want || got.AvailabilityZone != zone {
			t.Errorf("near %s it is placed on %s in %s, want %s in %s", near, got.Backend, got.AvailabilityZone, want, zone)
		}
		return got
	}
	place("r2", false, "r2", "kr-a")
	first := z.put(20, "rack", nil)
	place(first.Backend, false, map[string]string{"r1": "r2", "r2": "r1"}[first.Backend], "kr-a")
	z.put(20, "rack", nil)
	place("r2", false, "r3", "kr-b")
	at := place("r2", true, "r2", "kr-a") // this zone was asked for, and both are full
	z.update(func(tx *catalog.Tx) error { return tx.InsertVolume(at) })

	full := block.Errorf(block.NoSpace, "The store is full.")
	order := recovery.Order{Backup: "r2"}
	moved, err := z.RecoverElsewhere(z.ctx, order, at, block.Errorf(block.Unavailable, "No answer."))
	if moved || err != nil {
		t.Errorf("a volume went away from the store that has its replica, which only does not answer: %v", err)
	}
	moved, err = z.RecoverElsewhere(z.ctx, recovery.Order{Backup: "r2", Zoned: true}, at, full)
	if moved || err != nil {
		t.Errorf("it was moved out of the zone that was asked for: %v", err)
	}
	moved, err = z.RecoverElsewhere(z.ctx, order, at, full)
	if got := z.volume(v.ID); !moved || err != nil || got.Backend != "r3" || got.AvailabilityZone != "kr-b" {
		t.Errorf("it was moved %v to %s in %s: %v", moved, got.Backend, got.AvailabilityZone, err)
	}
	if moved, err = z.RecoverElsewhere(z.ctx, order, z.volume(v.ID), full); moved || err != nil {
		t.Errorf("it was moved though no store is left: %v", err)
	}
	all, err := z.Placements(z.ctx, operator, v.ID, 0, 10)
	must(t, err)
	if len(all) != 1 || all[0].What != "recover" || all[0].Failed != "r2" || all[0].Backend != "r3" {
		t.Errorf("placements %+v", all)
	}
}
