package control_test

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/control"
	"kvol/internal/driver"
	"kvol/internal/driver/drivertest"
)

func volumeReverted(z *zone) func(bool) { return z.prepareRevert("") }

// volumeRevertedByWriting: a newer moment in the store is somebody's, and has
// to stay.
func volumeRevertedByWriting(z *zone) func(bool) { return z.prepareRevert("later") }

func (z *zone) prepareRevert(later block.PointID) func(bool) {
	v := z.make(control.NewVolume{Size: ptr(int64(1))})
	z.write(v, []byte("old"), 0)
	sn := z.snap(v.ID)
	z.write(v, []byte("new"), 0)
	z.write(v, []byte("more"), 5<<20)
	stored := []string{string(v.ID), string(v.ID) + "/" + string(sn.ID)}
	if later != "" {
		must(z.t, z.fast.CreateSnapshot(z.ctx, driver.SnapshotRef{Volume: v.ID, Name: later}))
		stored = append(stored, string(v.ID)+"/"+string(later))
	}
	must(z.t, z.RevertVolume(z.ctx, alice, v.ID, string(sn.ID)))
	if got := z.volume(v.ID); got.Status != block.VolumeReverting {
		z.t.Errorf("the volume is %s", got.Status)
	}
	return func(failed bool) {
		z.wantStatus(v.ID, failed, block.VolumeAvailable, block.VolumeError)
		if got, err := z.Snapshot(z.ctx, alice, sn.ID); err != nil || got.Status != block.SnapshotAvailable {
			z.t.Errorf("the snapshot is %s, %v", got.Status, err)
		}
		if failed {
			return
		}
		if got := z.content(z.volume(v.ID), 6<<20); got[:3] != "old" || strings.Trim(got[3:], "\x00") != "" {
			z.t.Errorf("the volume reads %q", got[:3])
		}
		z.wantStored(stored...)
	}
}

func volumeReimaged(z *zone) func(bool) {
	v := z.make(control.NewVolume{Size: ptr(int64(1))})
	z.write(v, []byte("old"), 8<<20)
	img := z.images.add(control.Image{Name: "i", DiskFormat: "raw"}, slices.Concat([]byte("img"), make([]byte, 1<<20)))
	must(z.t, z.ReimageVolume(z.ctx, alice, v.ID, img, false))
	return func(failed bool) {
		z.wantStatus(v.ID, failed, block.VolumeAvailable, block.VolumeError)
		if failed {
			return
		}
		v := z.volume(v.ID)
		if got := z.content(v, 9<<20); got[:3] != "img" || strings.Trim(got[3:], "\x00") != "" || !v.Bootable ||
			v.ImageMetadata["image_id"] != img {
			z.t.Errorf("the volume is %+v and reads %q", v, got[:3])
		}
	}
}

// volumeRetyped and its fellow give a volume a type of another backend, on its
// store and on another.
func volumeRetyped(z *zone) func(bool) { return z.prepareRetype("twin") }

func volumeRetypedAway(z *zone) func(bool) { return z.prepareRetype("slow") }

func (z *zone) prepareRetype(to string) func(bool) {
	v := z.make(control.NewVolume{Size: ptr(int64(1))})
	z.write(v, []byte("bytes"), 0)
	must(z.t, z.RetypeVolume(z.ctx, alice, v.ID, to, control.MigrateOnDemand))
	return func(failed bool) {
		got := z.volume(v.ID)
		want, migration := to, block.MigrationSuccess
		if failed {
			want = "fast"
		}
		if failed && to == "twin" { // its bytes need not be asked
			want = to
		} else if failed {
			migration = block.MigrationError
		}
		if got.Status != block.VolumeAvailable || got.TypeName != want || got.Backend != want ||
			got.MigrationStatus != migration {
			z.t.Errorf("the volume is %s, %s on %s, %q", got.Status, got.TypeName, got.Backend, got.MigrationStatus)
		}
		z.wantMoved(got, "bytes", failed)
	}
}

