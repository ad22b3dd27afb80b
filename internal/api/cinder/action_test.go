package cinder_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"kvol/internal/api/cinder"
	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/control"
)

const server = "22222222-2222-2222-2222-222222222222"

func (f *fixture) act(code int, id, body string) answer {
	f.Helper()
	return f.want(code, "POST", "volumes/"+id+"/action", body)
}

func (f *fixture) volumeStatus(id string) string {
	f.Helper()
	return f.want(200, "GET", "volumes/"+id, "").text(f, "volume.status")
}

// The way of an attachment as nova went it before there were attachments.
func TestAttachAndDetach(t *testing.T) {
	f := newFixture(t)
	f.runJobs()
	id := f.volume(`{"volume":{"size":1}}`)
	step := func(code int, body, status string) {
		t.Helper()
		if a := f.act(code, id, body); code == 202 && len(a.body) != 0 {
			t.Errorf("%s has a body: %s", body, a.body)
		}
		if got := f.volumeStatus(id); got != status {
			t.Errorf("after %s: %s, want %s", body, got, status)
		}
	}
	step(202, `{"os-reserve":{}}`, "attaching")
	step(400, `{"os-reserve":{}}`, "attaching")
	step(202, `{"os-unreserve":null}`, "available")
	step(202, `{"os-reserve":null}`, "attaching")
	info := f.act(200, id, `{"os-initialize_connection":{"connector":{"host":"h","x":[1,{"y":null}]}}}`)
	if got := info.text(t, "connection_info.driver_volume_type"); got != "nbd" {
		t.Errorf("driver_volume_type = %s", got)
	}
	step(202, `{"os-attach":{"instance_uuid":"`+server+`","mountpoint":"/dev/vdb","mode":"rw"}}`, "in-use")
	checkAttachment(t, f, id)
	step(400, `{"os-extend":{"new_size":2}}`, "in-use")
	f.wantFault(t, f.do("DELETE", "volumes/"+id, "member", ""), 400, "Invalid volume: Volume status must be available "+
		"or error or error_restoring or error_extending or error_managing and must not be migrating, attached, belong to "+
		"a group, have snapshots, awaiting a transfer, or be disassociated from snapshots after volume transfer.")
	step(202, `{"os-begin_detaching":{}}`, "detaching")
	step(202, `{"os-roll_detaching":{}}`, "in-use")
	step(202, `{"os-begin_detaching":null}`, "detaching")
	step(202, `{"os-terminate_connection":{"connector":null}}`, "detaching")
	step(202, `{"os-detach":{}}`, "available")
	if got := f.want(200, "GET", "volumes/"+id, "").get(t, "volume.attachments"); len(got.([]any)) != 0 {
		t.Errorf("attachments %v", got)
	}
}

// checkAttachment wants exactly the five keys of the guide.
func checkAttachment(t *testing.T, f *fixture, id string) {
	t.Helper()
	var body struct {
		Volume struct {
			Attachments []map[string]any
			Metadata    map[string]string
		}
	}
	f.must(json.Unmarshal(f.want(200, "GET", "volumes/"+id, "").body, &body))
	if len(body.Volume.Attachments) != 1 {
		t.Fatalf("attachments %v", body.Volume.Attachments)
	}
	a := body.Volume.Attachments[0]
	if a["attachment_id"] == "" || a["attachment_id"] == id {
		t.Errorf("attachment_id %v", a["attachment_id"])
	}
	delete(a, "attachment_id")
	want := map[string]any{"server_id": server, "volume_id": id, "device": "/dev/vdb", "id": id}
	for k, v := range want {
		if a[k] != v {
			t.Errorf("attachment %s = %v, want %v", k, a[k], v)
		}
	}
	if len(a) != len(want) || body.Volume.Metadata["attached_mode"] != "rw" {
		t.Errorf("attachment %v, metadata %v", a, body.Volume.Metadata)
	}
}

