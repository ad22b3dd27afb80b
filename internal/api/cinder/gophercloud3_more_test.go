package cinder_test

import (
	"net/http"
	"testing"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/blockstorage/v3/availabilityzones"
	"github.com/gophercloud/gophercloud/v2/openstack/blockstorage/v3/limits"
	"github.com/gophercloud/gophercloud/v2/openstack/blockstorage/v3/qos"
	"github.com/gophercloud/gophercloud/v2/openstack/blockstorage/v3/quotasets"
	"github.com/gophercloud/gophercloud/v2/openstack/blockstorage/v3/schedulerstats"
	"github.com/gophercloud/gophercloud/v2/openstack/blockstorage/v3/services"
	"github.com/gophercloud/gophercloud/v2/openstack/blockstorage/v3/snapshots"
	"github.com/gophercloud/gophercloud/v2/openstack/blockstorage/v3/transfers"
	"github.com/gophercloud/gophercloud/v2/openstack/blockstorage/v3/volumes"
	"github.com/gophercloud/gophercloud/v2/openstack/blockstorage/v3/volumetypes"
	"github.com/gophercloud/gophercloud/v2/pagination"

	"kvol/internal/control"
)

// rows gets all pages of a list.
func rows[T any](f *fixture, p pagination.Pager, extract func(pagination.Page) ([]T, error)) []T {
	f.Helper()
	all, err := p.AllPages(f.Context())
	f.must(err)
	list, err := extract(all)
	f.must(err)
	return list
}

// TestGophercloud3TypeDetails: what is asked of types and QoS specs beside their making.
func TestGophercloud3TypeDetails(t *testing.T) {
	f := newClientFixture(t)
	ctx, admin, private := t.Context(), f.client3("admin", ""), false
	vt, err := volumetypes.Create(ctx, admin, volumetypes.CreateOpts{Name: "g", IsPublic: &private,
		ExtraSpecs: map[string]string{"a": "b"}}).Extract()
	f.must(err)
	if got, err := volumetypes.GetExtraSpec(ctx, admin, vt.ID, "a").Extract(); err != nil || got["a"] != "b" {
		t.Errorf("spec %v, %v", got, err)
	}
	all := rows(f, volumetypes.List(admin, volumetypes.ListOpts{IsPublic: volumetypes.VisibilityPrivate, Limit: 1}),
		volumetypes.ExtractVolumeTypes)
	if len(all) != 2 {
		t.Errorf("private types %+v", all)
	}
	e, err := volumetypes.CreateEncryption(ctx, admin, vt.ID, volumetypes.CreateEncryptionOpts{KeySize: 256,
		Provider: "luks", ControlLocation: "front-end", Cipher: "aes-xts-plain64"}).Extract()
	f.must(err)
	_, err = volumetypes.UpdateEncryption(ctx, admin, vt.ID, e.EncryptionID, volumetypes.UpdateEncryptionOpts{KeySize: 512,
		Provider: "luks", ControlLocation: "front-end", Cipher: "aes-xts-plain64"}).Extract()
	f.must(err)
	shown, err := volumetypes.GetEncryption(ctx, admin, vt.ID).Extract()
	f.must(err)
	cipher, err := volumetypes.GetEncryptionSpec(ctx, admin, vt.ID, "cipher").Extract()
	f.must(err)
	if shown.KeySize != 512 || shown.EncryptionID != e.EncryptionID || cipher["cipher"] != "aes-xts-plain64" {
		t.Errorf("encryption %+v %v", shown, cipher)
	}
	q, err := qos.Create(ctx, admin, qos.CreateOpts{Name: "q", Consumer: qos.ConsumerFront}).Extract()
	f.must(err)
	f.must(qos.Associate(ctx, admin, q.ID, qos.AssociateOpts{VolumeTypeID: vt.ID}).ExtractErr())
	if all := rows(f, qos.ListAssociations(admin, q.ID), qos.ExtractAssociations); len(all) != 1 || all[0].ID != vt.ID {
		t.Errorf("associations %+v", all)
	}
	f.must(qos.Disassociate(ctx, admin, q.ID, qos.DisassociateOpts{VolumeTypeID: vt.ID}).ExtractErr())
	if all := rows(f, qos.List(admin, qos.ListOpts{Limit: 1}), qos.ExtractQoS); len(all) != 1 || all[0].Name != "q" {
		t.Errorf("list %+v", all)
	}
}

// TestGophercloud3OwnTransfers: a transfer is shown to who offers, without its key,
// and called off.
func TestGophercloud3OwnTransfers(t *testing.T) {
	f := newClientFixture(t)
	ctx, c := t.Context(), f.client3("member", "")
	given, err := transfers.Create(ctx, c, transfers.CreateOpts{VolumeID: f.available(1), Name: "t"}).Extract()
	f.must(err)
	got, err := transfers.Get(ctx, c, given.ID).Extract()
	f.must(err)
	if given.AuthKey == "" || got.AuthKey != "" || got.CreatedAt.IsZero() {
		t.Errorf("%+v, %+v", given, got)
	}
	f.must(transfers.Delete(ctx, c, given.ID).ExtractErr())
}

