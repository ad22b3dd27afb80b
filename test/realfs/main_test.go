// Package realfs lets real file systems and clients work on an embedded store
// through its NBD server: ext4, xfs and btrfs by way of nbdfuse and a loop
// device, with power cuts and their own checkers; fio with verification while
// the server is killed again and again. It needs root, /dev/fuse and
// /dev/loop-control.
package realfs

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"kvol/internal/client"
	"kvol/internal/driver"
	"kvol/internal/driver/logstore"
	"kvol/internal/export/nbd"
)

// serveDir is set in a process that is to serve the store in a directory.
const serveDir = "KVOL_REALFS_SERVE"

func TestMain(m *testing.M) {
	if dir := os.Getenv(serveDir); dir != "" {
		fmt.Fprintln(os.Stderr, "realfs server:", serveStore(context.Background(), dir))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// need skips, or fails where tools are required, without these programs.
func need(t *testing.T, names ...string) {
	t.Helper()
	for _, name := range names {
		if _, err := exec.LookPath(name); err == nil {
			continue
		}
		if os.Getenv("KVOL_REQUIRE_TOOLS") != "" {
			t.Fatalf("%s is not installed", name)
		}
		t.Skipf("SKIPPED: %s is not installed", name)
	}
}

// needRoot skips, or fails where tools are required, where file systems can't be
// mounted.
func needRoot(t *testing.T, devices ...string) {
	t.Helper()
	missing := ""
	if os.Geteuid() != 0 {
		missing = "mounting needs root"
	}
	for _, dev := range append(devices, "/dev/loop-control") {
		if _, err := os.Stat(dev); err != nil {
			missing = err.Error()
		}
	}
	switch {
	case missing == "":
	case os.Getenv("KVOL_REQUIRE_TOOLS") != "":
		t.Fatal(missing)
	default:
		t.Skip("SKIPPED: " + missing)
	}
}

// sh runs a program, and returns what it printed.
func sh(t *testing.T, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute) // cleaning up has no test's context
	defer cancel()
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// single exports one device under every name.
type single struct{ device driver.Device }

func (s single) Open(context.Context, string) (nbd.Export, error) {
	return nbd.Export{Device: s.device}, nil
}

// serve exports a device on a Unix socket until the test ends.
func serve(t *testing.T, d driver.Device, socket string) string {
	t.Helper()
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- nbd.New(nbd.Config{Exports: single{d}}).Serve(ctx, l) }()
	t.Cleanup(func() { cancel(); <-ended })
	return "nbd+unix:///vol?socket=" + socket
}

// blockDevice makes a block device of an NBD export until the test ends.
func blockDevice(t *testing.T, url string) string {
	t.Helper()
	dir := t.TempDir()
	fuse := exec.Command("nbdfuse", dir, url)
	fuse.Stderr = os.Stderr
	if err := fuse.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", dir).CombinedOutput(); err != nil {
			t.Errorf("umount: %v %s", err, out)
			_ = fuse.Process.Kill() // or the wait would be for ever
		}
		_ = fuse.Wait() // ends with the mount
	})
	file := filepath.Join(dir, "nbd")
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	err := client.Poll(ctx, 10*time.Millisecond, func() (bool, error) {
		_, err := os.Stat(file)
		return err == nil, nil
	})
	if err != nil {
		t.Fatalf("nbdfuse made no file: %v", err)
	}
	return loop(t, file, "--direct-io=on")
}

// loop makes a block device of a file until the test ends.
func loop(t *testing.T, file string, args ...string) string {
	t.Helper()
	dev := sh(t, "losetup", append(args, "-f", "--show", file)...)
	t.Cleanup(func() { sh(t, "losetup", "-d", dev) })
	return dev
}

// mount mounts a device until the returned function or the test's end.
func mount(t *testing.T, dev string, args ...string) (dir string, unmount func()) {
	t.Helper()
	dir = t.TempDir()
	sh(t, "mount", append(args, dev, dir)...)
	mounted := true
	unmount = func() {
		if mounted {
			sh(t, "umount", dir)
			mounted = false
		}
	}
	t.Cleanup(unmount)
	return dir, unmount
}

// counted prints a line for each so many writes, so that whoever watches knows
// how far it is.
type counted struct {
	driver.Device
	writes atomic.Int64
}

// linesEvery is how many writes a line of a serving process stands for.
const linesEvery = 1500

func (c *counted) WriteAt(p []byte, off int64) (int, error) {
	n, err := c.Device.WriteAt(p, off)
	if c.writes.Add(1)%linesEvery == 0 {
		fmt.Println("written")
	}
	return n, err
}

// serveStore serves the volume of a store, which it makes if need be, until the
// process is killed.
func serveStore(ctx context.Context, dir string) error {
	s, err := logstore.Open(ctx, logstore.Options{Dir: filepath.Join(dir, "store"), SegmentSize: 8 << 20})
	if err != nil {
		return err
	}
	if err := s.CreateVolume(ctx, "vol", volumeSize); err != nil {
		return err
	}
	d, err := s.OpenVolume(ctx, "vol")
	if err != nil {
		return err
	}
	socket := filepath.Join(dir, "server.sock")
	if err := os.RemoveAll(socket); err != nil { // a killed process leaves it
		return err
	}
	l, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	fmt.Println("ready")
	return nbd.New(nbd.Config{Exports: single{&counted{Device: d}}}).Serve(ctx, l)
}

// server is a process that serves the store in a directory.
type server struct {
	cmd   *exec.Cmd
	lines *bufio.Scanner
}

func startServer(t *testing.T, dir string) *server {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), serveDir+"="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s := &server{cmd, bufio.NewScanner(out)}
	t.Cleanup(s.kill)
	if !s.lines.Scan() || s.lines.Text() != "ready" {
		t.Fatal("the server did not start")
	}
	return s
}

// kill is kill -9. It may be called again.
func (s *server) kill() {
	_ = s.cmd.Process.Kill() // it may be gone
	_ = s.cmd.Wait()
}
