package cinder_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"

	"kvol/internal/block"
	"kvol/internal/catalog"
)

// at does a request below /v3 in a microversion.
func (f *fixture) at(minor int, token, method, path, body string) answer {
	f.Helper()
	return f.do(method, "/v3/"+string(callers[token].Project)+"/"+path, token, body,
		"OpenStack-API-Version", "volume 3."+strconv.Itoa(minor))
}

// wantAt is at with the status that is expected.
func (f *fixture) wantAt(minor int, token string, code int, method, path, body string) answer {
	f.Helper()
	a := f.at(minor, token, method, path, body)
	if a.code != code {
		f.Fatalf("3.%d %s %s %s = %d %s, want %d", minor, method, path, body, a.code, a.body, code)
	}
	return a
}

func newestMinor() int {
	n, _ := strconv.Atoi(strings.TrimPrefix(newest, "3."))
	return n
}

func (a answer) keys(t testing.TB, path string) []string {
	t.Helper()
	m, ok := a.get(t, path).(map[string]any)
	if !ok {
		t.Fatalf("%s is no object in %s", path, a.body)
	}
	return slices.Sorted(maps.Keys(m))
}

// brought is a table of keys: the microversion that brought each.
type brought map[string]int

func (b brought) until(minor int) []string {
	var keys []string
	for key, since := range b {
		if since <= minor {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys
}

func with(tables ...brought) brought {
	all := brought{}
	for _, b := range tables {
		maps.Copy(all, b)
	}
	return all
}

// The keys of the API reference, section 2.
var (
	volumeKeys = brought{"id": 0, "status": 0, "size": 0, "availability_zone": 0, "created_at": 0, "updated_at": 0,
		"name": 0, "description": 0, "volume_type": 0, "snapshot_id": 0, "source_volid": 0, "metadata": 0, "links": 0,
		"user_id": 0, "bootable": 0, "encrypted": 0, "replication_status": 0, "consistencygroup_id": 0,
		"multiattach": 0, "attachments": 0, "group_id": 13, "shared_targets": 48, "service_uuid": 48,
		"volume_type_id": 63, "consumes_quota": 65}
	volumeAdminKeys    = brought{"migration_status": 0, "provider_id": 21, "cluster_name": 61}
	volumeTenant       = brought{"os-vol-tenant-attr:tenant_id": 0}
	volumeExtendedKeys = brought{"os-vol-mig-status-attr:migstat": 0, "os-vol-mig-status-attr:name_id": 0,
		"os-vol-host-attr:host": 0}
	snapshotKeys = brought{"id": 0, "created_at": 0, "updated_at": 0, "name": 0, "description": 0, "volume_id": 0,
		"status": 0, "size": 0, "metadata": 0, "group_snapshot_id": 14, "user_id": 41, "consumes_quota": 65}
	snapshotExtendedKeys = brought{"os-extended-snapshot-attributes:project_id": 0,
		"os-extended-snapshot-attributes:progress": 0}
	typeKeys = brought{"id": 0, "name": 0, "is_public": 0, "description": 0, "extra_specs": 0,
		"os-volume-type-access:is_public": 0}
	typeAdminKeys = brought{"qos_specs_id": 0}
)

// TestKeys: every microversion has exactly its keys, for members and for
// administrators.
func TestKeys(t *testing.T) {
	f := newFixture(t)
	id := f.available(1)
	for minor := range newestMinor() + 1 {
		for token, more := range map[string][3]brought{
			"member": {}, "admin": {volumeAdminKeys, volumeExtendedKeys, typeAdminKeys}} {
			check := func(what string, got []string, want brought) {
				t.Helper()
				if !slices.Equal(got, want.until(minor)) {
					t.Errorf("3.%d %s as %s:\n got %v\nwant %v", minor, what, token, got, want.until(minor))
				}
			}
			whole := with(volumeKeys, volumeTenant, more[0], more[1])
			check("volume", f.wantAt(minor, token, 200, "GET", "volumes/"+id, "").keys(t, "volume"), whole)
			check("update", f.wantAt(minor, token, 200, "PUT", "volumes/"+id, `{"volume":{"name":"n"}}`).keys(t, "volume"),
				with(volumeKeys, more[0]))
			check("type", f.wantAt(minor, token, 200, "GET", "types/"+hddType, "").keys(t, "volume_type"),
				with(typeKeys, more[2]))
			s := f.wantAt(minor, token, 202, "POST", "snapshots", `{"snapshot":{"volume_id":"`+id+`"}}`)
			check("new snapshot", s.keys(t, "snapshot"), snapshotKeys)
			snapshot := s.text(t, "snapshot.id")
			check("snapshot", f.wantAt(minor, token, 200, "GET", "snapshots/"+snapshot, "").keys(t, "snapshot"),
				with(snapshotKeys, snapshotExtendedKeys))
			f.must(f.catalog.Update(t.Context(), func(tx *catalog.Tx) error {
				return tx.DeleteSnapshot(block.SnapshotID(snapshot))
			}))
		}
	}
}

func TestNegotiation(t *testing.T) {
	f := newFixture(t)
	base := "/v3/" + project + "/volumes"
	for _, tt := range []struct {
		header, answer string
		code           int
	}{
		{"", "volume 3.0", 200}, {"volume 3.0", "volume 3.0", 200}, {"volume latest", "volume " + newest, 200},
		{"compute 2.1, volume 3.5", "volume 3.5", 200}, {"volume 3.999", "volume 3.999", 406},
		{"volume 4.0", "volume 4.0", 406}, {"volume 2.0", "", 406}, {"volume 3.01", "", 400}, {"volume x", "", 400},
		{"volume", "", 400}, {"compute 2.1", "", 400}, {"volume 3.99999999999999", "volume 3.99999999999999", 406},
	} {
		var headers []string
		if tt.header != "" {
			headers = []string{"OpenStack-API-Version", tt.header}
		}
		a := f.do("GET", base, "member", "", headers...)
		if a.code != tt.code || a.header.Get("OpenStack-API-Version") != tt.answer ||
			a.header.Get("Vary") != "OpenStack-API-Version" {
			t.Errorf("%q = %d %v %s", tt.header, a.code, a.header, a.body)
		}
	}
	if a := f.do("GET", "volumes", "member", "", "OpenStack-API-Version", "volume 3.5"); a.code != 200 ||
		a.header.Get("Vary") != "" || a.header.Get("OpenStack-API-Version") != "" {
		t.Errorf("v2 knows no microversions: %d %v", a.code, a.header)
	}
}

func TestProjectInURL(t *testing.T) {
	f := newFixture(t)
	id := f.available(1)
	for path, code := range map[string]int{"/v3/volumes": 200, "/v3/volumes/" + id: 200, "/v3/types.json": 200,
		"/v3/" + project + "/volumes": 200, "/v3/" + other + "/volumes": 400, "/v3/nope/volumes": 404,
		"/v3/nope": 404, "/v3/" + project: 404} {
		if a := f.do("GET", path, "member", ""); a.code != code {
			t.Errorf("%s = %d %s", path, a.code, a.body)
		}
	}
	f.wantAt(11, "member", 404, "GET", "volumes/summary", "")
	f.wantAt(12, "member", 200, "GET", "volumes/summary", "")
	f.want(404, "GET", "volumes/summary", "")
}

func TestEntityTags(t *testing.T) {
	f := newFixture(t)
	path := "volumes/" + f.available(1) + "/metadata"
	if a := f.wantAt(14, "member", 200, "GET", path, ""); a.header.Get("Etag") != "" {
		t.Errorf("an ETag before 3.15: %v", a.header)
	}
	a := f.wantAt(15, "member", 200, "GET", path, "")
	if tag := a.header.Get("Etag"); tag != "28ea041cc3f26b287319d2de3c107b50" { // Cinder's for no metadata
		t.Errorf("ETag %q", tag)
	}
	put := func(match string) int {
		return f.do("PUT", "/v3/"+project+"/"+path, "member", `{"metadata":{"a":"b"}}`,
			"OpenStack-API-Version", "volume 3.15", "If-Match", match).code
	}
	if code := put("nonsense"); code != 412 {
		t.Errorf("another ETag: %d", code)
	}
	if code := put(a.header.Get("Etag")); code != 200 {
		t.Errorf("the right ETag: %d", code)
	}
	if code := put(a.header.Get("Etag")); code != 412 {
		t.Errorf("an old ETag: %d", code)
	}
	// What counts as naming a tag, which requests look at it, and from when.
	for _, tt := range []struct {
		minor               int
		method, path, match string
		code                int
	}{
		{15, "PUT", "", `"other", "%"`, 200}, {15, "PUT", "", `W/"%"`, 412}, {15, "PUT", "", `*`, 200},
		{15, "PUT", "", `other, %`, 412}, {15, "PUT", "/a", `"old"`, 412}, {15, "PUT", "/a", `"%"`, 200},
		{14, "PUT", "", `"old"`, 200}, {14, "PUT", "/a", `"old"`, 200}, {15, "POST", "", `"old"`, 200},
		{15, "DELETE", "/a", `"old"`, 200},
	} {
		now := f.wantAt(15, "member", 200, "GET", path, "").header.Get("Etag")
		body := map[string]string{"": `{"metadata":{"a":"b"}}`, "/a": `{"meta":{"a":"b"}}`}[tt.path]
		got := f.do(tt.method, "/v3/"+project+"/"+path+tt.path, "member", body, "OpenStack-API-Version",
			fmt.Sprintf("volume 3.%d", tt.minor), "If-Match", strings.ReplaceAll(tt.match, "%", now)).code
		if got != tt.code {
			t.Errorf("3.%d %s %s with %s: %d, want %d", tt.minor, tt.method, tt.path, tt.match, got, tt.code)
		}
	}
	volume := strings.TrimSuffix(path, "/metadata")
	if tag := f.wantAt(15, "member", 200, "GET", volume, "").header.Get("Etag"); tag != "" {
		t.Errorf("a volume has the ETag %s", tag)
	}
}

// names lists the names of a list of volumes.
func (a answer) names(t testing.TB) string {
	t.Helper()
	var d struct{ Volumes []struct{ Name string } }
	if err := json.Unmarshal(a.body, &d); err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, v := range d.Volumes {
		all = append(all, v.Name)
	}
	return strings.Join(all, " ")
}
