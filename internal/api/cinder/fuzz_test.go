package cinder_test

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"kvol/internal/block"
	"kvol/internal/catalog"
)

// bodies are the seeds: what clients send, and what they should not.
var bodies = []string{
	`{"volume":{"size":1}}`, `{"volume":{"size":"1","name":"é","metadata":{"a":"b"},"snapshot_id":null}}`,
	`{"volume":{"size":1e400}}`, `{"volume":{"size":-0}}`, `{"volume":{"name":"\ud800"}}`, `{"volume":null}`,
	`{"snapshot":{"volume_id":"11111111111111111111111111111111","force":"t"}}`, `{"metadata":{"k":"v"}}`,
	`{"meta":{"key":"v"}}`, `{"quota_set":{"volumes":1,"gigabytes":"-1"}}`, `{"os-extend":{"new_size":3}}`,
	`{"os-attach":{"mountpoint":"/dev/vdb","host_name":"h"}}`, `{"os-detach":null}`, `{"os-reset_status":{"status":""}}`,
	`{"os-initialize_connection":{"connector":{"a":[{}]}}}`, `{"os-terminate_connection":{"connector":null}}`,
	`{"os-volume_upload_image":{"image_name":"x","force":"on"}}`, `{"os-set_image_metadata":{"metadata":{}}}`,
	`{"os-unset_image_metadata":{"key":"k"}}`, `{"os-set_bootable":{"bootable":1}}`, `{}`, `[]`, `nul`, ``, "{\"a\":1}{",
	strings.Repeat(`{"a":`, 70) + "1" + strings.Repeat("}", 70),
}

// targets are the places that read bodies.
var targets = [][2]string{
	{"POST", "volumes"}, {"PUT", "volumes/ID"}, {"POST", "volumes/ID/action"}, {"POST", "snapshots"},
	{"PUT", "snapshots/" + noSuchID}, {"POST", "snapshots/" + noSuchID + "/action"}, {"PUT", "volumes/ID/metadata"},
	{"PUT", "volumes/ID/metadata/key"}, {"PUT", "os-quota-sets/" + project},
}

// FuzzBody: whatever is sent, the answer is JSON or empty, never a fault of
// ours, and what is refused has exactly one error name.
func FuzzBody(f *testing.F) {
	for i := range targets {
		for _, b := range bodies {
			f.Add(b, uint8(i))
		}
	}
	z := newFixture(f)
	id := z.available(1)
	f.Fuzz(func(t *testing.T, body string, target uint8) {
		z := *z
		z.TB = t
		at := targets[int(target)%len(targets)]
		a := z.do(at[0], strings.Replace(at[1], "ID", id, 1), "admin", body, "Content-Type", "application/json")
		checkAnswer(t, a)
		z.must(z.catalog.Update(t.Context(), func(tx *catalog.Tx) error {
			return tx.ResetVolumeStatus(block.VolumeID(id), block.VolumeAvailable)
		}))
	})
}

// FuzzQuery does the same with the queries of lists.
func FuzzQuery(f *testing.F) {
	for _, q := range []string{"", "limit=1", "limit=0&offset=2", "sort=name:asc,size", "marker=x",
		"sort_key=id&sort_dir=asc", "metadata={'a':'b'}", "metadata={u\"a\":\"\\'\"", "all_tenants=1&project_id=x",
		"name=%ff", "%zz&=&&a;b", "bootable=x&status=y&size=z", "limit=9223372036854775808",
		"created_at=2020-01-01T00:00:00"} {
		f.Add(q)
	}
	z := newFixture(f)
	z.available(1, "a", "b", "c")
	f.Fuzz(func(t *testing.T, query string) {
		z := *z
		z.TB = t
		for _, path := range []string{"volumes/detail", "snapshots", "types"} {
			for _, token := range []string{"member", "admin"} {
				r := newRequest(path, token)
				r.URL.RawQuery = query
				checkAnswer(t, z.serve(r))
			}
		}
	})
}

func checkAnswer(t *testing.T, a answer) {
	t.Helper()
	if a.code == 0 || a.code >= 500 {
		t.Fatalf("%d %s", a.code, a.body)
	}
	if len(a.body) == 0 {
		return
	}
	var v map[string]json.RawMessage
	if err := json.Unmarshal(a.body, &v); err != nil || !utf8.Valid(a.body) {
		t.Fatalf("%d %q: %v", a.code, a.body, err)
	}
	if a.code >= 400 {
		fault(t, a)
	}
}
