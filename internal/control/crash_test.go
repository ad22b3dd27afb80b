package control_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/control"
	"kvol/internal/driver/drivertest"
)

// scenario is a change of which the job is disturbed. prepare states the
// intent; check looks at what became of it.
type scenario struct {
	prepare func(z *zone) (check func(failed bool))
}

func (z *zone) wantStored(want ...string) {
	z.t.Helper()
	slices.Sort(want)
	if got := z.stored(); !slices.Equal(got, want) {
		z.t.Errorf("the stores hold %v, want %v", got, want)
	}
}

func (z *zone) wantStatus(id block.VolumeID, failed bool, good, bad block.VolumeStatus) {
	z.t.Helper()
	want := good
	if failed {
		want = bad
	}
	if got := z.volume(id).Status; got != want {
		z.t.Errorf("the volume is %s, want %s", got, want)
	}
}

func (z *zone) wantGone(id block.VolumeID, failed bool) {
	z.t.Helper()
	if failed {
		z.wantStatus(id, failed, "", block.VolumeErrorDeleting)
		return
	}
	if _, err := z.Volume(z.ctx, operator, id); !block.Is(err, block.NotFound) {
		z.t.Errorf("after its deletion: %v", err)
	}
	if used, err := z.Limits(z.ctx, alice); err != nil || used["volumes"].InUse != 0 || used["gigabytes"].InUse != 0 {
		z.t.Errorf("its quota is still in use: %v, %v", used, err)
	}
}

