package rbd_test

import (
	"bytes"
	"testing"

	"kvol/internal/block"
	"kvol/internal/driver"
	"kvol/internal/driver/rbd"
	"kvol/test/ceph"
)

// groupCutShort: snapshots of a group that an earlier call left, some of them made only
// after it had failed, are no instant, and are made anew; those of an instant that was
// whole are kept, though not all had got their names.
func groupCutShort(t *testing.T, c *ceph.Cluster) {
	d := open(t, c, rbd.Options{})
	ids := []block.VolumeID{volume(t, d, 4), volume(t, d, 4)}
	var devices []driver.Device
	var refs []driver.SnapshotRef
	name := block.PointID(block.NewID())
	for _, id := range ids {
		devices = append(devices, opened(t, d, id))
		refs = append(refs, driver.SnapshotRef{Volume: id, Name: name})
	}
	snapshots := func(want string) {
		t.Helper()
		for i, ref := range refs {
			r, err := d.OpenSnapshot(t.Context(), ref)
			if err != nil {
				t.Fatal(err)
			}
			got := make([]byte, kib4)
			if _, err := r.ReadAt(got, 0); err != nil || !bytes.Equal(got, bytes.Repeat([]byte(want), kib4)) {
				t.Errorf("snapshot %d holds %q..., %v, want %q", i, got[:4], err, want)
			}
			if err := r.Close(); err != nil {
				t.Fatal(err)
			}
			if all, err := d.Snapshots(t.Context(), ref.Volume); err != nil || len(all) != 1 || all[0].Name != name {
				t.Errorf("volume %d has %v, %v", i, all, err)
			}
		}
	}
	spec := func(i int, prefix string) string {
		return d.Pool() + "/kvol-" + string(ids[i]) + "@" + prefix + string(name)
	}
	const part = "part-of-kvol-"
	for i, dev := range devices { // of two instants
		write(t, devices[0], 'a'+byte(i))
		write(t, dev, 'a'+byte(i))
		c.Run(t, "rbd", "snap", "create", "--no-progress", spec(i, part))
		if all, err := d.Snapshots(t.Context(), ids[i]); err != nil || len(all) != 0 {
			t.Errorf("a part is a snapshot: %v, %v", all, err)
		}
	}
	for _, dev := range devices {
		write(t, dev, 'c')
	}
	if err := d.CreateSnapshots(t.Context(), refs); err != nil {
		t.Fatal(err)
	}
	snapshots("c")
	c.Run(t, "rbd", "snap", "rename", spec(1, ""), spec(1, part)) // as if it had not got its name
	for _, dev := range devices {
		write(t, dev, 'd')
	}
	if err := d.CreateSnapshots(t.Context(), refs); err != nil {
		t.Fatal(err)
	}
	snapshots("c")
	c.Run(t, "rbd", "snap", "rename", spec(1, ""), spec(1, part))
	for i, ref := range refs {
		if err := d.DeleteSnapshot(t.Context(), ref); err != nil {
			t.Fatal(err)
		}
		if left := c.Run(t, "rbd", "snap", "ls", "--all", d.Pool()+"/kvol-"+string(ids[i])); left != "" {
			t.Errorf("of volume %d there is left\n%s", i, left)
		}
	}
}
