package cinder_test

import (
	"slices"
	"strconv"
	"strings"
	"testing"

	"kvol/internal/block"
	"kvol/internal/catalog"
)

// without makes a request in the newest microversion as the holder of a token of no
// project, by a path without one.
func (f *fixture) without(token, method, path, body string) answer {
	f.Helper()
	return f.do(method, "/v3/"+path, token, body, "OpenStack-API-Version", "volume "+newest)
}

func (f *fixture) wantWithout(token string, code int, method, path, body string) answer {
	f.Helper()
	a := f.without(token, method, path, body)
	if a.code != code {
		f.Fatalf("%s %s %s as %s = %d %s, want %d", method, path, body, token, a.code, a.body, code)
	}
	return a
}

// listedIn are the collections of what belongs to projects, with the name of the list
// and the word for one that is in it.
var listedIn = map[string][2]string{"volumes": {"volumes", "%v"}, "volumes/detail": {"volumes", "%v"},
	"snapshots": {"snapshots", "%s"}, "snapshots/detail": {"snapshots", "%s"},
	"backups": {"backups", "%b"}, "backups/detail": {"backups", "%b"},
	"attachments": {"attachments", "%a"}, "attachments/detail": {"attachments", "%a"},
	"groups": {"groups", "%g"}, "groups/detail": {"groups", "%g"},
	"group_snapshots": {"group_snapshots", "%i"}, "group_snapshots/detail": {"group_snapshots", "%i"},
	"volume-transfers": {"transfers", "%o"}, "os-volume-transfer/detail": {"transfers", "%o"}}

// TestListsOfNoProject: an administrator of the system or of a domain lists what is
// of all projects, of one that is named, or, since nothing is of none, nothing.
func TestListsOfNoProject(t *testing.T) {
	f := newFixture(t)
	words := f.things()
	word := func(w string) string { return words[slices.Index(words, w)+1] }
	for _, token := range []string{"system", "domain"} {
		for path, of := range listedIn {
			for query, want := range map[string]bool{"": false, "?all_tenants=0": false, "?all_tenants=1": true,
				"?project_id=" + project: false, "?all_tenants=1&project_id=" + project: true,
				"?all_tenants=1&project_id=" + other: false, "?limit=1": false,
				"?with_count=true": false, "?status=available": false} {
				a := f.wantWithout(token, 200, "GET", path+query, "")
				list := a.get(t, of[0]).([]any)
				if has := strings.Contains(string(a.body), word(of[1])); has != want || !want && len(list) > 0 {
					t.Errorf("GET %s%s as %s: %s", path, query, token, a.body)
				}
			}
		}
		for path, want := range map[string]string{"volumes/summary": `"total_count":0`,
			"volumes?with_count=true": `"count":0`, "snapshots?with_count=true": `"count":0`,
			"backups?with_count=true": `"count":0`, "limits": `"totalVolumesUsed":0`,
			"limits?project_id=" + project: `"totalSnapshotsUsed":1`,
			"types?is_public=None":         "Private", "cgsnapshots": `{"cgsnapshots":[]}`,
			"consistencygroups": `{"consistencygroups":[]}`} {
			if a := f.wantWithout(token, 200, "GET", path, ""); !strings.Contains(string(a.body), want) {
				t.Errorf("GET %s as %s: %s lacks %s", path, token, a.body, want)
			}
		}
		all := f.wantWithout(token, 200, "GET", "volumes/summary?all_tenants=1", "")
		if strings.Contains(string(all.body), `"total_count":0`) {
			t.Errorf("all volumes: %s", all.body)
		}
		// Before 3.29 group snapshots are listed without a query.
		a := f.do("GET", "/v3/group_snapshots", token, "", "OpenStack-API-Version", "volume 3.14")
		if string(a.body) != `{"group_snapshots":[]}` {
			t.Errorf("group snapshots in 3.14: %d %s", a.code, a.body)
		}
	}
}

