package e2e

import (
	"encoding/json"
	"strings"
	"testing"
)

// clientEnv is the environment of a user of a zone for OpenStack's own clients.
func clientEnv(t *testing.T, zoneName, userName string) []string {
	t.Helper()
	z, u := zone(t, zoneName), user(t, userName)
	return []string{"OS_AUTH_URL=" + z.IdentityURL, "OS_IDENTITY_API_VERSION=3", "OS_USERNAME=" + u.Name,
		"OS_PASSWORD=" + u.Password, "OS_PROJECT_ID=" + u.ProjectID, "OS_USER_DOMAIN_NAME=Default",
		"OS_PROJECT_DOMAIN_NAME=Default", "OS_REGION_NAME=" + z.Region, "OS_VOLUME_API_VERSION=3"}
}

// TestOpenstackClients walks a volume's life with the openstack and cinder
// commands as Debian has them, which speak v3 alone: the one at 3.0, the other
// at the newest microversion that both know, and at 3.44 for attachments.
func TestOpenstackClients(t *testing.T) {
	tool(t, "openstack")
	tool(t, "cinder")
	env := clientEnv(t, "kilo2", "bob")
	openstack := func(args ...string) string { return strings.TrimSpace(sh(t, env, "openstack", args...)) }
	cinder := func(version string, args ...string) string {
		return sh(t, env, "cinder", append([]string{"--os-volume-api-version", version}, args...)...)
	}
	poll := blockStorage(t, "kilo2", "bob", "v3")

	id := openstack("volume", "create", "--size", "1", "--property", "a=b", "--type", "ssd_general", "clients",
		"-f", "value", "-c", "id")
	awaitVolume(t, poll, id, "available")
	var shown struct {
		Name, Status, Type string
		Properties         map[string]string
		Tenant             string `json:"os-vol-tenant-attr:tenant_id"`
	}
	if err := json.Unmarshal([]byte(openstack("volume", "show", id, "-f", "json")), &shown); err != nil {
		t.Fatal(err)
	}
	if shown.Name != "clients" || shown.Type != "ssd_general" || shown.Properties["a"] != "b" ||
		shown.Tenant != user(t, "bob").ProjectID {
		t.Errorf("openstack shows %+v", shown)
	}
	if out := cinder("3.67", "list"); !strings.Contains(out, id) || !strings.Contains(out, "Consumes Quota") {
		t.Errorf("cinder lists\n%s", out)
	}
	snapshot := openstack("volume", "snapshot", "create", "--volume", id, "one", "-f", "value", "-c", "id")
	if out := cinder("3.67", "snapshot-list"); !strings.Contains(out, snapshot) {
		t.Errorf("cinder lists\n%s", out)
	}

	// Of a server's attachment only the compute service may let go.
	cinder("3.54", "attachment-create", id, "--connect", "True", "--host", "h", "--mountpoint", "/dev/vdb")
	list := strings.Fields(cinder("3.44", "attachment-list", "--volume-id", id))
	at := -1
	for i, word := range list {
		if word == id {
			at = i - 2 // "| attachment | volume |"
		}
	}
	if at < 0 {
		t.Fatalf("no attachment of %s in %v", id, list)
	}
	cinder("3.44", "attachment-complete", list[at])
	awaitVolume(t, poll, id, "in-use")
	cinder("3.44", "attachment-delete", list[at])
	awaitVolume(t, poll, id, "available")
	cinder("3.67", "delete", "--cascade", id)
	awaitVolume(t, poll, id, "deleted")
}
