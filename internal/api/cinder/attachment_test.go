package cinder_test

import (
	"slices"
	"strings"
	"testing"
)

var attachmentKeys = brought{"id": 0, "status": 0, "instance": 0, "volume_id": 0, "attached_at": 0, "detached_at": 0,
	"attach_mode": 0, "connection_info": 0}

// TestAttachmentVersions: attachments are there from 3.27, os-complete from
// 3.44, mode from 3.54, and never under /v2.
func TestAttachmentVersions(t *testing.T) {
	f := newFixture(t)
	id := f.available(1)
	body := `{"attachment":{"volume_uuid":"` + id + `"}}`
	f.want(404, "GET", "attachments", "")
	f.wantAt(26, "member", 404, "POST", "attachments", body)
	f.wantAt(53, "member", 400, "POST", "attachments", `{"attachment":{"volume_uuid":"`+id+`","mode":"ro"}}`)
	f.wantAt(27, "reader", 403, "POST", "attachments", body)
	f.wantAt(27, "other", 404, "POST", "attachments", body)
	a := f.wantAt(27, "member", 200, "POST", "attachments", body)
	if got := a.keys(t, "attachment"); !slices.Equal(got, attachmentKeys.until(27)) {
		t.Errorf("keys %v", got)
	}
	path := "attachments/" + a.text(t, "attachment.id")
	f.wantAt(27, "other", 404, "GET", path, "")
	f.wantAt(27, "member", 404, "POST", path+"/action", `{"os-complete":{}}`)
	f.wantAt(44, "member", 400, "POST", path+"/action", `{"os-nope":{}}`)
	f.wantAt(44, "member", 204, "POST", path+"/action", `{"os-complete":{}}`)
	f.wantAt(27, "member", 400, "PUT", path, `{"attachment":{"connector":{}}}`)
	f.wantAt(27, "member", 200, "DELETE", path, "")
	a = f.wantAt(54, "member", 200, "POST", "attachments", `{"attachment":{"volume_uuid":"`+id+`","mode":"ro"}}`)
	if a.text(t, "attachment.attach_mode") != "ro" {
		t.Errorf("%s", a.body)
	}
	for query, want := range map[string]int{"": 1, "?volume_id=" + id: 1, "?status=attached": 0, "?limit=1": 1} {
		a := f.wantAt(newestMinor(), "member", 200, "GET", "attachments/detail"+query, "")
		if list, _ := a.get(t, "attachments").([]any); len(list) != want {
			t.Errorf("attachments%s: %s", query, a.body)
		}
	}
	if list, _ := f.wantAt(27, "other", 200, "GET", "attachments", "").get(t, "attachments").([]any); len(list) != 0 {
		t.Errorf("another project lists %v", list)
	}
}

// TestAttachedHost: which host holds a volume is for administrators and services.
func TestAttachedHost(t *testing.T) {
	f := newFixture(t)
	id := f.available(1)
	f.act(202, id, `{"os-attach":{"host_name":"h","mountpoint":"/dev/vdb"}}`)
	for token, want := range map[string]any{"member": nil, "reader": nil, "admin": "h", "glance": "h"} {
		list, _ := f.wantAt(newestMinor(), token, 200, "GET", "volumes/"+id, "").get(t, "volume.attachments").([]any)
		if len(list) != 1 || list[0].(map[string]any)["host_name"] != want {
			t.Errorf("%s sees %v, want the host %v", token, list, want)
		}
	}
}

// TestFilters3: what lists are filtered by, and from when on.
func TestFilters3(t *testing.T) {
	f := newFixture(t)
	f.available(1, "one", "two", "three")
	for _, tt := range []struct {
		minor int
		token string
		query string
		code  int
		want  string
	}{
		{30, "member", "nope=1", 200, "three two one"},
		{31, "member", "nope=1", 400, ""},
		{31, "admin", "nope=1", 200, ""},
		{33, "admin", "name~=o", 200, ""},
		{34, "admin", "name~=o", 200, "two one"},
		{34, "admin", "name~=%25", 200, ""},
		{34, "member", "name~=o", 400, ""},
		{1, "member", "bootable=x", 200, ""},
		{2, "member", "bootable=x", 400, ""},
		{2, "member", "bootable=0", 200, "three two one"},
		{30, "member", "created_at=x:y", 200, "three two one"},
		{60, "member", "created_at=x:y", 400, ""},
		{60, "member", "created_at=gt:x", 400, ""},
		{60, "member", "created_at=gt:2020-03-03T10:00:00,lte:2020-03-03T10:00:01", 200, "two"},
		{60, "member", "created_at=neq:2020-03-03T10:00:01Z", 200, "three one"},
		{30, "member", "consumes_quota=false", 200, "three two one"},
		{65, "member", "consumes_quota=false", 200, ""},
		{9, "member", "group_id=" + noSuchID, 200, "three two one"},
		{10, "member", "group_id=" + noSuchID, 200, ""},
	} {
		a := f.at(tt.minor, tt.token, "GET", "volumes?"+tt.query, "")
		if a.code != tt.code || tt.code == 200 && a.names(t) != tt.want {
			t.Errorf("3.%d %s %s = %d %s", tt.minor, tt.token, tt.query, a.code, a.body)
		}
	}
	for query, want := range map[string]any{"with_count=1&limit=1": 3.0, "with_count=true&limit=0": 3.0,
		"with_count=1&name=one": 1.0} {
		if got := f.wantAt(45, "member", 200, "GET", "volumes/detail?"+query, "").get(t, "count"); got != want {
			t.Errorf("%s counts %v", query, got)
		}
	}
	f.wantAt(32, "member", 404, "GET", "resource_filters", "")
	one := f.wantAt(33, "member", 200, "GET", "resource_filters?resource=volume", "")
	list, _ := one.get(t, "resource_filters").([]any)
	if len(list) != 1 {
		t.Errorf("filters %v", list)
	}
}

