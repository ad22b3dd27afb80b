package cinder_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/blockstorage/v3/attachments"
	"github.com/gophercloud/gophercloud/v2/openstack/blockstorage/v3/snapshots"
	"github.com/gophercloud/gophercloud/v2/openstack/blockstorage/v3/volumes"
	"github.com/gophercloud/gophercloud/v2/openstack/blockstorage/v3/volumetypes"
	"github.com/gophercloud/gophercloud/v2/pagination"
)

// client3 is gophercloud's v3 package as it is, over HTTP.
func (f *fixture) client3(token, microversion string) *gophercloud.ServiceClient {
	f.Helper()
	srv := httptest.NewServer(f.handler)
	f.Cleanup(srv.Close)
	provider := &gophercloud.ProviderClient{TokenID: token, HTTPClient: *srv.Client()}
	return &gophercloud.ServiceClient{ProviderClient: provider, Endpoint: srv.URL + "/v3/" + project + "/",
		Type: "block-storage", Microversion: microversion}
}

func TestGophercloud3Volumes(t *testing.T) {
	for _, microversion := range []string{"", "3.27", newest} {
		f := newClientFixture(t)
		ctx, c := t.Context(), f.client3("member", microversion)
		v, err := volumes.Create(ctx, c, volumes.CreateOpts{Size: 1, Name: "g", VolumeType: "General SSD",
			Metadata: map[string]string{"a": "b"}}, nil).Extract()
		f.must(err)
		id := v.ID
		f.status("volumes/"+id, "volume.status", "available")
		v, err = volumes.Get(ctx, c, id).Extract()
		f.must(err)
		if v.Name != "g" || v.VolumeType != "General SSD" || v.Metadata["a"] != "b" || v.UpdatedAt.IsZero() ||
			v.TenantID != project {
			t.Errorf("%s: got %+v", microversion, v)
		}
		name := "renamed"
		v, err = volumes.Update(ctx, c, id, volumes.UpdateOpts{Name: &name}).Extract()
		f.must(err)
		if v.Name != name {
			t.Errorf("%s: updated %+v", microversion, v)
		}
		f.must(volumes.ExtendSize(ctx, c, id, volumes.ExtendSizeOpts{NewSize: 2}).ExtractErr())
		f.status("volumes/"+id, "volume.status", "available")
		up, err := volumes.UploadImage(ctx, c, id, volumes.UploadImageOpts{ImageName: "i", DiskFormat: "raw"}).Extract()
		f.must(err)
		if up.VolumeType.Name != "General SSD" || up.ImageID == "" {
			t.Errorf("%s: upload %+v", microversion, up)
		}
		f.status("volumes/"+id, "volume.status", "available")
		f.must(volumes.Delete(ctx, c, id, volumes.DeleteOpts{Cascade: true}).ExtractErr())
		f.until(func() bool {
			return gophercloud.ResponseCodeIs(volumes.Get(ctx, c, id).Err, http.StatusNotFound)
		})
	}
}

func TestGophercloud3Lists(t *testing.T) {
	f := newClientFixture(t)
	ctx, c := t.Context(), f.client3("member", "3.60")
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
	all, err := volumetypes.List(c, volumetypes.ListOpts{}).AllPages(ctx)
	f.must(err)
	types, err := volumetypes.ExtractVolumeTypes(all)
	f.must(err)
	if len(types) != 2 || !types[0].IsPublic || !types[0].PublicAccess || len(types[0].ExtraSpecs) != 0 {
		t.Errorf("types %+v", types)
	}
	one, err := volumetypes.Get(ctx, f.client3("admin", ""), hddType).Extract()
	f.must(err)
	if one.Name != "General HDD" || one.ExtraSpecs["volume_backend_name"] != "hdd_general" {
		t.Errorf("type %+v", one)
	}
}

func TestGophercloud3Snapshots(t *testing.T) {
	f := newClientFixture(t)
	ctx, c := t.Context(), f.client3("member", "")
	id := f.volume(`{"volume":{"size":1}}`)
	s, err := snapshots.Create(ctx, c, snapshots.CreateOpts{VolumeID: id, Force: true, Name: "s"}).Extract()
	f.must(err)
	f.status("snapshots/"+s.ID, "snapshot.status", "available")
	m, err := snapshots.UpdateMetadata(ctx, c, s.ID, snapshots.UpdateMetadataOpts{
		Metadata: map[string]any{"k": "v"}}).ExtractMetadata()
	f.must(err)
	got, err := snapshots.Get(ctx, c, s.ID).Extract()
	f.must(err)
	if len(m) != 1 || got.Name != "s" || got.Metadata["k"] != "v" || got.ProjectID != project {
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

func TestGophercloud3Attachments(t *testing.T) {
	f := newClientFixture(t)
	ctx, c := t.Context(), f.client3("member", "3.54")
	id := f.volume(`{"volume":{"size":1}}`)
	a, err := attachments.Create(ctx, c, attachments.CreateOpts{VolumeUUID: id, InstanceUUID: server}).Extract()
	f.must(err)
	if a.Status != "reserved" || a.VolumeID != id || !a.AttachedAt.IsZero() {
		t.Errorf("created %+v", a)
	}
	a, err = attachments.Update(ctx, c, a.ID, attachments.UpdateOpts{Connector: map[string]any{"host": "h",
		"mountpoint": "/dev/vdb"}}).Extract()
	f.must(err)
	if a.ConnectionInfo["driver_volume_type"] != "nbd" || a.ConnectionInfo["attachment_id"] != a.ID {
		t.Errorf("connection %v", a.ConnectionInfo)
	}
	f.must(attachments.Complete(ctx, c, a.ID).ExtractErr())
	a, err = attachments.Get(ctx, c, a.ID).Extract()
	f.must(err)
	if a.Status != "attached" || a.AttachMode != "rw" || a.AttachedAt.IsZero() {
		t.Errorf("complete %+v", a)
	}
	all, err := attachments.List(c, attachments.ListOpts{VolumeID: id}).AllPages(ctx)
	f.must(err)
	if list, err := attachments.ExtractAttachments(all); err != nil || len(list) != 1 {
		t.Errorf("list %+v, %v", list, err)
	}
	if err := attachments.Delete(ctx, c, a.ID).ExtractErr(); !gophercloud.ResponseCodeIs(err, http.StatusConflict) {
		t.Errorf("a user takes the volume from under a server: %v", err)
	}
	c.MoreHeaders = map[string]string{"X-Service-Token": "service"}
	f.must(attachments.Delete(ctx, c, a.ID).ExtractErr())
	f.status("volumes/"+id, "volume.status", "available")
}
