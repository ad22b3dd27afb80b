package cinder_test

import (
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/gophercloud/gophercloud/v2/openstack/blockstorage/v3/manageablevolumes"
	"github.com/gophercloud/gophercloud/v2/openstack/blockstorage/v3/volumes"

	"kvol/internal/control"
)

// actAt does an action of a volume in a microversion.
func (f *fixture) actAt(minor int, token, id, body string, code int) answer {
	f.Helper()
	return f.wantAt(minor, token, code, "POST", "volumes/"+id+"/action", body)
}

func TestRevertAction(t *testing.T) {
	f := newFixture(t)
	f.runJobs()
	id := f.volume(`{"volume":{"size":1}}`)
	f.status("volumes/"+id, "volume.status", "available")
	body := func(snapshot string) string { return `{"revert":{"snapshot_id":"` + snapshot + `"}}` }
	f.actAt(39, "member", id, body(noSuchID), 404)
	f.want(400, "POST", "volumes/"+id+"/action", body(noSuchID))
	f.actAt(40, "member", id, `{"revert":{}}`, 400)
	f.actAt(40, "member", id, `{"revert":{"snapshot_id":"x"}}`, 400)
	f.actAt(40, "member", id, body(noSuchID), 400)
	s := f.wantAt(40, "member", 202, "POST", "snapshots", `{"snapshot":{"volume_id":"`+id+`"}}`).text(t, "snapshot.id")
	f.status("snapshots/"+s, "snapshot.status", "available")
	f.actAt(40, "reader", id, body(s), 403)
	f.actAt(40, "other", id, body(s), 404)
	f.actAt(40, "member", id, body(s), 202)
	f.status("volumes/"+id, "volume.status", "available")
	f.status("snapshots/"+s, "snapshot.status", "available")
	f.want(202, "POST", "volumes/"+id+"/action", `{"os-extend":{"new_size":2}}`)
	f.status("volumes/"+id, "volume.status", "available")
	f.actAt(40, "member", id, body(s), 409)
}

func TestReimageAction(t *testing.T) {
	f := newFixture(t)
	f.runJobs()
	img, err := f.images.Create(t.Context(), callers["member"], control.Image{Name: "i", DiskFormat: "raw"})
	f.must(err)
	f.must(f.images.Upload(t.Context(), callers["member"], img.ID, strings.NewReader("content")))
	id := f.volume(`{"volume":{"size":1}}`)
	f.status("volumes/"+id, "volume.status", "available")
	body := `{"os-reimage":{"image_id":"` + img.ID + `"`
	f.actAt(67, "member", id, body+`}}`, 404)
	f.actAt(68, "member", id, body+`,"more":1}}`, 400)
	f.actAt(68, "member", id, body+`}}`, 202)
	f.until(func() bool {
		a := f.want(200, "GET", "volumes/"+id, "")
		return a.text(t, "volume.status") == "available" && a.text(t, "volume.bootable") == "true"
	})
	if got := f.want(200, "GET", "volumes/"+id, "").text(t, "volume.volume_image_metadata.image_id"); got != img.ID {
		t.Errorf("the volume is of image %s", got)
	}
	f.wantAt(27, "member", 200, "POST", "attachments", `{"attachment":{"volume_uuid":"`+id+`"}}`)
	f.actAt(68, "member", id, body+`}}`, 400)
	f.actAt(68, "member", id, body+`,"reimage_reserved":true}}`, 202)
	f.status("volumes/"+id, "volume.status", "reserved")
	f.actAt(71, "member", id, `{"os-extend_volume_completion":{}}`, 403)
	f.actAt(70, "admin", id, `{"os-extend_volume_completion":{}}`, 404)
	f.actAt(71, "admin", id, `{"os-extend_volume_completion":{"error":false}}`, 400)
}

