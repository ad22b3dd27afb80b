package cinder_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/blockstorage/v2/limits"
	"github.com/gophercloud/gophercloud/v2/openstack/blockstorage/v2/quotasets"
	"github.com/gophercloud/gophercloud/v2/openstack/blockstorage/v2/snapshots"
	"github.com/gophercloud/gophercloud/v2/openstack/blockstorage/v2/volumes"
	"github.com/gophercloud/gophercloud/v2/pagination"

	"kvol/internal/api/cinder"
)

// client is gophercloud's v2 package as it is, over HTTP.
func (f *fixture) client(token string) *gophercloud.ServiceClient {
	f.Helper()
	srv := httptest.NewServer(f.handler)
	f.Cleanup(srv.Close)
	provider := &gophercloud.ProviderClient{TokenID: token, HTTPClient: *srv.Client()}
	return &gophercloud.ServiceClient{ProviderClient: provider, Endpoint: srv.URL + "/v2/" + project + "/",
		Type: "volumev2"}
}

func newClientFixture(t *testing.T) *fixture {
	f := newFixture(t, func(c *cinder.Config) {
		c.V2UploadTypeFormat = cinder.UploadTypeMap // gophercloud can't read rows
		c.PublicURL = ""                            // links lead to the test's server
	})
	f.runJobs()
	return f
}

func TestGophercloudVolumes(t *testing.T) {
	f := newClientFixture(t)
	ctx, c := t.Context(), f.client("member")
	v, err := volumes.Create(ctx, c, volumes.CreateOpts{Size: 1, Name: "g", Description: "d", VolumeType: "General SSD",
		AvailabilityZone: "kr-pub-b", Metadata: map[string]string{"a": "b"}},
		volumes.SchedulerHintOpts{Query: "x"}).Extract()
	f.must(err)
	if v.Status != "creating" || v.CreatedAt.IsZero() || v.VolumeType != "General SSD" {
		t.Errorf("created %+v", v)
	}
	id := v.ID
	f.status("volumes/"+id, "volume.status", "available")
	v, err = volumes.Get(ctx, c, id).Extract()
	f.must(err)
	if v.Name != "g" || v.Description != "d" || v.AvailabilityZone != "kr-pub-b" || v.Bootable != "false" ||
		v.Metadata["a"] != "b" || v.TenantID != project || v.ReplicationStatus != "disabled" {
		t.Errorf("got %+v", v)
	}
	name := "renamed"
	v, err = volumes.Update(ctx, c, id, volumes.UpdateOpts{Name: &name}).Extract()
	f.must(err)
	if v.Name != name {
		t.Errorf("updated %+v", v)
	}
	f.must(volumes.ExtendSize(ctx, c, id, volumes.ExtendSizeOpts{NewSize: 2}).ExtractErr())
	f.status("volumes/"+id, "volume.status", "available")
	f.must(volumes.SetBootable(ctx, c, id, volumes.BootableOpts{Bootable: true}).ExtractErr())
	f.must(volumes.SetImageMetadata(ctx, c, id, volumes.ImageMetadataOpts{
		Metadata: map[string]string{"k": "v"}}).ExtractErr())
	up, err := volumes.UploadImage(ctx, c, id, volumes.UploadImageOpts{ImageName: "i", DiskFormat: "raw",
		Force: true}).Extract()
	f.must(err)
	if up.VolumeType.Name != "General SSD" || up.Status != "uploading" || up.ImageID == "" {
		t.Errorf("upload %+v", up)
	}
	f.status("volumes/"+id, "volume.status", "available")
	f.must(volumes.ResetStatus(ctx, f.client("admin"), id, volumes.ResetStatusOpts{Status: "error"}).ExtractErr())
	f.must(volumes.Delete(ctx, c, id, volumes.DeleteOpts{Cascade: true}).ExtractErr())
	f.until(func() bool {
		return gophercloud.ResponseCodeIs(volumes.Get(ctx, c, id).Err, http.StatusNotFound)
	})
}

