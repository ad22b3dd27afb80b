package rbd_test

import (
	"encoding/json"
	"maps"
	"os/exec"
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

// watchedBy has another client have an image open, which keeps it from being removed.
func watchedBy(t *testing.T, c *ceph.Cluster, d *rbd.Driver, id block.VolumeID) (end func()) {
	t.Helper()
	cmd := exec.Command("rbd", "--conf", c.Conf(), "watch", d.Pool()+"/kvol-"+string(id))
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for stop := time.Now().Add(3 * time.Minute); len(watchers(t, c, d, id)) == 0; {
		if time.Now().After(stop) {
			t.Fatal("nobody watches the image")
		}
	}
	return func() {
		if _, err := stdin.Write([]byte("\n")); err != nil {
			t.Error(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	}
}

// trashThatStaysForAWhile: a volume is deleted at once, and its id may be used again, while
// its bytes can't be removed yet. They are later, by who deleted it, or by the next.
func trashThatStaysForAWhile(t *testing.T, c *ceph.Cluster) {
	for _, sweep := range []time.Duration{time.Second, time.Hour} {
		d := open(t, c, rbd.Options{Sweep: sweep})
		id := volume(t, d, 4)
		end := watchedBy(t, c, d, id)
		for range 2 {
			if err := d.DeleteVolume(t.Context(), id); err != nil {
				t.Fatal(err)
			}
		}
		if err := d.CreateVolume(t.Context(), id, 8*kib4); err != nil {
			t.Fatal(err)
		}
		if left := c.Run(t, "rbd", "trash", "ls", d.Pool()); !strings.Contains(left, string(id)) {
			t.Errorf("in the trash there is %q", left)
		}
		end()
		if err := d.CreateSnapshot(t.Context(), driver.SnapshotRef{Volume: id, Name: "s"}); err != nil {
			t.Fatal(err)
		}
		if sweep == time.Hour {
			another(t, c, d, rbd.Options{})
		}
		trashIsEmpty(t, c, d)
		if err := d.DeleteVolume(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		empty(t, c, d)
	}
}

// trashIsEmpty waits until it is.
func trashIsEmpty(t *testing.T, c *ceph.Cluster, d *rbd.Driver) {
	t.Helper()
	for end := time.Now().Add(3 * time.Minute); ; {
		left := c.Run(t, "rbd", "trash", "ls", "--all", d.Pool())
		if left == "" {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("in the trash there is %q", left)
		}
	}
}

// halfAnImage: of an image whose removal was cut short nothing is left by its deletion.
func halfAnImage(t *testing.T, c *ceph.Cluster) {
	d := open(t, c, rbd.Options{})
	id := volume(t, d, 4)
	var info struct {
		ID string `json:"id"`
	}
	text := c.Run(t, "rbd", "info", "--format", "json", d.Pool()+"/kvol-"+string(id))
	if err := json.Unmarshal([]byte(text), &info); err != nil {
		t.Fatal(err)
	}
	pool, namespace, _ := strings.Cut(d.Pool(), "/")
	c.Run(t, "rados", "-p", pool, "-N", namespace, "rm", "rbd_header."+info.ID)
	if err := d.DeleteVolume(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	empty(t, c, d)
}

// nothingIsRemembered asks for what is not there, in every way.
func nothingIsRemembered(t *testing.T, c *ceph.Cluster) {
	d := open(t, c, rbd.Options{})
	at := driver.SnapshotRef{Volume: volumeOfNobody, Name: "s"}
	_, opening := d.OpenSnapshot(t.Context(), at)
	_, writing := d.OpenVolume(t.Context(), at.Volume)
	_, changes := d.Changes(t.Context(), at.Volume)
	_, listing := d.Snapshots(t.Context(), at.Volume)
	for what, err := range map[string]error{
		"opening a snapshot": opening, "opening": writing, "changes": changes, "listing": listing,
		"a snapshot": d.CreateSnapshot(t.Context(), at), "extending": d.ExtendVolume(t.Context(), at.Volume, kib4),
	} {
		if !block.Is(err, block.NotFound) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for _, err := range []error{d.DeleteSnapshot(t.Context(), at), d.DeleteVolume(t.Context(), at.Volume)} {
		if err != nil {
			t.Error(err)
		}
	}
	if n := d.Remembered(); n > 0 {
		t.Errorf("%d volumes that are not there are remembered", n)
	}
}
