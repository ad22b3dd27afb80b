package control_test

import (
	"testing"

	"kvol/internal/block"
	"kvol/internal/control"
)

// TestAttachments goes the way of a client: reserve, connect, attach, begin to
// detach, disconnect, detach.
func TestAttachments(t *testing.T) {
	z := newZone(t)
	v := z.make(control.NewVolume{Size: ptr(int64(1))})
	const server = "22222222-2222-2222-2222-222222222222"
	must(t, z.Reserve(z.ctx, alice, v.ID))
	name, _ := z.connect(v.ID, map[string]any{"host": "h"})
	must(t, z.Attach(z.ctx, alice, v.ID, control.AttachRequest{ServerID: ptr(server), Device: "/dev/vdb"}))
	must(t, z.Attach(z.ctx, alice, v.ID, control.AttachRequest{ServerID: ptr(server), Device: "/dev/vdb"}))
	v = z.volume(v.ID)
	if a := v.Attachments; v.Status != block.VolumeInUse || len(a) != 1 || *a[0].ServerID != server ||
		a[0].HostName != nil || *a[0].Device != "/dev/vdb" || a[0].Mode != "rw" || a[0].Status != "attached" ||
		a[0].AttachedAt.IsZero() {
		t.Errorf("attached %+v", v)
	}
	err := z.Attach(z.ctx, alice, v.ID, control.AttachRequest{HostName: ptr("h")})
	wantError(t, "twice", err, block.Invalid, "Error attaching volume - InvalidVolume: Invalid "+
		"volume: volume is already attached and multiple attachments are not enabled")
	must(t, z.BeginDetaching(z.ctx, alice, v.ID))
	must(t, z.RollDetaching(z.ctx, alice, v.ID))
	must(t, z.BeginDetaching(z.ctx, alice, v.ID))
	must(t, z.Detach(z.ctx, alice, v.ID, &v.Attachments[0].ID))
	if v = z.volume(v.ID); v.Status != block.VolumeAvailable || len(v.Attachments) != 0 {
		t.Errorf("detached %+v", v)
	}
	if _, err := z.Exports().Open(z.ctx, name); !block.Is(err, block.NotFound) {
		t.Errorf("the export after the last host left: %v", err)
	}
	for _, req := range []control.AttachRequest{
		{}, {ServerID: ptr(server), HostName: ptr("h")}, {HostName: ptr("h"), Mode: "zz"},
	} {
		if err := z.Attach(z.ctx, alice, v.ID, req); !block.Is(err, block.Invalid) {
			t.Errorf("%+v: %v", req, err)
		}
	}
	must(t, z.SetReadonly(z.ctx, alice, v.ID, true))
	err = z.Attach(z.ctx, alice, v.ID, control.AttachRequest{HostName: ptr("h"), Mode: "rw"})
	wantError(t, "rw to a read-only volume", err, block.Invalid,
		"Invalid attaching mode 'rw' for volume "+string(v.ID)+".")
	must(t, z.Attach(z.ctx, alice, v.ID, control.AttachRequest{HostName: ptr("h")}))
	if a := z.volume(v.ID).Attachments; a[0].Mode != "ro" {
		t.Errorf("the mode of a read-only volume is %s", a[0].Mode)
	}
}

func TestMultiattach(t *testing.T) {
	z := newZone(t)
	v := z.make(control.NewVolume{Size: ptr(int64(1)), VolumeType: ptr("shared")})
	for _, host := range []string{"a", "b"} {
		must(t, z.Reserve(z.ctx, alice, v.ID))
		must(t, z.Attach(z.ctx, alice, v.ID, control.AttachRequest{HostName: &host}))
	}
	v = z.volume(v.ID)
	if !v.Multiattach || len(v.Attachments) != 2 || v.Status != block.VolumeInUse {
		t.Fatalf("shared: %+v", v)
	}
	wantError(t, "which one", z.Detach(z.ctx, alice, v.ID, nil), block.Conflict,
		"ConflictNovaUsingAttachment: Detach volume from instance  using the Compute API")
	wantError(t, "which one", z.Detach(z.ctx, compute, v.ID, nil), block.Invalid,
		"Error detaching volume - InvalidVolume: Invalid volume: Detach volume failed: More than one attachment, but "+
			"no attachment_id provided.")
	must(t, z.Detach(z.ctx, alice, v.ID, &v.Attachments[0].ID))
	if s := z.volume(v.ID).Status; s != block.VolumeInUse {
		t.Errorf("with one host left: %s", s)
	}
	must(t, z.Detach(z.ctx, alice, v.ID, nil))
	if s := z.volume(v.ID).Status; s != block.VolumeAvailable {
		t.Errorf("with no host left: %s", s)
	}
}

// TestDetachWhileExtending: the host is gone for certain, so the attachment
// goes; where the volume rests afterwards is found out when the job ends.
func TestDetachWhileExtending(t *testing.T) {
	z := newZone(t)
	v := z.make(control.NewVolume{Size: ptr(int64(1))})
	must(t, z.Attach(z.ctx, alice, v.ID, control.AttachRequest{HostName: ptr("h")}))
	must(t, z.ExtendVolume(z.ctx, alice, v.ID, 2))
	must(t, z.Detach(z.ctx, alice, v.ID, nil))
	if s := z.volume(v.ID).Status; s != block.VolumeExtending {
		t.Errorf("detached while it extends: %s", s)
	}
	z.work(z.ctx)
	if s := z.volume(v.ID).Status; s != block.VolumeAvailable {
		t.Errorf("extended: %s", s)
	}
}

func TestResetStatus(t *testing.T) {
	z := newZone(t)
	v := z.make(control.NewVolume{Size: ptr(int64(1))})
	reset := func(r control.VolumeReset) error { return z.ResetVolumeStatus(z.ctx, operator, v.ID, r) }
	if err := reset(control.VolumeReset{Status: ptr("in-use")}); !block.Is(err, block.Invalid) {
		t.Errorf("in-use without a host: %v", err)
	}
	if err := reset(control.VolumeReset{Status: ptr("deleting")}); !block.Is(err, block.Invalid) {
		t.Errorf("deleting without a job: %v", err)
	}
	must(t, z.Attach(z.ctx, alice, v.ID, control.AttachRequest{HostName: ptr("h")}))
	must(t, reset(control.VolumeReset{Status: ptr("error")}))
	wantError(t, "delete what a host holds", z.DeleteVolume(z.ctx, alice, v.ID, false), block.Invalid, cantDelete)
	wantError(t, "delete it by force", z.ForceDeleteVolume(z.ctx, operator, v.ID), block.Invalid, cantDelete)
	name, _ := z.connect(v.ID, nil)
	x, err := z.Exports().Open(z.ctx, name)
	must(t, err)
	must(t, reset(control.VolumeReset{Status: ptr("available"), AttachStatus: ptr("detached"),
		MigrationStatus: ptr("none")}))
	<-x.Revoked
	x.Release()
	if v = z.volume(v.ID); v.Status != block.VolumeAvailable || len(v.Attachments) != 0 {
		t.Errorf("reset to %+v", v)
	}
	must(t, z.DeleteVolume(z.ctx, alice, v.ID, false))
	z.work(z.ctx)
	z.wantStored()
}
