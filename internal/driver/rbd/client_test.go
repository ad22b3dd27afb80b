package rbd_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"kvol/internal/block"
	"kvol/internal/driver"
	"kvol/internal/driver/rbd"
	"kvol/test/ceph"
)

// watchers are the addresses of the clients that have an image open.
func watchers(t *testing.T, c *ceph.Cluster, d *rbd.Driver, id block.VolumeID) (all []string) {
	t.Helper()
	var status struct {
		Watchers []struct {
			Address string `json:"address"`
		} `json:"watchers"`
	}
	text := c.Run(t, "rbd", "status", d.Pool()+"/kvol-"+string(id), "--format", "json")
	if err := json.Unmarshal([]byte(text), &status); err != nil {
		t.Fatal(err)
	}
	for _, w := range status.Watchers {
		all = append(all, w.Address)
	}
	return all
}

// clientOnBlocklist: when the cluster cuts off the process behind an open volume, as it
// does with one whose lock another client breaks after a silence, the next calls
// find another one, though who opened the volume does not close it.
func clientOnBlocklist(t *testing.T, c *ceph.Cluster) {
	d := open(t, c, rbd.Options{})
	id := volume(t, d, 4)
	dev := opened(t, d, id)
	want := write(t, dev, 1)
	all := watchers(t, c, d, id)
	if len(all) != 1 {
		t.Fatalf("the clients are %v", all)
	}
	c.Run(t, "ceph", "osd", "blocklist", "add", all[0])
	for b := byte(2); ; b++ { // until the OSD has heard of it
		p := make([]byte, kib4)
		p[0] = b
		_, err := dev.WriteAt(p, 0)
		if err == nil {
			want = p
			continue
		}
		unavailable(t, "a write by who was cut off", err)
		break
	}
	holds(t, dev, want)
	want = write(t, dev, 0xee)
	holds(t, dev, want)
	if again := watchers(t, c, d, id); len(again) != 1 || again[0] == all[0] {
		t.Errorf("the clients are %v", again)
	}
}

// clientHangs: a request that the process behind an open volume does not answer fails
// nevertheless, and so the volume can be closed; the next calls find another one.
func clientHangs(t *testing.T, c *ceph.Cluster) {
	d := open(t, c, rbd.Options{IOTimeout: 5 * time.Second, Stall: time.Second})
	dev := opened(t, d, volume(t, d, 4))
	want := write(t, dev, 1)
	for _, pid := range clients(t) {
		if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
	}
	_, err := dev.WriteAt(make([]byte, kib4), kib4)
	unavailable(t, "a write by a process that hangs", err)
	holds(t, dev, want)
	closes(t, dev)
}

// closes closes a device, and wants its client process to end.
func closes(t *testing.T, dev driver.Device) {
	t.Helper()
	if err := dev.Close(); err != nil {
		t.Fatal(err)
	}
	if pids := clients(t); len(pids) != 0 {
		t.Errorf("after the close there are processes: %v", pids)
	}
}

// keyringAway: who has no key can't tell that something is not there.
func keyringAway(t *testing.T, c *ceph.Cluster) {
	namespace := block.NewID()
	c.Run(t, "rbd", "namespace", "create", "rbd/"+namespace)
	keyring := c.Run(t, "ceph", "auth", "get", "client.admin")
	conf := asUser(t, c, keyring)
	d, err := rbd.Open(t.Context(), rbd.Options{Conf: conf, Namespace: namespace})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	id := volume(t, d, 4)
	ref := driver.SnapshotRef{Volume: id, Name: "s"}
	if err := d.CreateSnapshot(t.Context(), ref); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(filepath.Dir(conf), "keyring")
	for what, text := range map[string]string{"no keyring": "", "no key": strings.Replace(keyring, "admin", "other", 1)} {
		if text == "" {
			err = os.Remove(path)
		} else {
			err = os.WriteFile(path, []byte(text), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		_, opening := d.OpenVolume(t.Context(), id)
		_, listing := d.Snapshots(t.Context(), id)
		for call, err := range map[string]error{
			"removing a snapshot": d.DeleteSnapshot(t.Context(), ref), "deleting": d.DeleteVolume(t.Context(), id),
			"opening": opening, "listing snapshots": listing,
		} {
			unavailable(t, what+": "+call, err)
		}
		if err := os.WriteFile(path, []byte(keyring), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if all, err := d.Snapshots(t.Context(), id); err != nil || len(all) != 1 {
		t.Errorf("the snapshots are %v, %v", all, err)
	}
	if err := errors.Join(d.DeleteSnapshot(t.Context(), ref), d.DeleteVolume(t.Context(), id)); err != nil {
		t.Error(err)
	}
}
