// Package e2e runs the program itself and comes to it from outside: the demo,
// unmodified OpenStack and NBD clients, the commands. It is no place for tests
// that need to look inside.
package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"kvol/cmd/kvol/demo"
	"kvol/internal/client"
	"kvol/test/program"
)

// zones is the demo, kept running for all tests of the package.
var zones struct {
	exe, dir string
	output   string // what the demo printed until every comparison held
	demo.Topology
}

func TestMain(m *testing.M) {
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		os.Exit(1)
	}
	os.Exit(code)
}

// run builds the program, plays the demo with --keep, and runs the tests
// against the zones that it leaves. KVOL_E2E_DEMO has more of the demo's flags, by
// which zones are on Ceph and PostgreSQL; see package elsewhere.
func run(m *testing.M) (code int, err error) {
	dir, err := os.MkdirTemp("", "kvol-e2e-")
	if err != nil {
		return 1, err
	}
	defer os.RemoveAll(dir)
	zones.dir = filepath.Join(dir, "demo")
	if zones.exe, err = program.Build(dir); err != nil {
		return 1, err
	}
	args := append([]string{"demo", "--keep", "--dir", zones.dir}, strings.Fields(os.Getenv("KVOL_E2E_DEMO"))...)
	cmd := exec.Command(zones.exe, args...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return 1, err
	}
	if err := cmd.Start(); err != nil {
		return 1, err
	}
	defer func() {
		_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended
		_, _ = io.Copy(io.Discard, out)
		if waited := cmd.Wait(); err == nil && waited != nil && code == 0 {
			err = fmt.Errorf("the demo did not end cleanly: %w", waited)
		}
	}()
	if zones.output, err = untilHeld(out); err != nil {
		return 1, err
	}
	text, err := os.ReadFile(filepath.Join(zones.dir, "demo.json"))
	if err != nil {
		return 1, err
	}
	if err := json.Unmarshal(text, &zones.Topology); err != nil {
		return 1, err
	}
	if code = m.Run(); code != 0 {
		complaints(os.Stderr)
	}
	return code, nil
}

// complaints prints what the zones warned of, which a failed test is likely to
// come from.
func complaints(w io.Writer) {
	for _, z := range zones.Zones {
		text, err := os.ReadFile(filepath.Join(zones.dir, z.Name+".log"))
		if err != nil {
			fmt.Fprintln(w, err)
		}
		for _, line := range strings.Split(string(text), "\n") {
			if strings.Contains(line, `"level":"WARN"`) || strings.Contains(line, `"level":"ERROR"`) {
				fmt.Fprintln(w, line)
			}
		}
	}
}

// untilHeld reads what the demo tells until it says that every comparison
// held.
func untilHeld(r io.Reader) (string, error) {
	var said strings.Builder
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		said.WriteString(lines.Text() + "\n")
		if strings.HasPrefix(lines.Text(), "Every comparison held.") {
			return said.String(), nil
		}
	}
	return "", fmt.Errorf("the demo ended before every comparison held:\n%s", said.String())
}

// zone returns a zone of the demo.
func zone(t *testing.T, name string) demo.ZonePlace {
	t.Helper()
	for _, z := range zones.Zones {
		if z.Name == name {
			return z
		}
	}
	t.Fatalf("demo.json has no zone %s", name)
	return demo.ZonePlace{}
}

// user returns a user of the demo.
func user(t *testing.T, name string) demo.UserPlace {
	t.Helper()
	for _, u := range zones.Users {
		if u.Name == name {
			return u
		}
	}
	t.Fatalf("demo.json has no user %s", name)
	return demo.UserPlace{}
}

// session logs a user in with our own client.
func session(t *testing.T, zoneName, userName string) *client.Session {
	t.Helper()
	z, u := zone(t, zoneName), user(t, userName)
	s, err := client.Login(t.Context(), client.Auth{URL: z.IdentityURL, User: u.Name, Password: u.Password,
		Project: u.ProjectID, Region: z.Region})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// tool returns the path of a program, and skips loudly or fails without it.
func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err == nil {
		return path
	}
	if os.Getenv("KVOL_REQUIRE_TOOLS") != "" {
		t.Fatalf("%s is not installed", name)
	}
	t.Skipf("SKIPPED: %s is not installed", name)
	return ""
}

// sh runs a program and returns what it printed.
func sh(t *testing.T, env []string, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}
