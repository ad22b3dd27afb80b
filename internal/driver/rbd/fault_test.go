package rbd_test

import (
	"bytes"
	"fmt"
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

const kib4 = driver.BlockSize

func volume(t *testing.T, d driver.Driver, blocks int64) block.VolumeID {
	t.Helper()
	id := block.VolumeID(block.NewID())
	if err := d.CreateVolume(t.Context(), id, blocks*kib4); err != nil {
		t.Fatal(err)
	}
	return id
}

func opened(t *testing.T, d driver.Driver, id block.VolumeID) driver.Device {
	t.Helper()
	dev, err := d.OpenVolume(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dev.Close() })
	return dev
}

func write(t *testing.T, dev driver.Device, b byte) []byte {
	t.Helper()
	p := bytes.Repeat([]byte{b}, kib4)
	if _, err := dev.WriteAt(p, 0); err != nil {
		t.Fatal(err)
	}
	return p
}

func holds(t *testing.T, dev driver.Device, want []byte) {
	t.Helper()
	got := make([]byte, len(want))
	if _, err := dev.ReadAt(got, 0); err != nil || !bytes.Equal(got, want) {
		t.Fatalf("it holds %x..., %v", got[:4], err)
	}
}

// clients are the ids of the processes that serve images to this one.
func clients(t *testing.T) (pids []int) {
	t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range all {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // it ended
		}
		var pid, parent int
		var name, state string
		if _, err := fmt.Sscanf(string(text), "%d %s %s %d", &pid, &name, &state, &parent); err != nil {
			continue // a name with a space, so none of ours
		}
		if parent == os.Getpid() && strings.HasPrefix(name, "(qemu-nbd") && state != "Z" {
			pids = append(pids, pid)
		}
	}
	return pids
}

// clientKilled kills the process behind an open volume: nothing that was
// acknowledged is lost, and the next calls find another one.
func clientKilled(t *testing.T, c *ceph.Cluster) {
	d := open(t, c, rbd.Options{})
	dev := opened(t, d, volume(t, d, 4))
	want := write(t, dev, 1)
	pids := clients(t)
	if len(pids) != 1 {
		t.Fatalf("the processes are %v", pids)
	}
	if err := syscall.Kill(pids[0], syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, kib4)
	if _, err := dev.ReadAt(got, 0); err != nil && !block.Is(err, block.Unavailable) {
		t.Fatalf("a read meanwhile: %v", err)
	}
	holds(t, dev, want)
	want = write(t, dev, 2)
	holds(t, dev, want)
	closes(t, dev)
}

// clusterHangs wants errors in bounded time from a cluster that does not
// answer, and everything back when it does.
func clusterHangs(t *testing.T, c *ceph.Cluster) {
	namespace := block.NewID()
	c.Run(t, "rbd", "namespace", "create", "rbd/"+namespace)
	drivers := map[time.Duration]*rbd.Driver{} // by their time-outs
	for _, limit := range []time.Duration{0, 2 * time.Second} {
		d, err := rbd.Open(t.Context(), rbd.Options{Conf: c.Conf(), Namespace: namespace, Timeout: limit, IOTimeout: limit})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := d.Close(); err != nil {
				t.Error(err)
			}
		})
		drivers[limit] = d
	}
	id, d := volume(t, drivers[0], 4), drivers[2*time.Second]
	var dev driver.Device
	back(t, func() (err error) { dev, err = d.OpenVolume(t.Context(), id); return err })
	t.Cleanup(func() { dev.Close() })
	want := bytes.Repeat([]byte{1}, kib4)
	rewrite := func() error { _, err := dev.WriteAt(want, 0); return err }
	back(t, rewrite)
	for _, fault := range []struct{ stop, start func(testing.TB) }{{c.Pause, c.Resume}, {c.Kill, c.Restart}} {
		fault.stop(t)
		_, err := dev.WriteAt(make([]byte, kib4), 2*kib4)
		unavailable(t, "a write", err)
		_, err = d.OpenVolume(t.Context(), volumeOfNobody)
		unavailable(t, "opening", err)
		unavailable(t, "creating", d.CreateVolume(t.Context(), volumeOfNobody, kib4))
		unavailable(t, "a snapshot", d.CreateSnapshot(t.Context(), driver.SnapshotRef{Volume: id, Name: "s"}))
		again, err := rbd.Open(t.Context(), rbd.Options{Conf: c.Conf(), Timeout: time.Second})
		if err != nil {
			t.Fatalf("opening the store of a cluster that is silent: %v", err)
		}
		if err := again.Close(); err != nil {
			t.Error(err)
		}
		fault.start(t)
		got := make([]byte, kib4)
		back(t, func() error { _, err := dev.ReadAt(got, 0); return err })
		if !bytes.Equal(got, want) {
			t.Fatalf("it holds %x...", got[:4])
		}
		want = bytes.Repeat([]byte{want[0] + 1}, kib4)
		back(t, rewrite)
	}
	back(t, func() error { return d.CreateSnapshot(t.Context(), driver.SnapshotRef{Volume: id, Name: "s"}) })
}

const volumeOfNobody = block.VolumeID("d5f3c8a0-0000-4000-8000-000000000000")

func unavailable(t *testing.T, what string, err error) {
	t.Helper()
	if !block.Is(err, block.Unavailable) {
		t.Fatalf("%s: %v", what, err)
	}
}

// back calls until there is an answer, which takes its time-out while there is none,
// and may take more than that on a machine with much else to do.
func back(t *testing.T, call func() error) {
	t.Helper()
	for {
		err := call()
		if err == nil {
			return
		}
		if t.Context().Err() != nil || !block.Is(err, block.Unavailable) {
			t.Fatal(err)
		}
	}
}

// asUser writes a configuration with another keyring.
func asUser(t *testing.T, c *ceph.Cluster, keyring string) string {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "keyring")
	if err := os.WriteFile(path, []byte(keyring), 0o600); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(c.Conf())
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(text), "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, "keyring =") {
			lines[i] = "keyring = " + path
		}
	}
	conf := filepath.Join(dir, "ceph.conf")
	if err := os.WriteFile(conf, []byte(strings.Join(lines, "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	return conf
}
