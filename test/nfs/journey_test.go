package nfs_test

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"testing"

	"kvol/internal/client"
	"kvol/internal/client/nbd"
	"kvol/internal/driver"
	"kvol/internal/driver/logstore"
	"kvol/internal/driver/nfs"
	"kvol/internal/zone/zonetest"
	share "kvol/test/nfs"
)

func embedded(t *testing.T) driver.Driver {
	t.Helper()
	d, err := logstore.Open(t.Context(), logstore.Options{Dir: filepath.Join(t.TempDir(), "store"), SegmentSize: 1 << 20})
	must(t, err)
	t.Cleanup(func() {
		if err := d.Check(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
		must(t, d.Close())
	})
	return d
}

// TestJourney takes a volume on a share through its life: a host is told how to
// mount it and writes to it over NFS, a snapshot is taken meanwhile, another host
// writes through an export, all of it is replicated to an embedded store, and
// when its zone dies it is recovered there, and moved back to a share of qcow2
// files.
func TestJourney(t *testing.T) {
	dir := share.XFS(t)
	s := share.Serve(t, dir)
	raw := store(t, nfs.Options{Dir: dir, Export: "127.0.0.1:" + share.Export, MountOptions: "-o vers=4.2"})
	images := store(t, nfs.Options{Dir: t.TempDir(), Format: nfs.QCOW2})
	c := zonetest.NewOn(t, map[string]driver.Driver{"mitaka1": raw, "kilo1": embedded(t), "kilo2": images})
	const blocks = 64
	j := zonetest.NewJourney(t, c, "mitaka1", blocks, 1)
	alice := c.Session("mitaka1", zonetest.Alice)

	host := map[string]any{"host": "compute1", "ip": "127.0.0.1", "initiator": "iqn.2025-01.test:compute1"}
	info, err := alice.Connect(t.Context(), j.Volume, host)
	must(t, err)
	want := map[string]any{"export": "127.0.0.1:/vol01", "name": "volume-" + j.Volume, "format": "raw",
		"options": "-o vers=4.2", "volume_id": j.Volume, "access_mode": "rw", "encrypted": false, "qos_specs": nil,
		"cacheable": false}
	if info.DriverVolumeType != "nfs" || info.MountPointBase != "/var/lib/cinder/mnt" || !maps.Equal(info.Data, want) {
		t.Fatalf("the host is told %+v", info)
	}
	file := info.Data["name"].(string)
	j.Wrote(3, bytes.Repeat([]byte{0x5a}, 7*zonetest.BlockSize))
	s.Run(t, "qemu-io", "-f", "raw", "-c", fmt.Sprintf("write -P 0x5a %d %d", 3*zonetest.BlockSize,
		7*zonetest.BlockSize), "-c", "flush", s.URL(file, 3))
	j.AwaitReplica("kilo1")

	conn := byNBD(t, alice, j.Volume)
	j.Write(conn, 20, 5)
	got := s.Run(t, "nfs-cat", s.URL(file, 4))
	for b := range blocks {
		if got[b*zonetest.BlockSize:(b+1)*zonetest.BlockSize] != string(j.Block(b)) {
			t.Fatalf("over NFS block %d is not what was written", b)
		}
	}
	must(t, conn.Close())
	j.AwaitReplica("kilo1")
	j.AwaitReplica("kilo2")

	must(t, alice.Disconnect(t.Context(), j.Volume, host))
	c.Kill("mitaka1")
	j.Recover("kilo1")
	j.Check()
	j.WriteHere(40, 9)
	j.AwaitReplica("kilo2")
	j.Failover("kilo2")
	j.Check()
}

// byNBD opens a volume through its zone's export, as a host that asks for that.
func byNBD(t *testing.T, s *client.Session, volume string) *nbd.Conn {
	t.Helper()
	info, err := s.Connect(t.Context(), volume, map[string]any{"host": "other", "protocol": "nbd"})
	must(t, err)
	conn, err := nbd.Dial(t.Context(), info.NBDURL(), nbd.Options{})
	must(t, err)
	return conn
}
