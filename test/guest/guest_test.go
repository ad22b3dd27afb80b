// Package guest lets the NBD client of an unmodified Linux kernel use our
// exports, in an emulated machine.
package guest

import (
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

// modules of the guest's kernel in the order of their needs.
var modules = []string{
	"drivers/virtio/virtio_ring", "drivers/virtio/virtio", "drivers/virtio/virtio_pci_modern_dev",
	"drivers/virtio/virtio_pci_legacy_dev", "drivers/virtio/virtio_pci", "net/core/failover",
	"drivers/net/net_failover", "drivers/net/virtio_net", "drivers/block/nbd",
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

// initramfs is all that the guest has: busybox, the modules, the program that
// attaches, and mke2fs with its libraries.
func initramfs(t *testing.T, moduleDir, export string) string {
	t.Helper()
	dir := t.TempDir()
	attach := filepath.Join(dir, "attach")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", attach, "kvol/test/guest/attach")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var a archive
	made := map[string]bool{}
	parents := func(name string) {
		for i, c := range name {
			if c == '/' && !made[name[:i]] {
				made[name[:i]] = true
				a.add(name[:i], directory, nil)
			}
		}
	}
	put := func(name, path string) {
		parents(name)
		a.addFile(t, name, path)
	}
	put("bin/busybox", tool(t, "busybox"))
	put("bin/attach", attach)
	mke2fs := tool(t, "mke2fs")
	put("sbin/mke2fs", mke2fs)
	libraries, err := exec.CommandContext(t.Context(), tool(t, "ldd"), mke2fs).Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range regexp.MustCompile(`/\S+`).FindAllString(string(libraries), -1) {
		put(strings.TrimPrefix(path, "/"), path)
	}
	order := ""
	for _, m := range modules {
		name := filepath.Base(m) + ".ko"
		put("modules/"+name, filepath.Join(moduleDir, m+".ko"))
		order += name + "\n"
	}
	a.add("modules/order", program, []byte(order))
	a.add("export", program, []byte(export))
	a.add("init", program, []byte(initScript))
	a.add("TRAILER!!!", 0, nil)
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
const bound = 60 * time.Second

// TestKernelClient attaches an export by nbd.ko, keeps ext4 on it, unmounts and
// reads back; afterwards the file system is whole and the file is in it.
func TestKernelClient(t *testing.T) {
	const size = 128 << 20
	qemu, fsck, debugfs := tool(t, "qemu-system-x86_64"), tool(t, "e2fsck"), tool(t, "debugfs")
	image, moduleDir := kernel(t)
	port := serve(t, size)
	ctx, cancel := context.WithTimeout(t.Context(), bound)
	defer cancel()
	cmd := exec.CommandContext(
		ctx,
		qemu,
		"-accel",
		"tcg",
		"-cpu",
		"qemu64",
		"-m",
		"256",
		"-nodefaults",
		"-no-user-config",
		"-nographic",
		"-serial",
		"stdio",
		"-no-reboot",
		"-kernel",
		image,
		"-initrd",
		initramfs(t, moduleDir, port+" disk"),
		"-netdev",
		"user,id=n",
		"-device",
		"virtio-net-pci,netdev=n,romfile=",
		"-append",
		"console=ttyS0 panic=-1 quiet nokaslr mitigations=off",
	)
	out, err := cmd.CombinedOutput()
	said := string(out)
	same := regexp.MustCompile(`SAME ([0-9a-f]{64})`).FindStringSubmatch(said)
	if err != nil || same == nil || !strings.Contains(said, "TRIMMED") ||
		!strings.Contains(said, fmt.Sprintf("DISK %d FUA 1", size/512)) {
		t.Fatalf("the guest: %v\n%s", err, said)
	}
	c, err := nbd.Dial(t.Context(), "nbd://127.0.0.1:"+port+"/disk", nbd.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	disk := filepath.Join(t.TempDir(), "disk")
	f, err := os.Create(disk)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := io.Copy(f, io.NewSectionReader(c, 0, size)); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), fsck, "-fn", disk).CombinedOutput(); err != nil {
		t.Errorf("e2fsck: %v\n%s", err, out)
	}
	content, err := exec.CommandContext(t.Context(), debugfs, "-R", "cat a", disk).Output()
	if sum := sha256.Sum256(content); err != nil || hex.EncodeToString(sum[:]) != same[1] {
		t.Errorf("the file reads otherwise than the guest wrote it: %v", err)
	}
}
