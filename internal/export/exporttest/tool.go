package exporttest

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// requireTools names the environment variable that makes a missing tool a
// failure, as the build server sets it.
const requireTools = "KVOL_REQUIRE_TOOLS"

// Tool finds an unmodified client of others. Where it is missing the test says
// loudly that it did not run, or fails if all tools are required.
func Tool(t testing.TB, name string) string {
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

// Run runs a tool and returns what it says; it must succeed.
func Run(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := Try(t, name, args...)
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return out
}

// Try is Run where it may fail.
func Try(t testing.TB, name string, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), Tool(t, name), args...)
	cmd.Dir = t.TempDir()
	out, err := cmd.CombinedOutput()
	return string(out), err
}