// TestPathsOfNoProject: a path that names a project is none of theirs, and no other
// one is made one by the word that stands for no project.
func TestPathsOfNoProject(t *testing.T) {
	f := newFixture(t)
	for path, code := range map[string]int{"/v3/" + project + "/volumes": 400, "/v2/" + project + "/volumes": 400,
		"/v2/volumes": 400, "/v2/" + string(block.NoProject) + "/volumes": 400, "/v3/-/volumes": 400,
		"/v3/" + string(block.NoProject) + "/volumes": 404, "/v3/%28none%29/volumes": 404, "/v3//volumes": 404,
		"/v3/volumes": 200, "/v3/nothing": 404} {
		for _, token := range []string{"system", "domain", "watch"} {
			want := code
			if token == "watch" && code == 200 {
				want = 403
			}
			a := f.do("GET", path, token, "")
			if a.code != want || code == 400 && a.text(t, "badRequest.message") != "Malformed request url" {
				t.Errorf("GET %s as %s: %d %s, want %d", path, token, a.code, a.body, want)
			}
		}
	}
	for _, token := range []string{"member", "admin"} {
		for _, path := range []string{"/v2/" + string(block.NoProject) + "/volumes", "/v3/-/volumes"} {
			if a := f.do("GET", path, token, ""); a.code != 400 {
				t.Errorf("GET %s as %s: %d %s", path, token, a.code, a.body)
			}
		}
	}
}

// TestOperatingWithoutProject: what is of a project is shown to an administrator of
// the system, changed and deleted as it is to other administrators, and links lead
// to where it may go.
func TestOperatingWithoutProject(t *testing.T) {
	f := newFixture(t)
	f.runJobs()
	volume := f.volume(`{"volume":{"size":1}}`)
	shown := f.wantWithout("system", 200, "GET", "volumes/"+volume, "")
	if shown.text(t, "volume.os-vol-tenant-attr:tenant_id") != project ||
		!strings.Contains(string(shown.body), publicURL+"/v3/volumes/"+volume) ||
		strings.Contains(string(shown.body), "none") {
		t.Errorf("it shows %s", shown.body)
	}
	f.wantWithout("system", 200, "PUT", "volumes/"+volume, `{"volume":{"name":"n"}}`)
	f.wantWithout("system", 202, "POST", "volumes/"+volume+"/action", `{"os-extend":{"new_size":2}}`)
	f.status("volumes/"+volume, "volume.status", "available")
	f.wantWithout("system", 202, "POST", "volumes/"+volume+"/action", `{"os-reset_status":{"status":"error"}}`)
	f.wantWithout("system", 202, "DELETE", "volumes/"+volume, "")
	f.until(func() bool { return f.without("system", "GET", "volumes/"+volume, "").code == 404 })

	made := f.wantWithout("system", 200, "POST", "types", `{"volume_type":{"name":"theirs",
		"os-volume-type-access:is_public":false}}`).text(t, "volume_type.id")
	f.wantWithout("system", 202, "POST", "types/"+made+"/action", `{"addProjectAccess":{"project":"`+project+`"}}`)
	if a := f.want(200, "GET", "types", ""); !strings.Contains(string(a.body), made) {
		t.Errorf("the type is not given: %s", a.body)
	}
	f.wantWithout("system", 200, "PUT", "os-quota-sets/"+project, `{"quota_set":{"volumes":0}}`)
	f.want(413, "POST", "volumes", `{"volume":{"size":1}}`)
	f.wantWithout("system", 200, "GET", "os-services", "")
}

// refusedWithoutProject are requests for what would be of the caller's project.
const refusedWithoutProject = `
POST volumes {"volume":{"size":1}}
POST volumes {"volume":{"size":1,"source_volid":"%v"}}
POST volumes/%v/action {"os-volume_upload_image":{"image_name":"n"}}
POST snapshots {"snapshot":{"volume_id":"%v"}}
POST backups {"backup":{"volume_id":"%v"}}
POST backups/%b/restore {"restore":{}}
POST backups/import_record {"backup-record":{"backup_service":"s","backup_url":"dQ=="}}
POST groups {"group":{"group_type":"g","volume_types":["General HDD"]}}
POST groups/action {"create-from-src":{"source_group_id":"%g"}}
POST consistencygroups {"consistencygroup":{"volume_types":"General HDD"}}
POST consistencygroups/create_from_src {"consistencygroup-from-src":{"source_cgid":"%x"}}
POST os-volume-manage {"volume":{"host":"kvol@hdd_general","ref":{"source-name":"x"}}}
POST manageable_volumes {"volume":{"host":"kvol@hdd_general","ref":{"source-name":"x"}}}
POST os-volume-transfer/%o/accept {"accept":{"auth_key":"k"}}
POST volume-transfers/%q/accept {"accept":{"auth_key":"k"}}
`