func TestRetypeAndMigrate(t *testing.T) {
	f := newFixture(t)
	f.runJobs()
	id := f.volume(`{"volume":{"size":1}}`)
	f.status("volumes/"+id, "volume.status", "available")
	f.actAt(0, "member", id, `{"os-retype":{"new_type":"General SSD","migration_policy":"sometimes"}}`, 400)
	f.actAt(0, "member", id, `{"os-retype":{"migration_policy":"never"}}`, 400)
	f.actAt(0, "member", id, `{"os-retype":{"new_type":"General SSD","migration_policy":null}}`, 202) // which is "never"
	f.status("volumes/"+id, "volume.status", "available")
	f.status("volumes/"+id, "volume.volume_type", "General HDD")
	f.actAt(0, "member", id, `{"os-retype":{"new_type":"General SSD","migration_policy":"on-demand"}}`, 202)
	f.status("volumes/"+id, "volume.volume_type", "General SSD")
	f.status("volumes/"+id, "volume.status", "available")
	for minor, body := range map[int]string{
		0: `{"os-migrate_volume":{"host":"kvol@hdd_general","cluster":"c"}}`, 16: `{"os-migrate_volume":{}}`,
		17: `{"os-migrate_volume":{"host":"kvol@hdd_general","cluster":"c"}}`, 18: `{"os-migrate_volume":{"cluster":"c"}}`,
		1: `{"os-migrate_volume":{"host":"kvol@nowhere#x"}}`,
		2: `{"os-migrate_volume":{"host":"kvol@ssd_general#ssd_general"}}`,
	} {
		f.actAt(minor, "admin", id, body, 400)
	}
	f.actAt(0, "member", id, `{"os-migrate_volume":{"host":"kvol@hdd_general"}}`, 403)
	f.actAt(0, "admin", id, `{"os-migrate_volume":{"host":"kvol@hdd_general#hdd_general","force_host_copy":"True",`+
		`"lock_volume":false}}`, 202)
	f.until(func() bool {
		a := f.wantAt(0, "admin", 200, "GET", "volumes/"+id, "")
		return a.get(t, "volume.migration_status") == "success" &&
			a.get(t, "volume.os-vol-mig-status-attr:migstat") == "success" &&
			a.text(t, "volume.os-vol-host-attr:host") == "kvol@hdd_general#hdd_general" &&
			a.text(t, "volume.volume_type") == "General SSD"
	})
	f.actAt(0, "admin", id, `{"os-reset_status":{"migration_status":"none"}}`, 202)
	if got := f.wantAt(0, "admin", 200, "GET", "volumes/"+id, "").get(t, "volume.migration_status"); got != nil {
		t.Errorf("the migration status is %v", got)
	}
	f.actAt(0, "admin", id, `{"os-reset_status":{"migration_status":"zz"}}`, 400)
	f.actAt(0, "admin", id, `{"os-reset_status":{"attach_status":"zz"}}`, 400)
	f.actAt(0, "admin", id, `{"os-migrate_volume_completion":{"new_volume":"`+id+`"}}`, 200)
}

// TestManageRoutes forgets what it made and takes it up again, under the paths
// of before 3.8 and since.
func TestManageRoutes(t *testing.T) {
	for minor, path := range map[int][2]string{0: {"os-volume-manage", "os-snapshot-manage"},
		8: {"manageable_volumes", "manageable_snapshots"}} {
		f := newFixture(t)
		f.runJobs()
		id := f.volume(`{"volume":{"size":1}}`)
		f.status("volumes/"+id, "volume.status", "available")
		s := f.wantAt(0, "member", 202, "POST", "snapshots", `{"snapshot":{"volume_id":"`+id+`"}}`).text(t, "snapshot.id")
		f.status("snapshots/"+s, "snapshot.status", "available")
		f.wantAt(0, "member", 403, "POST", "snapshots/"+s+"/action", `{"os-unmanage":null}`)
		f.wantAt(0, "admin", 202, "POST", "snapshots/"+s+"/action", `{"os-unmanage":null}`)
		f.gone("snapshots/" + s)
		host := "?host=kvol@hdd_general%23hdd_general"
		f.wantAt(minor, "member", 403, "GET", path[0]+host, "")
		f.wantAt(minor, "admin", 400, "GET", path[0], "")
		f.wantAt(minor, "admin", 400, "GET", path[0]+host+"&zz=1", "")
		list := f.wantAt(minor, "admin", 200, "GET", path[1]+"/detail"+host, "").get(t, "manageable-snapshots").([]any)
		if len(list) != 1 || list[0].(map[string]any)["safe_to_manage"] != true {
			t.Fatalf("the snapshots are %v", list)
		}
		f.actAt(minor, "admin", id, `{"os-unmanage":{}}`, 202)
		f.gone("volumes/" + id)
		list = f.wantAt(minor, "admin", 200, "GET", path[0]+host+"&sort=size:asc", "").get(t, "manageable-volumes").([]any)
		if len(list) != 1 || list[0].(map[string]any)["size"] != 1.0 ||
			list[0].(map[string]any)["reference"].(map[string]any)["source-name"] != id {
			t.Fatalf("the volumes are %v", list)
		}
		for marker, left := range map[string]int{`{"source-name":"` + id + `"}`: 0, "": 1} {
			list = f.wantAt(minor, "admin", 200, "GET", path[0]+host+"&marker="+url.QueryEscape(marker), "").
				get(t, "manageable-volumes").([]any)
			if len(list) != left {
				t.Errorf("after %q: %v", marker, list)
			}
		}
		for marker, sentence := range map[string]string{"x": "Invalid input received: marker x can not be analysed, " +
			"please use json like format", `{"source-name":"x"}`: "Invalid input received: marker not found: " +
			"{'source-name': 'x'}", `{}`: "Invalid input received: marker not found: {}"} {
			a := f.wantAt(minor, "admin", 400, "GET", path[0]+host+"&marker="+url.QueryEscape(marker), "")
			a.wantMessage(t, marker, sentence)
		}
		for body, sentence := range map[string]string{`{"ref":{"source-name":"x"}}`: "Invalid input received: " +
			"Host field is " +
			"missing.", `{"host":"kvol@hdd_general","ref":"x"}`: "Manage existing volume failed due to invalid backend " +
			"reference x: Reference must contain source-name element."} {
			a := f.wantAt(0, "admin", 400, "POST", "os-volume-manage", `{"volume":`+body+`}`)
			a.wantMessage(t, body, sentence)
		}
		f.wantAt(minor, "admin", 400, "POST", path[0], `{"volume":{"host":"kvol@hdd_general","ref":{}}}`)
		a := f.wantAt(minor, "admin", 202, "POST", path[0],
			`{"volume":{"host":"kvol@hdd_general","ref":{"source-name":"`+id+`"},"name":"n"}}`)
		if a.text(t, "volume.id") != id || a.text(t, "volume.name") != "n" {
			t.Errorf("the volume is %s", a.body)
		}
		detail := f.wantAt(minor, "admin", 200, "GET", path[0]+"/detail"+host, "").get(t, "manageable-volumes").([]any)
		if len(detail) != 1 || detail[0].(map[string]any)["reason_not_safe"] != "already managed" ||
			detail[0].(map[string]any)["cinder_id"] != id {
			t.Errorf("the volumes are %v", detail)
		}
		a = f.wantAt(minor, "admin", 202, "POST", path[1],
			`{"snapshot":{"volume_id":"`+id+`","ref":{"source-name":"`+s+`"}}}`)
		if a.text(t, "snapshot.id") != s {
			t.Errorf("the snapshot is %s", a.body)
		}
		f.wantAt(minor, "admin", 400, "POST", "snapshots/"+s+"/action",
			`{"os-update_snapshot_status":{"status":"available","progress":"80%"}}`)
	}
}