var scenarios = map[string]scenario{
	"group from group":        {groupFromGroup},
	"group from snapshot":     {groupFromSnapshot},
	"group snapshot":          {groupSnapshotMade},
	"group snapshot deletion": {groupSnapshotDeleted},
	"group deletion":          {groupDeleted},
	"revert":                  {volumeReverted},
	"revert by writing":       {volumeRevertedByWriting},
	"reimage":                 {volumeReimaged},
	"retype":                  {volumeRetyped},
	"retype to another store": {volumeRetypedAway},
	"migration":               {volumeMigrated},
	"unmanage":                {volumeForgotten},
	"encrypted copies":        {encryptedCopies},
	"encrypted deletion":      {encryptedDeletion},
	"create": {func(z *zone) func(bool) {
		v, err := z.CreateVolume(z.ctx, alice, control.NewVolume{Size: ptr(int64(1))})
		must(z.t, err)
		return func(failed bool) {
			z.wantStatus(v.ID, failed, block.VolumeAvailable, block.VolumeError)
			if !failed {
				z.wantStored(string(v.ID))
			}
		}
	}},
	"create from snapshot": {func(z *zone) func(bool) {
		v := z.make(control.NewVolume{Size: ptr(int64(1))})
		z.write(v, []byte("old"), 0)
		sn := z.snap(v.ID)
		z.write(v, []byte("new"), 0)
		return z.prepareMade(v, string(v.ID)+"/"+string(sn.ID),
			control.NewVolume{SnapshotID: &sn.ID, VolumeType: ptr("twin"), Size: ptr(int64(2))}, "old")
	}},
	"create from volume": {func(z *zone) func(bool) {
		v := z.make(control.NewVolume{Size: ptr(int64(1))})
		z.write(v, []byte("now"), 0)
		return z.prepareMade(v, "", control.NewVolume{SourceVolumeID: &v.ID}, "now")
	}},
	"create from volume on another store": {func(z *zone) func(bool) {
		v := z.make(control.NewVolume{Size: ptr(int64(1))})
		z.write(v, []byte("now"), 0)
		return z.prepareMade(v, "", control.NewVolume{SourceVolumeID: &v.ID, VolumeType: ptr("slow")}, "now")
	}},
	"create from image": {func(z *zone) func(bool) {
		img := z.images.add(control.Image{Name: "i", DiskFormat: "raw"}, slices.Concat([]byte("img"), make([]byte, 3<<20)))
		v, err := z.CreateVolume(z.ctx, alice, control.NewVolume{ImageRef: &img, Size: ptr(int64(1))})
		must(z.t, err)
		return func(failed bool) {
			z.wantStatus(v.ID, failed, block.VolumeAvailable, block.VolumeError)
			if v := z.volume(v.ID); !failed && (!v.Bootable || v.ImageMetadata["image_id"] != img ||
				z.content(v, 3) != "img") {
				z.t.Errorf("the volume is %+v", v)
			}
		}
	}},
	"extend": {func(z *zone) func(bool) {
		v := z.make(control.NewVolume{Size: ptr(int64(1))})
		must(z.t, z.ExtendVolume(z.ctx, alice, v.ID, 3))
		return func(failed bool) {
			z.wantStatus(v.ID, failed, block.VolumeAvailable, block.VolumeErrorExtending)
			if size := z.volume(v.ID).Size; size != map[bool]int64{false: 3, true: 1}[failed] {
				z.t.Errorf("the volume has %d GiB", size)
			}
			if !failed {
				z.content(z.volume(v.ID), 1)
			}
		}
	}},
	"snapshot": {func(z *zone) func(bool) {
		v := z.make(control.NewVolume{Size: ptr(int64(1))})
		sn, err := z.CreateSnapshot(z.ctx, alice, control.NewSnapshot{VolumeID: v.ID})
		must(z.t, err)
		return func(failed bool) {
			got, err := z.Snapshot(z.ctx, alice, sn.ID)
			must(z.t, err)
			want := block.SnapshotAvailable
			if failed {
				want = block.SnapshotError
			}
			if got.Status != want {
				z.t.Errorf("the snapshot is %s", got.Status)
			}
			if !failed {
				z.wantStored(string(v.ID), string(v.ID)+"/"+string(sn.ID))
			}
		}
	}},
	"snapshot deletion": {func(z *zone) func(bool) {
		v := z.make(control.NewVolume{Size: ptr(int64(1))})
		sn := z.snap(v.ID)
		must(z.t, z.DeleteSnapshot(z.ctx, alice, sn.ID))
		return func(failed bool) {
			got, err := z.Snapshot(z.ctx, alice, sn.ID)
			if failed && got.Status != block.SnapshotErrorDeleting || !failed && !block.Is(err, block.NotFound) {
				z.t.Errorf("the snapshot is %s, %v", got.Status, err)
			}
			if !failed {
				z.wantStored(string(v.ID))
			}
		}
	}},
	"deletion": {func(z *zone) func(bool) {
		v := z.make(control.NewVolume{Size: ptr(int64(1))})
		must(z.t, z.DeleteVolume(z.ctx, alice, v.ID, false))
		return func(failed bool) {
			z.wantGone(v.ID, failed)
			if !failed {
				z.wantStored()
			}
		}
	}},
	"deletion with snapshots": {func(z *zone) func(bool) {
		v := z.make(control.NewVolume{Size: ptr(int64(1))})
		z.snap(v.ID)
		must(z.t, z.DeleteSnapshot(z.ctx, alice, z.snap(v.ID).ID))
		must(z.t, z.DeleteVolume(z.ctx, alice, v.ID, true))
		return func(failed bool) {
			z.wantGone(v.ID, failed)
			if !failed {
				z.wantStored()
			}
		}
	}},
	"upload": {func(z *zone) func(bool) {
		v := z.make(control.NewVolume{Size: ptr(int64(1))})
		z.write(v, []byte("up"), 0)
		must(z.t, z.Attach(z.ctx, alice, v.ID, control.AttachRequest{HostName: ptr("h")}))
		up, err := z.UploadImage(z.ctx, alice, v.ID, control.UploadRequest{ImageName: "i", Force: true})
		must(z.t, err)
		if up.Volume.Status != block.VolumeUploading || up.DiskFormat != "raw" || up.ContainerFormat != "bare" ||
			up.Type.Name != "fast" {
			z.t.Errorf("the answer is %+v", up)
		}
		return func(failed bool) {
			z.wantStatus(v.ID, failed, block.VolumeInUse, block.VolumeInUse)
			img, err := z.images.Find(z.ctx, alice, up.ImageID)
			switch {
			case failed && err == nil:
				z.t.Errorf("the image of a failed upload stays: %+v", img)
			case !failed && (img.Status != "active" || img.Size != block.GiB || string(z.images.bytes[up.ImageID][:2]) != "up"):
				z.t.Errorf("the image is %+v, %v", img, err)
			}
			if !failed {
				z.wantStored(string(v.ID))
			}
		}
	}},
}

