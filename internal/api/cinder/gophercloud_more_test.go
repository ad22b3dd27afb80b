package cinder_test

import (
	"net/http"
	"testing"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/blockstorage/v2/availabilityzones"
	"github.com/gophercloud/gophercloud/v2/openstack/blockstorage/v2/backups"
	"github.com/gophercloud/gophercloud/v2/openstack/blockstorage/v2/quotasets"
	"github.com/gophercloud/gophercloud/v2/openstack/blockstorage/v2/schedulerstats"
	"github.com/gophercloud/gophercloud/v2/openstack/blockstorage/v2/services"
	"github.com/gophercloud/gophercloud/v2/openstack/blockstorage/v2/transfers"
	"github.com/gophercloud/gophercloud/v2/openstack/blockstorage/v2/volumes"

	"kvol/internal/control"
)

// TestGophercloudBackups: a backup's life by /v2.
func TestGophercloudBackups(t *testing.T) {
	f := newClientFixture(t)
	ctx, c, admin := t.Context(), f.client("member"), f.client("admin")
	id := f.volume(`{"volume":{"size":1}}`)
	b, err := backups.Create(ctx, c, backups.CreateOpts{VolumeID: id, Name: "b", Description: "d"}).Extract()
	f.must(err)
	f.status("backups/"+b.ID, "backup.status", "available")
	if b, err = backups.Get(ctx, c, b.ID).Extract(); err != nil || b.VolumeID != id || b.Size != 1 || b.IsIncremental {
		t.Errorf("got %+v, %v", b, err)
	}
	if all := rows(f, backups.List(c, backups.ListOpts{Name: "b"}), backups.ExtractBackups); len(all) != 1 {
		t.Errorf("list %+v", all)
	}
	if all := rows(f, backups.ListDetail(c, backups.ListDetailOpts{}), backups.ExtractBackups); len(all) != 1 ||
		all[0].Description != "d" {
		t.Errorf("list %+v", all)
	}
	r, err := backups.RestoreFromBackup(ctx, c, b.ID, backups.RestoreOpts{VolumeID: id}).Extract()
	f.must(err)
	f.status("backups/"+b.ID, "backup.status", "available")
	f.status("volumes/"+id, "volume.status", "available")
	if r.VolumeID != id {
		t.Errorf("restored %+v", r)
	}
	record, err := backups.Export(ctx, admin, b.ID).Extract()
	f.must(err)
	if record.BackupService == "" || len(record.BackupURL) == 0 {
		t.Errorf("record %+v", record)
	}
	f.must(backups.ResetStatus(ctx, admin, b.ID, backups.ResetStatusOpts{Status: "error"}).ExtractErr())
	f.must(backups.Delete(ctx, c, b.ID).ExtractErr())
	f.until(func() bool { return gophercloud.ResponseCodeIs(backups.Get(ctx, c, b.ID).Err, http.StatusNotFound) })
}

// TestGophercloudTransfers: a volume is offered and taken back by /v2, and has
// another type then.
func TestGophercloudTransfers(t *testing.T) {
	f := newClientFixture(t)
	ctx, c := t.Context(), f.client("member")
	id := f.volume(`{"volume":{"size":1}}`)
	given, err := transfers.Create(ctx, c, transfers.CreateOpts{VolumeID: id, Name: "t"}).Extract()
	f.must(err)
	if all := rows(f, transfers.List(c, transfers.ListOpts{}), transfers.ExtractTransfers); len(all) != 1 {
		t.Errorf("list %+v", all)
	}
	if got, err := transfers.Get(ctx, c, given.ID).Extract(); err != nil || got.Name != "t" || got.VolumeID != id {
		t.Errorf("%+v, %v", got, err)
	}
	f.must(transfers.Delete(ctx, c, given.ID).ExtractErr())
	f.must(volumes.ChangeType(ctx, c, id, volumes.ChangeTypeOpts{NewType: "General SSD",
		MigrationPolicy: volumes.MigrationPolicyOnDemand}).ExtractErr())
	f.status("volumes/"+id, "volume.volume_type", "General SSD")
	f.status("volumes/"+id, "volume.status", "available")
}

// TestGophercloudDeployment: services, pools, zones and quotas by /v2.
func TestGophercloudDeployment(t *testing.T) {
	f := newClientFixture(t)
	ctx, c, admin := t.Context(), f.client("member"), f.client("admin")
	all := rows(f, services.List(admin, services.ListOpts{Binary: control.VolumeService}), services.ExtractServices)
	if len(all) != 2 || all[0].State != "up" {
		t.Errorf("services %+v", all)
	}
	pools := rows(f, schedulerstats.List(admin, schedulerstats.ListOpts{Detail: true}), schedulerstats.ExtractStoragePools)
	if len(pools) != 2 || pools[0].Capabilities.VolumeBackendName == "" {
		t.Errorf("pools %+v", pools)
	}
	if zones := rows(f, availabilityzones.List(c), availabilityzones.ExtractAvailabilityZones); len(zones) != 2 {
		t.Errorf("zones %+v", zones)
	}
	five := 5
	if set, err := quotasets.Update(ctx, admin, project, quotasets.UpdateOpts{Backups: &five}).Extract(); err != nil ||
		set.Backups != 5 {
		t.Errorf("quotas %+v, %v", set, err)
	}
	f.must(quotasets.Delete(ctx, admin, project).ExtractErr())
	now, err := quotasets.Get(ctx, c, project).Extract()
	f.must(err)
	if defaults, err := quotasets.GetDefaults(ctx, c, project).Extract(); err != nil || defaults.Backups != now.Backups {
		t.Errorf("defaults %+v, now %+v, %v", defaults, now, err)
	}
}
