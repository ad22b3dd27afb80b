package iscsi_test

import (
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"kvol/internal/export/iscsi"
)

// requireTools names the environment variable that makes a missing tool a
// failure, as the build server sets it.
const requireTools = "KVOL_REQUIRE_TOOLS"

// tool finds an unmodified initiator of others. Where it is missing the test
// says loudly that it did not run, or fails if all tools are required.
func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	switch {
	case err == nil:
		return path
	case os.Getenv(requireTools) == "1":
		t.Fatalf("%s is not installed, and %s=1", name, requireTools)
	default:
		t.Skipf("NOT TESTED: %s IS NOT INSTALLED", strings.ToUpper(name))
	}
	return ""
}

// run runs a tool and returns what it says; it must succeed.
func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := try(t, name, args...)
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return out
}

func try(t *testing.T, name string, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), tool(t, name), args...)
	cmd.Dir = t.TempDir()
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// TestConformance runs libiscsi's tests of targets. Those that fail have to be
// known, and are explained in docs/iscsi.md.
func TestConformance(t *testing.T) {
	known := map[string]bool{}
	address, _ := serve(t, iscsi.Config{Targets: newShelf(t, testSize)})
	out, _ := try(t, "iscsi-test-cu", "--test=ALL", "--dataloss", "--allow-sanitize", "iscsi://"+address+"/"+iqn+"/1")
	if path := os.Getenv("KVOL_ISCSI_LOG"); path != "" {
		_ = os.WriteFile(path, []byte(out), 0o600)
	}
	m := regexp.MustCompile(`tests\s+(\d+)\s+(\d+)\s+(\d+)\s+(\d+)`).FindStringSubmatch(out)
	if m == nil {
		t.Fatalf("the suite did not end: %s", out[max(0, len(out)-2000):])
	}
	total, _ := strconv.Atoi(m[1])
	suite, test := "", ""
	for line := range strings.Lines(out) {
		if name, ok := strings.CutPrefix(line, "Suite: "); ok {
			suite = strings.TrimSpace(name)
		} else if _, name, ok := strings.Cut(line, "  Test: "); ok {
			test, _, _ = strings.Cut(name, " ")
		}
		if name := suite + "." + test; strings.HasSuffix(strings.TrimSpace(line), "FAILED") && !known[name] {
			t.Errorf("%s failed", name)
		}
	}
	t.Logf("%s of %d passed, %s failed", m[3], total, m[4])
}