// prepareMade asks for a volume that is made of v; besides the two the stores
// hold other in the end.
func (z *zone) prepareMade(v block.Volume, other string, req control.NewVolume, content string) func(bool) {
	made, err := z.CreateVolume(z.ctx, alice, req)
	must(z.t, err)
	return func(failed bool) {
		z.wantStatus(made.ID, failed, block.VolumeAvailable, block.VolumeError)
		if failed {
			return
		}
		if got := z.content(z.volume(made.ID), len(content)); got != content {
			z.t.Errorf("the new volume reads %q", got)
		}
		want := []string{string(v.ID), string(made.ID)}
		if other != "" {
			want = append(want, other)
		}
		z.wantStored(want...)
	}
}

// disturb lets every call to a store be counted, before and after it is
// carried out, and calls hit at the n-th; 0 counts only.
func (z *zone) disturb(n int64, hit func() error) (count *atomic.Int64) {
	count = new(atomic.Int64)
	rule := func(drivertest.Call) error {
		if count.Add(1) == n {
			return hit()
		}
		return nil
	}
	z.fast.SetRule(rule)
	z.slow.SetRule(rule)
	z.images.mu.Lock()
	z.images.fail = func(string) error { return rule(drivertest.Call{}) }
	z.images.mu.Unlock()
	z.vault.SetRule(func(string, string) error { return rule(drivertest.Call{}) })
	return count
}

func (z *zone) leaveAlone() {
	z.fast.SetRule(nil)
	z.slow.SetRule(nil)
	z.images.mu.Lock()
	z.images.fail = nil
	z.images.mu.Unlock()
	z.vault.SetRule(nil)
}

// sample yields some of the numbers 1 to n, with both ends.
func sample(n int64) []int64 {
	var out []int64
	step := max(1, n/2)
	for i := int64(1); i <= n; i++ {
		if i <= 5 || i > n-4 || i%step == 0 {
			out = append(out, i)
		}
	}
	return out
}

var errLost = errors.New("the store is away")

// TestEveryCallFailsOnce lets each call of each job fail once, before it is
// carried out or with its answer lost: the job must come to its end all the
// same, and leave nothing behind.
func TestEveryCallFailsOnce(t *testing.T) {
	each(t, func(z *zone, n int64) (failed bool) {
		z.disturb(n, func() error { return errLost })
		z.work(z.ctx)
		return false
	})
}

// TestKilledAtEveryCall stops the process at each call of each job, and starts
// another on the same catalog and stores.
func TestKilledAtEveryCall(t *testing.T) {
	each(t, func(z *zone, n int64) (failed bool) {
		ctx, kill := context.WithCancel(z.ctx)
		defer kill()
		var dead atomic.Bool
		z.disturb(n, func() error { dead.Store(true); kill(); return context.Canceled })
		z.work(ctx)
		if n == 1 && !dead.Load() { // how many follow depends on which job comes first
			z.t.Fatal("no call was made")
		}
		z.leaveAlone()
		z.restart()
		z.work(z.ctx)
		return false
	})
}

// each runs a test for each scenario and each call in it.
func each(t *testing.T, test func(z *zone, n int64) (failed bool)) {
	for name, s := range allScenarios() {
		t.Run(name, func(t *testing.T) {
			var calls int64
			synctest.Test(t, func(t *testing.T) {
				z := newZone(t)
				check := s.prepare(z)
				count := z.disturb(0, nil)
				z.work(z.ctx)
				z.leaveAlone()
				check(false)
				calls = count.Load()
			})
			if calls < 2 {
				t.Fatalf("%d calls", calls)
			}
			for _, n := range sample(calls) {
				t.Run(fmt.Sprint(n), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						z := newZone(t)
						check := s.prepare(z)
						failed := test(z, n)
						z.leaveAlone()
						check(failed)
						z.settled()
					})
				})
			}
		})
	}
}

// TestGivingUp lets all calls fail for good: what is worked on gets its error
// status. What an error means for the next attempt decides how long that takes,
// not where it leads.
func TestGivingUp(t *testing.T) {
	for name, s := range allScenarios() {
		for _, cause := range []error{errLost, block.Errorf(block.NoSpace, "The store is full."),
			block.Errorf(block.Corrupt, "It is rotten."), block.Errorf(block.Conflict, "It is in use.")} {
			t.Run(name+"/"+cause.Error(), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					z := newZone(t)
					check := s.prepare(z)
					always := func(drivertest.Call) error { return cause }
					z.fast.SetRule(always)
					z.slow.SetRule(always)
					z.vault.SetRule(func(string, string) error { return cause })
					z.work(z.ctx)
					z.leaveAlone()
					check(true)
					z.settled()
				})
			})
		}
	}
}

