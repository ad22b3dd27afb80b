// Package ceph starts small Ceph clusters for tests: see cluster.sh.
package ceph

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"kvol/test/afterwards"
)

// Cluster is a running cluster. It belongs to one goroutine.
type Cluster struct{ dir string }

// require skips the test where the machine lacks what a cluster needs, or
// fails it where that could have been installed.
func require(t testing.TB) {
	t.Helper()
	for _, tool := range []string{"ceph-mon", "ceph-osd", "ceph-mgr", "rbd", "qemu-nbd"} {
		if _, err := exec.LookPath(tool); err != nil {
			if os.Getenv("KVOL_REQUIRE_TOOLS") != "" {
				t.Fatalf("%s is missing; test/setup.sh installs it", tool)
			}
			t.Skipf("%s is not installed", tool)
		}
	}
}

// Start starts a cluster that lives as long as the test.
func Start(t testing.TB) *Cluster {
	t.Helper()
	c := prepare(t)
	c.must(t, "up")
	return c
}

// StartTwo starts two clusters at once.
func StartTwo(t testing.TB) (a, b *Cluster) {
	t.Helper()
	a, b = prepare(t), prepare(t)
	done := make(chan error, 1)
	go func() { done <- a.do(t.Context(), "up") }()
	err := errors.Join(b.do(t.Context(), "up"), <-done)
	if err != nil {
		t.Fatal(err)
	}
	return a, b
}

// prepare finds a place for a cluster, and wipes it when the test ends.
func prepare(t testing.TB) *Cluster {
	t.Helper()
	require(t)
	base, err := os.MkdirTemp("", "kvol-ceph-") // short: names of sockets have little room
	if err != nil {
		t.Fatal(err)
	}
	c := &Cluster{dir: filepath.Join(base, "c")}
	path, err := script(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	afterwards.Run(t, path, "wipe", c.dir)
	t.Cleanup(func() {
		if err := c.do(context.WithoutCancel(t.Context()), "wipe"); err != nil {
			t.Error(err)
		}
		os.RemoveAll(base)
	})
	return c
}

// Conf is the path of its ceph.conf.
func (c *Cluster) Conf() string { return filepath.Join(c.dir, "ceph.conf") }

// Kill ends all its daemons at once.
func (c *Cluster) Kill(t testing.TB) { t.Helper(); c.must(t, "kill") }

// Restart starts those of its daemons again that do not run.
func (c *Cluster) Restart(t testing.TB) { t.Helper(); c.must(t, "start") }

// Pause makes it hang.
func (c *Cluster) Pause(t testing.TB) { t.Helper(); c.must(t, "pause") }

// Resume ends a Pause.
func (c *Cluster) Resume(t testing.TB) { t.Helper(); c.must(t, "resume") }

// KillOne ends one of its daemons at once: "mon", "osd" or "mgr".
func (c *Cluster) KillOne(t testing.TB, daemon string) { t.Helper(); c.must(t, "kill", daemon) }

// PauseOne makes one of its daemons hang.
func (c *Cluster) PauseOne(t testing.TB, daemon string) { t.Helper(); c.must(t, "pause", daemon) }

// Mirror starts an rbd-mirror that fetches images from the cluster's peers.
func (c *Cluster) Mirror(t testing.TB) { t.Helper(); c.must(t, "mirror") }

// Run runs a command of Ceph's on the cluster, as client.admin, and returns
// what it printed.
func (c *Cluster) Run(t testing.TB, program string, args ...string) string {
	t.Helper()
	var said strings.Builder
	cmd := exec.CommandContext(t.Context(), program, append([]string{"-c", c.Conf()}, args...)...)
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", program, args, err, said.String())
	}
	return string(out)
}

func (c *Cluster) must(t testing.TB, do ...string) {
	t.Helper()
	if err := c.do(t.Context(), do...); err != nil {
		t.Fatal(err)
	}
}

func (c *Cluster) do(ctx context.Context, do ...string) error {
	path, err := script(ctx)
	if err != nil {
		return err
	}
	args := slices.Insert(slices.Clone(do), 1, c.dir)
	if out, err := exec.CommandContext(ctx, path, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("cluster.sh %s: %w\n%s", do, err, out)
	}
	return nil
}

// script is the path of cluster.sh.
func script(ctx context.Context) (string, error) {
	_, here, _, _ := runtime.Caller(0)
	path := filepath.Join(filepath.Dir(here), "cluster.sh")
	if filepath.IsAbs(path) {
		return path, nil
	}
	// It was built with -trimpath.
	root, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return "", fmt.Errorf("where the module is: %w", err)
	}
	return filepath.Join(strings.TrimSpace(string(root)), "test", "ceph", "cluster.sh"), nil
}
