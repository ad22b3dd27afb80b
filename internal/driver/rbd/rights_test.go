package rbd_test

import (
	"context"
	"testing"

	"kvol/internal/block"
	"kvol/internal/driver"
	"kvol/internal/driver/rbd"
	"kvol/test/ceph"
)

// leastRights runs everything a store does as a user with the rights that
// docs/ceph.md asks for, and wants other namespaces out of its reach.
func leastRights(t *testing.T, c *ceph.Cluster) {
	admin := open(t, c, rbd.Options{})
	other := volume(t, admin, 1)
	namespace := block.NewID()
	c.Run(t, "rbd", "namespace", "create", "rbd/"+namespace)
	keyring := c.Run(t, "ceph", "auth", "get-or-create", "client.kvol", "mon", "profile rbd",
		"osd", "profile rbd pool=rbd namespace="+namespace, "mgr", "profile rbd pool=rbd namespace="+namespace)
	conf := asUser(t, c, keyring)
	d, err := rbd.Open(t.Context(), rbd.Options{Conf: conf, User: "kvol", Namespace: namespace, Several: true,
		Hosts: &rbd.Hosts{User: "nova"}})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	id, second := volume(t, d, 4), volume(t, d, 4)
	dev := opened(t, d, id)
	want := write(t, dev, 7)
	all(t, d, id, second, want)
	for _, pool := range []string{"rbd", "rbd/" + namespace} { // by the operator
		c.Run(t, "rbd", "mirror", "pool", "enable", pool, "image")
	}
	c.Run(t, "rbd", "mirror", "pool", "peer", "add", "rbd", "client.rbd-mirror@kilo1")
	if moment, err := d.Mirror(t.Context(), second); err != nil || moment == 0 {
		t.Errorf("mirroring: %d, %v", moment, err)
	}
	if err := d.Unmirror(t.Context(), second); err != nil {
		t.Errorf("the end of mirroring: %v", err)
	}
	if err := dev.Close(); err != nil {
		t.Fatal(err)
	}
	for info, err := range d.Volumes(t.Context()) { // id goes to the trash: a clone stands on it
		if err == nil && info.ID != other {
			err = d.DeleteVolume(t.Context(), info.ID)
		}
		if err != nil {
			t.Errorf("deletion: %v", err)
		}
	}
	stranger, err := rbd.Open(t.Context(), rbd.Options{Conf: conf, User: "kvol", Namespace: ""})
	if err == nil {
		defer stranger.Close()
		_, err = stranger.OpenVolume(t.Context(), other)
	}
	if err == nil {
		t.Error("the user reaches another namespace")
	}
}

// all does with two volumes what a store does; the first one is open and holds want.
func all(t *testing.T, d *rbd.Driver, id, second block.VolumeID, want []byte) {
	t.Helper()
	at := func(id block.VolumeID, name block.PointID) driver.SnapshotRef {
		return driver.SnapshotRef{Volume: id, Name: name}
	}
	clone := block.VolumeID(block.NewID())
	for _, step := range []struct {
		what string
		do   func(context.Context) error
	}{
		{"a group's snapshots", func(ctx context.Context) error {
			return d.CreateSnapshots(ctx, []driver.SnapshotRef{at(id, "g"), at(second, "g")})
		}},
		{"a snapshot", func(ctx context.Context) error { return d.CreateSnapshot(ctx, at(id, "s")) }},
		{"extending", func(ctx context.Context) error { return d.ExtendVolume(ctx, id, 8*kib4) }},
		{"a clone", func(ctx context.Context) error { return d.CloneSnapshot(ctx, clone, at(id, "g"), 8*kib4) }},
		{"the difference", func(ctx context.Context) (last error) {
			for _, err := range d.Diff(ctx, at(id, "g"), at(id, "s")) {
				last = err
			}
			return last
		}},
		{"opening a snapshot", func(ctx context.Context) error {
			r, err := d.OpenSnapshot(ctx, at(id, "s"))
			if err == nil {
				err = r.Close()
			}
			return err
		}},
		{"reverting", func(ctx context.Context) error { return d.Revert(ctx, at(second, "g")) }},
		{"removing a snapshot", func(ctx context.Context) error { return d.DeleteSnapshot(ctx, at(id, "s")) }},
		{"changes", func(ctx context.Context) error { _, err := d.Changes(ctx, id); return err }},
		{"capacity", func(ctx context.Context) error { _, err := d.Capacity(ctx); return err }},
		{"lending", func(ctx context.Context) error { return d.Lend(ctx, second) }},
		{"changes by hosts", func(ctx context.Context) error { _, err := d.Changes(ctx, second); return err }},
		{"borrowers", func(ctx context.Context) error { _, err := d.Borrowers(ctx, second); return err }},
		{"cutting off", func(ctx context.Context) error {
			return d.Cut(ctx, second, []driver.Borrower{{Address: "192.0.2.9:0/77", Host: "192.0.2.9"}})
		}},
		{"withholding", func(ctx context.Context) error { return d.Withhold(ctx, second) }},
		{"a snapshot of what is withheld", func(ctx context.Context) error { return d.CreateSnapshot(ctx, at(second, "w")) }},
		{"reclaiming", func(ctx context.Context) error { return d.Reclaim(ctx, second) }},
	} {
		if err := step.do(t.Context()); err != nil {
			t.Errorf("%s: %v", step.what, err)
		}
	}
	if how, ok := d.Lending(second); !ok || how.Data["hosts"] == nil {
		t.Errorf("what hosts are told is %v", how)
	}
	dev := opened(t, d, clone)
	holds(t, dev, want)
	if err := dev.Close(); err != nil {
		t.Fatal(err)
	}
}