// TestOvertaken lets an administrator delete a volume by force while the first
// call of the job that makes it waits: nothing may stay behind.
func TestOvertaken(t *testing.T) {
	for _, name := range []string{"create", "create from image"} {
		synctest.Test(t, func(t *testing.T) {
			z := newZone(t)
			scenarios[name].prepare(z)
			var once sync.Once
			z.fast.SetRule(func(drivertest.Call) error {
				once.Do(func() {
					volumes, err := z.Volumes(z.ctx, operator, block.ListQuery{Limit: -1})
					must(t, err)
					must(t, z.ForceDeleteVolume(z.ctx, operator, volumes[0].ID))
					time.Sleep(time.Minute) // of the test's own time: the deletion does what it can
				})
				return nil
			})
			z.work(z.ctx)
			z.wantStored()
			z.settled()
			must(t, z.catalog.View(z.ctx, func(tx *catalog.Tx) error {
				volumes, err := tx.Volumes(block.ListQuery{Limit: -1})
				if len(volumes) > 0 {
					t.Errorf("%s: left %+v", name, volumes)
				}
				return err
			}))
		})
	}
}

// TestSnapshotDeletionWaits deletes a snapshot while a volume is made of it.
func TestSnapshotDeletionWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		z := newZone(t)
		v := z.make(control.NewVolume{Size: ptr(int64(1))})
		sn := z.snap(v.ID)
		made, err := z.CreateVolume(z.ctx, alice, control.NewVolume{SnapshotID: &sn.ID})
		must(t, err)
		must(t, z.DeleteSnapshot(z.ctx, alice, sn.ID))
		z.fast.SetRule(func(c drivertest.Call) error {
			if c.Op == drivertest.OpCloneSnapshot && c.N < 4 {
				return errLost
			}
			return nil
		})
		z.work(z.ctx)
		z.wantStatus(made.ID, false, block.VolumeAvailable, "")
		z.wantStored(string(v.ID), string(made.ID))
	})
}

// TestDeletionWaits deletes a volume, with its snapshots, while another one is
// made of it or of a snapshot.
func TestDeletionWaits(t *testing.T) {
	for _, of := range []string{"snapshot", "volume"} {
		synctest.Test(t, func(t *testing.T) {
			z := newZone(t)
			v := z.make(control.NewVolume{Size: ptr(int64(1))})
			z.write(v, []byte("src"), 0)
			req := control.NewVolume{VolumeType: ptr("slow")}
			if of == "volume" {
				req.SourceVolumeID = &v.ID
			} else {
				req.SnapshotID = ptr(z.snap(v.ID).ID)
			}
			made, err := z.CreateVolume(z.ctx, alice, req)
			must(t, err)
			must(t, z.DeleteVolume(z.ctx, alice, v.ID, true))
			z.slow.SetRule(func(c drivertest.Call) error {
				if c.N < 4 { // longer than a deletion takes that does not wait
					return errLost
				}
				return nil
			})
			z.work(z.ctx)
			z.leaveAlone()
			if got := z.content(z.volume(made.ID), 3); got != "src" {
				t.Errorf("made of a %s: the volume reads %q", of, got)
			}
			z.wantStored(string(made.ID))
		})
	}
}

// TestDeletionHasReadersLetGo deletes a volume that replication reads for as long as
// nobody tells it to let go.
func TestDeletionHasReadersLetGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		z := newZone(t)
		var told atomic.Value
		z.onRemove = func(v block.VolumeID) { told.Store(v) }
		z.restart()
		v := z.make(control.NewVolume{Size: ptr(int64(1))})
		z.fast.SetRule(func(c drivertest.Call) error {
			if c.Op == drivertest.OpDeleteVolume && told.Load() != v.ID {
				return block.Errorf(block.Conflict, "A snapshot of the volume is being read.")
			}
			return nil
		})
		must(t, z.DeleteVolume(z.ctx, alice, v.ID, false))
		z.work(z.ctx)
		z.wantGone(v.ID, false)
		z.wantStored()
	})
}
