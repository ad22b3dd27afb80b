package cinder_test

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"kvol/internal/api/cinder"
	"kvol/internal/control"
	"kvol/internal/driver"
)

func TestVersions(t *testing.T) {
	f := newFixture(t)
	for path, tt := range map[string]struct {
		code int
		ids  []string
	}{"/": {300, []string{"v2.0", "v3.0"}}, "/v2": {200, []string{"v2.0"}}, "/v2/": {200, []string{"v2.0"}},
		"/v3": {200, []string{"v3.0"}}, "/v3/": {200, []string{"v3.0"}}} {
		a := f.do("GET", path, "", "")
		var d struct{ Versions []map[string]any }
		f.must(json.Unmarshal(a.body, &d))
		if a.code != tt.code || len(d.Versions) != len(tt.ids) {
			t.Fatalf("%s = %d %s", path, a.code, a.body)
		}
		for i, v := range d.Versions {
			keys := slices.Sorted(maps.Keys(v))
			want := []string{"id", "links", "media-types", "min_version", "status", "updated", "version"}
			numbers := map[string][3]string{"v2.0": {"DEPRECATED", "", ""}, "v3.0": {"CURRENT", newest, "3.0"}}[tt.ids[i]]
			if !slices.Equal(keys, want) || v["id"] != tt.ids[i] || v["status"] != numbers[0] ||
				v["version"] != numbers[1] || v["min_version"] != numbers[2] {
				t.Errorf("%s: %v", path, v)
			}
			if !strings.Contains(string(a.body), `"href":"`+publicURL+`/`+tt.ids[i][:2]+`/"`) {
				t.Errorf("no self link: %s", a.body)
			}
		}
	}
}

func (f *fixture) same(a answer, want string) {
	f.Helper()
	var got, expected any
	f.must(json.Unmarshal(a.body, &got))
	f.must(json.Unmarshal([]byte(want), &expected))
	if diff := cmp.Diff(expected, got); diff != "" {
		f.Errorf("(-want +got):\n%s", diff)
	}
}

const hddDocument = `{"volume_type":{"os-volume-type-access:is_public":true,"id":"` + hddType + `",
	"extra_specs":{"volume_backend_name":"hdd_general"},"name":"General HDD","description":null}}`

func TestTypes(t *testing.T) {
	f := newFixture(t)
	f.same(f.want(200, "GET", "types/"+hddType, ""), hddDocument)
	f.same(f.want(200, "GET", "types/default", ""), hddDocument)
	f.wantAs("admin", 200, "GET", "types/99999999-9999-4999-8999-999999999999", "")
	for query, want := range map[string][2]int{"": {2, 2}, "?is_public=None": {2, 3}, "?is_public=false": {2, 1},
		"?limit=0": {0, 0}, "?is_public=1&sort=name": {2, 2}} {
		for i, token := range []string{"member", "admin"} {
			list, _ := f.wantAs(token, 200, "GET", "types"+query, "").get(t, "volume_types").([]any)
			if len(list) != want[i] {
				t.Errorf("%s types%s = %d, want %d", token, query, len(list), want[i])
			}
		}
	}
	f.wantFault(t, f.do("GET", "types?is_public=zz", "admin", ""), 400, "Invalid is_public filter [zz]")
	none := newFixture(t, func(c *cinder.Config) {
		nothing, err := driver.NewSet(map[string]driver.Driver{}, nil)
		f.must(err)
		c.Control, err = control.New(control.Config{Catalog: f.catalog, Backends: nothing})
		f.must(err)
	})
	f.wantFault(t, none.do("GET", "types/default", "member", ""), 404, "Default volume type can not be found.")
}

func TestQuotas(t *testing.T) {
	f := newFixture(t)
	f.available(7, "a", "b")
	const defaults = `{"quota_set":{"volumes":10,"per_volume_gigabytes":-1,"snapshots":10,"gigabytes":1000,"backups":10,
		"backup_gigabytes":1000,"groups":10,"volumes_General HDD":-1,"gigabytes_General HDD":-1,
		"snapshots_General HDD":-1,"volumes_General SSD":-1,"gigabytes_General SSD":-1,"snapshots_General SSD":-1,
		"volumes_Private":-1,"gigabytes_Private":-1,"snapshots_Private":-1,"id":"` + project + `"}}`
	f.same(f.want(200, "GET", "os-quota-sets/"+project, ""), defaults)
	f.same(f.want(200, "GET", "os-quota-sets/"+project+"/defaults", ""), defaults)
	a := f.want(200, "GET", "os-quota-sets/"+project+"?usage=True", "")
	f.same(answer{body: marshal(f, a.get(t, "quota_set.gigabytes_General HDD"))}, `{"limit":-1,"in_use":14,"reserved":0}`)
	a = f.wantAs("admin", 200, "PUT", "os-quota-sets/"+project, `{"quota_set":{"volumes":"3","gigabytes":-1}}`)
	if a.get(t, "quota_set.volumes") != float64(3) || strings.Contains(string(a.body), `"id"`) {
		t.Errorf("PUT = %s", a.body)
	}
	f.want(403, "DELETE", "os-quota-sets/"+project, "")
	if a = f.wantAs("admin", 200, "DELETE", "os-quota-sets/"+project, ""); len(a.body) != 0 {
		t.Errorf("DELETE has a body: %s", a.body)
	}
	f.same(f.want(200, "GET", "os-quota-sets/"+project, ""), defaults)
	f.wantAs("admin", 200, "GET", "os-quota-sets/"+other+"/defaults", "")
	f.same(f.want(200, "GET", "limits", ""), `{"limits":{"rate":[],"absolute":{"maxTotalVolumes":10,"maxTotalSnapshots":10,
		"maxTotalVolumeGigabytes":1000,"maxTotalBackups":10,"maxTotalBackupGigabytes":1000,"totalVolumesUsed":2,
		"totalGigabytesUsed":14,"totalSnapshotsUsed":0,"totalBackupsUsed":0,"totalBackupGigabytesUsed":0}}}`)
}

func marshal(f *fixture, v any) []byte {
	b, err := json.Marshal(v)
	f.must(err)
	return b
}

func TestZonesAndExtensions(t *testing.T) {
	f := newFixture(t)
	f.same(f.want(200, "GET", "os-availability-zone", ""), `{"availabilityZoneInfo":[
		{"zoneName":"kr-pub-a","zoneState":{"available":true}},{"zoneName":"kr-pub-b","zoneState":{"available":true}}]}`)
	list, _ := f.want(200, "GET", "extensions", "").get(t, "extensions").([]any)
	if len(list) == 0 {
		t.Fatal("no extensions")
	}
	if got := f.want(200, "GET", "extensions/os-quota-sets", "").text(t, "extension.name"); got != "Quotas" {
		t.Errorf("extension %s", got)
	}
}
