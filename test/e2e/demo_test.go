package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestDemoToldItsStory checks that what the demo printed has each act and no
// comparison that did not hold.
func TestDemoToldItsStory(t *testing.T) {
	for _, want := range []string{"1. Three zones", "2. A tenant makes a volume", "list: seq 2: backup zone kilo1",
		"show: ", "create ", "SUCCESS", "SIGKILL", "recovery ", "lost: ", "recovery took",
		"5. mitaka1 returns", "what was compared"} {
		if !strings.Contains(zones.output, want) {
			t.Errorf("the demo did not say %q:\n%s", want, zones.output)
		}
	}
	if n := strings.Count(zones.output, "held: "); n != 8 {
		t.Errorf("%d comparisons held, not 8:\n%s", n, zones.output)
	}
	if strings.Contains(zones.output, "FAILED") || strings.Contains(zones.output, "| NO") {
		t.Errorf("a comparison failed:\n%s", zones.output)
	}
}

// TestDemoLeavesWhatItPromises checks the files for users, and that nobody
// else may read the secrets in them.
func TestDemoLeavesWhatItPromises(t *testing.T) {
	for _, name := range []string{"demo.json", "clouds.yaml", "openrc-mitaka1", "openrc-kilo1", "openrc-kilo2",
		"mitaka1/kvol.yaml", "kilo1/kvol.yaml", "kilo2/kvol.yaml"} {
		info, err := os.Stat(filepath.Join(zones.dir, name))
		if err != nil {
			t.Error(err)
			continue
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", name, info.Mode())
		}
	}
	for _, z := range zones.Zones {
		if z.PID == 0 || z.URL == "" || z.IdentityURL == "" || z.Region == "" || z.DataDir == "" || len(z.VolumeTypes) == 0 {
			t.Errorf("demo.json says too little of zone %s: %+v", z.Name, z)
		}
	}
	for _, u := range zones.Users {
		if u.Password == "" || u.ProjectID == "" {
			t.Errorf("demo.json says too little of user %s", u.Name)
		}
	}
}

// TestNoSecretsInLogs looks for every password of the demo in every zone's log.
func TestNoSecretsInLogs(t *testing.T) {
	secrets := []string{zones.KvolPass}
	for _, u := range zones.Users {
		secrets = append(secrets, u.Password)
	}
	for _, z := range zones.Zones {
		log, err := os.ReadFile(filepath.Join(zones.dir, z.Name+".log"))
		if err != nil {
			t.Fatal(err)
		}
		if len(log) == 0 {
			t.Errorf("zone %s logged nothing", z.Name)
		}
		for _, secret := range secrets {
			if strings.Contains(string(log), secret) {
				t.Errorf("a password is in the log of %s", z.Name)
			}
		}
	}
}
