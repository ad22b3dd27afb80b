package control_test

import (
	"testing"

	"kvol/internal/block"
	"kvol/internal/control"
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
