package rbd_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"kvol/internal/block"
	"kvol/internal/driver"
	"kvol/internal/driver/rbd"
	"kvol/test/ceph"
)

// cluster is a pool whose images hosts use themselves, with a user for the zone
// and one for its hosts, each with the rights of docs/ceph.md and no others.
type cluster struct {
	*ceph.Cluster
	pool    string
	user    string // of the hosts
	d       *rbd.Driver
	keyring string // of the hosts' user
}

// hostsCaps are what docs/ceph.md gives to hosts.
func hostsCaps(pool string) []string {
	var caps []string
	for _, c := range []string{"rx %s object_prefix rbd_id.", "rx %s object_prefix rbd_info",
		"rwx %s object_prefix rbd_header.", "rwx %s object_prefix rbd_object_map.", "rwx %s object_prefix rbd_data."} {
		caps = append(caps, "allow "+fmt.Sprintf(c, "pool="+pool))
	}
	return []string{"mon", "profile rbd", "osd", strings.Join(caps, ", ")}
}

func newCluster(t *testing.T, c *ceph.Cluster) *cluster {
	t.Helper()
	p := &cluster{Cluster: c, pool: "hosts" + block.NewID()[:8]}
	p.user = "nova-" + p.pool
	c.Run(t, "ceph", "osd", "pool", "create", p.pool, "8", "8", "replicated")
	c.Run(t, "rbd", "pool", "init", p.pool)
	profile := "profile rbd pool=" + p.pool
	zone := c.Run(t, "ceph", "auth", "get-or-create", "client.zone-"+p.pool, "mon", "profile rbd", "osd", profile,
		"mgr", profile)
	p.keyring = c.Run(t, "ceph", append([]string{"auth", "get-or-create", "client." + p.user}, hostsCaps(p.pool)...)...)
	var err error
	p.d, err = rbd.Open(t.Context(), rbd.Options{Conf: asUser(t, c, zone), User: "zone-" + p.pool, Pool: p.pool,
		Hosts: &rbd.Hosts{User: p.user, Secret: "457eb676-33da-42ec-9a8c-9293d545c337"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.d.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// info is connection_info as hosts get it, by way of JSON.
type info struct {
	Name         string   `json:"name"`
	Hosts        []string `json:"hosts"`
	Ports        []string `json:"ports"`
	ClusterName  string   `json:"cluster_name"`
	AuthEnabled  bool     `json:"auth_enabled"`
	AuthUsername string   `json:"auth_username"`
	SecretType   string   `json:"secret_type"`
	SecretUUID   string   `json:"secret_uuid"`
	Discard      bool     `json:"discard"`
}

func (p *cluster) info(t *testing.T, id block.VolumeID) (i info) {
	t.Helper()
	how, ok := p.d.Lending(id)
	text, err := json.Marshal(how.Data)
	if err == nil {
		err = json.Unmarshal(text, &i)
	}
	if !ok || err != nil || how.Protocol != "rbd" {
		t.Fatalf("%+v, %v, %v", how, ok, err)
	}
	return i
}

// conf writes what os-brick makes of connection_info and the keyring that it
// finds on its host.
func (p *cluster) conf(t *testing.T, i info) string {
	t.Helper()
	var monitors []string
	for n := range i.Hosts {
		monitors = append(monitors, i.Hosts[n]+":"+i.Ports[n])
	}
	path := filepath.Join(t.TempDir(), "host.conf")
	text := "[global]\nmon_host = " + strings.Join(monitors, ",") + "\n" + p.keyring + "\nadmin socket =\nlog file =\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// key is the key in a keyring.
func (p *cluster) key(t *testing.T) string {
	t.Helper()
	_, key, ok := strings.Cut(p.keyring, "key = ")
	if !ok {
		t.Fatalf("no key in %q", p.keyring)
	}
	key, _, _ = strings.Cut(key, "\n")
	return key
}

// qemu are qemu-io's arguments that open an image as libvirt has qemu do it.
func (p *cluster) qemu(t *testing.T, i info) []string {
	t.Helper()
	pool, image, _ := strings.Cut(i.Name, "/")
	var o strings.Builder
	fmt.Fprintf(&o, "driver=raw,discard=unmap,file.driver=rbd,file.pool=%s,file.image=%s,file.user=%s,file.key-secret=k",
		pool, image, i.AuthUsername)
	for n := range i.Hosts {
		fmt.Fprintf(&o, ",file.server.%d.host=%s,file.server.%d.port=%s", n, i.Hosts[n], n, i.Ports[n])
	}
	return []string{"--object", "secret,id=k,format=base64,data=" + p.key(t), "--image-opts", o.String()}
}

// run runs a client on a host, and fails the test if it fails.
func run(t *testing.T, env []string, program string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Env = append(os.Environ(), env...)
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s%s", program, args, err, out, said.String())
	}
	return string(out)
}

// usedByHosts reads and writes a volume by each of the clients that hosts have,
// from nothing but connection_info and the user's key, and by the driver.
func usedByHosts(t *testing.T, c *ceph.Cluster) {
	p := newCluster(t, c)
	id := volume(t, p.d, 4096)
	if err := p.d.Lend(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	i := p.info(t, id)
	if i.Name != p.pool+"/kvol-"+string(id) || i.ClusterName != "ceph" || !i.AuthEnabled || i.AuthUsername != p.user ||
		i.SecretType != "ceph" || i.SecretUUID != "457eb676-33da-42ec-9a8c-9293d545c337" || !i.Discard ||
		len(i.Hosts) != 1 || i.Hosts[0] != "127.0.0.1" || len(i.Ports) != 1 {
		t.Errorf("connection info %+v", i)
	}
	conf := p.conf(t, i)
	host := []string{"CEPH_CONF=" + conf, "CEPH_ARGS="}
	qemu := p.qemu(t, i)
	run(t, host, "qemu-io", append(qemu, "-c", "write -P 7 0 64k", "-c", "flush")...)
	dev := opened(t, p.d, id)
	holds(t, dev, bytes.Repeat([]byte{7}, 64<<10))
	want := write(t, dev, 9)
	if out := run(t, host, "qemu-io", append(qemu, "-c", "read -P 9 0 4k")...); strings.Contains(out, "failed") {
		t.Errorf("qemu-io reads something else: %s", out)
	}
	name := "rbd:" + i.Name + ":id=" + i.AuthUsername + ":conf=" + strings.ReplaceAll(conf, ":", `\:`)
	raw := filepath.Join(t.TempDir(), "raw")
	run(t, host, "qemu-img", "convert", "-O", "raw", name, raw)
	if got, err := os.ReadFile(raw); err != nil || len(got) != 4096*kib4 || !bytes.Equal(got[:kib4], want) {
		t.Errorf("qemu-img reads something else: %v", err)
	}
	_, image, _ := strings.Cut(i.Name, "/")
	out := run(t, host, "fio", "--name=f", "--ioengine=rbd", "--clientname="+i.AuthUsername, "--pool="+p.pool,
		"--rbdname="+image, "--rw=randwrite", "--bs=4k", "--iodepth=16", "--size=4m", "--offset=8m", "--verify=crc32c",
		"--do_verify=1", "--verify_fatal=1", "--output-format=terse")
	if !strings.HasPrefix(out, "3;fio") {
		t.Errorf("fio: %s", out)
	}
	for what, args := range map[string][]string{
		"remove an image": {"rm", i.Name}, "make an image": {"create", "--size", "1M", p.pool + "/mine"},
		"rename an image": {"mv", i.Name, p.pool + "/mine"}, "list images": {"ls", p.pool},
		"read another pool": {"ls", "rbd"},
	} {
		cmd := exec.CommandContext(t.Context(), "rbd", append([]string{"--conf", conf, "--id", p.user}, args...)...)
		if out, err := cmd.CombinedOutput(); err == nil {
			t.Errorf("a host may %s: %s", what, out)
		}
	}
	usedByBrick(t, i, p.keyring, dev)
}

// changesByHosts: what hosts write raises the number of changes, whoever names a
// moment in between, and nothing else does for long.
func changesByHosts(t *testing.T, c *ceph.Cluster) {
	p := newCluster(t, c)
	id := volume(t, p.d, 4096)
	if err := p.d.Lend(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	qemu := p.qemu(t, p.info(t, id))
	host := []string{"CEPH_CONF=/dev/null", "CEPH_ARGS="}
	changes := func() uint64 {
		t.Helper()
		n, err := p.d.Changes(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	snapshot := func() {
		t.Helper()
		err := p.d.CreateSnapshot(t.Context(), driver.SnapshotRef{Volume: id, Name: block.PointID(block.NewID())})
		if err != nil {
			t.Fatal(err)
		}
	}
	hostWrites := func(b int) {
		t.Helper()
		run(t, host, "qemu-io", append(qemu, "-c", fmt.Sprintf("write -P %d 0 4k", b), "-c", "flush")...)
	}
	hostWrites(1)
	snapshot()
	last := changes()
	if again := changes(); again != last {
		t.Errorf("nobody wrote, and the number went from %d to %d", last, again)
	}
	snapshot() // of nothing new
	if again := changes(); again != last {
		t.Errorf("a snapshot alone took the number from %d to %d", last, again)
	}
	hostWrites(2)
	snapshot() // somebody else's: what it has is new all the same
	now := changes()
	if now == last {
		t.Error("a host's write before a snapshot is not counted")
	}
	hostWrites(3)
	if again := changes(); again == now {
		t.Error("a host's write is not counted")
	}
	snapshot()
	for n := range 2 { // what the newest snapshot has may count once more
		last, now = now, changes()
		if n > 0 && now != last {
			t.Errorf("the number goes on from %d to %d", last, now)
		}
	}
	err := p.d.CreateSnapshots(t.Context(), []driver.SnapshotRef{{Volume: id, Name: block.PointID(block.NewID())}})
	if !block.Is(err, block.Conflict) {
		t.Errorf("a moment of several volumes of which one is lent: %v", err)
	}
}

// host is an unmodified client that has an image open, as a machine does.
type host struct {
	t   *testing.T
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

const prompt = "qemu-io> "

func (p *cluster) newHost(t *testing.T, id block.VolumeID) *host {
	t.Helper()
	h := &host{t: t, cmd: exec.Command("qemu-io", p.qemu(t, p.info(t, id))...)}
	h.cmd.Env = append(os.Environ(), "CEPH_CONF=/dev/null", "CEPH_ARGS=")
	var err error
	if h.in, err = h.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := h.cmd.StdoutPipe()
	if err == nil {
		err = h.cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	h.out = bufio.NewReader(out)
	t.Cleanup(func() {
		_ = h.cmd.Process.Kill() // it may wait for a cluster that refuses it
		_ = h.cmd.Wait()
	})
	h.answer()
	return h
}

// answer is what it says up to its next prompt.
func (h *host) answer() string {
	h.t.Helper()
	var said strings.Builder
	for !strings.HasSuffix(said.String(), prompt) {
		b, err := h.out.ReadByte()
		if err != nil {
			h.t.Fatalf("the host ended: %v: %s", err, said.String())
		}
		said.WriteByte(b)
	}
	return said.String()
}

func (h *host) ask(format string, args ...any) {
	h.t.Helper()
	if _, err := fmt.Fprintf(h.in, format+"\n", args...); err != nil {
		h.t.Fatal(err)
	}
}

// writes has it write, and reports whether it was acknowledged.
func (h *host) writes(b byte) bool {
	h.t.Helper()
	h.ask("write -P %d 0 4k", b)
	return strings.Contains(h.answer(), "wrote 4096/4096")
}

func (h *host) signal(s syscall.Signal) {
	h.t.Helper()
	if err := h.cmd.Process.Signal(s); err != nil {
		h.t.Fatal(err)
	}
}

// hostsCutOff: a host that was cut off writes no more, running or stopped, and
// the driver goes on; who was not cut goes on too.
func hostsCutOff(t *testing.T, c *ceph.Cluster) {
	p := newCluster(t, c)
	id, other := volume(t, p.d, 4096), volume(t, p.d, 4096)
	for _, v := range []block.VolumeID{id, other} {
		if err := p.d.Lend(t.Context(), v); err != nil {
			t.Fatal(err)
		}
	}
	dev := opened(t, p.d, id)
	write(t, dev, 9) // by a client of our own, which is no borrower
	neighbour := p.newHost(t, other)
	if !neighbour.writes(1) {
		t.Fatal("the neighbour can't write")
	}
	for n, stopped := range []bool{false, true} {
		h := p.newHost(t, id)
		if b := byte(10 + n); !h.writes(b) {
			t.Fatal("a host that was let in can't write")
		}
		if stopped {
			h.signal(syscall.SIGSTOP)
		}
		who, err := p.d.Borrowers(t.Context(), id)
		// One that is still for long is cut off by whoever takes the image's lock.
		if err != nil || len(who) != 1 && !stopped || len(who) == 1 && who[0].Host != "127.0.0.1" {
			t.Fatalf("the borrowers are %+v, %v", who, err)
		}
		if err := p.d.Cut(t.Context(), id, who); err != nil {
			t.Fatal(err)
		}
		want := write(t, dev, byte(20+n))
		h.signal(syscall.SIGCONT)
		if h.writes(66) {
			t.Error("a host that was cut off writes")
		}
		holds(t, dev, want)
	}
	if !neighbour.writes(2) {
		t.Error("a host was cut off with its neighbour")
	}
}

// hostsWithheld: no host writes to a volume that is withheld, not one that comes
// anew either, and the driver changes it as before. Once it is lent again, who
// waits goes on.
func hostsWithheld(t *testing.T, c *ceph.Cluster) {
	p := newCluster(t, c)
	id := volume(t, p.d, 4096)
	if err := p.d.Lend(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	old := p.newHost(t, id)
	if !old.writes(1) {
		t.Fatal("a host that was let in can't write")
	}
	for range 2 { // it may be repeated
		if err := p.d.Withhold(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	if old.writes(2) {
		t.Error("a host writes to what is withheld")
	}
	ref := driver.SnapshotRef{Volume: id, Name: block.PointID(block.NewID())}
	for what, err := range map[string]error{"snapshot": p.d.CreateSnapshot(t.Context(), ref),
		"extend": p.d.ExtendVolume(t.Context(), id, 8192*kib4)} {
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	dev := opened(t, p.d, id)
	holds(t, dev, bytes.Repeat([]byte{1}, kib4))
	again := p.newHost(t, id)
	again.ask("write -P 3 0 4k")
	watched(t, p, id)
	holds(t, dev, bytes.Repeat([]byte{1}, kib4))
	if err := p.d.Lend(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if said := again.answer(); !strings.Contains(said, "wrote 4096/4096") {
		t.Errorf("a host that waited is told %s", said)
	}
	holds(t, dev, bytes.Repeat([]byte{3}, kib4))
	if err := dev.Close(); err != nil {
		t.Fatal(err)
	}
	if err := p.d.DeleteVolume(t.Context(), id); err != nil { // with a host at it
		t.Fatal(err)
	}
	if again.writes(4) {
		t.Error("a host writes to what was deleted")
	}
}

// watched waits until a host asked for the lock of an image.
func watched(t *testing.T, p *cluster, id block.VolumeID) {
	t.Helper()
	for seen := 0; seen < 3; time.Sleep(100 * time.Millisecond) {
		var status struct {
			Watchers []struct{} `json:"watchers"`
		}
		text := p.Run(t, "rbd", "status", "--format", "json", p.pool+"/kvol-"+string(id))
		if err := json.Unmarshal([]byte(text), &status); err != nil {
			t.Fatal(err)
		}
		if len(status.Watchers) > 1 { // it, and our own client
			seen++
		}
	}
}

// brick opens connection_info with os-brick, writes, and reads.
const brick = `
import json, sys
from os_brick.initiator import connector
properties = json.loads(sys.argv[1])
c = connector.InitiatorConnector.factory('RBD', None)
assert c.get_volume_paths(properties) == []
device = c.connect_volume(properties)
assert c.check_valid_device(device['path'])
f = device['path']
f.seek(4096)
f.write(b'\x2a' * 4096)
f.flush()
f.seek(4096)
assert f.read(4096) == b'\x2a' * 4096
c.disconnect_volume(properties, device)
print('done')
`

// usedByBrick has os-brick use a volume, where it is installed.
func usedByBrick(t *testing.T, i info, keyring string, dev driver.Device) {
	t.Helper()
	const python = "/usr/bin/python3" // Debian's, which has its packages
	if err := exec.Command(python, "-c", "import os_brick.initiator.connector, rbd").Run(); err != nil {
		if os.Getenv("KVOL_REQUIRE_TOOLS") != "" {
			t.Fatal("python3-os-brick is missing; test/setup.sh installs it")
		}
		t.Log("python3-os-brick is not installed: it is not tried")
		return
	}
	// The keyring is what it finds in /etc/ceph of its host, which is nobody's to
	// write to here.
	properties, err := json.Marshal(struct {
		info
		Keyring string `json:"keyring"`
	}{i, keyring})
	if err != nil {
		t.Fatal(err)
	}
	out := run(t, []string{"CEPH_ARGS="}, python, "-c", brick, string(properties))
	if !slices.Contains(strings.Fields(out), "done") {
		t.Errorf("os-brick: %s", out)
	}
	got := make([]byte, kib4)
	if _, err := dev.ReadAt(got, kib4); err != nil || !bytes.Equal(got, bytes.Repeat([]byte{0x2a}, kib4)) {
		t.Errorf("what os-brick wrote reads as %x..., %v", got[:4], err)
	}
}
