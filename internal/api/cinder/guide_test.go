package cinder_test

import (
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"kvol/internal/api/cinder"
)

// The files in testdata/guide are the examples of the guide, to the letter.

func guide(t testing.TB, name string) string {
	t.Helper()
	b, err := os.ReadFile("testdata/guide/" + name + ".json")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

var made = []struct {
	pattern *regexp.Regexp
	name    string
}{
	{regexp.MustCompile(`[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}`), "<id>"},
	{regexp.MustCompile(`\b[0-9a-f]{32}\b`), "<project or user>"},
	{regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}$`), "<time>"},
}

// flatten makes a list of "path = value" of a document, ids and times taken
// out. Members are sorted, array elements are not.
func flatten(v any, path string, into map[string]string) {
	switch v := v.(type) {
	case map[string]any:
		into[path] = "{}"
		for k, e := range v {
			flatten(e, path+"/"+k, into)
		}
	case []any:
		into[path] = "[]"
		for i, e := range v {
			flatten(e, path+"/"+strconv.Itoa(i), into)
		}
	case string:
		for _, m := range made {
			v = m.pattern.ReplaceAllString(v, m.name)
		}
		into[path] = `"` + v + `"`
	default:
		b, _ := json.Marshal(v)
		into[path] = string(b)
	}
}

func flat(t testing.TB, body string) map[string]string {
	t.Helper()
	var v any
	if err := json.Unmarshal([]byte(body), &v); err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	m := map[string]string{}
	flatten(v, "", m)
	return m
}

// checkGuide compares an answer with an example: every key, type and value but
// for deviations, which are "path = value" or "path" for a key that must not be.
func checkGuide(t *testing.T, example string, a answer, deviations ...string) {
	t.Helper()
	want := flat(t, guide(t, example))
	for _, d := range deviations {
		path, value, found := strings.Cut(d, " = ")
		if found {
			want[path] = value
		} else {
			delete(want, path)
		}
	}
	if diff := cmp.Diff(want, flat(t, string(a.body))); diff != "" {
		t.Errorf("%s (-guide +ours):\n%s", example, diff)
	}
	if got := a.header.Get("Content-Type"); got != "application/json" {
		t.Errorf("Content-Type %q", got)
	}
}

func TestGuideTypes(t *testing.T) {
	f := newFixture(t)
	checkGuide(t, "types.response", f.want(200, "GET", "types?sort=name:desc", ""))
}

// extended are the members that the guide's table has for the answer to a
// create and its example lacks; ours is both.
var extended = []string{
	"/volume/os-vol-tenant-attr:tenant_id = \"<project or user>\"",
	"/volume/os-volume-replication:extended_status = null",
	"/volume/os-volume-replication:driver_data = null",
}

func TestGuideVolumes(t *testing.T) {
	f := newFixture(t)
	f.runJobs()
	created := f.want(202, "POST", "volumes", guide(t, "volume-create.request"))
	checkGuide(t, "volume-create.response", created, slices.Concat(extended, []string{"/volume/name = null"})...)
	id := created.text(t, "volume.id")
	f.status("volumes/"+id, "volume.status", "available")

	checkGuide(t, "volumes.response", f.want(200, "GET", "volumes", ""))
	f.want(202, "DELETE", "volumes/"+id, "")
	f.until(func() bool { return f.do("GET", "volumes/"+id, "member", "").code == 404 })

	id = f.volume(`{"volume":{"size":50,"name":"volume-f4f47065-300e-480e-8c9c-fb7ec985bffb"}}`)
	checkGuide(t, "volume.response", f.want(200, "GET", "volumes/"+id, ""))
	checkGuide(t, "volumes-detail.response", f.want(200, "GET", "volumes/detail", ""))
	a := f.want(202, "DELETE", "volumes/"+id, "")
	if len(a.body) != 0 {
		t.Errorf("DELETE has a body: %s", a.body)
	}
}

func TestGuideSnapshots(t *testing.T) {
	f := newFixture(t)
	f.runJobs()
	id := f.volume(`{"volume":{"size":20}}`)
	request := strings.Replace(guide(t, "snapshot-create.request"), "5aa119a8-d25b-45a7-8d1b-88e127885635", id, 1)
	created := f.want(202, "POST", "snapshots", request)
	// The guide's request and answer are of different snapshots.
	checkGuide(t, "snapshot-create.response", created, `/snapshot/name = "SNAPSHOT-001"`,
		`/snapshot/description = "Daily backup"`)
	snapshot := created.text(t, "snapshot.id")
	f.status("snapshots/"+snapshot, "snapshot.status", "available")
	f.want(202, "DELETE", "snapshots/"+snapshot, "")
	f.until(func() bool { return f.do("GET", "snapshots/"+snapshot, "member", "").code == 404 })

	id = f.volume(`{"volume":{"size":50}}`)
	created = f.want(202, "POST", "snapshots", `{"snapshot":{"volume_id":"`+id+`","name":"SNAPSHOT","description":""}}`)
	snapshot = created.text(t, "snapshot.id")
	f.status("snapshots/"+snapshot, "snapshot.status", "available")
	checkGuide(t, "snapshots.response", f.want(200, "GET", "snapshots", ""))
	checkGuide(t, "snapshots-detail.response", f.want(200, "GET", "snapshots/detail", ""))
	checkGuide(t, "snapshot.response", f.want(200, "GET", "snapshots/"+snapshot, ""))
	if a := f.want(202, "DELETE", "snapshots/"+snapshot, ""); len(a.body) != 0 {
		t.Errorf("DELETE has a body: %s", a.body)
	}
}

// The example of the upload has the text "null" where a row has NULL, a type
// with QoS specs, and lacks display_description, which its table has.
var uploadDeviations = []string{
	`/os-volume_upload_image/display_description = null`,
	`/os-volume_upload_image/image_name = "VOLUME IMAGE"`,
	`/os-volume_upload_image/volume_type/deleted_at = null`,
	`/os-volume_upload_image/volume_type/updated_at = null`,
	`/os-volume_upload_image/volume_type/description = null`,
	`/os-volume_upload_image/volume_type/qos_specs_id = null`,
	`/os-volume_upload_image/volume_type/extra_specs/0/updated_at = null`,
	`/os-volume_upload_image/volume_type/extra_specs/0/deleted_at = null`,
}

func TestGuideUpload(t *testing.T) {
	for _, format := range []string{"", cinder.UploadTypeRows, cinder.UploadTypeMap} {
		f := newFixture(t, func(c *cinder.Config) { c.V2UploadTypeFormat = format })
		id := f.available(20)
		a := f.want(202, "POST", "volumes/"+id+"/action", guide(t, "volume-upload.request"))
		if format == cinder.UploadTypeMap {
			if got := a.text(t, "os-volume_upload_image.volume_type.extra_specs.volume_backend_name"); got != "hdd_general" {
				t.Errorf("extra_specs.volume_backend_name = %s", got)
			}
			continue
		}
		checkGuide(t, "volume-upload.response", a, uploadDeviations...)
	}
}