func TestExtendAction(t *testing.T) {
	f := newFixture(t)
	f.runJobs()
	id := f.volume(`{"volume":{"size":1}}`)
	for i, size := range []string{`2`, `"3"`} {
		f.act(202, id, `{"os-extend":{"new_size":`+size+`}}`)
		f.status("volumes/"+id, "volume.status", "available")
		if got := f.want(200, "GET", "volumes/"+id, "").get(t, "volume.size"); got != float64(i+2) {
			t.Errorf("size %v after %s", got, size)
		}
	}
}

func TestFlags(t *testing.T) {
	f := newFixture(t)
	id := f.available(1)
	get := func(path string) any { t.Helper(); return f.want(200, "GET", "volumes/"+id, "").get(t, "volume."+path) }
	if a := f.act(200, id, `{"os-set_bootable":{"bootable":"yes"}}`); len(a.body) != 0 || get("bootable") != "true" {
		t.Errorf("os-set_bootable: %q, bootable %v", a.body, get("bootable"))
	}
	f.act(200, id, `{"os-set_bootable":{"bootable":false}}`)
	if get("bootable") != "false" {
		t.Errorf("bootable %v", get("bootable"))
	}
	f.act(202, id, `{"os-update_readonly_flag":{"readonly":true}}`)
	if get("metadata.readonly") != "True" {
		t.Errorf("readonly %v", get("metadata"))
	}
}

func TestImageMetadata(t *testing.T) {
	f := newFixture(t)
	id := f.available(1)
	if body := f.want(200, "GET", "volumes/"+id, "").body; strings.Contains(string(body), "volume_image_metadata") {
		t.Errorf("image metadata where there is none: %s", body)
	}
	set := f.act(200, id, `{"os-set_image_metadata":{"metadata":{"disk_format":"raw","x":"y"}}}`)
	shown := f.act(200, id, `{"os-show_image_metadata":null}`)
	if set.text(t, "metadata.x") != "y" || shown.text(t, "metadata.disk_format") != "raw" {
		t.Errorf("set %s, show %s", set.body, shown.body)
	}
	if got := f.want(200, "GET", "volumes/"+id, "").text(t, "volume.volume_image_metadata.x"); got != "y" {
		t.Errorf("volume_image_metadata.x = %s", got)
	}
	if a := f.act(200, id, `{"os-unset_image_metadata":{"key":"x"}}`); len(a.body) != 0 {
		t.Errorf("unset has a body: %s", a.body)
	}
	f.act(404, id, `{"os-unset_image_metadata":{"key":"x"}}`)
}

func TestUploadImage(t *testing.T) {
	f := newFixture(t)
	f.runJobs()
	id := f.volume(`{"volume":{"size":1,"description":"d"}}`)
	a := f.act(202, id, `{"os-volume_upload_image":{"image_name":"i"}}`)
	for member, want := range map[string]string{"status": "uploading", "disk_format": "raw", "container_format": "bare",
		"display_description": "d", "id": id, "volume_type.name": "General HDD"} {
		if got := a.text(t, "os-volume_upload_image."+member); got != want {
			t.Errorf("%s = %s, want %s", member, got, want)
		}
	}
	f.status("volumes/"+id, "volume.status", "available")
	img, err := f.images.Find(t.Context(), block.Caller{}, a.text(t, "os-volume_upload_image.image_id"))
	if err != nil || img.Status != "active" || img.Size != block.GiB || img.Visibility != "private" {
		t.Errorf("image %+v, %v", img, err)
	}
}

