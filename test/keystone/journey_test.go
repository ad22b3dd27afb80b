package keystone_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"kvol/internal/client"
	"kvol/test/keystone"
)

// journey is what users of a cloud do with the openstack client: they find kvol in
// the catalog and know of it by names, as they would know Cinder.
func journey(c *cloud) {
	tryAlice := c.openstack("alice", "alice's password", "acme", "blue")
	tryBob := c.openstack("bob", "bob's password", "acme", "green")
	alice, bob := c.sure(tryAlice), c.sure(tryBob)
	admin := c.sure(c.openstack("admin", keystone.Password, "Default", "admin"))

	var catalog []struct{ Name, Type string }
	c.decode(alice("catalog", "list", "-f", "json"), &catalog)
	for _, kind := range []string{"volumev3", "volumev2", "block-storage", "image", "identity"} {
		if !slices.ContainsFunc(catalog, func(s struct{ Name, Type string }) bool { return s.Type == kind }) {
			c.Errorf("the catalog has no %s: %v", kind, catalog)
		}
	}

	raw, path := c.picture("qcow2")
	alice("image", "create", "--file", path, "--disk-format", "qcow2", "--container-format", "bare",
		"--property", "os_distro=debian", "tiny")
	volume := alice("volume", "create", "--image", "tiny", "--size", "1", "boot", "-f", "value", "-c", "id")
	c.settled(alice, "volume", "boot", "available")
	var shown struct {
		Bootable any
		Project  string            `json:"os-vol-tenant-attr:tenant_id"`
		Image    map[string]string `json:"volume_image_metadata"`
	}
	c.decode(alice("volume", "show", "boot", "-f", "json"), &shown)
	if fmt.Sprint(shown.Bootable) != "true" || shown.Project != c.blue || shown.Image["image_name"] != "tiny" ||
		shown.Image["os_distro"] != "debian" || shown.Image["signature_verified"] != "False" {
		c.Errorf("the volume is %+v", shown)
	}
	alice("volume", "set", "--description", "its disk", "--property", "tier=one", "--image-property", "os_version=12",
		"boot")
	alice("volume", "snapshot", "create", "--volume", "boot", "monday")
	c.settled(alice, "volume snapshot", "monday", "available")
	alice("volume", "backup", "create", "--name", "kept", "boot")
	c.settled(alice, "volume backup", "kept", "available")
	var set struct {
		Description string
		Properties  map[string]string
		Image       map[string]string `json:"volume_image_metadata"`
	}
	c.decode(alice("volume", "show", "boot", "-f", "json"), &set)
	if set.Description != "its disk" || set.Properties["tier"] != "one" || set.Image["os_version"] != "12" {
		c.Errorf("the volume was set to %+v", set)
	}
	copied := alice("image", "create", "--volume", "boot", "--disk-format", "qcow2", "copy", "-f", "value", "-c",
		"image_id")
	c.settled(alice, "image", "copy", "active")
	c.qemu("compare", "-f", "raw", "-F", "qcow2", raw, c.glance.File(copied))
	saved := filepath.Join(c.TempDir(), "saved")
	alice("image", "save", "--file", saved, "copy")
	if info, err := os.Stat(saved); err != nil || info.Size() == 0 {
		c.Errorf("the saved image: %v %v", info, err)
	}

	// A type of one project; quotas and lists by names.
	admin("volume", "type", "create", "--private", "--property", "volume_backend_name=fast", "gold")
	if ok, said := tryAlice("volume", "create", "--type", "gold", "--size", "1", "no"); ok {
		c.Errorf("alice uses a type that is not hers: %s", said)
	}
	admin("volume", "type", "set", "--project", "blue", "--project-domain", "acme", "gold")
	alice("volume", "create", "--type", "gold", "--size", "1", "golden")
	if ok, said := tryBob("volume", "create", "--type", "gold", "--size", "1", "no"); ok {
		c.Errorf("bob uses a type that is not his: %s", said)
	}
	// The client of this version asks Nova too when it sets quotas, and there is none.
	c.want(200, c.admin(), "PUT", "/v3/os-quota-sets/"+c.blue, `{"quota_set":{"volumes_gold":1}}`)
	if ok, said := tryAlice("volume", "create", "--type", "gold", "--size", "1", "second"); ok ||
		!strings.Contains(said, "VolumeLimitExceeded") && !strings.Contains(said, "allowed number of volumes") {
		c.Errorf("beyond the quota: %s", said)
	}

	// A volume goes from project to project.
	alice("volume", "snapshot", "delete", "monday")
	c.settled(alice, "volume snapshot", "monday", "")
	var request struct {
		ID  string
		Key string `json:"auth_key"`
	}
	c.decode(alice("volume", "transfer", "request", "create", "boot", "-f", "json"), &request)
	bob("volume", "transfer", "request", "accept", "--auth-key", request.Key, request.ID)
	if owner := bob("volume", "show", volume, "-f", "value", "-c", "os-vol-tenant-attr:tenant_id"); owner != c.green {
		c.Errorf("the volume is of project %s, not bob's %s", owner, c.green)
	}
	if ok, said := tryAlice("volume", "show", volume); ok {
		c.Errorf("alice still sees the volume: %s", said)
	}
	all := admin("volume", "list", "--project", "green", "--project-domain", "acme", "-f", "value", "-c", "ID")
	if !slices.Contains(strings.Fields(all), volume) || strings.Contains(all, "golden") {
		c.Errorf("green's volumes are %s", all)
	}
	byUser := admin("volume", "list", "--user", "alice", "--user-domain", "acme", "--all-projects", "-f", "value", "-c",
		"Name")
	if !slices.Contains(strings.Fields(byUser), "golden") {
		c.Errorf("alice's volumes are %s", byUser)
	}
	bob("volume", "delete", volume)
	c.settled(bob, "volume", volume, "")
}

func (c *cloud) decode(text string, into any) {
	c.Helper()
	if err := json.Unmarshal([]byte(text), into); err != nil {
		c.Fatalf("%v: %s", err, text)
	}
}

// settled waits until a thing has a status, or until it is gone for "". It asks the
// lists: what is gone is in none of them, and a failure of anything else is one.
func (c *cloud) settled(run func(...string) string, kind, name, status string) {
	c.Helper()
	err := client.Poll(c.Context(), 200*time.Millisecond, func() (bool, error) {
		var list []map[string]any
		c.decode(run(append(strings.Fields(kind), "list", "-f", "json")...), &list)
		for _, item := range list {
			if item["Name"] == name || item["ID"] == name {
				now := fmt.Sprint(item["Status"])
				if status != "" && strings.HasPrefix(now, "error") {
					return false, fmt.Errorf("%s %s is in %s", kind, name, now)
				}
				return now == status, nil
			}
		}
		return status == "", nil
	})
	if err != nil {
		c.Fatal(err)
	}
}