// wantMoved fails the test unless a volume is whole, and in one store.
func (z *zone) wantMoved(v block.Volume, content string, failed bool) {
	z.t.Helper()
	if got := z.content(v, len(content)); got != content {
		z.t.Errorf("the volume reads %q", got)
	}
	if !failed {
		z.wantStored(string(v.ID))
	}
}

func volumeMigrated(z *zone) func(bool) {
	v := z.make(control.NewVolume{Size: ptr(int64(1))})
	z.write(v, []byte("bytes"), 0)
	must(z.t, z.MigrateVolume(z.ctx, operator, v.ID, control.Migration{Backend: "slow", Lock: true}))
	if got := z.volume(v.ID); got.Status != block.VolumeMaintenance || got.MigrationStatus != block.MigrationStarting {
		z.t.Errorf("the volume is %s, %s", got.Status, got.MigrationStatus)
	}
	return func(failed bool) {
		got := z.volume(v.ID)
		backend, migration := "slow", block.MigrationSuccess
		if failed {
			backend, migration = "fast", block.MigrationError
		}
		if got.Status != block.VolumeAvailable || got.TypeName != "fast" || got.Backend != backend ||
			got.MigrationStatus != migration {
			z.t.Errorf("the volume is %s, %s on %s, %q", got.Status, got.TypeName, got.Backend, got.MigrationStatus)
		}
		z.wantMoved(got, "bytes", failed)
	}
}

func volumeForgotten(z *zone) func(bool) {
	v := z.make(control.NewVolume{Size: ptr(int64(1))})
	z.write(v, []byte("kept"), 0)
	sn := z.snap(v.ID)
	must(z.t, z.UnmanageSnapshot(z.ctx, operator, sn.ID))
	z.work(z.ctx)
	must(z.t, z.UnmanageVolume(z.ctx, operator, v.ID))
	// So that there are calls to disturb: a volume that is deleted meanwhile.
	other := z.make0()
	must(z.t, z.DeleteVolume(z.ctx, alice, other, false))
	return func(failed bool) {
		if _, err := z.Volume(z.ctx, operator, v.ID); !block.Is(err, block.NotFound) {
			z.t.Errorf("a volume that is not managed any more: %v", err)
		}
		if !failed {
			z.wantStored(string(v.ID), string(v.ID)+"/"+string(sn.ID))
		}
	}
}

// make0 creates a volume whose job has still to run.
func (z *zone) make0() block.VolumeID {
	z.t.Helper()
	v, err := z.CreateVolume(z.ctx, alice, control.NewVolume{Size: ptr(int64(1))})
	must(z.t, err)
	z.reset(v.ID, block.VolumeAvailable)
	return v.ID
}

// TestMoveAfterMove begins a second move before what the first leaves behind was
// removed. Each waits for the other's right part, and both come to their end.
func TestMoveAfterMove(t *testing.T) {
	z := newZone(t)
	v := z.make(control.NewVolume{Size: ptr(int64(1))})
	z.write(v, []byte("bytes"), 0)
	must(t, z.RetypeVolume(z.ctx, alice, v.ID, "slow", control.MigrateOnDemand))
	handlers := z.Handlers()
	delete(handlers, "move.end")
	z.workUntil(z.ctx, handlers, func() bool { return z.volume(v.ID).Status == block.VolumeAvailable })
	if got := z.stored(); len(got) < 2 {
		t.Errorf("the old bytes are gone: %v", got)
	}
	must(t, z.MigrateVolume(z.ctx, operator, v.ID, control.Migration{Backend: "fast"}))
	ctx, cancel := context.WithTimeout(z.ctx, 5*time.Minute)
	defer cancel()
	z.work(ctx)
	if got := z.volume(v.ID); got.Backend != "fast" || got.MigrationStatus != block.MigrationSuccess {
		t.Errorf("the volume is on %s, %s", got.Backend, got.MigrationStatus)
	}
	z.wantMoved(z.volume(v.ID), "bytes", false)
}

