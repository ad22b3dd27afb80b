package e2e

import "testing"

// TestClientCommands has the openstack and cinder commands as Debian has them
// do what operators and tenants do; what each prints is compared with what the
// file says of it.
func TestClientCommands(t *testing.T) {
	tool(t, "openstack")
	tool(t, "cinder")
	there := zone(t, "kilo1")
	for _, file := range []string{"volumes", "backups", "groups", "operators"} {
		t.Run(file, func(t *testing.T) {
			out := sh(t, clientEnv(t, "kilo2", "admin"), "/usr/bin/python3", "testdata/walk.py", "testdata/"+file+".txt",
				"there_url="+there.IdentityURL, "there_region="+there.Region, "host=kvol@k_svm_nfs2",
				"pool=kvol@k_svm_nfs2#k_svm_nfs2", "project="+user(t, "bob").ProjectID)
			t.Log(out)
		})
	}
}
