package e2e

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack"
	"github.com/gophercloud/gophercloud/v2/openstack/blockstorage/v2/availabilityzones"
	"github.com/gophercloud/gophercloud/v2/openstack/blockstorage/v2/limits"
	"github.com/gophercloud/gophercloud/v2/openstack/blockstorage/v2/quotasets"
	"github.com/gophercloud/gophercloud/v2/openstack/blockstorage/v2/snapshots"
	"github.com/gophercloud/gophercloud/v2/openstack/blockstorage/v2/volumes"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v2/tokens"

	"kvol/internal/client"
)

// blockStorage logs in with gophercloud, by identity v2.0 or v3, and returns
// its client of block storage v2.
func blockStorage(t *testing.T, zoneName, userName, identity string) *gophercloud.ServiceClient {
	t.Helper()
	z, u := zone(t, zoneName), user(t, userName)
	provider, err := openstack.NewClient(z.URL + "/identity/" + identity)
	if err != nil {
		t.Fatal(err)
	}
	eo := gophercloud.EndpointOpts{Region: z.Region}
	if identity == "v2.0" {
		err = openstack.AuthenticateV2(t.Context(), provider, tokens.AuthOptions{Username: u.Name, Password: u.Password,
			TenantID: u.ProjectID}, gophercloud.EndpointOpts{})
	} else {
		err = openstack.AuthenticateV3(t.Context(), provider, &gophercloud.AuthOptions{Username: u.Name,
			Password: u.Password, DomainName: "Default", TenantID: u.ProjectID}, gophercloud.EndpointOpts{})
	}
	if err != nil {
		t.Fatal(err)
	}
	c, err := openstack.NewBlockStorageV2(provider, eo)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// awaitVolume polls until a volume has a status; "deleted" for one that is gone.
func awaitVolume(t *testing.T, c *gophercloud.ServiceClient, id, want string) *volumes.Volume {
	t.Helper()
	var last *volumes.Volume
	err := client.Poll(t.Context(), 20*time.Millisecond, func() (bool, error) {
		v, err := volumes.Get(t.Context(), c, id).Extract()
		if want == "deleted" && gophercloud.ResponseCodeIs(err, http.StatusNotFound) {
			return true, nil
		}
		if err != nil {
			return false, err
		}
		if last = v; strings.HasPrefix(v.Status, "error") && v.Status != want {
			t.Fatalf("volume %s went to %s", id, v.Status)
		}
		return v.Status == want, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return last
}

// TestGophercloud walks a volume's and a snapshot's life with an unmodified
// gophercloud, logged in by either identity version.
func TestGophercloud(t *testing.T) {
	for _, identity := range []string{"v2.0", "v3"} {
		t.Run(identity, func(t *testing.T) { walkWithGophercloud(t, blockStorage(t, "kilo2", "bob", identity)) })
	}
}

func walkWithGophercloud(t *testing.T, c *gophercloud.ServiceClient) {
	ctx := t.Context()
	opts := volumes.CreateOpts{Name: "walk", Size: 1, Metadata: map[string]string{"a": "b"}}
	v, err := volumes.Create(ctx, c, opts, nil).
		Extract()
	if err != nil {
		t.Fatal(err)
	}
	if v.Status != "creating" || v.Size != 1 || v.Metadata["a"] != "b" {
		t.Errorf("created as %+v", v)
	}
	awaitVolume(t, c, v.ID, "available")
	name := "walked"
	if v, err = volumes.Update(ctx, c, v.ID, volumes.UpdateOpts{Name: &name}).Extract(); err != nil || v.Name != name {
		t.Fatalf("update: %v, %+v", err, v)
	}
	if err := volumes.ExtendSize(ctx, c, v.ID, volumes.ExtendSizeOpts{NewSize: 2}).ExtractErr(); err != nil {
		t.Fatal(err)
	}
	if v = awaitVolume(t, c, v.ID, "available"); v.Size != 2 {
		t.Errorf("extended to %d", v.Size)
	}
	s, err := snapshots.Create(ctx, c, snapshots.CreateOpts{VolumeID: v.ID, Name: "shot"}).Extract()
	if err != nil {
		t.Fatal(err)
	}
	err = client.Poll(ctx, 20*time.Millisecond, func() (bool, error) {
		s, err := snapshots.Get(ctx, c, s.ID).Extract()
		return err == nil && s.Status == "available", err
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := volumes.Delete(ctx, c, v.ID, nil).ExtractErr(); !gophercloud.ResponseCodeIs(err, http.StatusBadRequest) {
		t.Errorf("deleting a volume with a snapshot: %v", err)
	}
	clone, err := volumes.Create(ctx, c, volumes.CreateOpts{Name: "clone", Size: 2, SnapshotID: s.ID}, nil).Extract()
	if err != nil {
		t.Fatal(err)
	}
	awaitVolume(t, c, clone.ID, "available")
	if err := snapshots.Delete(ctx, c, s.ID).ExtractErr(); err != nil {
		t.Fatal(err)
	}
	err = client.Poll(ctx, 20*time.Millisecond, func() (bool, error) {
		_, err := snapshots.Get(ctx, c, s.ID).Extract()
		if gophercloud.ResponseCodeIs(err, http.StatusNotFound) {
			return true, nil
		}
		return false, err
	})
	if err != nil {
		t.Fatal(err)
	}
	pages, err := volumes.List(c, volumes.ListOpts{Limit: 1}).AllPages(ctx)
	if err != nil {
		t.Fatal(err)
	}
	all, err := volumes.ExtractVolumes(pages)
	if err != nil || len(all) != 2 {
		t.Errorf("paging by one found %d volumes, %v", len(all), err)
	}
	for _, id := range []string{v.ID, clone.ID} {
		if err := volumes.Delete(ctx, c, id, nil).ExtractErr(); err != nil {
			t.Fatal(err)
		}
		awaitVolume(t, c, id, "deleted")
	}
	checkAccounts(t, c)
}

// checkAccounts asks for limits, quotas and availability zones.
func checkAccounts(t *testing.T, c *gophercloud.ServiceClient) {
	ctx := t.Context()
	l, err := limits.Get(ctx, c).Extract()
	if err != nil || l.Absolute.MaxTotalVolumes != 10 || l.Absolute.TotalVolumesUsed != 0 {
		t.Errorf("limits %+v, %v", l, err)
	}
	q, err := quotasets.Get(ctx, c, user(t, "bob").ProjectID).Extract()
	if err != nil || q.Volumes != 10 || q.Gigabytes != 1000 {
		t.Errorf("quotas %+v, %v", q, err)
	}
	pages, err := availabilityzones.List(c).AllPages(ctx)
	if err != nil {
		t.Fatal(err)
	}
	az, err := availabilityzones.ExtractAvailabilityZones(pages)
	if err != nil || len(az) != 1 || az[0].ZoneName != "kilo2-a" || !az[0].ZoneState.Available {
		t.Errorf("availability zones %+v, %v", az, err)
	}
}

// TestTenantsCannotSeeEachOther asks for alice's volume as bob.
func TestTenantsCannotSeeEachOther(t *testing.T) {
	alices := blockStorage(t, "kilo1", "alice", "v3")
	v, err := volumes.Create(t.Context(), alices, volumes.CreateOpts{Name: "private", Size: 1}, nil).Extract()
	if err != nil {
		t.Fatal(err)
	}
	awaitVolume(t, alices, v.ID, "available")
	bobs := blockStorage(t, "kilo1", "bob", "v3")
	if _, err := volumes.Get(t.Context(), bobs, v.ID).Extract(); !gophercloud.ResponseCodeIs(err, http.StatusNotFound) {
		t.Errorf("bob's GET of alice's volume: %v", err)
	}
	missing := func(err error) bool { return gophercloud.ResponseCodeIs(err, http.StatusNotFound) }
	if err := volumes.Delete(t.Context(), bobs, v.ID, nil).ExtractErr(); !missing(err) {
		t.Errorf("bob's DELETE of alice's volume: %v", err)
	}
	if _, err := snapshots.Create(t.Context(), bobs, snapshots.CreateOpts{VolumeID: v.ID}).Extract(); !missing(err) {
		t.Errorf("bob's snapshot of alice's volume: %v", err)
	}
	if err := volumes.Delete(t.Context(), alices, v.ID, nil).ExtractErr(); err != nil {
		t.Fatal(err)
	}
	awaitVolume(t, alices, v.ID, "deleted")
}