// TestMoveUnderAWriter retypes a volume to another store, and back, while a
// host writes to it by NBD over one connection. No write that was answered is
// lost, and the host notices nothing else.
func TestMoveUnderAWriter(t *testing.T) {
	z := newZone(t)
	v := z.make(control.NewVolume{Size: ptr(int64(1))})
	dial := z.serve()
	must(t, z.Attach(z.ctx, alice, v.ID, control.AttachRequest{HostName: ptr("h")}))
	name, _ := z.connect(v.ID, map[string]any{"host": "h"})
	conn, err := dial(name)
	must(t, err)
	const blocks = 64
	var wrote [blocks]int
	stop, stopped := make(chan struct{}), make(chan error, 1)
	go func() {
		p := make([]byte, driver.BlockSize)
		for n := 1; ; n++ {
			select {
			case <-stop:
				stopped <- nil
				return
			default:
			}
			at := n % blocks
			copy(p, fmt.Sprintf("%020d", n))
			if _, err := conn.WriteAt(p, int64(at)*(8<<20)); err != nil {
				stopped <- err
				return
			}
			wrote[at] = n
		}
	}()
	for _, to := range []string{"slow", "fast", "twin", "slow"} {
		must(t, z.RetypeVolume(z.ctx, alice, v.ID, to, control.MigrateOnDemand))
		z.work(z.ctx)
		if got := z.volume(v.ID); got.Status != block.VolumeInUse || got.Backend != to || got.TypeName != to {
			t.Fatalf("the volume is %s, %s on %s", got.Status, got.TypeName, got.Backend)
		}
	}
	close(stop)
	must(t, <-stopped)
	check := func(read func(p []byte, off int64) (int, error)) {
		t.Helper()
		p := make([]byte, driver.BlockSize)
		for at, n := range wrote {
			if _, err := read(p, int64(at)*(8<<20)); err != nil || n > 0 && !bytes.HasPrefix(p, fmt.Appendf(nil, "%020d", n)) {
				t.Fatalf("block %d reads %q, %v; %d was written", at, p[:20], err, n)
			}
		}
	}
	check(conn.ReadAt)
	must(t, conn.Flush())
	must(t, z.TerminateConnection(z.ctx, alice, v.ID, nil))
	dev, err := openOnce(z, "slow", v.ID)
	must(t, err)
	check(dev.ReadAt)
	must(t, dev.Close())
	z.wantStored(string(v.ID))
}

// openOnce opens a volume when its last user is gone.
func openOnce(z *zone, backend string, id block.VolumeID) (driver.Device, error) {
	for {
		dev, err := z.store(backend).OpenVolume(z.ctx, id)
		if !block.Is(err, block.Conflict) {
			return dev, err
		}
	}
}

// TestMoveIsStopped lets an administrator reset what a move is about while it
// is under way: the volume stays where it was, and the copy goes.
func TestMoveIsStopped(t *testing.T) {
	for what, reset := range map[string]control.VolumeReset{
		"migration status": {MigrationStatus: ptr("none")}, "status": {Status: ptr("available")},
	} {
		t.Run(what, func(t *testing.T) {
			z := newZone(t)
			v := z.make(control.NewVolume{Size: ptr(int64(1))})
			z.write(v, []byte("here"), 0)
			must(t, z.RetypeVolume(z.ctx, alice, v.ID, "slow", control.MigrateOnDemand))
			var once sync.Once
			z.slow.SetRule(func(drivertest.Call) error {
				once.Do(func() { must(t, z.ResetVolumeStatus(z.ctx, operator, v.ID, reset)) })
				return nil
			})
			z.work(z.ctx)
			z.leaveAlone()
			got := z.volume(v.ID)
			if got.Status != block.VolumeAvailable || got.Backend != "fast" || got.TypeName != "fast" || got.Migrating() {
				t.Errorf("the volume is %s, %s on %s, %q", got.Status, got.TypeName, got.Backend, got.MigrationStatus)
			}
			z.wantMoved(got, "here", false)
		})
	}
}