// TestBodies3: what a body may hold, and from when on.
func TestBodies3(t *testing.T) {
	f := newFixture(t)
	id := f.available(1)
	for _, tt := range []struct {
		minor        int
		method, path string
		body         string
		code         int
	}{
		{0, "POST", "volumes", `{"volume":{"size":1,"multiattach":true}}`, 400},
		{0, "POST", "volumes", `{"volume":{"size":1,"group_id":"` + noSuchID + `"}}`, 202},
		{13, "POST", "volumes", `{"volume":{"size":1,"group_id":"` + noSuchID + `"}}`, 404},
		{46, "POST", "volumes", `{"volume":{"size":1,"backup_id":"` + noSuchID + `"}}`, 202},
		{47, "POST", "volumes", `{"volume":{"size":1,"backup_id":"` + noSuchID + `"}}`, 404},
		{52, "POST", "volumes", `{"volume":{"size":1,"nope":1}}`, 202},
		{53, "POST", "volumes", `{"volume":{"size":1,"nope":1}}`, 400},
		{52, "PUT", "volumes/" + id, `{"volume":{}}`, 200},
		{53, "PUT", "volumes/" + id, `{"volume":{}}`, 400},
		{65, "POST", "snapshots", `{"snapshot":{"volume_id":"` + id + `","force":false}}`, 202},
		{66, "POST", "snapshots", `{"snapshot":{"volume_id":"` + id + `","force":false}}`, 400},
		{66, "POST", "snapshots", `{"snapshot":{"volume_id":"` + id + `","force":true}}`, 202},
		{0, "POST", "volumes/" + id + "/action", `{"os-force_detach":{}}`, 403},
		{0, "GET", "volumes/" + id + "/encryption", "", 200},
		{0, "GET", "volumes/" + noSuchID + "/encryption/cipher", "", 404},
		{22, "DELETE", "volumes/" + id + "?force=true", "", 400},
		{23, "DELETE", "volumes/" + id + "?force=true", "", 403},
	} {
		if a := f.at(tt.minor, "member", tt.method, tt.path, tt.body); a.code != tt.code {
			t.Errorf("3.%d %s %s %s = %d %s", tt.minor, tt.method, tt.path, tt.body, a.code, a.body)
		}
	}
	limits := f.wantAt(39, "admin", 200, "GET", "limits?project_id="+other, "")
	if used := limits.get(t, "limits.absolute.totalVolumesUsed"); used != 0.0 {
		t.Errorf("another project's limits: %s", limits.body)
	}
}

// TestServiceToken: a user alone can't take a volume from under a server, the
// compute service on its behalf can; a service's token is checked.
func TestServiceToken(t *testing.T) {
	f := newFixture(t)
	id := f.available(1)
	v3 := "/v3/" + project + "/"
	header := func(more ...string) []string { return append(more, "OpenStack-API-Version", "volume 3.44") }
	a := f.do("POST", v3+"attachments", "member", `{"attachment":{"volume_uuid":"`+id+`","instance_uuid":"`+noSuchID+
		`","connector":{"host":"h"}}}`, header()...)
	path := v3 + "attachments/" + a.text(t, "attachment.id")
	if a := f.do("POST", path+"/action", "member", `{"os-complete":{}}`, header()...); a.code != 204 {
		t.Fatalf("complete: %d %s", a.code, a.body)
	}
	action := v3 + "volumes/" + id + "/action"
	for _, tt := range []struct {
		service string
		code    int
	}{{"", 409}, {"member", 409}, {"admin", 409}, {"stolen", 401}} {
		var with []string
		if tt.service != "" {
			with = []string{"X-Service-Token", tt.service}
		}
		for _, token := range []string{"member", "admin"} {
			for _, a := range []answer{f.do("DELETE", path, token, "", header(with...)...),
				f.do("POST", action, token, `{"os-detach":{}}`, header(with...)...),
				f.do("POST", action, token, `{"os-terminate_connection":{"connector":null}}`, header(with...)...)} {
				if a.code != tt.code {
					t.Errorf("%s with the service token %q: %d %s", token, tt.service, a.code, a.body)
				}
			}
		}
	}
	if a := f.do("DELETE", strings.Replace(path, project, other, 1), "other", "",
		header("X-Service-Token", "service")...); a.code != 404 {
		t.Errorf("a service for another project: %d %s", a.code, a.body)
	}
	if a := f.do("DELETE", path, "member", "", header("X-Service-Token", "service")...); a.code != 200 {
		t.Errorf("the compute service: %d %s", a.code, a.body)
	}
}
