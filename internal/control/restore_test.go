package control_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/control"
	"kvol/internal/job"
)

// TestRestoreCutsHostsOff: an available volume may have hosts that are connected. They
// neither write to it while a backup is restored to it, nor go on with its old key.
func TestRestoreCutsHostsOff(t *testing.T) {
	for name, encrypted := range map[string]bool{"clear": false, "encrypted": true} {
		t.Run(name, func(t *testing.T) {
			z := newZone(t)
			v, b := z.sealedPair()
			if !encrypted {
				v = z.filled(hushed)
				b = z.backedUp(control.NewBackup{VolumeID: z.filled(others).ID})
			}
			export, _ := z.connect(v.ID, map[string]any{"host": "h"})
			x, err := z.Exports().Open(z.ctx, export)
			must(t, err)
			go func() { // as a server does
				<-x.Revoked
				x.Release()
			}()
			_, err = z.RestoreBackup(z.ctx, alice, b.ID, &v.ID, nil)
			must(t, err)
			if y, err := z.Exports().Open(z.ctx, export); !block.Is(err, block.Unavailable) {
				t.Errorf("a volume that is restored is opened: %v", err)
				y.Release()
			}
			z.work(z.ctx)
			z.wantStatus(v.ID, false, block.VolumeAvailable, "")
			select {
			case <-x.Revoked:
			default:
				t.Error("the host is still there")
			}
			if _, err := x.Device.WriteAt([]byte(hushed), 0); err == nil {
				t.Error("a host that was there before the restore writes after it")
			}
			if got := z.atHost(z.volume(v.ID), "", len(others)); got != others {
				t.Errorf("the volume reads %q", got)
			}
		})
	}
}

// tried tells when an attempt at a job has ended.
type tried struct {
	job.Handler
	once atomic.Bool
}

func (t *tried) Run(ctx context.Context, task *job.Task) error {
	defer t.once.Store(true)
	return t.Handler.Run(ctx, task)
}

// TestRestoreWaitsForReaders: what was asked for before is of what the volume was
// then, though its job has its turn later.
func TestRestoreWaitsForReaders(t *testing.T) {
	for kind, ask := range map[string]func(*zone, block.Volume) (read func() string){
		"volume.create": func(z *zone, v block.Volume) func() string {
			made, err := z.CreateVolume(z.ctx, alice, control.NewVolume{SourceVolumeID: &v.ID})
			must(z.t, err)
			return func() string { return z.content(z.volume(made.ID), 3) }
		},
		"snapshot.create": func(z *zone, v block.Volume) func() string {
			sn, err := z.CreateSnapshot(z.ctx, alice, control.NewSnapshot{VolumeID: v.ID})
			must(z.t, err)
			return func() string { return z.atSnapshot(v, sn, 3) }
		},
		"group_snapshot.create": func(z *zone, v block.Volume) func() string {
			gs, err := z.CreateGroupSnapshot(z.ctx, alice, control.NewGroupSnapshot{Group: *v.GroupID})
			must(z.t, err)
			return func() string { return z.atSnapshot(v, z.snapshotsOf(gs.ID)[0], 3) }
		},
	} {
		t.Run(kind, func(t *testing.T) {
			z := newZone(t)
			_, volumes := z.group("one")
			v := volumes[0]
			b := z.backedUp(control.NewBackup{VolumeID: v.ID})
			z.write(v, []byte("two"), 0)
			read := ask(z, v)
			_, err := z.RestoreBackup(z.ctx, alice, b.ID, &v.ID, nil)
			must(t, err)
			handlers := z.Handlers()
			delete(handlers, kind)
			tried := &tried{Handler: handlers["backup.restore"]}
			handlers["backup.restore"] = tried
			z.workUntil(z.ctx, handlers, tried.once.Load)
			z.work(z.ctx)
			z.wantStatus(v.ID, false, block.VolumeAvailable, "")
			if got, made := z.content(z.volume(v.ID), 3), read(); got != "one" || made != "two" {
				t.Errorf("the volume reads %q, and what was asked for before %q", got, made)
			}
		})
	}
}

// TestRestoreOfMovingVolume: a move waits for what is done to its volume, which must
// not wait for the move.
func TestRestoreOfMovingVolume(t *testing.T) {
	z := newZone(t)
	v := z.filled("one")
	b := z.backedUp(control.NewBackup{VolumeID: v.ID})
	must(t, z.MigrateVolume(z.ctx, operator, v.ID, control.Migration{Backend: "slow"}))
	_, err := z.RestoreBackup(z.ctx, alice, b.ID, &v.ID, nil)
	wantError(t, "a volume that moves", err, block.Invalid,
		"Invalid volume: Volume to be restored to must be available")
	ctx, stop := context.WithTimeout(z.ctx, time.Minute)
	defer stop()
	z.work(ctx)
	z.settled()
}

// TestRestoreOvertaken: an administrator sets the status of a volume that is restored,
// and another backup is restored to it. Neither job waits for the other, and both
// backups are free in the end.
func TestRestoreOvertaken(t *testing.T) {
	z := newZone(t)
	v := z.filled("one")
	b := z.backedUp(control.NewBackup{VolumeID: v.ID})
	next := z.backedUp(control.NewBackup{VolumeID: z.filled("two").ID})
	for _, id := range []block.BackupID{b.ID, next.ID} {
		_, err := z.RestoreBackup(z.ctx, alice, id, &v.ID, nil)
		must(t, err)
		if id == b.ID {
			z.reset(v.ID, block.VolumeAvailable)
		}
	}
	ctx, stop := context.WithTimeout(z.ctx, time.Minute)
	defer stop()
	z.work(ctx)
	z.settled()
	z.wantStatus(v.ID, false, block.VolumeAvailable, "")
	z.wantBackup(b.ID, block.BackupAvailable)
	z.wantBackup(next.ID, block.BackupAvailable)
	if got := z.content(z.volume(v.ID), 3); got != "two" {
		t.Errorf("the volume reads %q", got)
	}
}

// TestRestoreAfterUpload: an upload whose end was lost does not take the restore for a
// reason to remove its image.
func TestRestoreAfterUpload(t *testing.T) {
	z := newZone(t)
	v := z.filled("one")
	b := z.backedUp(control.NewBackup{VolumeID: v.ID})
	up, err := z.UploadImage(z.ctx, alice, v.ID, control.UploadRequest{ImageName: "i"})
	must(t, err)
	handlers := z.Handlers()
	u := &unended{Handler: handlers["volume.upload"]}
	handlers["volume.upload"] = u
	z.workUntil(z.ctx, handlers, func() bool { return u.lost })
	_, err = z.RestoreBackup(z.ctx, alice, b.ID, &v.ID, nil)
	must(t, err)
	z.workUntil(z.ctx, map[string]job.Handler{"volume.upload": handlers["volume.upload"]}, func() (over bool) {
		must(t, z.catalog.View(z.ctx, func(tx *catalog.Tx) error {
			open, err := tx.OpenJobs("volume.upload")
			over = len(open) == 0
			return err
		}))
		return over
	})
	z.work(z.ctx)
	z.wantStatus(v.ID, false, block.VolumeAvailable, "")
	if img, err := z.images.Find(z.ctx, alice, up.ImageID); err != nil || img.Status != "active" {
		t.Errorf("the image is %s, %v", img.Status, err)
	}
}
