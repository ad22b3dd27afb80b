// Package guest lets the NBD client and the iSCSI initiator of an unmodified
// Linux kernel use our exports, in an emulated machine.
package guest

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"kvol/internal/block"
	"kvol/internal/client/nbd"
	"kvol/internal/driver"
	"kvol/internal/driver/mem"
	server "kvol/internal/export/nbd"
)

//go:embed init.sh
var initScript string

// network are modules of the guest's kernel in the order of their needs.
var network = []string{
	"drivers/virtio/virtio_ring", "drivers/virtio/virtio", "drivers/virtio/virtio_pci_modern_dev",
	"drivers/virtio/virtio_pci_legacy_dev", "drivers/virtio/virtio_pci", "net/core/failover",
	"drivers/net/net_failover", "drivers/net/virtio_net",
}

// missing says loudly that the test did not run, or fails where all tools are
// required.
func missing(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("KVOL_REQUIRE_TOOLS") == "1" {
		t.Fatalf("%s is missing, and KVOL_REQUIRE_TOOLS=1; test/setup.sh installs it", what)
	}
	t.Skipf("NOT TESTED: %s IS MISSING", strings.ToUpper(what))
}

func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		missing(t, name)
	}
	return path
}

// kernel finds the guest's kernel and its modules, which test/setup.sh unpacks.
func kernel(t *testing.T) (image, moduleDir string) {
	t.Helper()
	root := os.Getenv("KVOL_GUEST_KERNEL")
	if root == "" {
		root = "/var/cache/kvol-guest"
	}
	images, _ := filepath.Glob(filepath.Join(root, "boot", "vmlinuz-*")) // the pattern is right
	if len(images) == 0 {
		missing(t, "a guest's kernel in "+root)
	}
	image = images[len(images)-1]
	version := strings.TrimPrefix(filepath.Base(image), "vmlinuz-")
	return image, filepath.Join(root, "lib", "modules", version, "kernel")
}

// archive writes a cpio archive of the "newc" form.
type archive struct {
	bytes.Buffer
	inode int
}

func (a *archive) add(name string, mode int, content []byte) {
	a.inode++
	fmt.Fprintf(a, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x", a.inode, mode, 0, 0, 1, 0, len(content),
		0, 0, 0, 0, len(name)+1, 0)
	a.WriteString(name + "\x00")
	a.pad()
	a.Write(content)
	a.pad()
}

func (a *archive) pad() { a.Write(make([]byte, -a.Len()&3)) }

const (
	directory = 0o040755
	program   = 0o100755
)

func (a *archive) addFile(t *testing.T, name, path string) {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	a.add(name, program, content)
}

// machine is all that a guest has besides busybox.
type machine struct {
	script   string            // the only program that it starts
	modules  []string          // in the order of their needs, after network
	programs map[string]string // by the path in the guest; with their libraries
	texts    map[string]string // by the path in the guest
	libs     string            // where libraries are that this machine does not have; "" for none
}

// initramfs packs a machine.
func (m *machine) initramfs(t *testing.T, moduleDir string) string {
	t.Helper()
	var a archive
	made := map[string]bool{}
	put := func(name, path string) {
		if made[name] {
			return
		}
		made[name] = true
		for i, c := range name {
			if c == '/' && !made[name[:i]] {
				made[name[:i]] = true
				a.add(name[:i], directory, nil)
			}
		}
		a.addFile(t, name, path)
	}
	put("bin/busybox", tool(t, "busybox"))
	for name, path := range m.programs {
		put(name, path)
		for _, library := range m.libraries(t, path) {
			if in, ok := strings.CutPrefix(library, m.libs); ok && m.libs != "" {
				put("usr/lib/x86_64-linux-gnu"+in, library)
				continue
			}
			put(strings.TrimPrefix(library, "/"), library)
		}
	}
	order := ""
	for _, module := range slices.Concat(network, m.modules) {
		name := filepath.Base(module) + ".ko"
		put("modules/"+name, filepath.Join(moduleDir, module+".ko"))
		order += name + "\n"
	}
	a.add("modules/order", program, []byte(order))
	for name, text := range m.texts {
		a.add(name, program, []byte(text))
	}
	a.add("init", program, []byte(m.script))
	a.add("TRAILER!!!", 0, nil)
	dir := t.TempDir()
	path := filepath.Join(dir, "initramfs")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, _ := gzip.NewWriterLevel(f, gzip.BestSpeed) // the level is right
	if _, err := a.WriteTo(z); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

// libraries are what a program is linked with; none where it is linked with none.
func (m *machine) libraries(t *testing.T, path string) []string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), tool(t, "ldd"), path)
	cmd.Env = append(os.Environ(), "LD_LIBRARY_PATH="+m.libs)
	out, err := cmd.CombinedOutput()
	if err != nil && !strings.Contains(string(out), "not a dynamic executable") {
		t.Fatalf("ldd %s: %v\n%s", path, err, out)
	}
	if err != nil {
		return nil
	}
	return regexp.MustCompile(`/\S+`).FindAllString(string(out), -1)
}

