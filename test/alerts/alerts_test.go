// Package alerts tests the alerts that are shipped for Prometheus with its own
// promtool.
package alerts

import (
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

const dir = "../../deploy/prometheus"

func TestAlerts(t *testing.T) {
	tool, err := exec.LookPath("promtool")
	if err != nil {
		if os.Getenv("KVOL_REQUIRE_TOOLS") != "" {
			t.Fatal("promtool is missing: test/setup.sh installs it with prometheus")
		}
		t.Skip("promtool is missing: test/setup.sh installs it with prometheus")
	}
	for _, args := range [][]string{{"check", "rules", "kvol-alerts.yaml"}, {"test", "rules", "kvol-alerts.test.yaml"}} {
		c := exec.CommandContext(t.Context(), tool, args...)
		c.Dir = dir
		if out, err := c.CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
}

// TestAlertsNameSeriesThatExist: a rule about a series that no zone has would
// never fire.
func TestAlertsNameSeriesThatExist(t *testing.T) {
	read := func(name string) string {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	told := read("../../internal/zone/health_metrics.go") + read("../../internal/zone/metrics.go") +
		read("../../internal/zone/proof_metrics.go") +
		read("../../internal/zone/drill_metrics.go")
	named := regexp.MustCompile(`kvol_[a-z0-9_]+`).FindAllString(read(dir+"/kvol-alerts.yaml"), -1)
	if len(named) < 10 {
		t.Errorf("only %d series are named", len(named))
	}
	for _, series := range named {
		if !strings.Contains(told, `"`+series+`"`) {
			t.Errorf("no zone has %s", series)
		}
	}
}