// TestGophercloud3Deployment: services, pools, zones, limits and quotas.
func TestGophercloud3Deployment(t *testing.T) {
	f := newClientFixture(t)
	ctx, c, admin := t.Context(), f.client3("member", ""), f.client3("admin", "")
	f.available(1)
	all := rows(f, services.List(admin, services.ListOpts{Binary: control.VolumeService}), services.ExtractServices)
	if len(all) != 2 || all[0].State != "up" || all[0].UpdatedAt.IsZero() {
		t.Errorf("services %+v", all)
	}
	pools := rows(f, schedulerstats.List(admin, schedulerstats.ListOpts{Detail: true}), schedulerstats.ExtractStoragePools)
	if len(pools) != 2 || pools[0].Capabilities.AllocatedCapacityGB != 1 || pools[0].Capabilities.StorageProtocol == "" ||
		pools[0].Capabilities.MaxOverSubscriptionRatio == "" {
		t.Errorf("pools %+v", pools)
	}
	zones := rows(f, availabilityzones.List(c), availabilityzones.ExtractAvailabilityZones)
	if len(zones) != 2 || zones[0].ZoneName != "kr-pub-a" || !zones[0].ZoneState.Available {
		t.Errorf("zones %+v", zones)
	}
	if l, err := limits.Get(ctx, c).Extract(); err != nil || l.Absolute.TotalVolumesUsed != 1 {
		t.Errorf("limits %+v, %v", l, err)
	}
	five := 5
	set, err := quotasets.Update(ctx, admin, project, quotasets.UpdateOpts{Volumes: &five, Groups: &five}).Extract()
	f.must(err)
	use, err := quotasets.GetUsage(ctx, c, project).Extract()
	f.must(err)
	if set.Volumes != 5 || use.Volumes.Limit != 5 || use.Volumes.InUse != 1 || use.Groups.Limit != 5 {
		t.Errorf("quotas %+v, %+v", set, use)
	}
	f.must(quotasets.Delete(ctx, admin, project).ExtractErr())
	now, err := quotasets.Get(ctx, c, project).Extract()
	f.must(err)
	if defaults, err := quotasets.GetDefaults(ctx, c, project).Extract(); err != nil || defaults.Volumes != now.Volumes {
		t.Errorf("defaults %+v, now %+v, %v", defaults, now, err)
	}
}

// TestGophercloud3Actions: the actions on volumes and snapshots that no other
// test of this client asks for.
func TestGophercloud3Actions(t *testing.T) {
	f := newClientFixture(t)
	ctx, c, admin := t.Context(), f.client3("member", ""), f.client3("admin", "")
	id := f.volume(`{"volume":{"size":1}}`)
	f.must(volumes.ChangeType(ctx, c, id, volumes.ChangeTypeOpts{NewType: "General SSD",
		MigrationPolicy: volumes.MigrationPolicyOnDemand}).ExtractErr())
	f.status("volumes/"+id, "volume.volume_type", "General SSD")
	f.status("volumes/"+id, "volume.status", "available")
	f.must(volumes.SetBootable(ctx, c, id, volumes.BootableOpts{Bootable: true}).ExtractErr())
	f.must(volumes.SetImageMetadata(ctx, c, id, volumes.ImageMetadataOpts{Metadata: map[string]string{"k": "v"}}).
		ExtractErr())
	f.must(volumes.Reserve(ctx, c, id).ExtractErr())
	f.must(volumes.Unreserve(ctx, c, id).ExtractErr())
	err := volumes.ReImage(ctx, f.client3("member", "3.68"), id, volumes.ReImageOpts{ImageID: noSuchID}).ExtractErr()
	if !gophercloud.ResponseCodeIs(err, http.StatusNotFound) {
		t.Errorf("an image that is not there: %v", err)
	}
	s, err := snapshots.Create(ctx, c, snapshots.CreateOpts{VolumeID: id}).Extract()
	f.must(err)
	f.status("snapshots/"+s.ID, "snapshot.status", "available")
	f.must(snapshots.ResetStatus(ctx, admin, s.ID, snapshots.ResetStatusOpts{Status: "creating"}).ExtractErr())
	f.must(snapshots.UpdateStatus(ctx, c, s.ID, snapshots.UpdateStatusOpts{Status: "available", Progress: "80%"}).
		ExtractErr())
	f.must(snapshots.ResetStatus(ctx, admin, s.ID, snapshots.ResetStatusOpts{Status: "available"}).ExtractErr())
	name := "renamed"
	if s, err = snapshots.Update(ctx, c, s.ID, snapshots.UpdateOpts{Name: &name}).Extract(); err != nil || s.Name != name {
		t.Errorf("update %+v, %v", s, err)
	}
	if all := rows(f, snapshots.ListDetail(c, snapshots.ListOpts{Status: "available"}), snapshots.ExtractSnapshots); len(
		all) != 1 || all[0].ProjectID != project {
		t.Errorf("list %+v", all)
	}
	f.must(snapshots.ForceDelete(ctx, admin, s.ID).ExtractErr())
	f.until(func() bool { return gophercloud.ResponseCodeIs(snapshots.Get(ctx, c, s.ID).Err, http.StatusNotFound) })
	f.must(volumes.ResetStatus(ctx, admin, id, volumes.ResetStatusOpts{Status: "error"}).ExtractErr())
	f.must(volumes.ForceDelete(ctx, admin, id).ExtractErr())
}