func TestAdminActions(t *testing.T) {
	f := newFixture(t)
	f.runJobs()
	id := f.volume(`{"volume":{"size":1}}`)
	sn := f.want(202, "POST", "snapshots", `{"snapshot":{"volume_id":"`+id+`"}}`).text(t, "snapshot.id")
	f.status("snapshots/"+sn, "snapshot.status", "available")
	act := func(code int, path, body string) answer {
		t.Helper()
		return f.wantAs("admin", code, "POST", path+"/action", body)
	}
	act(202, "snapshots/"+sn, `{"os-reset_status":{"status":"error"}}`)
	f.status("snapshots/"+sn, "snapshot.status", "error")
	act(400, "snapshots/"+sn, `{"os-reset_status":{"status":"zz"}}`)
	act(400, "snapshots/"+sn, `{"os-reset_status":{}}`)
	f.want(403, "POST", "snapshots/"+sn+"/action", `{"os-force_delete":{}}`)
	act(202, "snapshots/"+sn, `{"os-force_delete":{}}`)
	f.until(func() bool { return f.do("GET", "snapshots/"+sn, "member", "").code == 404 })
	act(202, "volumes/"+id, `{"os-reset_status":{"status":"error"}}`)
	f.status("volumes/"+id, "volume.status", "error")
	act(400, "volumes/"+id, `{"os-reset_status":{"status":"nope"}}`)
	act(202, "volumes/"+id, `{"os-force_delete":null}`)
	f.until(func() bool { return f.do("GET", "volumes/"+id, "member", "").code == 404 })
}

func TestUpdate(t *testing.T) {
	f := newFixture(t)
	id := f.available(1)
	for _, tt := range [][3]string{ // request, name, description
		{`{"name":" n ","description":"d"}`, `"n"`, `"d"`},
		{`{}`, `"n"`, `"d"`},
		{`{"description":null}`, `"n"`, `null`},
		{`{"display_name":"m","display_description":"e"}`, `"m"`, `"e"`},
		{`{"name":"","display_name":"ignored"}`, `""`, `"e"`},
		{`{"name":null}`, `null`, `"e"`},
	} {
		a := f.want(200, "PUT", "volumes/"+id, `{"volume":`+tt[0]+`}`)
		name, _ := json.Marshal(a.get(t, "volume.name"))
		description, _ := json.Marshal(a.get(t, "volume.description"))
		if string(name) != tt[1] || string(description) != tt[2] {
			t.Errorf("%s: name %s, description %s", tt[0], name, description)
		}
	}
	f.want(200, "PUT", "volumes/"+id, `{"volume":{"metadata":{"a":"b"}}}`)
	replaced := f.want(200, "PUT", "volumes/"+id, `{"volume":{"metadata":{"c":"d"}}}`)
	if len(replaced.get(t, "volume.metadata").(map[string]any)) != 1 {
		t.Errorf("metadata was not replaced: %s", replaced.body)
	}
	sn := f.want(202, "POST", "snapshots", `{"snapshot":{"volume_id":"`+id+`"}}`).text(t, "snapshot.id")
	a := f.want(200, "PUT", "snapshots/"+sn, `{"snapshot":{"name":"s","description":"t"}}`)
	if a.text(t, "snapshot.name") != "s" || len(a.get(t, "snapshot").(map[string]any)) != 8 {
		t.Errorf("snapshot %s", a.body)
	}
}

func TestMetadata(t *testing.T) {
	f := newFixture(t)
	f.runJobs()
	id := f.volume(`{"volume":{"size":1,"metadata":{"c":"d"}}}`)
	sn := f.want(202, "POST", "snapshots", `{"snapshot":{"volume_id":"`+id+`","metadata":{"c":"d"}}}`).
		text(t, "snapshot.id")
	f.status("snapshots/"+sn, "snapshot.status", "available")
	for _, holder := range []string{"volumes/" + id, "snapshots/" + sn} {
		for _, tt := range []struct {
			method, path, body string
			code               int
			want               string
		}{
			{"GET", "", "", 200, `{"metadata":{"c":"d"}}`},
			{"POST", "", `{"metadata":{"c":"e"}}`, 200, `{"metadata":{"c":"e"}}`},
			{"PUT", "", `{"metadata":{"g":"h"}}`, 200, `{"metadata":{"g":"h"}}`},
			{"GET", "/g", "", 200, `{"meta":{"g":"h"}}`},
			{"PUT", "/g", `{"meta":{"g":"i"}}`, 200, `{"meta":{"g":"i"}}`},
			{"GET", "", "", 200, `{"metadata":{"g":"i"}}`},
			{"PUT", "/a%2Fb%20c", `{"meta":{"a/b c":"1"}}`, 200, `{"meta":{"a/b c":"1"}}`},
			{"GET", "/a%2Fb%20c", "", 200, `{"meta":{"a/b c":"1"}}`},
			{"DELETE", "/g", "", 200, ""},
			{"GET", "", "", 200, `{"metadata":{"a/b c":"1"}}`},
			{"PUT", "", `{"metadata":{}}`, 200, `{"metadata":{}}`},
		} {
			a := f.want(tt.code, tt.method, holder+"/metadata"+tt.path, tt.body)
			if string(a.body) != tt.want {
				t.Errorf("%s %s%s = %s, want %s", tt.method, holder, tt.path, a.body, tt.want)
			}
		}
	}
}

