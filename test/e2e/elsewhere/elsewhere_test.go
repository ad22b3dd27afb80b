// Package elsewhere runs the end-to-end tests with two of the three zones on Ceph, and
// two catalogs in PostgreSQL.
package elsewhere

import (
	"encoding/json"
	"os"
	"os/exec"
	"testing"

	"kvol/test/ceph"
	"kvol/test/postgres"
)

// asHere are tests that say much of the APIs and little of where the bytes are. They run
// where KVOL_E2E_ELSEWHERE is set, as make e2e-elsewhere does.
const asHere = "TestClientCommands|TestFioVerifies|TestOpenstackGroups|TestOpenstackSDK|TestOpenstackTransfers|" +
	"TestOpenstackTypes|TestUserCommands"

// TestElsewhere has kilo1 on a cluster, kilo2, of which the clients of the tests ask
// most, on another one and PostgreSQL, and mitaka1's catalog in PostgreSQL too, so that
// each pair of zones is of two kinds.
func TestElsewhere(t *testing.T) {
	a, b := ceph.StartTwo(t)
	db := postgres.Start(t)
	const pool = "pool: rbd\n    namespace: "
	demo := [2]string{db.Database(t), db.Database(t)}
	// The runbook's zones are others than the demo's, on the same servers.
	another := map[string]string{demo[0]: db.Database(t), demo[1]: db.Database(t), pool + `""`: pool + "another"}
	for _, k := range []*ceph.Cluster{a, b} {
		k.Run(t, "rbd", "namespace", "create", "rbd/another")
	}
	text, err := json.Marshal(another)
	if err != nil {
		t.Fatal(err)
	}
	args := []string{"test", "-v", "-count=1", "-timeout=40m", "-run=" + os.Getenv("KVOL_E2E_RUN")}
	if os.Getenv("KVOL_E2E_ELSEWHERE") == "" {
		args = append(args, "-skip="+asHere)
	}
	cmd := exec.CommandContext(t.Context(), "go", append(args, "kvol/test/e2e")...)
	cmd.Env = append(os.Environ(), "KVOL_E2E_DEMO="+
		"--ceph kilo1="+a.Conf()+" --ceph kilo2="+b.Conf()+
		" --database mitaka1="+demo[0]+" --database kilo2="+demo[1], "KVOL_E2E_ANOTHER="+string(text))
	cmd.Stdout, cmd.Stderr = t.Output(), t.Output()
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
}
