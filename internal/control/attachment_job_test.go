package control_test

import (
	"sync"
	"testing"

	"kvol/internal/block"
	"kvol/internal/control"
	"kvol/internal/driver/drivertest"
)

// worksOnAttached are the jobs that work on a volume while servers use it.
var worksOnAttached = map[block.VolumeStatus]func(*zone, block.VolumeID) error{
	block.VolumeBackingUp: func(z *zone, id block.VolumeID) error {
		return failure(z.CreateBackup(z.ctx, alice, control.NewBackup{VolumeID: id, Force: true}))
	},
	block.VolumeUploading: func(z *zone, id block.VolumeID) error {
		return failure(z.UploadImage(z.ctx, alice, id, control.UploadRequest{ImageName: "i", Force: true}))
	},
	block.VolumeExtending: func(z *zone, id block.VolumeID) error { return z.ExtendVolume(z.ctx, alice, id, 2) },
	block.VolumeRetyping: func(z *zone, id block.VolumeID) error {
		return z.RetypeVolume(z.ctx, alice, id, "twin", control.MigrateOnDemand)
	},
}

func failure[T any](_ T, err error) error { return err }

// attach lets a server attach a volume from a host.
func (z *zone) attach(id block.VolumeID, server *string, host string) block.AttachmentID {
	z.t.Helper()
	a, err := z.CreateAttachment(z.ctx, alice, control.NewAttachment{VolumeID: id, ServerID: server,
		Connector: map[string]any{"host": host}})
	must(z.t, err)
	return a.ID
}

func (z *zone) wantVolume(when string, id block.VolumeID, want block.VolumeStatus) {
	z.t.Helper()
	if v := z.volume(id); v.Status != want {
		z.t.Errorf("%s the volume is %s, want %s; its attachments are %+v", when, v.Status, want, v.Attachments)
	}
}

// TestAttachmentsWhileWorkedOn: a server moves to another host while a job works
// on its volume. At the end of the job the volume is what its attachments say.
func TestAttachmentsWhileWorkedOn(t *testing.T) {
	server := ptr("22222222-2222-2222-2222-222222222222")
	for status, begin := range worksOnAttached {
		for _, complete := range []bool{true, false} {
			z := newZone(t)
			v := z.make(control.NewVolume{Size: ptr(int64(1))})
			before := z.attach(v.ID, server, "a")
			must(t, z.CompleteAttachment(z.ctx, alice, before))
			after := z.attach(v.ID, server, "b")
			must(t, begin(z, v.ID))
			must(t, failure(z.DeleteAttachment(z.ctx, compute, before)))
			want := block.VolumeAttaching
			if complete {
				want = block.VolumeInUse
				must(t, z.CompleteAttachment(z.ctx, alice, after))
			}
			z.wantVolume("meanwhile", v.ID, status)
			z.work(z.ctx)
			z.wantVolume(string(status)+" ended:", v.ID, want)
		}
	}
}

// TestAttachmentsWhileMaintained: the volume was available when the job began,
// and who waits for it still waits when it ends.
func TestAttachmentsWhileMaintained(t *testing.T) {
	z := newZone(t)
	v := z.make(control.NewVolume{Size: ptr(int64(1))})
	a, err := z.CreateAttachment(z.ctx, alice, control.NewAttachment{VolumeID: v.ID})
	must(t, err)
	must(t, z.ResetVolumeStatus(z.ctx, operator, v.ID, control.VolumeReset{Status: ptr("available")}))
	must(t, z.MigrateVolume(z.ctx, operator, v.ID, control.Migration{Backend: "slow", Lock: true}))
	z.wantVolume("meanwhile", v.ID, block.VolumeMaintenance)
	must(t, z.CompleteAttachment(z.ctx, alice, a.ID))
	z.work(z.ctx)
	z.wantVolume("moved", v.ID, block.VolumeInUse)
}

// TestDetachLeavesReservations: os-detach and os-unreserve leave the volume to
// the attachments that remain.
func TestDetachLeavesReservations(t *testing.T) {
	z := newZone(t)
	v := z.make(control.NewVolume{Size: ptr(int64(1))})
	server := ptr("22222222-2222-2222-2222-222222222222")
	a := z.attach(v.ID, server, "a")
	must(t, z.CompleteAttachment(z.ctx, alice, a))
	b, err := z.CreateAttachment(z.ctx, alice, control.NewAttachment{VolumeID: v.ID, ServerID: server})
	must(t, err)
	must(t, z.Detach(z.ctx, compute, v.ID, &a))
	z.wantVolume("with a reservation left", v.ID, block.VolumeReserved)
	must(t, failure(z.UpdateAttachment(z.ctx, alice, b.ID, hostH)))
	must(t, z.Unreserve(z.ctx, alice, v.ID))
	z.wantVolume("with one that is connected", v.ID, block.VolumeAttaching)
	must(t, failure(z.DeleteAttachment(z.ctx, compute, b.ID)))
	z.wantVolume("with none", v.ID, block.VolumeAvailable)
}

