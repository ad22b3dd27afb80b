// Package nfs makes shares for tests: file systems in files, and an NFS server
// in front of them that nobody else on the machine can see.
package nfs

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Need skips the test, or fails it where tools are required, without these
// programs or without root.
func Need(t testing.TB, programs ...string) {
	t.Helper()
	missing := ""
	if os.Geteuid() != 0 {
		missing = "mounting needs root"
	}
	if _, err := os.Stat("/dev/loop-control"); err != nil {
		missing = err.Error()
	}
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			missing = p + " is missing; test/setup.sh installs it"
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

// shareSize is how large the file systems are, in bytes. Their files are sparse.
const shareSize = int64(320) << 20 // xfs wants 300 MiB

// XFS mounts a file system that shares blocks between files, until the test ends.
func XFS(t testing.TB) string {
	t.Helper()
	return mount(t, "mkfs.xfs", "-q", "-m", "reflink=1")
}

// Btrfs is XFS with another one.
func Btrfs(t testing.TB) string {
	t.Helper()
	return mount(t, "mkfs.btrfs", "-q")
}

func mount(t testing.TB, mkfs ...string) string {
	t.Helper()
	Need(t, mkfs[0], "mount")
	image := filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(image, shareSize); err != nil {
		t.Fatal(err)
	}
	Run(t, mkfs[0], append(mkfs[1:], image)...)
	dir := t.TempDir()
	Run(t, "mount", "-o", "loop", image, dir)
	t.Cleanup(func() { Run(t, "umount", dir) })
	return dir
}

// Run runs a program, and returns what it printed.
func Run(t testing.TB, program string, args ...string) string {
	t.Helper()
	// Clean-ups have no test's context any more.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 5*time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, program, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", program, strings.Join(args, " "), err, out)
	}
	return string(out)
}
