package rbd_test

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"kvol/internal/block"
	"kvol/internal/driver"
	"kvol/internal/driver/rbd"
	"kvol/test/ceph"
)

// empty waits until neither the pool nor its trash holds an image.
func empty(t *testing.T, c *ceph.Cluster, d *rbd.Driver) {
	t.Helper()
	for end := time.Now().Add(3 * time.Minute); ; {
		left := c.Run(t, "rbd", "ls", d.Pool()) + c.Run(t, "rbd", "trash", "ls", "--all", d.Pool())
		if left == "" {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("in the pool or its trash there is\n%s", left)
		}
	}
}

// another opens the same store once more.
func another(t *testing.T, c *ceph.Cluster, d *rbd.Driver, o rbd.Options) *rbd.Driver {
	t.Helper()
	o.Conf = c.Conf()
	_, o.Namespace, _ = strings.Cut(d.Pool(), "/")
	next, err := rbd.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := next.Close(); err != nil {
			t.Error(err)
		}
	})
	return next
}

// listedBesideWreckage lists a store in which an image can't be opened: as it is for a
// moment while it is removed, and for longer when who removed it was killed.
func listedBesideWreckage(t *testing.T, c *ceph.Cluster) {
	d := open(t, c, rbd.Options{})
	var ids []block.VolumeID
	for range 3 {
		ids = append(ids, volume(t, d, 4))
	}
	slices.Sort(ids)
	pool, namespace, _ := strings.Cut(d.Pool(), "/")
	c.Run(t, "rados", "-p", pool, "-N", namespace, "rm", "rbd_id.kvol-"+string(ids[2])) // of the last the command tells
	got := map[block.VolumeID]int64{}
	for v, err := range d.Volumes(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		got[v.ID] = v.Size
	}
	if want := map[block.VolumeID]int64{ids[0]: 4 * kib4, ids[1]: 4 * kib4}; !maps.Equal(got, want) {
		t.Errorf("listed are %v, want %v", got, want)
	}
}

// nothingIsLeft deletes an ancestry from its root on: what clones stand on
// goes to the trash, which is empty soon after the last of them went.
func nothingIsLeft(t *testing.T, c *ceph.Cluster) {
	d := open(t, c, rbd.Options{})
	ids := []block.VolumeID{volume(t, d, 4)}
	for range 3 {
		ref := driver.SnapshotRef{Volume: ids[len(ids)-1], Name: block.PointID(block.NewID())}
		clone := block.VolumeID(block.NewID())
		if err := d.CreateSnapshot(t.Context(), ref); err != nil {
			t.Fatal(err)
		}
		for range 2 { // it may be repeated
			if err := d.CloneSnapshot(t.Context(), clone, ref, 8*kib4); err != nil {
				t.Fatal(err)
			}
		}
		ids = append(ids, clone)
	}
	for i, id := range ids {
		if err := d.DeleteVolume(t.Context(), id); err != nil {
			t.Fatalf("volume %d: %v", i, err)
		}
		for v, err := range d.Volumes(t.Context()) {
			if err != nil || v.ID == id {
				t.Fatalf("after its deletion there is %v, %v", v, err)
			}
		}
	}
	empty(t, c, d)
}

// cloneCutShort: what a process left that ended while it made a clone goes with the
// volume that it was to become, and otherwise when the store is opened; nothing that
// it stood on is held by it.
func cloneCutShort(t *testing.T, c *ceph.Cluster) {
	d := open(t, c, rbd.Options{})
	for _, deleted := range []bool{true, false} {
		id := volume(t, d, 4)
		ref := driver.SnapshotRef{Volume: id, Name: "s"}
		if err := d.CreateSnapshot(t.Context(), ref); err != nil {
			t.Fatal(err)
		}
		clone := block.VolumeID(block.NewID())
		c.Run(t, "rbd", "clone", "--rbd-default-clone-format", "2", d.Pool()+"/kvol-"+string(id)+"@s",
			d.Pool()+"/unfinished-kvol-"+string(clone))
		if err := d.DeleteVolume(t.Context(), id); err != nil { // to the trash
			t.Fatal(err)
		}
		if deleted {
			if err := d.DeleteVolume(t.Context(), clone); err != nil {
				t.Fatal(err)
			}
		} else {
			another(t, c, d, rbd.Options{})
		}
		empty(t, c, d)
	}
}

// trashThatStays: an image that can't be removed from the trash keeps no volume from
// its deletion, and no other from going.
func trashThatStays(t *testing.T, c *ceph.Cluster) {
	d := open(t, c, rbd.Options{})
	stays, goes := volume(t, d, 4), volume(t, d, 4)
	c.Run(t, "rbd", "trash", "mv", "--expires-at", "next year", d.Pool()+"/kvol-"+string(stays))
	c.Run(t, "rbd", "trash", "mv", d.Pool()+"/kvol-"+string(goes))
	if err := d.DeleteVolume(t.Context(), volume(t, d, 4)); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(3 * time.Minute); ; {
		left := strings.Fields(c.Run(t, "rbd", "trash", "ls", "--all", d.Pool()))
		if len(left) == 2 && left[1] == "kvol-"+string(stays) {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("in the trash there is %v", left)
		}
	}
}