// TestMoveRefused: what may not move, and what may not be done to what moves.
func TestMoveRefused(t *testing.T) {
	z := newZone(t)
	v := z.make(control.NewVolume{Size: ptr(int64(1))})
	const cant = "Invalid volume: Retype needs volume to be in available or in-use state, not be part of an active " +
		"migration or a consistency group, requested type has to be different that the one from the volume, and for " +
		"in-use volumes front-end qos specs cannot change."
	retype := func(to string) error { return z.RetypeVolume(z.ctx, alice, v.ID, to, control.MigrateOnDemand) }
	wantError(t, "same type", retype("fast"), block.Invalid, cant)
	wantError(t, "no type", retype("none"), block.NotFound, "Volume type with name none could not be found.")
	wantError(t, "private type", retype("secret"), block.NotFound, "Volume type with name secret could not be found.")
	if err := retype("sized"); !block.Is(err, block.Invalid) {
		t.Errorf("a type for larger volumes: %v", err)
	}
	must(t, z.SetQuotas(z.ctx, operator, alice.Project, map[string]int64{"volumes_slow": 0}))
	wantError(t, "quota", retype("slow"), block.OverLimit,
		"VolumeLimitExceeded: Maximum number of volumes allowed (0) exceeded for quota 'volumes_slow'.")
	must(t, z.SetQuotas(z.ctx, operator, alice.Project, map[string]int64{"volumes_slow": 1}))
	must(t, retype("slow"))
	wantError(t, "retyping", retype("twin"), block.Invalid, cant)
	other := z.make1("slow") // takes the last of the type's quota
	z.work(z.ctx)
	if got := z.volume(v.ID); got.Status != block.VolumeAvailable || got.TypeName != "fast" {
		t.Errorf("beyond its quota a volume is %s, %s", got.Status, got.TypeName)
	}
	z.wantMessage("Not enough quota resource")
	must(t, z.DeleteVolume(z.ctx, alice, other, false))
	must(t, z.RetypeVolume(z.ctx, alice, v.ID, "twin", control.MigrateNever))
	z.work(z.ctx)
	if got := z.volume(v.ID); got.Status != block.VolumeAvailable || got.TypeName != "fast" {
		t.Errorf("a volume that may not migrate is %s, %s", got.Status, got.TypeName)
	}
	z.wantMessage("schedule allocate volume:Could not find any available weighted backend.")
	sn := z.snap(v.ID)
	must(t, retype("slow"))
	z.work(z.ctx)
	z.wantMessage("retype volume:The volume has snapshots")
	migrate := func(to string) error {
		return z.MigrateVolume(z.ctx, operator, v.ID, control.Migration{Backend: to, Host: "kvol@" + to})
	}
	where := "Invalid volume: Volume " + string(v.ID) + " status must be available or in-use, must not be migrating, " +
		"have snapshots, be replicated, be part of a group and destination host/cluster must be " +
		"different than the current one"
	wantError(t, "with a snapshot", migrate("slow"), block.Invalid, where)
	must(t, z.DeleteSnapshot(z.ctx, alice, sn.ID))
	z.work(z.ctx)
	wantError(t, "to where it is", migrate("fast"), block.Invalid, where)
	wantError(t, "to nowhere", migrate("zz"), block.Invalid, "Invalid host: No available service named 'kvol@zz'")
	must(t, migrate("slow"))
	wantError(t, "twice", migrate("twin"), block.Invalid, where)
	_, err := z.CreateSnapshot(z.ctx, alice, control.NewSnapshot{VolumeID: v.ID})
	wantError(t, "snapshot", err, block.Invalid, "Invalid volume: Snapshot cannot be created while volume is migrating.")
	if err := z.DeleteVolume(z.ctx, alice, v.ID, false); !block.Is(err, block.Invalid) {
		t.Errorf("deleting a volume that moves: %v", err)
	}
	must(t, z.ForceDeleteVolume(z.ctx, operator, v.ID))
	z.work(z.ctx)
	z.wantStored()
	z.settled()
}

// make1 asks for a volume of a type.
func (z *zone) make1(typeName string) block.VolumeID {
	z.t.Helper()
	v, err := z.CreateVolume(z.ctx, alice, control.NewVolume{Size: ptr(int64(1)), VolumeType: &typeName})
	must(z.t, err)
	return v.ID
}

