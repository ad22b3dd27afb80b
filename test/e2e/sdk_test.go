package e2e

import "testing"

// TestOpenstackSDK has an unmodified openstacksdk walk through v2 and v3:
// volumes, snapshots, types, attachments, limits and quotas, groups, and what
// operators do.
func TestOpenstackSDK(t *testing.T) {
	tool(t, "openstack") // needs the SDK, for the Python that is Debian's own
	for _, version := range []string{"2", "3"} {
		t.Run("v"+version, func(t *testing.T) {
			sh(t, clientEnv(t, "kilo2", "bob"), "/usr/bin/python3", "testdata/sdk.py", version)
			sh(t, clientEnv(t, "kilo2", "admin"), "/usr/bin/python3", "testdata/sdk_admin.py", version,
				"kvol@k_svm_nfs2", "kvol@k_svm_nfs_bak2")
		})
	}
}
