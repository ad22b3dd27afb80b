package control_test

import (
	"testing"

	"kvol/internal/block"
	"kvol/internal/control"
)

// TestBackendsOfJobs: a job says every backend that it may have to wait for, and the end
// of a move the one that the volume left.
func TestBackendsOfJobs(t *testing.T) {
	z := newZone(t)
	v := z.make(control.NewVolume{Size: ptr(int64(1))})
	want := func(what string, subject block.VolumeID, backend, beside string) {
		t.Helper()
		if j := z.lastJob(subject); j.Backend != backend || j.Beside != beside {
			t.Errorf("%s, %s, needs %q and %q, want %q and %q", what, j.Kind, j.Backend, j.Beside, backend, beside)
		}
	}
	want("an empty volume", v.ID, "fast", "")
	clone, err := z.CreateVolume(z.ctx, alice, control.NewVolume{SourceVolumeID: &v.ID})
	must(t, err)
	want("a clone", clone.ID, "fast", "fast")
	z.work(z.ctx)
	want("what it was made of", v.ID, "fast", "") // the moment, which is dropped
	must(t, z.MigrateVolume(z.ctx, operator, v.ID, control.Migration{Backend: "slow"}))
	want("a move", v.ID, "fast", "slow")
	must(t, z.RetypeVolume(z.ctx, alice, clone.ID, "slow", control.MigrateOnDemand))
	want("a retype", clone.ID, "fast", "slow")
	z.work(z.ctx)
	for _, id := range []block.VolumeID{v.ID, clone.ID} {
		if got := z.volume(id); got.Backend != "slow" {
			t.Fatalf("it lies on %s", got.Backend)
		}
		want("what was moved", id, "slow", "slow")
		want("the end of a move", id+"/move", "fast", "slow")
	}
	must(t, z.DeleteVolume(z.ctx, alice, v.ID, false))
	want("a deletion", v.ID, "slow", "")
	z.work(z.ctx)
}