func TestGophercloudAttach(t *testing.T) {
	f := newClientFixture(t)
	ctx, c := t.Context(), f.client("member")
	id := f.volume(`{"volume":{"size":1}}`)
	f.must(volumes.Reserve(ctx, c, id).ExtractErr())
	info, err := volumes.InitializeConnection(ctx, c, id, volumes.InitializeConnectionOpts{Host: "h",
		IP: "192.0.2.9"}).Extract()
	f.must(err)
	if info["driver_volume_type"] != "nbd" {
		t.Errorf("connection %v", info)
	}
	f.must(volumes.Attach(ctx, c, id, volumes.AttachOpts{MountPoint: "/dev/vdb", Mode: volumes.ReadWrite,
		InstanceUUID: server}).ExtractErr())
	v, err := volumes.Get(ctx, c, id).Extract()
	f.must(err)
	if v.Status != "in-use" || len(v.Attachments) != 1 || v.Attachments[0].ServerID != server {
		t.Fatalf("attached %+v", v)
	}
	f.must(volumes.BeginDetaching(ctx, c, id).ExtractErr())
	f.must(volumes.TerminateConnection(ctx, c, id, volumes.TerminateConnectionOpts{Host: "h"}).ExtractErr())
	f.must(volumes.Detach(ctx, c, id, volumes.DetachOpts{AttachmentID: v.Attachments[0].AttachmentID}).ExtractErr())
	f.must(volumes.Reserve(ctx, c, id).ExtractErr())
	f.must(volumes.Unreserve(ctx, c, id).ExtractErr())
	f.must(volumes.ForceDelete(ctx, f.client("admin"), id).ExtractErr())
}

func TestGophercloudLists(t *testing.T) {
	f := newClientFixture(t)
	ctx, c := t.Context(), f.client("member")
	f.available(1, "a", "b", "c", "d", "e")
	pages, names := 0, ""
	f.must(volumes.List(c, volumes.ListOpts{Limit: 2, Sort: "name:asc"}).EachPage(ctx,
		func(_ context.Context, p pagination.Page) (bool, error) {
			list, err := volumes.ExtractVolumes(p)
			for _, v := range list {
				names += v.Name
			}
			pages++
			return true, err
		}))
	if pages != 3 || names != "abcde" {
		t.Errorf("%d pages: %s", pages, names)
	}
	all, err := volumes.List(c, volumes.ListOpts{Name: "b", Status: "available"}).AllPages(ctx)
	f.must(err)
	if list, err := volumes.ExtractVolumes(all); err != nil || len(list) != 1 || list[0].Name != "b" {
		t.Errorf("filtered %+v, %v", list, err)
	}
	lim, err := limits.Get(ctx, c).Extract()
	f.must(err)
	if lim.Absolute.TotalVolumesUsed != 5 || lim.Absolute.MaxTotalVolumes != 10 {
		t.Errorf("limits %+v", lim)
	}
	use, err := quotasets.GetUsage(ctx, c, project).Extract()
	f.must(err)
	if use.Volumes.InUse != 5 || use.ID != project {
		t.Errorf("usage %+v", use)
	}
	_, err = quotasets.Update(ctx, f.client("admin"), project, quotasets.UpdateOpts{
		Volumes: gophercloud.IntToPointer(5)}).Extract()
	f.must(err)
	_, err = volumes.Create(ctx, c, volumes.CreateOpts{Size: 1}, nil).Extract()
	var unexpected gophercloud.ErrUnexpectedResponseCode
	if !errors.As(err, &unexpected) || unexpected.Actual != http.StatusRequestEntityTooLarge {
		t.Errorf("over quota: %v", err)
	}
	_, err = volumes.Get(ctx, f.client("stolen"), noSuchID).Extract()
	if !gophercloud.ResponseCodeIs(err, http.StatusUnauthorized) {
		t.Errorf("without a token: %v", err)
	}
}

func TestGophercloudSnapshots(t *testing.T) {
	f := newClientFixture(t)
	ctx, c := t.Context(), f.client("member")
	id := f.volume(`{"volume":{"size":1}}`)
	s, err := snapshots.Create(ctx, c, snapshots.CreateOpts{VolumeID: id, Force: true, Name: "s", Description: "d",
		Metadata: map[string]string{"a": "b"}}).Extract()
	f.must(err)
	if s.Status != "creating" || s.VolumeID != id || s.CreatedAt.IsZero() {
		t.Errorf("created %+v", s)
	}
	f.status("snapshots/"+s.ID, "snapshot.status", "available")
	m, err := snapshots.UpdateMetadata(ctx, c, s.ID, snapshots.UpdateMetadataOpts{
		Metadata: map[string]any{"k": "v"}}).ExtractMetadata()
	f.must(err)
	if len(m) != 1 || m["k"] != "v" {
		t.Errorf("metadata %v", m)
	}
	got, err := snapshots.Get(ctx, c, s.ID).Extract()
	f.must(err)
	if got.Name != "s" || got.Size != 1 || got.Metadata["k"] != "v" {
		t.Errorf("got %+v", got)
	}
	all, err := snapshots.List(c, snapshots.ListOpts{VolumeID: id}).AllPages(ctx)
	f.must(err)
	if list, err := snapshots.ExtractSnapshots(all); err != nil || len(list) != 1 {
		t.Errorf("list %+v, %v", list, err)
	}
	f.must(snapshots.Delete(ctx, c, s.ID).ExtractErr())
	f.until(func() bool {
		return gophercloud.ResponseCodeIs(snapshots.Get(ctx, c, s.ID).Err, http.StatusNotFound)
	})
}