// run runs the machine to its end and returns what it said; hear is told each
// line at once, and may be nil.
func (m *machine) run(t *testing.T, hear func(line string)) string {
	t.Helper()
	image, moduleDir := kernel(t)
	ctx, cancel := context.WithTimeout(t.Context(), bound)
	defer cancel()
	cmd := exec.CommandContext(ctx, tool(t, "qemu-system-x86_64"), "-accel", "tcg", "-cpu", "qemu64", "-m", "256",
		"-nodefaults", "-no-user-config", "-nographic", "-serial", "stdio", "-no-reboot", "-kernel", image,
		"-initrd", m.initramfs(t, moduleDir), "-netdev", "user,id=n", "-device", "virtio-net-pci,netdev=n,romfile=",
		"-append", "console=ttyS0 panic=-1 quiet nokaslr mitigations=off")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		said.WriteString(line + "\n")
		if hear != nil {
			hear(line)
		}
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("the guest: %v\n%s", err, said.String())
	}
	return said.String()
}

// shelf exports one device.
type shelf struct{ driver.Device }

func (s shelf) Open(_ context.Context, name string) (server.Export, error) {
	if name != "disk" {
		return server.Export{}, block.Errorf(block.NotFound, "no such export")
	}
	return server.Export{Device: s.Device}, nil
}

// serve serves a new volume as "disk" and returns the port.
func serve(t *testing.T, size int64) (port string) {
	t.Helper()
	store := mem.New(mem.Options{})
	if err := store.CreateVolume(t.Context(), "v", size); err != nil {
		t.Fatal(err)
	}
	dev, err := store.OpenVolume(t.Context(), "v")
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	s := server.New(server.Config{Exports: shelf{dev}, Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
	go func() { done <- s.Serve(ctx, l) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
		dev.Close()
	})
	_, port, _ = net.SplitHostPort(l.Addr().String())
	return port
}

// bound is how long the guest may take, emulated as it is.
const bound = 10 * time.Minute

// TestKernelClient attaches an export by nbd.ko, keeps ext4 on it, unmounts and
// reads back; afterwards the file system is whole and the file is in it.
func TestKernelClient(t *testing.T) {
	const size = 128 << 20
	port := serve(t, size)
	attach := filepath.Join(t.TempDir(), "attach")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", attach, "kvol/test/guest/attach")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	m := machine{script: initScript, modules: []string{"drivers/block/nbd"},
		programs: map[string]string{"bin/attach": attach, "sbin/mke2fs": tool(t, "mke2fs")},
		texts:    map[string]string{"export": port + " disk"}}
	said := m.run(t, nil)
	same := regexp.MustCompile(`SAME ([0-9a-f]{64})`).FindStringSubmatch(said)
	if same == nil || !strings.Contains(said, "TRIMMED") ||
		!strings.Contains(said, fmt.Sprintf("DISK %d FUA 1", size/512)) {
		t.Fatalf("the guest:\n%s", said)
	}
	c, err := nbd.Dial(t.Context(), "nbd://127.0.0.1:"+port+"/disk", nbd.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	holds(t, io.NewSectionReader(c, 0, size), same[1])
}

// holds checks that a file system is whole, and that its file "a" has a sum.
func holds(t *testing.T, volume io.Reader, sum string) {
	t.Helper()
	disk := filepath.Join(t.TempDir(), "disk")
	f, err := os.Create(disk)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := io.Copy(f, volume); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), tool(t, "e2fsck"), "-fn", disk).CombinedOutput(); err != nil {
		t.Errorf("e2fsck: %v\n%s", err, out)
	}
	content, err := exec.CommandContext(t.Context(), tool(t, "debugfs"), "-R", "cat a", disk).Output()
	if got := sha256.Sum256(content); err != nil || hex.EncodeToString(got[:]) != sum {
		t.Errorf("the file reads otherwise than the guest wrote it: %v", err)
	}
}
