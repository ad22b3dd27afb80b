package cinder_test

import (
	"slices"
	"strings"
	"testing"
)

// services lists what administrators see.
func (f *fixture) services(minor int, query string) []map[string]any {
	f.Helper()
	list, _ := f.wantAt(minor, "admin", 200, "GET", "os-services"+query, "").get(f, "services").([]any)
	var rows []map[string]any
	for _, row := range list {
		m, _ := row.(map[string]any)
		rows = append(rows, m)
	}
	return rows
}

// TestServices: what is shown of services in each microversion, and by which
// filters.
func TestServices(t *testing.T) {
	f := newFixture(t)
	keys := brought{"binary": 0, "host": 0, "zone": 0, "status": 0, "state": 0, "updated_at": 0, "disabled_reason": 0,
		"replication_status": 0, "active_backend_id": 0, "frozen": 0, "cluster": 7, "backend_state": 49}
	for _, minor := range []int{0, 7, 49} {
		all := f.services(minor, "")
		if len(all) != 4 || all[0]["binary"] != "cinder-backup" || all[0]["host"] != "kvol" {
			t.Fatalf("%v", all)
		}
		if all = all[1:]; all[0]["host"] != "kvol@hdd_general" || all[2]["binary"] != "cinder-scheduler" {
			t.Fatalf("%v", all)
		}
		var got []string
		for k := range all[0] {
			got = append(got, k)
		}
		slices.Sort(got)
		if !slices.Equal(got, keys.until(minor)) {
			t.Errorf("3.%d: keys %v", minor, got)
		}
		if _, ok := all[2]["frozen"]; ok || all[0]["state"] != "up" {
			t.Errorf("%v", all)
		}
	}
	for query, n := range map[string]int{"?binary=cinder-volume": 2, "?host=kvol@ssd_general": 1, "?host=kvol": 4,
		"?binary=cinder-scheduler&host=kvol": 1, "?binary=cinder-backup": 1, "?host=nobody": 0} {
		if got := f.services(0, query); len(got) != n {
			t.Errorf("%s: %v", query, got)
		}
	}
}

// TestDisabledBackend: a disabled backend takes no new volumes, whose project
// is told, and says so until it is enabled.
func TestDisabledBackend(t *testing.T) {
	f := newFixture(t)
	f.runJobs()
	const body = `{"host":"kvol@hdd_general","binary":"cinder-volume","disabled_reason":"repair"}`
	a := f.wantAt(0, "admin", 200, "PUT", "os-services/disable-log-reason", body)
	if a.text(t, "status") != "disabled" || a.text(t, "disabled_reason") != "repair" {
		t.Errorf("%s", a.body)
	}
	if s := f.services(0, "?host=kvol@hdd_general"); s[0]["status"] != "disabled" || s[0]["disabled_reason"] != "repair" {
		t.Errorf("%v", s)
	}
	id := f.want(202, "POST", "volumes", `{"volume":{"size":1}}`).text(t, "volume.id")
	f.status("volumes/"+id, "volume.status", "error")
	a = f.wantAt(5, "member", 200, "GET", "messages?resource_uuid="+id, "")
	if !strings.Contains(string(a.body), "VOLUME_VOLUME_001_003") {
		t.Errorf("%s", a.body)
	}
	f.volume(`{"volume":{"size":1,"volume_type":"General SSD"}}`)
	f.wantAt(0, "admin", 200, "PUT", "os-services/enable", `{"host":"kvol@hdd_general","binary":"cinder-volume"}`)
	f.volume(`{"volume":{"size":1}}`)
}

