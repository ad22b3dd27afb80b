// Package ceph starts small Ceph clusters for tests: see cluster.sh.
package ceph

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
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
	require(t)
	base, err := os.MkdirTemp("", "kvol-ceph-") // short: names of sockets have little room
	if err != nil {
		t.Fatal(err)
	}
	c := &Cluster{dir: filepath.Join(base, "c")}
	t.Cleanup(func() {
		if err := c.do(context.WithoutCancel(t.Context()), "wipe"); err != nil {
			t.Error(err)
		}
		os.RemoveAll(base)
	})
	c.must(t, "up")
	return c
}

// Conf is the path of its ceph.conf.
func (c *Cluster) Conf() string { return filepath.Join(c.dir, "ceph.conf") }

// Kill ends all its daemons at once.
func (c *Cluster) Kill(t testing.TB) { t.Helper(); c.must(t, "kill") }

// Restart starts them again after Kill.
func (c *Cluster) Restart(t testing.TB) { t.Helper(); c.must(t, "start") }

// Pause makes it hang.
func (c *Cluster) Pause(t testing.TB) { t.Helper(); c.must(t, "pause") }

// Resume ends a Pause.
func (c *Cluster) Resume(t testing.TB) { t.Helper(); c.must(t, "resume") }

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

func (c *Cluster) must(t testing.TB, do string) {
	t.Helper()
	if err := c.do(t.Context(), do); err != nil {
		t.Fatal(err)
	}
}

func (c *Cluster) do(ctx context.Context, do string) error {
	_, here, _, _ := runtime.Caller(0)
	script := filepath.Join(filepath.Dir(here), "cluster.sh")
	if !filepath.IsAbs(script) { // built with -trimpath
		root, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}").Output()
		if err != nil {
			return fmt.Errorf("where the module is: %w", err)
		}
		script = filepath.Join(strings.TrimSpace(string(root)), "test", "ceph", "cluster.sh")
	}
	if out, err := exec.CommandContext(ctx, script, do, c.dir).CombinedOutput(); err != nil {
		return fmt.Errorf("cluster.sh %s: %w\n%s", do, err, out)
	}
	return nil
}
