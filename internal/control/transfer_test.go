package control_test

import (
	"fmt"
	"kvol/internal/export/iscsi"
	"strings"
	"sync"
	"testing"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/control"
)

// transferMethods are those whose tenants TestTransfer keeps apart.
var transferMethods = []string{"Transfer", "Transfers", "DeleteTransfer", "AcceptTransfer"}

func (z *zone) offer(v block.Volume, req control.NewTransfer) (block.Transfer, string) {
	z.t.Helper()
	req.VolumeID = v.ID
	t, key, err := z.CreateTransfer(z.ctx, alice, req)
	must(z.t, err)
	return t, key
}

// usage is what a project holds of volumes, snapshots and gigabytes.
func (z *zone) usage(c block.Caller) string {
	z.t.Helper()
	used, err := z.Limits(z.ctx, c)
	must(z.t, err)
	return fmt.Sprint(used["volumes"].InUse, used["snapshots"].InUse, used["gigabytes"].InUse)
}

func TestTransfer(t *testing.T) {
	z := newZone(t)
	v := z.make(control.NewVolume{Size: ptr(int64(2)), Name: ptr("gift")})
	sn := z.snap(v.ID)
	conn, err := z.InitializeConnection(z.ctx, alice, v.ID, map[string]any{"host": "h"})
	must(t, err)
	offer, key := z.offer(v, control.NewTransfer{Name: ptr("t")})
	if got := z.volume(v.ID).Status; got != block.VolumeTransfer {
		t.Errorf("an offered volume is %s", got)
	}
	wantError(t, "a second offer", errOf(z.CreateTransfer(z.ctx, alice, control.NewTransfer{VolumeID: v.ID})),
		block.Invalid, "Invalid volume: status must be available")
	wantError(t, "deletion", z.DeleteVolume(z.ctx, alice, v.ID, true), block.Invalid, cantDelete)

	missing := fmt.Sprintf("Transfer %s could not be found.", offer.ID)
	_, err = z.Transfer(z.ctx, mallory, offer.ID)
	wantError(t, "another tenant looks", err, block.NotFound, missing)
	wantError(t, "another tenant withdraws", z.DeleteTransfer(z.ctx, mallory, offer.ID), block.NotFound, missing)
	list, err := z.Transfers(z.ctx, mallory, block.ListQuery{Limit: -1, Project: alice.Project})
	if err != nil || len(list) != 0 {
		t.Errorf("another tenant sees %v, %v", list, err)
	}
	_, err = z.AcceptTransfer(z.ctx, mallory, offer.ID, key+"0")
	wantError(t, "a wrong key", err, block.Invalid,
		fmt.Sprintf("Invalid auth key: Attempt to transfer %s with invalid auth key.", offer.ID))
	wantError(t, "a reader withdraws", z.DeleteTransfer(z.ctx, reader, offer.ID), block.Forbidden,
		"Policy doesn't allow volume:delete_transfer to be performed.")
	_, err = z.AcceptTransfer(z.ctx, reader, offer.ID, key)
	wantError(t, "a reader accepts", err, block.Forbidden, "Policy doesn't allow volume:accept_transfer to be performed.")

	_, err = z.AcceptTransfer(z.ctx, mallory, offer.ID, key)
	must(t, err)
	if v = z.volume(v.ID); v.Project != mallory.Project || v.User != mallory.User || v.Status != block.VolumeAvailable {
		t.Errorf("after it was accepted: %+v", v)
	}
	if got, err := z.Snapshot(z.ctx, mallory, sn.ID); err != nil || got.User != mallory.User {
		t.Errorf("its snapshot: %+v, %v", got, err)
	}
	if a, m := z.usage(alice), z.usage(mallory); a != "0 0 0" || m != "1 1 4" {
		t.Errorf("the quotas hold %s and %s", a, m)
	}
	_, err = z.AcceptTransfer(z.ctx, mallory, offer.ID, key)
	wantError(t, "accepted twice", err, block.NotFound, missing)
	export, _ := conn.Data["export"].(string)
	if _, err := z.Exports().Open(z.ctx, export); !block.Is(err, block.NotFound) {
		t.Errorf("the old tenant's path %q opens: %v", export, err)
	}
}