// TestReserveWhileDownloading: the job writes its image to the end, and then the
// volume is kept for who reserved it meanwhile. Until then no host gets a path.
func TestReserveWhileDownloading(t *testing.T) {
	z := newZone(t)
	image := z.images.add(control.Image{Name: "i", DiskFormat: "raw"}, []byte("img"))
	one := control.NewAttachment{ServerID: ptr("22222222-2222-2222-2222-222222222222")}
	reserve := func(id block.VolumeID) {
		one.VolumeID = id
		a, err := z.CreateAttachment(z.ctx, alice, one)
		must(t, err)
		z.wantVolume("meanwhile", id, block.VolumeDownloading)
		no := "Invalid volume: Volume " + string(id) + " can't be connected while it is downloading."
		wantError(t, "with a connector", failure(z.UpdateAttachment(z.ctx, alice, a.ID, hostH)), block.Invalid, no)
		again := one
		again.Connector = hostH
		wantError(t, "anew with a connector", failure(z.CreateAttachment(z.ctx, alice, again)), block.Invalid, no)
		if err := failure(z.InitializeConnection(z.ctx, alice, id, hostH)); !block.Is(err, block.Invalid) {
			t.Errorf("os-initialize_connection: %v", err)
		}
		wantError(t, "for another server", failure(z.CreateAttachment(z.ctx, alice, control.NewAttachment{VolumeID: id})),
			block.Invalid, "Invalid volume: Volume "+string(id)+
				" status must be available or downloading to reserve, but the current status is reserved.")
	}
	wantReserved := func(id block.VolumeID) {
		z.work(z.ctx)
		z.wantVolume("downloaded", id, block.VolumeReserved)
		if v := z.volume(id); !v.Bootable || z.content(v, 3) != "img" {
			t.Errorf("the volume is %+v and reads %q", v, z.content(v, 3))
		}
	}

	v, err := z.CreateVolume(z.ctx, alice, control.NewVolume{Size: ptr(int64(1)), ImageRef: &image})
	must(t, err)
	var once sync.Once
	z.fast.SetRule(func(drivertest.Call) error {
		once.Do(func() { reserve(v.ID) })
		return nil
	})
	wantReserved(v.ID)
	z.fast.SetRule(nil)

	v = z.make(control.NewVolume{Size: ptr(int64(1))})
	must(t, z.ReimageVolume(z.ctx, alice, v.ID, image, false))
	reserve(v.ID)
	wantReserved(v.ID)
}

// TestReimageOfNobodys: a reserved volume that nobody waits for any more when its
// new image is there is available.
func TestReimageOfNobodys(t *testing.T) {
	z := newZone(t)
	image := z.images.add(control.Image{Name: "i", DiskFormat: "raw"}, []byte("img"))
	v := z.make(control.NewVolume{Size: ptr(int64(1))})
	a, err := z.CreateAttachment(z.ctx, alice, control.NewAttachment{VolumeID: v.ID})
	must(t, err)
	must(t, z.ReimageVolume(z.ctx, alice, v.ID, image, true))
	must(t, failure(z.DeleteAttachment(z.ctx, alice, a.ID)))
	z.wantVolume("meanwhile", v.ID, block.VolumeDownloading)
	z.work(z.ctx)
	z.wantVolume("with its new image", v.ID, block.VolumeAvailable)
}

// TestCompleteWhileDetaching: one host takes the volume while another lets it go, and
// keeps it when that one is gone.
func TestCompleteWhileDetaching(t *testing.T) {
	z := newZone(t)
	v := z.make(control.NewVolume{Size: ptr(int64(1))})
	server := ptr("22222222-2222-2222-2222-222222222222")
	a := z.attach(v.ID, server, "a")
	must(t, z.CompleteAttachment(z.ctx, alice, a))
	b := z.attach(v.ID, server, "b")
	must(t, z.ResetVolumeStatus(z.ctx, operator, v.ID, control.VolumeReset{Status: ptr("detaching")}))
	must(t, z.CompleteAttachment(z.ctx, alice, b))
	z.wantVolume("meanwhile", v.ID, block.VolumeDetaching)
	must(t, z.Detach(z.ctx, compute, v.ID, &a))
	z.wantVolume("with the other host", v.ID, block.VolumeInUse)
	must(t, failure(z.DeleteAttachment(z.ctx, compute, b)))
	z.wantVolume("with none", v.ID, block.VolumeAvailable)
}
