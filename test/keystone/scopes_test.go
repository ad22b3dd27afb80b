package keystone_test

import (
	"strings"
	"time"

	"kvol/internal/client"
	"kvol/test/keystone"
)

// ofSystem and ofDomain are scopes.
func ofSystem() map[string]any { return map[string]any{"system": map[string]any{"all": true}} }

func ofDomain(id string) map[string]any {
	return map[string]any{"domain": map[string]any{"id": id}}
}

// scopes: to tokens of no project that are no administrator's, paths with a project
// are wrong, as to Cinder, and others refused, but for what tells of no project.
func scopes(c *cloud) {
	k := c.keystone
	k.Call(c.T, "PUT", "/domains/"+c.domain+"/users/"+c.alice+"/roles/"+k.Role(c.T, "member"), nil, nil)
	watcher := k.User(c.T, "watcher", "watcher's password", c.domain)
	k.Call(c.T, "PUT", "/system/users/"+watcher+"/roles/"+k.Role(c.T, "reader"), nil, nil)
	alice := keystone.ByPassword("alice", "alice's password", "acme")
	for what, auth := range map[string]map[string]any{
		"unscoped": {"identity": alice, "scope": "unscoped"},
		"domain":   {"identity": alice, "scope": ofDomain(c.domain)},
		"system":   {"identity": keystone.ByPassword("watcher", "watcher's password", "acme"), "scope": ofSystem()},
	} {
		token := k.Token(c.T, auth)
		for path, status := range map[string]int{volumes(c.blue): 400, "/v2/" + c.blue + "/volumes": 400,
			"/v3/" + c.blue + "/extensions": 400, "/v3/volumes": 403, "/v3/volumes?all_tenants=1": 403, "/v3/types": 403,
			"/v3/os-services": 403, "/v3/volumes/" + c.blue: 403, "/v3/limits": 403, "/v3/os-quota-sets/" + c.blue: 403,
			"/v3/extensions": 200, "/v3/os-availability-zone": 200, "/api/dr/v1/failovers": 403,
			"/api/store/v1/stores": 403, "/key-manager/v1/secrets": 403} {
			if a := c.ask(token, "GET", path, ""); a.status != status ||
				status == 400 && a.at("badRequest", "message") != "Malformed request url" {
				c.Errorf("%s token, %s: %d %s, want %d", what, path, a.status, a.text, status)
			}
		}
		c.want(403, token, "POST", "/v3/volumes", `{"volume":{"size":1}}`)
	}
}

// operators: who is an administrator of the system or of a domain sees and operates
// what is of all projects, and makes nothing, which would be of none.
func operators(c *cloud) {
	k := c.keystone
	chief := k.User(c.T, "chief", "chief's password", c.domain)
	k.Call(c.T, "PUT", "/domains/"+c.domain+"/users/"+chief+"/roles/"+k.Role(c.T, "admin"), nil, nil)
	alice := c.login("alice", c.blue)
	for what, auth := range map[string]map[string]any{
		"system": {"identity": keystone.ByPassword("admin", keystone.Password, "Default"), "scope": ofSystem()},
		"domain": {"identity": keystone.ByPassword("chief", "chief's password", "acme"), "scope": ofDomain(c.domain)},
	} {
		token := k.Token(c.T, auth)
		made := c.want(202, alice, "POST", volumes(c.blue), `{"volume":{"size":1}}`).at("volume", "id").(string)
		c.await(alice, c.blue, made, "available")
		if a := c.want(200, token, "GET", "/v3/volumes?all_tenants=1", ""); !strings.Contains(a.text, made) {
			c.Errorf("%s: all volumes are %s", what, a.text)
		}
		for _, path := range []string{"/v3/volumes", "/v3/volumes?project_id=" + c.blue} {
			if a := c.want(200, token, "GET", path, ""); len(a.at("volumes").([]any)) > 0 {
				c.Errorf("%s: volumes of no project are %s", what, a.text)
			}
		}
		if a := c.want(200, token, "GET", "/v3/volumes/"+made, ""); a.at("volume", "os-vol-tenant-attr:tenant_id") != c.blue {
			c.Errorf("%s: the volume is %s", what, a.text)
		}
		c.want(400, token, "GET", volumes(c.blue), "")
		c.want(200, token, "GET", "/v3/os-services", "")
		c.want(200, token, "GET", "/v3/os-quota-sets/"+c.blue, "")
		for path, body := range map[string]string{"volumes": `{"volume":{"size":1}}`,
			"snapshots": `{"snapshot":{"volume_id":"` + made + `"}}`, "backups": `{"backup":{"volume_id":"` + made + `"}}`,
			"volumes/" + made + "/action": `{"os-volume_upload_image":{"image_name":"theirs"}}`} {
			a := c.want(403, token, "POST", "/v3/"+path, body)
			if a.at("forbidden", "message") != "What is made belongs to a project: a token of one is needed." {
				c.Errorf("%s: POST %s: %s", what, path, a.text)
			}
		}
		for _, path := range []string{"/api/dr/v1/failovers", "/api/store/v1/stores", "/key-manager/v1/secrets"} {
			c.want(403, token, "GET", path, "")
		}
		c.want(202, token, "POST", "/v3/volumes/"+made+"/action", `{"os-reset_status":{"status":"error"}}`)
		c.want(202, token, "DELETE", "/v3/volumes/"+made, "")
		err := client.Poll(c.Context(), 50*time.Millisecond, func() (bool, error) {
			return c.ask(alice, "GET", volumes(c.blue)+"/"+made, "").status == 404, nil
		})
		if err != nil {
			c.Fatal(err)
		}
	}
}