func TestCreateFromSources(t *testing.T) {
	f := newFixture(t)
	f.runJobs()
	id := f.volume(`{"volume":{"size":2,"metadata":{"a":"b"}}}`)
	sn := f.want(202, "POST", "snapshots", `{"snapshot":{"volume_id":"`+id+`"}}`).text(t, "snapshot.id")
	f.status("snapshots/"+sn, "snapshot.status", "available")
	undashed := strings.ReplaceAll(id, "-", "")
	for body, member := range map[string][2]string{
		`{"volume":{"snapshot_id":"` + sn + `"}}`:                    {"volume.snapshot_id", sn},
		`{"volume":{"size":null,"source_volid":"` + undashed + `"}}`: {"volume.source_volid", id},
	} {
		a := f.want(202, "POST", "volumes", body)
		if a.text(t, member[0]) != member[1] || a.get(t, "volume.size") != float64(2) {
			t.Errorf("%s = %s", body, a.body)
		}
		f.status("volumes/"+a.text(t, "volume.id"), "volume.status", "available")
	}
	f.want(400, "DELETE", "volumes/"+id, "") // it has a snapshot
	f.want(202, "DELETE", "volumes/"+id+"?cascade=true", "")
	f.until(func() bool { return f.do("GET", "volumes/"+id, "member", "").code == 404 })
}

func TestExtraFields(t *testing.T) {
	keys := func(f *fixture, token, path, member string) []string {
		var body map[string]map[string]any
		f.must(json.Unmarshal(f.wantAs(token, 200, "GET", path, "").body, &body))
		var names []string
		for k := range body[member] {
			names = append(names, k)
		}
		slices.Sort(names)
		return names
	}
	plain, extra := newFixture(t), newFixture(t, func(c *cinder.Config) { c.V2ExtraFields = true })
	p, x := "volumes/"+plain.available(1), "volumes/"+extra.available(1)
	guide := keys(plain, "member", p, "volume")
	if len(guide) != 22 || !slices.Equal(guide, keys(plain, "admin", p, "volume")) {
		t.Errorf("keys %v", guide)
	}
	member, admin := keys(extra, "member", x, "volume"), keys(extra, "admin", x, "volume")
	for _, k := range guide {
		if !slices.Contains(member, k) {
			t.Errorf("%s is missing", k)
		}
	}
	if len(member) != 23 || len(admin) != 27 || !slices.Contains(member, "updated_at") ||
		!slices.Contains(admin, "os-vol-host-attr:host") {
		t.Errorf("member %v, admin %v", member, admin)
	}
	if got := keys(extra, "admin", "types/"+hddType, "volume_type"); len(got) != 7 {
		t.Errorf("type %v", got)
	}
}

// Every status and every awkward text comes out as it is in the catalog.
func TestViewTexts(t *testing.T) {
	f := newFixture(t)
	awkward := "a\"b\\c\n\x00\u2028<&>한글\xff"
	id := f.available(1, awkward)
	if got := f.want(200, "GET", "volumes/"+id, "").text(t, "volume.name"); got != strings.ToValidUTF8(awkward, "\ufffd") {
		t.Errorf("name %q", got)
	}
	if body := f.want(200, "GET", "volumes/"+id, "").body; !strings.Contains(string(body), "<&>한글") {
		t.Errorf("escaped for HTML: %s", body)
	}
	for _, status := range []block.VolumeStatus{block.VolumeReserved, block.VolumeErrorExtending,
		block.VolumeMaintenance} {
		f.must(f.catalog.Update(t.Context(), func(tx *catalog.Tx) error {
			return tx.ResetVolumeStatus(block.VolumeID(id), status)
		}))
		if got := f.volumeStatus(id); got != string(status) {
			t.Errorf("status %s, want %s", got, status)
		}
	}
}