// TestFrozenBackend: what changes things on a frozen backend is refused, as
// are what no backend is and freezing twice.
func TestFrozenBackend(t *testing.T) {
	f := newFixture(t)
	f.runJobs()
	id := f.volume(`{"volume":{"size":1}}`)
	sn := f.want(202, "POST", "snapshots", `{"snapshot":{"volume_id":"`+id+`"}}`).text(t, "snapshot.id")
	f.status("snapshots/"+sn, "snapshot.status", "available")
	const host = `{"host":"kvol@hdd_general"}`
	f.wantAt(0, "admin", 200, "PUT", "os-services/freeze", host)
	f.wantAt(0, "admin", 400, "PUT", "os-services/freeze", host)
	if s := f.services(0, "?host=kvol@hdd_general"); s[0]["frozen"] != true || s[0]["disabled_reason"] != "frozen" {
		t.Errorf("%v", s)
	}
	for _, x := range [][3]string{{"DELETE", "volumes/" + id}, {"DELETE", "snapshots/" + sn},
		{"POST", "snapshots", `{"snapshot":{"volume_id":"` + id + `"}}`}} {
		if a := f.want(400, x[0], x[1], x[2]); !strings.Contains(string(a.body), "not allowed on frozen storage backends") {
			t.Errorf("%v: %s", x, a.body)
		}
	}
	f.wantAt(0, "admin", 200, "PUT", "os-services/thaw", host)
	f.want(202, "DELETE", "snapshots/"+sn, "")
	for _, x := range []struct {
		minor        int
		action, body string
		code         int
		sentence     string
	}{
		{0, "freeze", `{"host":"zz"}`, 400, "No service found with host=zz"},
		{0, "freeze", `{}`, 400, "Host field is missing"},
		{0, "failover_host", host, 400, "must be ['enabled', 'failed-over'] and must be up to failover."},
		{0, "failover_host", `{"host":"kvol@hdd_general","zz":1}`, 400, "('zz' was unexpected)"},
		{0, "failover", host, 400, "Unknown action"}, {26, "failover", host, 400, "replication_status"},
		{0, "nope", host, 400, "Unknown action"}, {31, "get-log", `{}`, 400, "Unknown action"},
		{32, "get-log", `{}`, 200, "log_levels"}, {32, "set-log", `{"level":"DEBUG"}`, 202, ""},
		{0, "enable", `{"host":"zz","binary":"cinder-volume"}`, 404, "Service cinder-volume could not be found"},
		{0, "enable", `{"host":"kvol@hdd_general"}`, 400, "'binary' is a required property"},
	} {
		if a := f.wantAt(x.minor, "admin", x.code, "PUT", "os-services/"+x.action, x.body); !strings.Contains(
			string(a.body), x.sentence) {
			t.Errorf("%s: %s", x.action, a.body)
		}
	}
}

// TestPools: pools, capabilities, hosts and what there is none of.
func TestPools(t *testing.T) {
	f := newFixture(t)
	f.available(3)
	pools := func(minor int, query string) string {
		return string(f.wantAt(minor, "admin", 200, "GET", "scheduler-stats/get_pools"+query, "").body)
	}
	if got := pools(0, ""); got != `{"pools":[{"name":"kvol@hdd_general#hdd_general"},`+
		`{"name":"kvol@ssd_general#ssd_general"}]}`+"\n" && got != `{"pools":[{"name":"kvol@hdd_general#hdd_general"},`+
		`{"name":"kvol@ssd_general#ssd_general"}]}` {
		t.Errorf("%s", got)
	}
	if got := pools(0, "?detail=true"); !strings.Contains(got, `"allocated_capacity_gb":3`) {
		t.Errorf("%s", got)
	}
	for query, tt := range map[string]struct{ minor, n int }{"?name=kvol@hdd_general%23hdd_general": {28, 1},
		"?name=nope": {28, 0}, "?name=nope&x=y": {27, 2}, "?volume_type=General+SSD": {35, 1},
		"?volume_type=General+HDD": {34, 2}} {
		if got := pools(tt.minor, query); strings.Count(got, `"name"`) != tt.n {
			t.Errorf("%s: %s", query, got)
		}
	}
	for path, sentence := range map[string]string{"os-hosts/zz": "Host zz could not be found.",
		"capabilities/zz": "Can't find service: zz"} {
		if a := f.wantAt(0, "admin", 404, "GET", path, ""); !strings.Contains(string(a.body), sentence) {
			t.Errorf("%s: %s", path, a.body)
		}
	}
	a := f.wantAt(0, "admin", 200, "GET", "os-hosts/kvol@hdd_general", "")
	if !strings.Contains(string(a.body), `"total_volume_gb":"3"`) || !strings.Contains(string(a.body), project) {
		t.Errorf("%s", a.body)
	}
	for path, minor := range map[string]int{"os-hosts": 0, "capabilities/kvol@hdd_general": 0, "clusters": 7,
		"clusters/detail": 7} {
		f.wantAt(minor, "admin", 200, "GET", path, "")
		f.wantAt(minor, "member", 403, "GET", path, "")
		f.wantAt(minor, "reader", 403, "GET", path, "")
	}
	f.wantAt(7, "admin", 404, "GET", "clusters/x", "")
	f.wantAt(24, "admin", 202, "POST", "workers/cleanup", "{}")
	for _, path := range []string{"os-services", "scheduler-stats/get_pools"} {
		f.wantAt(0, "member", 403, "GET", path, "")
	}
	f.wantAt(0, "member", 403, "PUT", "os-services/freeze", `{}`)
}
