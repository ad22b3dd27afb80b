package ceph_test

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"kvol/internal/client"
	"kvol/internal/zone/zonetest"
	"kvol/test/ceph"
)

// machine is a host that has a volume's image open by its own client, and has
// nothing of the volume but its connection_info and a key of its cluster.
type machine struct {
	t   *testing.T
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

const prompt = "qemu-io> "

func newMachine(t *testing.T, c *ceph.Cluster, info client.Connection) *machine {
	t.Helper()
	d := info.Data
	if info.DriverVolumeType != "rbd" || d["access_mode"] != "rw" || d["auth_username"] != "admin" {
		t.Fatalf("connection_info is %+v", info)
	}
	var monitors []string
	hosts, _ := d["hosts"].([]any)
	ports, _ := d["ports"].([]any)
	for n := range hosts {
		monitors = append(monitors, fmt.Sprintf("%v:%v", hosts[n], ports[n]))
	}
	conf := filepath.Join(t.TempDir(), "conf")
	keyring := c.Run(t, "ceph", "auth", "get", "client.admin")
	text := "[global]\nmon_host = " + strings.Join(monitors, ",") + "\n" + keyring + "\nadmin socket =\nlog file =\n"
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	image := fmt.Sprintf("rbd:%v:id=%v:conf=%s", d["name"], d["auth_username"], conf)
	m := &machine{t: t, cmd: exec.Command("qemu-io", "-t", "none", "-f", "raw", image)}
	m.cmd.Env = append(os.Environ(), "CEPH_ARGS=")
	var err error
	if m.in, err = m.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := m.cmd.StdoutPipe()
	if err == nil {
		m.cmd.Stderr = m.cmd.Stdout // where it tells of errors
		err = m.cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	m.out = bufio.NewReader(out)
	t.Cleanup(m.kill)
	if said, err := m.answer(); err != nil {
		t.Fatalf("a host can't open the image: %v: %s", err, said)
	}
	return m
}

// kill ends it at once.
func (m *machine) kill() {
	_ = m.cmd.Process.Kill() // it may wait for a cluster that refuses it
	_ = m.cmd.Wait()
}

// answer is what it says up to its next prompt.
func (m *machine) answer() (string, error) {
	var said strings.Builder
	for !strings.HasSuffix(said.String(), prompt) {
		b, err := m.out.ReadByte()
		if err != nil {
			return said.String(), err
		}
		said.WriteByte(b)
	}
	return said.String(), nil
}

// writes has it write a byte to all of a block, past every cache and flushed, and
// reports whether it was told that it did, or what it was told else. It may be
// called by any goroutine, one at a time.
func (m *machine) writes(block int, b byte) (ok bool, said string) {
	// A flush by itself says nothing where it fails.
	_, err := fmt.Fprintf(m.in, "write -f -P %d %d %d\n", b, block*zonetest.BlockSize, zonetest.BlockSize)
	if err == nil {
		said, err = m.answer()
	}
	return err == nil && strings.Contains(said, fmt.Sprintf("wrote %d/%[1]d", zonetest.BlockSize)), fmt.Sprint(said, err)
}