// inUse is a volume that two servers hold; it returns the attachments' ids.
func (f *fixture) inUse() (id string, attachments []string) {
	f.Helper()
	id = f.volume(`{"volume":{"size":1,"multiattach":true}}`)
	for _, device := range []string{"/dev/vdb", "/dev/vdc"} {
		f.act(202, id, `{"os-attach":{"instance_uuid":"`+block.NewID()+`","mountpoint":"`+device+`"}}`)
	}
	list, _ := f.want(200, "GET", "volumes/"+id, "").get(f, "volume.attachments").([]any)
	for _, a := range list {
		attachments = append(attachments, a.(map[string]any)["attachment_id"].(string))
	}
	if len(attachments) != 2 {
		f.Fatalf("attachments %v", attachments)
	}
	return id, attachments
}

func TestDetachOne(t *testing.T) {
	f := newFixture(t)
	f.runJobs()
	id, attachments := f.inUse()
	f.act(202, id, `{"os-detach":{"attachment_id":"`+attachments[0]+`"}}`)
	left, _ := f.want(200, "GET", "volumes/"+id, "").get(t, "volume.attachments").([]any)
	if len(left) != 1 || left[0].(map[string]any)["attachment_id"] != attachments[1] || f.volumeStatus(id) != "in-use" {
		t.Errorf("left %v, %s", left, f.volumeStatus(id))
	}
}

// Of a volume in use, snapshots and images are made only with force.
func TestForce(t *testing.T) {
	f := newFixture(t)
	f.runJobs()
	id, _ := f.inUse()
	f.want(400, "POST", "snapshots", `{"snapshot":{"volume_id":"`+id+`"}}`)
	f.want(400, "POST", "snapshots", `{"snapshot":{"volume_id":"`+id+`","force":"no"}}`)
	f.want(202, "POST", "snapshots", `{"snapshot":{"volume_id":"`+id+`","force":"True"}}`)
	f.act(400, id, `{"os-volume_upload_image":{"image_name":"i"}}`)
	a := f.act(202, id, `{"os-volume_upload_image":{"image_name":"i","force":true,"protected":true,`+
		`"visibility":"shared"}}`)
	f.status("volumes/"+id, "volume.status", "in-use")
	img, err := f.images.Find(t.Context(), block.Caller{}, a.text(t, "os-volume_upload_image.image_id"))
	if err != nil || !img.Protected || img.Visibility != "shared" {
		t.Errorf("image %+v, %v", img, err)
	}
}

// Only the path of the connector that is named is taken back.
func TestTerminateOneConnection(t *testing.T) {
	f := newFixture(t)
	id := f.available(1)
	export := func(host string) string {
		t.Helper()
		return f.act(200, id, `{"os-initialize_connection":{"connector":{"host":"`+host+`"}}}`).
			text(t, "connection_info.data.export")
	}
	a, b := export("a"), export("b")
	f.act(202, id, `{"os-terminate_connection":{"connector":{"host":"a"}}}`)
	if export("b") != b || export("a") == a {
		t.Error("the wrong path was taken back")
	}
}

func TestCreateFromImage(t *testing.T) {
	f := newFixture(t)
	f.runJobs()
	f.images.all["img"] = control.Image{ID: "img", Name: "cirros", Status: "active", DiskFormat: "raw",
		ContainerFormat: "bare", Size: 4}
	f.images.bytes["img"] = []byte("data")
	for _, member := range []string{"imageRef", "image_id"} {
		id := f.volume(`{"volume":{"size":1,"` + member + `":"img"}}`)
		v := f.want(200, "GET", "volumes/"+id, "")
		if v.text(t, "volume.bootable") != "true" || v.text(t, "volume.volume_image_metadata.image_name") != "cirros" {
			t.Errorf("%s: %s", member, v.body)
		}
	}
}