func (z *zone) wantMessage(text string) {
	z.t.Helper()
	list, err := z.Messages(z.ctx, alice, block.ListQuery{Limit: -1})
	must(z.t, err)
	if !slices.ContainsFunc(list, func(m control.Message) bool { return strings.Contains(m.Text, text) }) {
		z.t.Errorf("no message says %q: %+v", text, list)
	}
}

// TestRevertRefused: which volume may be taken back to which snapshot.
func TestRevertRefused(t *testing.T) {
	z := newZone(t)
	v := z.make(control.NewVolume{Size: ptr(int64(1))})
	revert := func(to block.SnapshotID) error { return z.RevertVolume(z.ctx, alice, v.ID, string(to)) }
	wantError(t, "no snapshots", revert("x"), block.Invalid, "Volume "+string(v.ID)+" has no snapshots.")
	old, newest := z.snap(v.ID), z.snap(v.ID)
	wantError(t, "an older one", revert(old.ID), block.Invalid, "Specified snapshot "+string(old.ID)+
		" is None or not the latest one of volume "+string(v.ID)+".")
	cant := "Can't revert volume " + string(v.ID) + " to its latest snapshot " + string(newest.ID) + ". "
	must(t, z.ResetSnapshotStatus(z.ctx, operator, newest.ID, "error"))
	wantError(t, "in error", revert(newest.ID), block.Conflict,
		"Invalid snapshot: "+cant+"Snapshot's status must be 'available'.")
	must(t, z.ResetSnapshotStatus(z.ctx, operator, newest.ID, "available"))
	z.reset(v.ID, block.VolumeInUse)
	wantError(t, "in use", revert(newest.ID), block.Conflict,
		"Invalid volume: "+cant+"Volume's status must be 'available'.")
	z.reset(v.ID, block.VolumeAvailable)
	must(t, z.ExtendVolume(z.ctx, alice, v.ID, 2))
	z.work(z.ctx)
	wantError(t, "extended", revert(newest.ID), block.Conflict, "Invalid volume: "+cant+"The volume was extended since.")
}

// TestManage forgets a volume with a snapshot and takes both up again.
func TestManage(t *testing.T) {
	z := newZone(t)
	v := z.make(control.NewVolume{Size: ptr(int64(2)), Name: ptr("first")})
	z.write(v, []byte("kept"), 0)
	sn := z.snap(v.ID)
	if err := z.UnmanageVolume(z.ctx, operator, v.ID); !block.Is(err, block.Invalid) {
		t.Errorf("a volume with snapshots is given up: %v", err)
	}
	must(t, z.UnmanageSnapshot(z.ctx, operator, sn.ID))
	z.work(z.ctx)
	page := control.ManagePage{Limit: 10, Ascending: true}
	list, err := z.ManageableSnapshots(z.ctx, operator, "fast", "h", page)
	must(t, err)
	if len(list) != 1 || !list[0].Safe || list[0].Name != string(sn.ID) || list[0].Volume != v.ID || list[0].Size != 2 {
		t.Errorf("the snapshots are %+v", list)
	}
	must(t, z.UnmanageVolume(z.ctx, operator, v.ID))
	z.work(z.ctx)
	other := z.make(control.NewVolume{Size: ptr(int64(1))})
	list, err = z.ManageableVolumes(z.ctx, operator, "fast", "h", control.ManagePage{Limit: 10, BySize: true})
	must(t, err)
	if len(list) != 2 || !list[0].Safe || list[0].Name != string(v.ID) || list[1].Safe ||
		list[1].ID != string(other.ID) || list[1].Reason != "already managed" {
		t.Errorf("the volumes are %+v", list)
	}
	manage := func(source string) error {
		_, err := z.ManageVolume(z.ctx, operator, control.NewManaged{Backend: "fast", Source: source, Name: ptr("again")})
		return err
	}
	wantError(t, "another", manage(string(other.ID)), block.Invalid,
		"Unable to manage existing volume. Volume "+string(other.ID)+" already managed.")
	wantError(t, "nothing", manage("x"), block.Invalid, "Manage existing volume failed due to invalid backend reference "+
		"{'source-name': 'x'}: Volume does not exist.")
	must(t, manage(string(v.ID)))
	got := z.volume(v.ID)
	if got.Status != block.VolumeAvailable || got.Size != 2 || *got.Name != "again" || got.TypeName != "fast" ||
		got.Project != operator.Project || z.content(got, 4) != "kept" {
		t.Errorf("the volume is %+v", got)
	}
	made, err := z.ManageSnapshot(z.ctx, operator, control.NewSnapshot{VolumeID: v.ID}, string(sn.ID))
	must(t, err)
	if made.Status != block.SnapshotAvailable || made.Size != 2 || made.ID != sn.ID {
		t.Errorf("the snapshot is %+v", made)
	}
	_, err = z.ManageSnapshot(z.ctx, operator, control.NewSnapshot{VolumeID: v.ID}, string(sn.ID))
	wantError(t, "twice", err, block.Invalid,
		"Unable to manage existing snapshot. Volume "+string(sn.ID)+" already managed.")
	must(t, z.catalog.View(z.ctx, func(tx *catalog.Tx) error { _, err := tx.Snapshot(sn.ID); return err }))
}

