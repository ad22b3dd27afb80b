package nfs_test

import (
	"bytes"
	"crypto/md5" //nolint:gosec // the name that os-brick makes of an export
	"encoding/hex"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"kvol/internal/block"
	"kvol/internal/driver/nfs"
	share "kvol/test/nfs"
)

// brick opens connection_info with os-brick, writes, and reads.
const brick = `
import json, sys
from os_brick.initiator import connector
properties = json.loads(sys.argv[1])
c = connector.InitiatorConnector.factory('NFS', None, nfs_mount_point_base=sys.argv[2])
device = c.connect_volume(properties)
with open(device['path'], 'r+b') as f:
    f.seek(4096)
    f.write(b'\x2a' * 4096)
with open(device['path'], 'rb') as f:
    print(f.read()[:4096] == b'\x11' * 4096)
c.disconnect_volume(properties, device)
`

// usedByBrick has os-brick use a volume. The share is where os-brick would mount it
// already: a kernel that mounts NFS is not to be had everywhere, and what os-brick makes
// of connection_info is the same.
func usedByBrick(t *testing.T, dir string) {
	const python = "/usr/bin/python3" // Debian's, which has its packages
	if err := exec.CommandContext(t.Context(), python, "-c", "import os_brick.initiator.connector").Run(); err != nil {
		if os.Getenv("KVOL_REQUIRE_TOOLS") != "" {
			t.Fatal("python3-os-brick is missing; test/setup.sh installs it")
		}
		t.Skip("SKIPPED: python3-os-brick is not installed")
	}
	const id, size = block.VolumeID("brick"), 1 << 20
	d := store(t, nfs.Options{Dir: dir, Export: "127.0.0.1:" + share.Export, MountOptions: "vers=4.1",
		MountPointBase: t.TempDir()})
	must(t, d.CreateVolume(t.Context(), id, size))
	dev, err := d.OpenVolume(t.Context(), id)
	must(t, err)
	defer dev.Close()
	_, err = dev.WriteAt(bytes.Repeat([]byte{0x11}, 4096), 0)
	must(t, err)
	how, ok := d.Lending(id)
	if !ok || how.Protocol != "nfs" {
		t.Fatalf("the volume is lent as %q", how.Protocol)
	}
	must(t, d.Lend(t.Context(), id))
	properties, err := json.Marshal(how.Data)
	must(t, err)
	name := md5.Sum([]byte(how.Data["export"].(string))) //nolint:gosec // as above
	at := filepath.Join(how.MountPointBase, hex.EncodeToString(name[:]))
	must(t, os.Mkdir(at, 0o700))
	share.Run(t, "mount", "--bind", dir, at)
	t.Cleanup(func() { share.Run(t, "umount", at) })
	out := share.Run(t, python, "-c", brick, string(properties), how.MountPointBase)
	if !strings.HasSuffix(out, "True\n") {
		t.Errorf("os-brick reads something else: %s", out)
	}
	want := append(bytes.Repeat([]byte{0x11}, 4096), bytes.Repeat([]byte{0x2a}, 4096)...)
	if !bytes.Equal(read(t, dev, len(want)), want) {
		t.Error("what os-brick wrote is not what is read here")
	}
}