func errOf[A, B any](_ A, _ B, err error) error { return err }

// TestTransferWithoutSnapshots leaves a snapshot with the old tenant; the volume
// can't be deleted under it.
// TestReservationsAreForgotten: what hosts reserved ends where the volume becomes another
// project's, and where an administrator forgets its hosts. A host of before that is at it
// still keeps nothing any more.
func TestReservationsAreForgotten(t *testing.T) {
	for name, forget := range map[string]func(*zone, block.Volume){
		"transfer": func(z *zone, v block.Volume) {
			offer, key := z.offer(v, control.NewTransfer{})
			_, err := z.AcceptTransfer(z.ctx, mallory, offer.ID, key)
			must(t, err)
		},
		"reset": func(z *zone, v block.Volume) {
			must(t, z.ResetVolumeStatus(z.ctx, operator, v.ID, control.VolumeReset{AttachStatus: ptr("detached")}))
		},
	} {
		z := newZone(t)
		v := z.make(control.NewVolume{Size: ptr(int64(1))})
		old := []byte(`{"keys":{"host":7},"kind":3,"holder":"host"}`)
		must(t, z.Reservations().SaveReservations(z.ctx, string(v.ID), old))
		forget(z, v)
		state, err := z.Reservations().LoadReservations(z.ctx, string(v.ID))
		if err != nil || strings.Contains(string(state), "host") || iscsi.EraOf(state) == "" {
			t.Errorf("%s: the reservations are %q, %v", name, state, err)
		}
		for _, late := range [][]byte{old, nil} {
			if err := z.Reservations().SaveReservations(z.ctx, string(v.ID), late); !block.Is(err, block.Conflict) {
				t.Errorf("%s: a session of before keeps %q: %v", name, late, err)
			}
		}
		must(t, z.Reservations().SaveReservations(z.ctx, string(v.ID), state))
	}
}

func TestTransferWithoutSnapshots(t *testing.T) {
	z := newZone(t)
	v := z.make(control.NewVolume{Size: ptr(int64(1))})
	sn := z.snap(v.ID)
	offer, key := z.offer(v, control.NewTransfer{NoSnapshots: true})
	_, err := z.AcceptTransfer(z.ctx, mallory, offer.ID, key)
	must(t, err)
	if a, m := z.usage(alice), z.usage(mallory); a != "0 1 1" || m != "1 0 1" {
		t.Errorf("the quotas hold %s and %s", a, m)
	}
	if _, err := z.Snapshot(z.ctx, alice, sn.ID); err != nil {
		t.Errorf("the old tenant's snapshot: %v", err)
	}
	for _, cascade := range []bool{false, true} {
		wantError(t, "deletion", z.DeleteVolume(z.ctx, mallory, v.ID, cascade), block.Invalid, cantDelete)
	}
	must(t, z.DeleteSnapshot(z.ctx, alice, sn.ID))
	z.work(z.ctx)
	must(t, z.DeleteVolume(z.ctx, mallory, v.ID, false))
}