// moveMethods are what a caller can ask that gives a volume or a snapshot
// another content, type or place; see methods.
func moveMethods(z *zone, c block.Caller, v block.VolumeID, sn block.SnapshotID) map[string]func() error {
	ctx := z.ctx
	return map[string]func() error{
		"RevertVolume":  func() error { return z.RevertVolume(ctx, c, v, string(sn)) },
		"ReimageVolume": func() error { return z.ReimageVolume(ctx, c, v, "x", false) },
		"RetypeVolume":  func() error { return z.RetypeVolume(ctx, c, v, "slow", control.MigrateOnDemand) },
		"MigrateVolume": func() error { return z.MigrateVolume(ctx, c, v, control.Migration{Backend: "slow"}) },
		"CompleteMigration": func() error {
			_, err := z.CompleteMigration(ctx, c, v, v)
			return err
		},
		"UnmanageVolume":       func() error { return z.UnmanageVolume(ctx, c, v) },
		"UnmanageSnapshot":     func() error { return z.UnmanageSnapshot(ctx, c, sn) },
		"UpdateSnapshotStatus": func() error { return z.UpdateSnapshotStatus(ctx, c, sn, "error", nil) },
	}
}

// storeMethods are for administrators alone, and name what lies in stores.
var storeMethods = []string{"ManageableVolumes", "ManageVolume", "ManageableSnapshots", "ManageSnapshot"}

// TestMoveRules: what members may not do.
func TestMoveRules(t *testing.T) {
	z := newZone(t)
	v := z.make(control.NewVolume{Size: ptr(int64(1))})
	sn := z.snap(v.ID)
	ask := moveMethods(z, alice, v.ID, sn.ID)
	none := func(_ any, err error) error { return err }
	for rule, err := range map[string]error{
		"volume_extension:volume_admin_actions:migrate_volume":            ask["MigrateVolume"](),
		"volume_extension:volume_admin_actions:migrate_volume_completion": ask["CompleteMigration"](),
		"volume_extension:volume_unmanage":                                ask["UnmanageVolume"](),
		"snapshot_extension:snapshot_unmanage":                            ask["UnmanageSnapshot"](),
		"volume_extension:list_manageable": none(z.ManageableVolumes(z.ctx, alice, "fast", "h",
			control.ManagePage{})),
		"snapshot_extension:list_manageable": none(z.ManageableSnapshots(z.ctx, alice, "fast", "h",
			control.ManagePage{})),
		"volume_extension:volume_manage": none(z.ManageVolume(z.ctx, alice, control.NewManaged{Backend: "fast"})),
		"snapshot_extension:snapshot_manage": none(z.ManageSnapshot(z.ctx, alice,
			control.NewSnapshot{VolumeID: v.ID}, "x")),
	} {
		wantError(t, rule, err, block.Forbidden, "Policy doesn't allow "+rule+" to be performed.")
	}
	wantError(t, "progress", z.UpdateSnapshotStatus(z.ctx, alice, sn.ID, "available", ptr("80%")), block.Invalid,
		"Snapshot status available not allowed for update_snapshot_status")
}
