package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"kvol/internal/zone"
)

// small is a zone whose store has room for 20 GiB of volumes.
const small = `
zone: mitaka1
listen: 127.0.0.1:0
stores: [{name: main, driver: logstore, max_gib: 1, max_over_subscription_ratio: 20}]
backends: [{name: fast, store: main}]
volume_types: [{id: 6a21db69-dc6b-4423-834c-679ae153a638, name: ssd, extra_specs: {volume_backend_name: fast}}]
identity:
  projects: [{name: blue}]
  users: [{name: alice, password: a long password, roles: [{project: blue, role: member}]}]
`

// atSmallZone runs such a zone until the test ends, and logs the commands in to it.
func atSmallZone(t *testing.T) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kvol.yaml")
	if err := os.WriteFile(path, []byte(small), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := zone.LoadConfig(path)
	if err != nil {
		t.Fatal(err)
	}
	s, err := zone.Open(t.Context(), c, zone.Environment{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	for name, value := range map[string]string{"OS_AUTH_URL": s.URL() + "/identity", "OS_USERNAME": "alice",
		"OS_PASSWORD": "a long password", "OS_PROJECT_NAME": "blue", "OS_PROJECT_ID": "", "OS_USER_DOMAIN_NAME": "",
		"OS_REGION_NAME": "", "OS_CACERT": "", "OS_CLOUD": ""} {
		t.Setenv(name, value)
	}
}

// kvol runs a command and returns what it prints.
func kvol(t *testing.T, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	c := root()
	c.SetArgs(args)
	c.SetOut(&out)
	c.SetErr(&out)
	err := c.ExecuteContext(t.Context())
	return out.String(), err
}

// TestVolumeExtend grows a volume, and fails with the service's reason where there is
// no room: the service itself answers yes, and leaves the volume as it was.
func TestVolumeExtend(t *testing.T) {
	atSmallZone(t)
	if out, err := kvol(t, "volume", "create", "ledger", "--size", "1", "--wait"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if out, err := kvol(t, "volume", "extend", "ledger", "--size", "2"); err != nil ||
		!strings.Contains(out, "| size (GiB)        | 2") {
		t.Fatalf("%v\n%s", err, out)
	}
	out, err := kvol(t, "volume", "extend", "ledger", "--size", "900")
	if err == nil || !strings.Contains(err.Error(), "has not grown: it has 2 GiB") ||
		!strings.Contains(err.Error(), "extend volume:") {
		t.Errorf("no room: %v\n%s", err, out)
	}
	if _, err := kvol(t, "volume", "extend", "ledger", "--size", "1"); err == nil ||
		!strings.Contains(err.Error(), "must be greater than current size") {
		t.Errorf("smaller: %v", err)
	}
}