func TestTransferRefused(t *testing.T) {
	z := newZone(t)
	v := z.make(control.NewVolume{Size: ptr(int64(3))})
	sn := z.snap(v.ID)
	z.update(func(tx *catalog.Tx) error { return tx.ResetSnapshotStatus(sn.ID, block.SnapshotBackingUp) })
	wantError(t, "a busy snapshot", errOf(z.CreateTransfer(z.ctx, alice, control.NewTransfer{VolumeID: v.ID})),
		block.Invalid, fmt.Sprintf("Invalid snapshot: snapshot: %s status must be available", sn.ID))
	z.update(func(tx *catalog.Tx) error { return tx.ResetSnapshotStatus(sn.ID, block.SnapshotAvailable) })
	z.update(func(tx *catalog.Tx) error { v.Encrypted = true; return tx.UpdateVolume(v) })
	wantError(t, "encrypted", errOf(z.CreateTransfer(z.ctx, alice, control.NewTransfer{VolumeID: v.ID})),
		block.Invalid, "Invalid volume: transferring encrypted volume is not supported")
	wantError(t, "encrypted, alone", errOf(z.CreateTransfer(z.ctx, alice,
		control.NewTransfer{VolumeID: v.ID, AllowEncrypted: true, NoSnapshots: true})), block.Invalid,
		"Invalid volume: transferring an encrypted volume without its snapshots is not supported")
	_, key, err := z.CreateTransfer(z.ctx, alice, control.NewTransfer{VolumeID: v.ID, AllowEncrypted: true})
	must(t, err)
	list, err := z.Transfers(z.ctx, alice, block.ListQuery{Limit: -1})
	must(t, err)

	for quota, want := range map[string]string{
		"per_volume_gigabytes": "VolumeSizeExceedsLimit: Requested volume size 3G is larger than maximum allowed limit 2G.",
		"volumes":              "VolumeLimitExceeded: Maximum number of volumes allowed (0) exceeded for quota 'volumes'.",
		"snapshots":            "SnapshotLimitExceeded: Maximum number of snapshots allowed (0) exceeded",
		"gigabytes": "VolumeSizeExceedsAvailableQuota: Requested volume or snapshot exceeds allowed gigabytes quota. " +
			"Requested 3G, quota is 5G and 3G has been consumed.",
	} {
		limit := map[string]int64{"per_volume_gigabytes": 2, "gigabytes": 5}[quota]
		must(t, z.SetQuotas(z.ctx, operator, mallory.Project, map[string]int64{quota: limit}))
		_, err = z.AcceptTransfer(z.ctx, mallory, list[0].ID, key)
		wantError(t, "quota of "+quota, err, block.OverLimit, want)
		must(t, z.DeleteQuotas(z.ctx, operator, mallory.Project))
		if a, m := z.usage(alice), z.usage(mallory); a != "1 1 6" || m != "0 0 0" {
			t.Errorf("after a refusal the quotas hold %s and %s", a, m)
		}
	}
	must(t, z.DeleteTransfer(z.ctx, alice, list[0].ID))
	if got := z.volume(v.ID).Status; got != block.VolumeAvailable {
		t.Errorf("after its offer was withdrawn the volume is %s", got)
	}
}

// TestTransferRaces: of many offers accepted at once as many succeed as the
// quota has room for, and no volume counts for two projects.
func TestTransferRaces(t *testing.T) {
	z := newZone(t)
	must(t, z.SetQuotas(z.ctx, operator, mallory.Project, map[string]int64{"volumes": 3}))
	type offer struct {
		id  block.TransferID
		key string
	}
	var offers []offer
	for range 6 {
		made, key := z.offer(z.make(control.NewVolume{Size: ptr(int64(1))}), control.NewTransfer{})
		offers = append(offers, offer{made.ID, key})
	}
	var wg sync.WaitGroup
	for _, o := range offers {
		for range 2 { // the same offer twice, too
			wg.Go(func() {
				_, err := z.AcceptTransfer(z.ctx, mallory, o.id, o.key)
				if err != nil && !block.Is(err, block.OverLimit) && !block.Is(err, block.NotFound) {
					t.Error(err)
				}
			})
		}
	}
	wg.Wait()
	if a, m := z.usage(alice), z.usage(mallory); a != "3 0 3" || m != "3 0 3" {
		t.Errorf("the quotas hold %s and %s", a, m)
	}
}

// TestTransferSecrets: the catalog holds no key.
func TestTransferSecrets(t *testing.T) {
	z := newZone(t)
	offer, key := z.offer(z.make(control.NewVolume{Size: ptr(int64(1))}), control.NewTransfer{})
	if text := fmt.Sprintf("%+v", offer); key == "" || offer.Lock.Hash == key || !offer.Lock.Opens(key) {
		t.Errorf("%s is kept for the key %s", text, key)
	}
	must(t, z.ForceDeleteVolume(z.ctx, operator, offer.VolumeID))
	z.work(z.ctx)
	if _, err := z.Transfer(z.ctx, alice, offer.ID); !block.Is(err, block.NotFound) {
		t.Errorf("the offer of a volume that is gone: %v", err)
	}
}
