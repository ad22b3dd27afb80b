package rbd_test

import (
	"context"
	"testing"
	"time"

	"kvol/internal/block"
	"kvol/internal/client"
	"kvol/internal/driver"
	"kvol/internal/driver/rbd"
	"kvol/test/ceph"
)

// fullCluster: a cluster that is full takes nothing, which is said. What is there can
// be read and removed, but for pools with namespaces: Ceph's command asks for those
// by a request that counts as a write. With room all goes on.
func fullCluster(t *testing.T, c *ceph.Cluster) {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	c.Run(t, "ceph", "osd", "pool", "create", "full", "1", "1", "replicated")
	c.Run(t, "rbd", "pool", "init", "full")
	d, err := rbd.Open(ctx, rbd.Options{Conf: c.Conf(), Pool: "full", Timeout: 3 * time.Second,
		IOTimeout: 3 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	id, kept := volume(t, d, 4), volume(t, d, 4)
	dev := opened(t, d, id)
	want := write(t, dev, 7)
	snap := driver.SnapshotRef{Volume: id, Name: "before"}
	if err := d.CreateSnapshot(ctx, snap); err != nil {
		t.Fatal(err)
	}
	ratio := func(full string) {
		for _, what := range []string{"set-nearfull-ratio", "set-backfillfull-ratio", "set-full-ratio"} {
			c.Run(t, "ceph", "osd", what, full)
		}
	}
	// What is done gives NoSpace, or none: it is tried again while the cluster takes
	// too long to say anything.
	await := func(what string, full bool, do func() error) {
		t.Helper()
		err := client.Poll(ctx, 100*time.Millisecond, func() (bool, error) {
			err := do()
			if err == nil || block.Is(err, block.NoSpace) || block.Is(err, block.Unavailable) {
				return block.Is(err, block.NoSpace) == full && (full || err == nil), nil
			}
			return false, err
		})
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	create := func() error { return d.CreateVolume(ctx, block.VolumeID(block.NewID()), driver.BlockSize) }
	size := int64(4 * driver.BlockSize)
	grow := func() error { size += driver.BlockSize; return d.ExtendVolume(ctx, kept, size) }
	defer ratio("0.95") // should it fail
	ratio("0.000001")
	await("a volume", true, create)
	await("a snapshot", true, func() error {
		return d.CreateSnapshot(ctx, driver.SnapshotRef{Volume: kept, Name: block.PointID(block.NewID())})
	})
	await("growing", true, grow)
	holds(t, dev, want)
	if err := dev.Close(); err != nil {
		t.Error(err)
	}
	await("removing a snapshot", false, func() error { return d.DeleteSnapshot(ctx, snap) })
	await("removing a volume", false, func() error { return d.DeleteVolume(ctx, id) })
	if _, err := d.Find(ctx, id); !block.Is(err, block.NotFound) {
		t.Errorf("a volume that was removed: %v", err)
	}
	ratio("0.95")
	await("a volume, with room", false, create)
	await("growing, with room", false, grow)
}

// TestRoom: a pool's quota bounds what it takes.
func TestRoom(t *testing.T) {
	for text, want := range map[string]driver.Capacity{
		`{"stored": 100, "max_avail": 900, "quota_bytes": 0}`:   {Total: 1000, Free: 900},
		`{"stored": 100, "max_avail": 900, "quota_bytes": 300}`: {Total: 300, Free: 200},
		`{"stored": 400, "max_avail": 900, "quota_bytes": 300}`: {Total: 400, Free: 0},
		`{"stored": 400, "max_avail": 0, "quota_bytes": 9000}`:  {Total: 400, Free: 0},
	} {
		got, err := rbd.PoolCapacity([]byte(`{"pools": [{"name": "p", "stats": `+text+`}]}`), "p")
		if err != nil || got != want {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
	}
}
