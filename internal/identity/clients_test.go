package identity

import (
	"testing"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack"
	v2tokens "github.com/gophercloud/gophercloud/v2/openstack/identity/v2/tokens"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/projects"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/roles"
	v3tokens "github.com/gophercloud/gophercloud/v2/openstack/identity/v3/tokens"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/users"
)

// The guide's clients log in by v2.0 and find the volume service in the
// catalog.
func TestGophercloudV2(t *testing.T) {
	base := serve(t, open(t, "", testConfig(newClock())))
	opts := gophercloud.AuthOptions{IdentityEndpoint: base + "/identity/v2.0/", Username: "demo",
		Password: demoPassword, TenantID: derivedID("project", "demo")}
	provider, err := openstack.AuthenticatedClient(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	volumes, err := openstack.NewBlockStorageV2(provider, gophercloud.EndpointOpts{Region: "KR1"})
	if err != nil {
		t.Fatal(err)
	}
	if want := base + "/v2/" + opts.TenantID + "/"; volumes.Endpoint != want {
		t.Errorf("volumes are at %s, want %s", volumes.Endpoint, want)
	}
	client, err := openstack.NewIdentityV2(provider, gophercloud.EndpointOpts{})
	if err != nil {
		t.Fatal(err)
	}
	result := v2tokens.Create(t.Context(), client, v2tokens.AuthOptions{TokenID: provider.Token(), TenantName: "alt"})
	token, err := result.ExtractToken()
	if err != nil {
		t.Fatal(err)
	}
	if token.Tenant.Name != "alt" || token.ExpiresAt.IsZero() {
		t.Errorf("the token is %+v", token)
	}
}

func v3Provider(t *testing.T, base, user, password, project string) *gophercloud.ProviderClient {
	t.Helper()
	// Without a version in the address, the client has to choose one.
	provider, err := openstack.AuthenticatedClient(t.Context(), gophercloud.AuthOptions{
		IdentityEndpoint: base + "/identity", Username: user, Password: password, DomainName: "Default",
		TenantName: project})
	if err != nil {
		t.Fatal(err)
	}
	return provider
}

// Clients of v3 choose it by themselves, log in, and find the services.
func TestGophercloudV3(t *testing.T) {
	base := serve(t, open(t, "", testConfig(newClock())))
	provider := v3Provider(t, base, "demo", demoPassword, "demo")
	volumes, err := openstack.NewBlockStorageV3(provider, gophercloud.EndpointOpts{Region: "KR1"})
	if err != nil {
		t.Fatal(err)
	}
	if want := base + "/v3/" + derivedID("project", "demo") + "/"; volumes.Endpoint != want {
		t.Errorf("volumes are at %s, want %s", volumes.Endpoint, want)
	}
	client, err := openstack.NewIdentityV3(provider, gophercloud.EndpointOpts{Region: "KR1"})
	if err != nil {
		t.Fatal(err)
	}
	result := v3tokens.Get(t.Context(), client, provider.Token())
	project, err := result.ExtractProject()
	if err != nil || project.Name != "demo" {
		t.Errorf("the token's project is %+v, %v", project, err)
	}
	held, err := result.ExtractRoles()
	if err != nil || len(held) != 2 {
		t.Errorf("the token's roles are %+v, %v", held, err)
	}
	if ok, err := v3tokens.Validate(t.Context(), client, provider.Token()); !ok || err != nil {
		t.Errorf("validate: %v, %v", ok, err)
	}
	if err := v3tokens.Revoke(t.Context(), client, provider.Token()).Err; err != nil {
		t.Error(err)
	}
	provider.ReauthFunc = nil
	if _, err := v3tokens.Get(t.Context(), client, provider.Token()).ExtractToken(); err == nil {
		t.Error("the revoked token is good")
	}
}

// An administrator makes a project and a user with a role, who then logs in.
func TestGophercloudAdministration(t *testing.T) {
	base := serve(t, open(t, "", testConfig(newClock())))
	client, err := openstack.NewIdentityV3(v3Provider(t, base, "admin", adminPassword, "admin"),
		gophercloud.EndpointOpts{Region: "KR1"})
	if err != nil {
		t.Fatal(err)
	}
	project, err := projects.Create(t.Context(), client, projects.CreateOpts{Name: "made", Description: "d"}).Extract()
	if err != nil {
		t.Fatal(err)
	}
	user, err := users.Create(t.Context(), client, users.CreateOpts{Name: "maker", Password: "made up"}).Extract()
	if err != nil {
		t.Fatal(err)
	}
	pages, err := roles.List(client, roles.ListOpts{Name: "member"}).AllPages(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	found, err := roles.ExtractRoles(pages)
	if err != nil || len(found) != 1 {
		t.Fatalf("roles named member: %v, %v", found, err)
	}
	err = roles.Assign(t.Context(), client, found[0].ID, roles.AssignOpts{UserID: user.ID, ProjectID: project.ID}).
		ExtractErr()
	if err != nil {
		t.Fatal(err)
	}
	made := v3Provider(t, base, "maker", "made up", "made")
	if made.Token() == "" {
		t.Error("no token")
	}
	listed, err := projects.List(client, projects.ListOpts{Name: "made"}).AllPages(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if all, err := projects.ExtractProjects(listed); err != nil || len(all) != 1 || all[0].ID != project.ID {
		t.Errorf("projects named made: %+v, %v", all, err)
	}
	if err := users.Delete(t.Context(), client, user.ID).ExtractErr(); err != nil {
		t.Error(err)
	}
	if err := projects.Delete(t.Context(), client, project.ID).ExtractErr(); err != nil {
		t.Error(err)
	}
}