// systemsCatalog: Keystone leaves addresses with a project out of the catalog of a
// token of the system. Where kvol is registered without, the openstack client finds it
// by tokens of either.
func systemsCatalog(c *cloud) {
	if found := c.inSystemsCatalog("volumev3"); found > 0 {
		c.Errorf("a token of the system has %d addresses of kvol", found)
	}
	c.register("KVOL_PROJECT_IN_URL=no")()
	defer c.withProjects()
	if found := c.inSystemsCatalog("volumev3"); found != 3 {
		c.Errorf("a token of the system has %d of 3 addresses of kvol", found)
	}
	token := c.login("alice", c.blue)
	volume := c.want(202, token, "POST", volumes(c.blue), `{"volume":{"size":1}}`).at("volume", "id").(string)
	c.await(token, c.blue, volume, "available")
	alice := c.sure(c.openstack("alice", "alice's password", "acme", "blue"))
	if hers := alice("volume", "list", "-f", "value", "-c", "ID"); !strings.Contains(hers, volume) {
		c.Errorf("the project's volumes are %s", hers)
	}
	system := c.openstack("admin", keystone.Password, "Default", "")
	admin := c.sure(system)
	if all := admin("volume", "list", "--all-projects", "-f", "value", "-c", "ID"); !strings.Contains(all, volume) {
		c.Errorf("all volumes are %s", all)
	}
	if own := admin("volume", "list", "-f", "value", "-c", "ID"); own != "" {
		c.Errorf("the system's volumes are %s", own)
	}
	if ok, said := system("volume", "create", "--size", "1", "nobody's"); ok ||
		!strings.Contains(said, "a token of one is needed") {
		c.Errorf("a volume of the system: %v %s", ok, said)
	}
	admin("volume", "set", "--state", "error", volume)
	admin("volume", "delete", volume)
}

// inSystemsCatalog counts the addresses of a service that a token of the system has.
func (c *cloud) inSystemsCatalog(kind string) (addresses int) {
	c.Helper()
	var made struct {
		Token struct {
			Catalog []struct {
				Type      string
				Endpoints []struct{ URL string }
			}
		}
	}
	c.keystone.Call(c, "POST", "/auth/tokens", map[string]any{"auth": map[string]any{
		"identity": keystone.ByPassword("admin", keystone.Password, "Default"), "scope": ofSystem()}}, &made)
	for _, s := range made.Token.Catalog {
		if s.Type == kind {
			addresses += len(s.Endpoints)
		}
	}
	return addresses
}

// withProjects puts projects back into the addresses of the catalog.
func (c *cloud) withProjects() {
	c.Helper()
	var all struct{ Endpoints []struct{ ID, URL string } }
	c.keystone.Call(c, "GET", "/endpoints", nil, &all)
	for _, e := range all.Endpoints {
		if e.URL == c.url+"/v3" {
			c.keystone.Call(c, "PATCH", "/endpoints/"+e.ID,
				map[string]any{"endpoint": map[string]any{"url": e.URL + "/%(project_id)s"}}, nil)
		}
	}
}
