package rbd

import (
	"testing"

	"kvol/internal/block"
	"kvol/internal/driver"
)

// TestKeep has readers of a volume's snapshots and removals of them stay clear of each
// other, whoever comes first.
func TestKeep(t *testing.T) {
	d := &Driver{volumes: map[block.VolumeID]*volume{}}
	a, b := driver.SnapshotRef{Volume: "v", Name: "a"}, driver.SnapshotRef{Volume: "v", Name: "b"}
	all := driver.SnapshotRef{Volume: "v", Name: wholly}
	conflict := func(what string, err error, want bool) {
		t.Helper()
		if block.Is(err, block.Conflict) != want || err != nil && !want {
			t.Errorf("%s: %v", what, err)
		}
	}
	reads := func(what string, ref driver.SnapshotRef, refused bool) (letGo func()) {
		t.Helper()
		v, err := d.keep(ref)
		conflict(what, err, refused)
		return func() { d.letGo(v, ref) }
	}
	goes := func(what string, ref driver.SnapshotRef, refused bool) (stays func()) {
		t.Helper()
		stays, err := d.goes(ref)
		conflict(what, err, refused)
		return stays
	}
	letGo := reads("read a", a, false)
	goes("remove a, which is read", a, true)
	goes("remove the volume, of which a is read", all, true)
	stays := goes("remove b", b, false)
	reads("read b, which is being removed", b, true)
	letGo()
	gone := goes("remove the volume beside b", all, false)
	reads("read a of a volume that is being removed", a, true)
	stays()
	gone()
	if d.forget("v"); len(d.volumes) != 0 {
		t.Error("what was remembered of the volume is there still")
	}
	letGo = reads("read a of a volume that stayed", a, false)
	if d.forget("v"); len(d.volumes) != 1 {
		t.Error("a volume that is read was forgotten")
	}
	letGo()
}
