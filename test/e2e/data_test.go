package e2e

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"kvol/internal/client"
)

var connector = map[string]any{"host": "e2e-host"}

// volume makes a volume of 1 GiB for a test and deletes it afterwards.
func volume(t *testing.T, s *client.Session, n client.NewVolume) client.Volume {
	t.Helper()
	v, err := s.CreateVolume(t.Context(), n)
	if err != nil {
		t.Fatal(err)
	}
	if v, err = s.WaitVolume(t.Context(), v.ID, nil, "available"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.DeleteVolume(t.Context(), v.ID); err != nil && t.Context().Err() == nil {
			t.Error(err)
		}
	})
	return v
}

// connected gives a volume's NBD address for the length of a test.
func connected(t *testing.T, s *client.Session, id string) string {
	t.Helper()
	info, err := s.Connect(t.Context(), id, connector)
	if err != nil {
		t.Fatal(err)
	}
	if info.DriverVolumeType != "nbd" || info.NBDURL() == "" {
		t.Fatalf("connection %+v", info)
	}
	return info.NBDURL()
}

func disconnect(t *testing.T, s *client.Session, id string) {
	t.Helper()
	if err := s.Disconnect(t.Context(), id, connector); err != nil {
		t.Fatal(err)
	}
}

// randomFile writes n bytes of noise with holes into a file.
func randomFile(t *testing.T, n int) string {
	t.Helper()
	seed := [32]byte{1}
	p := make([]byte, n)
	rand.NewChaCha8(seed).Read(p)
	clear(p[n/4 : n/2])
	path := filepath.Join(t.TempDir(), "random.raw")
	if err := os.WriteFile(path, p, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestQemuImg copies a disk in and compares it with qemu-img.
func TestQemuImg(t *testing.T) {
	qemu := tool(t, "qemu-img")
	s := session(t, "kilo2", "alice")
	v := volume(t, s, client.NewVolume{Name: "qemu", Size: 1})
	url := connected(t, s, v.ID)
	if info := sh(t, nil, qemu, "info", url); !strings.Contains(info, "virtual size: 1 GiB") {
		t.Errorf("qemu-img info: %s", info)
	}
	file := randomFile(t, 32<<20)
	if err := os.Truncate(file, 1<<30); err != nil {
		t.Fatal(err)
	}
	sh(t, nil, qemu, "convert", "-n", "-f", "raw", "-O", "raw", file, url)
	if out := sh(t, nil, qemu, "compare", "-f", "raw", "-F", "raw", file, url); !strings.Contains(out, "identical") {
		t.Errorf("qemu-img compare: %s", out)
	}
	disconnect(t, s, v.ID)
}

// TestNbdcopyAndInfo uses libnbd's tools.
func TestNbdcopyAndInfo(t *testing.T) {
	nbdcopy, nbdinfo := tool(t, "nbdcopy"), tool(t, "nbdinfo")
	s := session(t, "kilo2", "alice")
	v := volume(t, s, client.NewVolume{Name: "libnbd", Size: 1})
	url := connected(t, s, v.ID)
	info := sh(t, nil, nbdinfo, "--json", url)
	for _, want := range []string{
		`"export-size": 1073741824`, `"can_multi_conn": true`, `"can_fua": true`, `"can_trim": true`,
		`"can_zero": true`, `"structured": true`} {
		if !strings.Contains(info, want) {
			t.Errorf("nbdinfo does not say %s:\n%s", want, info)
		}
	}
	file := randomFile(t, 32<<20)
	sh(t, nil, nbdcopy, "--flush", "--", file, url)
	back := filepath.Join(t.TempDir(), "back.raw")
	sh(t, nil, nbdcopy, "--", url, back)
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(back)
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 1<<30 || !bytes.Equal(got[:len(want)], want) {
		t.Error("nbdcopy read back something else")
	}
	disconnect(t, s, v.ID)
}

// TestFioVerifies writes with checksums and reads them back.
func TestFioVerifies(t *testing.T) {
	fio := tool(t, "fio")
	s := session(t, "kilo2", "alice")
	v := volume(t, s, client.NewVolume{Name: "fio", Size: 1})
	url := connected(t, s, v.ID)
	sh(t, nil, fio, "--name=verify", "--ioengine=nbd", "--uri="+url, "--rw=randwrite", "--bs=4k", "--iodepth=16",
		"--size=32m", "--verify=crc32c", "--do_verify=1", "--fsync=64", "--verify_fatal=1",
		"--verify_state_save=0")
	disconnect(t, s, v.ID)
}

// TestTerminatedConnectionIsClosed shows that an export's name opens nothing
// once the connection was given back.
func TestTerminatedConnectionIsClosed(t *testing.T) {
	nbdinfo := tool(t, "nbdinfo")
	s := session(t, "kilo2", "alice")
	v := volume(t, s, client.NewVolume{Name: "closed", Size: 1})
	url := connected(t, s, v.ID)
	sh(t, nil, nbdinfo, "--size", url)
	disconnect(t, s, v.ID)
	if out, err := exitError(nbdinfo, "--size", url); err == nil {
		t.Errorf("the export still opens: %s", out)
	}
}

// TestImagesBothWays uploads a volume as qcow2, makes a volume of it, and
// compares the bytes.
func TestImagesBothWays(t *testing.T) {
	qemu := tool(t, "qemu-img")
	s := session(t, "kilo2", "alice")
	v := volume(t, s, client.NewVolume{Name: "golden", Size: 1})
	file := randomFile(t, 16<<20)
	if err := os.Truncate(file, 1<<30); err != nil {
		t.Fatal(err)
	}
	sh(t, nil, qemu, "convert", "-n", "-f", "raw", "-O", "raw", file, connected(t, s, v.ID))
	disconnect(t, s, v.ID)
	for _, format := range []string{"raw", "qcow2"} {
		var answer struct {
			Upload struct {
				ImageID string `json:"image_id"`
			} `json:"os-volume_upload_image"`
		}
		body := map[string]any{"image_name": "golden-" + format, "disk_format": format, "container_format": "bare"}
		if err := s.VolumeAction(t.Context(), v.ID, "os-volume_upload_image", body, &answer); err != nil {
			t.Fatal(err)
		}
		if _, err := s.WaitVolume(t.Context(), v.ID, nil, "available"); err != nil {
			t.Fatal(err)
		}
		copied := volume(t, s, client.NewVolume{Name: "from-" + format, Size: 1, ImageRef: answer.Upload.ImageID})
		if copied.Bootable != "true" {
			t.Errorf("a volume made from an image is bootable %q", copied.Bootable)
		}
		url := connected(t, s, copied.ID)
		if out := sh(t, nil, qemu, "compare", "-f", "raw", "-F", "raw", file, url); !strings.Contains(out, "identical") {
			t.Errorf("%s: %s", format, out)
		}
		disconnect(t, s, copied.ID)
		if err := s.DeleteImage(t.Context(), answer.Upload.ImageID); err != nil {
			t.Error(err)
		}
	}
}

// TestCommands uses the commands as an operator would.
func TestCommands(t *testing.T) {
	env := openrc(t, "kilo2")
	kvol := func(args ...string) string { return sh(t, env, zones.exe, args...) }
	if out := kvol("volume", "create", "by-hand", "--size", "1", "--wait"); !strings.Contains(out, "available") {
		t.Errorf("create: %s", out)
	}
	if out := kvol("snapshot", "create", "by-hand", "first", "--wait", "-o", "json"); !strings.Contains(
		out,
		`"status": "available"`,
	) {
		t.Errorf("snapshot: %s", out)
	}
	if out := kvol("volume", "list"); !strings.Contains(out, "| by-hand") {
		t.Errorf("list: %s", out)
	}
	if out := kvol("type", "list"); !strings.Contains(out, zone(t, "kilo2").VolumeTypes["ssd_general"]) {
		t.Errorf("types: %s", out)
	}
	if out := kvol("dr", "list", "mitaka1", zone(t, "mitaka1").VolumeTypes["ssd_general"]); !strings.Contains(
		out,
		"k_svm_nfs_bak",
	) {
		t.Errorf("dr list: %s", out)
	}
	if out := kvol("dr", "recoverylist"); !strings.Contains(out, "SUCCESS") {
		t.Errorf("dr recoverylist: %s", out)
	}
	out, err := exitErrorEnv(env, zones.exe, "volume", "delete", "by-hand")
	if err == nil || !strings.Contains(out, "snapshot") {
		t.Errorf("deleting a volume with a snapshot: %v %s", err, out)
	}
	for _, line := range strings.Split(kvol("snapshot", "list"), "\n") {
		if f := strings.Fields(line); len(f) > 3 && f[3] == "first" {
			kvol("snapshot", "delete", f[1], "--wait")
		}
	}
	kvol("volume", "delete", "by-hand", "--wait")
	if out := kvol("volume", "list"); strings.Contains(out, "by-hand") {
		t.Errorf("it is still there: %s", out)
	}
}

// openrc reads the environment that an openrc file of the demo sets.
func openrc(t *testing.T, zoneName string) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(zones.dir, "openrc-"+zoneName))
	if err != nil {
		t.Fatal(err)
	}
	var env []string
	for _, line := range strings.Split(string(text), "\n") {
		if kv, ok := strings.CutPrefix(line, "export "); ok {
			env = append(env, kv)
		}
	}
	if len(env) < 8 {
		t.Fatal(fmt.Sprint("openrc is short: ", env))
	}
	return env
}