// TestNothingOfNoProject: an administrator of no project asks for everything that
// there is to ask. What would be of no project is refused, and in the end nothing is.
func TestNothingOfNoProject(t *testing.T) {
	f := newFixture(t)
	words := f.things()
	f.must(f.catalog.Update(t.Context(), func(tx *catalog.Tx) error { // so that it is not what is refused
		_, err := tx.MoveBackup(block.BackupID(words[slices.Index(words, "%b")+1]), block.Done)
		return err
	}))
	for line := range strings.Lines(strings.TrimSpace(refusedWithoutProject)) {
		parts := strings.SplitN(strings.NewReplacer(words...).Replace(strings.TrimSpace(line)), " ", 3)
		a := f.without("system", parts[0], parts[1], parts[2])
		if a.code != 403 || a.text(t, "forbidden.message") !=
			"What is made belongs to a project: a token of one is needed." {
			t.Errorf("%s: %d %s", line, a.code, a.body)
		}
	}
	f.routes(func(letter, method, path, body string) {
		a := f.without("system", method, path, body)
		if a.code >= 500 && a.code != 503 || letter == "a" && a.code == 403 && !makes(method, path) {
			t.Errorf("%s %s %s: %d %s", method, path, body, a.code, a.body)
		}
	})
	f.must(f.catalog.View(t.Context(), func(tx *catalog.Tx) error {
		all := block.ListQuery{Limit: -1}
		var of []block.ProjectID
		volumes, err := tx.Volumes(all)
		f.must(err)
		for _, v := range volumes {
			of = append(of, v.Project)
		}
		snapshots, err := tx.Snapshots(all)
		f.must(err)
		for _, sn := range snapshots {
			of = append(of, sn.Project)
		}
		groups, err := tx.Groups(all, true)
		f.must(err)
		for _, g := range groups {
			of = append(of, g.Project)
		}
		moments, err := tx.GroupSnapshots(all, true)
		f.must(err)
		for _, gs := range moments {
			of = append(of, gs.Project)
		}
		backups, err := tx.Backups(all)
		f.must(err)
		for _, b := range backups {
			of = append(of, b.Project)
		}
		transfers, err := tx.Transfers(all)
		f.must(err)
		for _, tr := range transfers {
			of = append(of, tr.Project)
		}
		if len(of) < 6 || slices.ContainsFunc(of, func(p block.ProjectID) bool { return p != project }) {
			t.Errorf("there is what is of %q", of)
		}
		return nil
	}))
}

// TestWatchersWithoutProject: whoever is no administrator and of no project is told
// what is of no project either, and nothing else.
func TestWatchersWithoutProject(t *testing.T) {
	f := newFixture(t)
	open := []string{"os-availability-zone", "extensions", "extensions/backups", "resource_filters"}
	f.routes(func(_, method, path, body string) {
		a := f.without("watch", method, path, body)
		if slices.Contains(open, path) {
			if a.code != 200 {
				t.Errorf("%s %s: %d %s", method, path, a.code, a.body)
			}
			return
		}
		if a.code != 403 || a.text(t, "forbidden.message") != "A token of a project is needed." {
			t.Errorf("%s %s %s: %d %s", method, path, body, a.code, a.body)
		}
	})
}

// makes reports whether a request of personaRoutes that only administrators may make
// would make something for the caller's project.
func makes(method, path string) bool {
	return method == "POST" && slices.Contains([]string{"backups/import_record", "os-volume-manage",
		"manageable_volumes"}, path)
}

// routes calls fn for each request of personaRoutes, with things of the member's
// project.
func (f *fixture) routes(fn func(letter, method, path, body string)) {
	f.Helper()
	words := f.things()
	n := 0
	for line := range strings.Lines(strings.TrimSpace(personaRoutes)) {
		parts := append(strings.SplitN(strings.TrimSpace(line), " ", 4), "")
		for method := range strings.SplitSeq(parts[1], ",") {
			for path := range strings.SplitSeq(parts[2], ",") {
				n++
				fill := strings.NewReplacer(append(slices.Clone(words), "%n", "s"+strconv.Itoa(n))...)
				fn(parts[0], method, fill.Replace(path), fill.Replace(parts[3]))
			}
		}
	}
}