// TestEveryActionIsKnown: those of the API reference's table are.
func TestEveryActionIsKnown(t *testing.T) {
	f := newFixture(t)
	id := f.available(1)
	for _, name := range strings.Fields("os-attach os-detach os-reserve os-unreserve os-begin_detaching " +
		"os-roll_detaching os-initialize_connection os-terminate_connection os-extend os-retype os-set_bootable " +
		"os-update_readonly_flag os-volume_upload_image os-set_image_metadata os-show_image_metadata " +
		"os-unset_image_metadata revert os-reimage os-reset_status os-force_delete os-force_detach os-migrate_volume " +
		"os-migrate_volume_completion os-extend_volume_completion os-unmanage") {
		a := f.at(newestMinor(), "member", "POST", "volumes/"+id+"/action", `{"`+name+`":{"zz":{}}}`)
		if a.code == 404 || strings.Contains(string(a.body), "no such action") {
			t.Errorf("%s: %d %s", name, a.code, a.body)
		}
	}
}

func TestGophercloud3Moves(t *testing.T) {
	f := newClientFixture(t)
	ctx, c, admin := t.Context(), f.client3("member", newest), f.client3("admin", newest)
	v, err := volumes.Create(ctx, c, volumes.CreateOpts{Size: 1, VolumeType: "General HDD"}, nil).Extract()
	f.must(err)
	f.status("volumes/"+v.ID, "volume.status", "available")
	f.must(volumes.ChangeType(ctx, c, v.ID, volumes.ChangeTypeOpts{NewType: "General SSD",
		MigrationPolicy: volumes.MigrationPolicyOnDemand}).ExtractErr())
	f.status("volumes/"+v.ID, "volume.volume_type", "General SSD")
	f.must(volumes.Unmanage(ctx, admin, v.ID).ExtractErr())
	f.gone("volumes/" + v.ID)
	again, err := manageablevolumes.ManageExisting(ctx, admin, manageablevolumes.ManageExistingOpts{
		Host: "kvol@ssd_general#ssd_general", Ref: map[string]string{"source-name": v.ID}, Name: "again",
		VolumeType: "General SSD", Metadata: map[string]string{"k": "v"}}).Extract()
	f.must(err)
	if again.ID != v.ID || again.Name != "again" || again.Size != 1 || again.Metadata["k"] != "v" ||
		!slices.Contains([]string{"creating", "available"}, again.Status) {
		t.Errorf("managed %+v", again)
	}
	img, err := f.images.Create(ctx, callers["member"], control.Image{Name: "i", DiskFormat: "raw"})
	f.must(err)
	f.must(f.images.Upload(ctx, callers["member"], img.ID, strings.NewReader("content")))
	f.must(volumes.ReImage(ctx, c, v.ID, volumes.ReImageOpts{ImageID: img.ID}).ExtractErr())
	f.status("volumes/"+v.ID, "volume.bootable", "true")
}
