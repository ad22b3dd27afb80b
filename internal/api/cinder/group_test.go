package cinder_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"kvol/internal/block"
)

var (
	groupKeys = brought{"id": 0, "status": 0, "availability_zone": 0, "created_at": 0, "name": 0, "description": 0,
		"group_type": 0, "volume_types": 0, "group_snapshot_id": 14, "source_group_id": 14, "replication_status": 38}
	groupSnapshotKeys = brought{"id": 0, "group_id": 0, "group_type_id": 0, "status": 0, "created_at": 0, "name": 0,
		"description": 0}
	projectOf = brought{"project_id": 58} // for administrators
)

// group makes a group of the type "g", which it makes if need be, and returns its id.
func (f *fixture) group(name string) string {
	f.Helper()
	f.at(11, "admin", "POST", "group_types", `{"group_type":{"name":"g"}}`)
	return f.wantAt(13, "member", 202, "POST", "groups", `{"group":{"name":"`+name+
		`","group_type":"g","volume_types":["General HDD","General SSD"]}}`).text(f, "group.id")
}

// member makes a volume in a group. Jobs must run.
func (f *fixture) inGroup(group string) string {
	f.Helper()
	id := f.wantAt(13, "member", 202, "POST", "volumes",
		`{"volume":{"size":1,"volume_type":"General HDD","group_id":"`+group+`"}}`).text(f, "volume.id")
	f.status("volumes/"+id, "volume.status", "available")
	return id
}

// settled waits for a status of a thing that came with a microversion.
func (f *fixture) settled(path, member, status string) {
	f.Helper()
	f.until(func() bool {
		return f.wantAt(newestMinor(), "admin", 200, "GET", path, "").text(f, member) == status
	})
}

// gone waits until a thing is not there any more.
func (f *fixture) gone(path string) {
	f.Helper()
	f.until(func() bool { return f.at(newestMinor(), "member", "GET", path, "").code == 404 })
}

// TestGroupKeys: in every microversion a group has exactly its keys.
func TestGroupKeys(t *testing.T) {
	f := newFixture(t)
	f.runJobs()
	id := f.group(" g ")
	volume := f.inGroup(id)
	gs := f.wantAt(14, "member", 202, "POST", "group_snapshots",
		`{"group_snapshot":{"group_id":"`+id+`","name":" s "}}`)
	wantKeys(t, gs.keys(t, "group_snapshot"), "id name group_type_id")
	snapshot := gs.text(t, "group_snapshot.id")
	f.settled("group_snapshots/"+snapshot, "group_snapshot.status", "available")
	for minor := range newestMinor() + 1 {
		for token, more := range map[string]brought{"member": {}, "reader": {}, "admin": projectOf} {
			check := func(path, member string, since int, want brought) {
				t.Helper()
				if minor < since {
					f.wantAt(minor, token, 404, "GET", path, "")
					return
				}
				if got := f.wantAt(minor, token, 200, "GET", path, "").keys(t, member); !slices.Equal(got, want.until(minor)) {
					t.Errorf("3.%d %s as %s:\n got %v\nwant %v", minor, path, token, got, want.until(minor))
				}
			}
			check("groups/"+id, "group", 13, with(groupKeys, more))
			check("groups/"+id+"?list_volume=true", "group", 13, with(groupKeys, more, brought{"volumes": 25}))
			check("group_snapshots/"+snapshot, "group_snapshot", 14, with(groupSnapshotKeys, more))
		}
	}
	a := f.wantAt(25, "member", 200, "GET", "groups/detail?list_volume=True", "")
	if !strings.Contains(string(a.body), `"volumes":["`+volume+`"]`) {
		t.Errorf("a list says %s", a.body)
	}
	if a = f.wantAt(25, "member", 200, "GET", "groups?list_volume=1", ""); strings.Contains(string(a.body), "volumes") {
		t.Errorf("a summary says %s", a.body)
	}
	f.wantAt(25, "member", 400, "GET", "groups/"+id+"?list_volume=x", "").
		wantMessage(t, "list_volume", "Value 'x' for 'list_volume' is not a boolean.")
	f.want(404, "GET", "groups", "") // on /v2
	f.wantAt(13, "other", 404, "GET", "groups/"+id, "").
		wantMessage(t, "another's", "Group "+id+" could not be found.")
}

// TestGroupPages: groups and group snapshots in pages, sorted and filtered. The
// latter know that since 3.29.
func TestGroupPages(t *testing.T) {
	f := newFixture(t)
	f.runJobs()
	var groups, snapshots []string
	for i := range 3 {
		groups = append(groups, f.group("n"+strconv.Itoa(i)))
		snapshots = append(snapshots, f.wantAt(14, "member", 202, "POST", "group_snapshots", fmt.Sprintf(
			`{"group_snapshot":{"group_id":%q,"name":"n%d"}}`, groups[i], i)).text(t, "group_snapshot.id"))
		f.settled("group_snapshots/"+snapshots[i], "group_snapshot.status", "available")
	}
	for _, tt := range []struct {
		list  string
		all   []string
		minor int
	}{{"groups", groups, 13}, {"group_snapshots", snapshots, 29}} {
		for query, want := range map[string]string{
			"":                                   "n2 n1 n0",
			"?sort=name":                         "n2 n1 n0",
			"?sort=name:asc":                     "n0 n1 n2",
			"?sort_key=name&sort_dir=asc":        "n0 n1 n2",
			"?sort=name:asc&limit=2":             "n0 n1",
			"?name=n1":                           "n1",
			"?limit=0":                           "",
			"?offset=2":                          "n0",
			"?sort=name:asc&marker=" + tt.all[0]: "n1 n2",
			"?nope=1":                            "n2 n1 n0",
		} {
			for _, kind := range []string{"", "/detail"} {
				got, next := f.wantAt(tt.minor, "member", 200, "GET", tt.list+kind+query, "").inOrder(t, tt.list, "name")
				page := publicURL + "/v3/" + project + "/" + tt.list + kind + "?sort=name%3Aasc&limit=2&marker=" + tt.all[1]
				if strings.Contains(query, "limit=2") == (next != page) || strings.Join(got, " ") != want {
					t.Errorf("%s%s%s: %v, next %s, want %s", tt.list, kind, query, got, next, page)
				}
			}
		}
		f.wantAt(31, "member", 400, "GET", tt.list+"?nope=1", "").
			wantMessage(t, tt.list, "Invalid filters nope are found in query options.")
		f.wantAt(tt.minor, "member", 404, "GET", tt.list+"?marker="+noSuchID, "")
		f.wantAt(34, "member", 400, "GET", tt.list+"?name~=n", "")
		if got, _ := f.wantAt(34, "admin", 200, "GET", tt.list+"?name~=2", "").inOrder(t, tt.list, "name"); len(got) != 1 {
			t.Errorf("%s like 2: %v", tt.list, got)
		}
		for token, want := range map[string]int{"other": 0, "admin": 3} {
			got, _ := f.wantAt(newestMinor(), token, 200, "GET", tt.list+"?all_tenants=1", "").inOrder(t, tt.list, "id")
			if len(got) != want {
				t.Errorf("%s of all tenants as %s: %v", tt.list, token, got)
			}
		}
	}
	// Before 3.29 what is asked of group snapshots means nothing, from 3.31 it is refused.
	got, next := f.wantAt(28, "member", 200, "GET", "group_snapshots?limit=1&name=n1", "").
		inOrder(t, "group_snapshots", "id")
	if len(got) != 3 || next != "" {
		t.Errorf("3.28 lists %v, %s", got, next)
	}
	got, _ = f.wantAt(29, "member", 200, "GET", "group_snapshots?group_id="+groups[1]+"&status=available", "").
		inOrder(t, "group_snapshots", "id")
	if !slices.Equal(got, snapshots[1:2]) {
		t.Errorf("of one group: %v", got)
	}
}

// TestGroupRefusals: what is wrong with a request about groups is said in
// Cinder's words.
func TestGroupRefusals(t *testing.T) {
	f := newFixture(t)
	id := f.group("g")
	path := "groups/" + id
	long := strings.Repeat("x", 256)
	for _, tt := range []struct {
		method, path, body string
		code               int
		message            string
	}{
		{"POST", "groups", `{}`, 400, "'group' is a required property"},
		{"POST", "groups", `{"group":{"volume_types":["a"]}}`, 400, "Invalid input for field/attribute group. Value: " +
			"{'volume_types': ['a']}. 'group_type' is a required property"},
		{"POST", "groups", `{"group":{"group_type":"g","volume_types":[]}}`, 400,
			"Invalid input for field/attribute volume_types. Value: []. [] is too short"},
		{"POST", "groups", `{"group":{"group_type":"g","volume_types":["a","a"]}}`, 400,
			"Invalid input for field/attribute volume_types. Value: ['a', 'a']. ['a', 'a'] has non-unique elements"},
		{"POST", "groups", `{"group":{"group_type":"g","volume_types":[1]}}`, 400,
			"Invalid input for field/attribute 0. Value: 1. 1 is not of type 'string'"},
		{"POST", "groups", `{"group":{"group_type":"g","volume_types":["a"],"nope":1}}`, 400, ""},
		{"POST", "groups", `{"group":{"group_type":"g","volume_types":["a"],"name":"` + long + `"}}`, 400, ""},
		{"POST", "groups", `{"group":{"group_type":"zz","volume_types":["General HDD"]}}`, 404,
			"Group type with name zz could not be found."},
		{"POST", "groups", `{"group":{"group_type":"` + noSuchID + `","volume_types":["General HDD"]}}`, 404,
			"Group type " + noSuchID + " could not be found."},
		{"POST", "groups", `{"group":{"group_type":"g","volume_types":["` + noSuchID + `"]}}`, 404,
			"Volume type " + noSuchID + " could not be found."},
		{"POST", "groups", `{"group":{"group_type":"g","volume_types":["General HDD"],"availability_zone":"mars"}}`, 400,
			"Invalid input received: Availability zone 'mars' is invalid."},
		{"POST", "groups", `{"group":{"group_type":"` + string(block.LegacyGroupType) + `","volume_types":["General HDD"]}}`,
			400, "Group_type " + string(block.LegacyGroupType) + " is reserved for migrating CGs to groups. " +
				"Migrated group can only be operated by CG APIs."},
		{"PUT", path, `{"group":{}}`, 400, "Invalid input for field/attribute group. Value: {}. " +
			"{} is not valid under any of the given schemas"},
		{"PUT", path, `{"group":{"name":"g"}}`, 400, "Invalid Group: Cannot update group " + id +
			" because no valid name, description, add_volumes, or remove_volumes were provided."},
		{"PUT", path, `{"group":{"add_volumes":"` + noSuchID + `"}}`, 400, "Invalid volume: Cannot add volume " + noSuchID +
			" to group " + id + " because volume cannot be found."},
		{"PUT", "groups/" + noSuchID, `{"group":{"name":"x"}}`, 404, "Group " + noSuchID + " could not be found."},
		{"POST", path + "/action", `{"reset_status":{"status":"nope"}}`, 400, "Invalid Group Status: Group status: nope is " +
			"invalid, valid status are: ('error', 'available', 'creating', 'deleting', 'deleted', 'updating', 'in-use', " +
			"'error_deleting')."},
		{"POST", path + "/action", `{"reset_status":{}}`, 400, "Invalid input for field/attribute reset_status. Value: {}. " +
			"'status' is a required property"},
		{"POST", path + "/action", `{"delete":{"delete-volumes":"perhaps"}}`, 400, ""},
		{"POST", path + "/action", `{"nope":{}}`, 400, "There is no such action: nope. " +
			"Verify the request body and Content-Type header and try again."},
		{"POST", path + "/action", `{"enable_replication":{}}`, 400,
			"Invalid group type: Group " + id + " is not a replication group type."},
		{"POST", path + "/action", `{"list_replication_targets":{}}`, 400,
			"Invalid group type: Group " + id + " is not a replication group type."},
		{"POST", "groups/action", `{"create-from-src":{"source_group_id":"` + id + `"}}`, 400,
			"Invalid Group: Source Group is empty. No group will be created."},
		{"POST", "groups/action", `{"create-from-src":{"group_snapshot_id":"` + noSuchID + `"}}`, 404,
			"GroupSnapshot " + noSuchID + " could not be found."},
		{"POST", "groups/action", `{"create-from-src":{"name":"x"}}`, 400, "Invalid input for field/attribute " +
			"create-from-src. Value: {'name': 'x'}. {'name': 'x'} is not valid under any of the given schemas"},
		{"POST", "group_snapshots", `{"group_snapshot":{"group_id":"x"}}`, 400,
			"Invalid input for field/attribute group_id. Value: x. 'x' is not a 'uuid'"},
		{"POST", "group_snapshots", `{"group_snapshot":{"group_id":"` + noSuchID + `"}}`, 404,
			"Group " + noSuchID + " could not be found."},
		{"DELETE", "group_snapshots/" + noSuchID, "", 404, "GroupSnapshot " + noSuchID + " could not be found."},
		{"POST", "volumes", `{"volume":{"size":1,"group_id":"` + id + `","volume_type":"Private"}}`, 400,
			"Invalid input received: Invalid volume_type provided: 99999999-9999-4999-8999-999999999999 " +
				"(requested type must be supported by this group)."},
		{"POST", "volumes", `{"volume":{"size":1,"group_id":"` + id + `"}}`, 400,
			"Invalid input received: volume_type must be provided when creating a volume in a group."},
	} {
		token := "member"
		if strings.Contains(tt.body, "reset_status") || strings.Contains(tt.body, "Private") {
			token = "admin"
		}
		if token == "admin" && strings.HasPrefix(tt.path, "volumes") {
			continue // the group is of another project than the administrator's own
		}
		a := f.wantAt(newestMinor(), token, tt.code, tt.method, tt.path, tt.body)
		if tt.message != "" {
			a.wantMessage(t, tt.method+" "+tt.path+" "+tt.body, tt.message)
		}
	}
}

// TestGroupActions: which actions there are in which microversion, and what
// they do.
func TestGroupActions(t *testing.T) {
	f := newFixture(t)
	f.runJobs()
	id := f.group("g")
	volume := f.inGroup(id)
	action := "groups/" + id + "/action"
	for body, since := range map[string]int{`{"reset_status":{"status":"available"}}`: 20,
		`{"enable_replication":{}}`: 38, `{"disable_replication":{}}`: 38, `{"failover_replication":{}}`: 38,
		`{"list_replication_targets":{}}`: 38} {
		if a := f.at(since-1, "admin", "POST", action, body); a.code != 404 {
			t.Errorf("3.%d %s: %d %s", since-1, body, a.code, a.body)
		}
		if a := f.at(since, "admin", "POST", action, body); a.code == 404 {
			t.Errorf("3.%d %s: %d %s", since, body, a.code, a.body)
		}
	}
	f.wantAt(20, "member", 403, "POST", action, `{"reset_status":{"status":"error"}}`)
	f.wantAt(20, "admin", 202, "POST", action, `{"reset_status":{"status":"ERROR"}}`)
	f.settled("groups/"+id, "group.status", "error")
	f.wantAt(20, "admin", 202, "POST", action, `{"reset_status":{"status":"available"}}`)

	f.wantAt(13, "member", 202, "PUT", "groups/"+id, `{"group":{"remove_volumes":"`+volume+`,","name":" new "}}`)
	f.wantAt(13, "member", 202, "PUT", "groups/"+id, `{"group":{"add_volumes":",`+volume+`","description":null}}`)
	a := f.wantAt(25, "member", 200, "GET", "groups/"+id+"?list_volume=1", "")
	if a.text(t, "group.name") != "new" || !strings.Contains(string(a.body), volume) {
		t.Errorf("changed to %s", a.body)
	}
	gs := f.wantAt(14, "member", 202, "POST", "group_snapshots", `{"group_snapshot":{"group_id":"`+id+`"}}`).
		text(t, "group_snapshot.id")
	f.settled("group_snapshots/"+gs, "group_snapshot.status", "available")
	for _, since := range []int{18, 19} {
		f.wantAt(since, "admin", map[int]int{18: 404, 19: 202}[since], "POST", "group_snapshots/"+gs+"/action",
			`{"reset_status":{"status":"error"}}`)
	}
	f.wantAt(19, "member", 403, "POST", "group_snapshots/"+gs+"/action", `{"reset_status":{"status":"error"}}`)
	f.wantAt(19, "admin", 202, "POST", "group_snapshots/"+gs+"/action", `{"reset_status":{"status":"available"}}`)

	f.wantAt(13, "member", 404, "POST", "groups/action", `{"create-from-src":{"group_snapshot_id":"`+gs+`"}}`)
	for source, member := range map[string]string{"group_snapshot_id": gs, "source_group_id": id} {
		a := f.wantAt(14, "member", 202, "POST", "groups/action",
			`{"create-from-src":{"name":"made","`+source+`":"`+member+`"}}`)
		wantKeys(t, a.keys(t, "group"), "id name")
		made := a.text(t, "group.id")
		f.settled("groups/"+made, "group.status", "available")
		a = f.wantAt(25, "member", 200, "GET", "groups/"+made+"?list_volume=1", "")
		if volumes, _ := a.get(t, "group.volumes").([]any); a.text(t, "group."+source) != member || len(volumes) != 1 {
			t.Errorf("made of %s: %s", source, a.body)
		}
		f.wantAt(13, "member", 202, "POST", "groups/"+made+"/action", `{"delete":{"delete-volumes":true}}`)
		f.gone("groups/" + made)
	}
	f.wantAt(13, "member", 400, "POST", action, `{"delete":{}}`)
	f.wantAt(14, "member", 202, "DELETE", "group_snapshots/"+gs, "")
	f.gone("group_snapshots/" + gs)
	f.wantAt(13, "member", 202, "POST", action, `{"delete":{"delete-volumes":"True"}}`)
	f.gone("groups/" + id)
	f.gone("volumes/" + volume)
}

// TestFrozenGroups: on a frozen backend no group is deleted, copied or named an
// instant of, and no group snapshot deleted.
func TestFrozenGroups(t *testing.T) {
	f := newFixture(t)
	f.runJobs()
	id := f.group("g")
	f.inGroup(id)
	gs := f.wantAt(14, "member", 202, "POST", "group_snapshots", `{"group_snapshot":{"group_id":"`+id+`"}}`).
		text(t, "group_snapshot.id")
	f.settled("group_snapshots/"+gs, "group_snapshot.status", "available")
	requests := []struct{ method, path, body string }{
		{"POST", "groups/action", `{"create-from-src":{"source_group_id":"` + id + `"}}`},
		{"POST", "groups/action", `{"create-from-src":{"group_snapshot_id":"` + gs + `"}}`},
		{"POST", "group_snapshots", `{"group_snapshot":{"group_id":"` + id + `"}}`},
		{"POST", "groups/" + id + "/action", `{"delete":{"delete-volumes":true}}`},
		{"DELETE", "group_snapshots/" + gs, ""},
	}
	f.wantAt(0, "admin", 200, "PUT", "os-services/freeze", `{"host":"kvol@hdd_general"}`)
	for _, r := range requests {
		f.wantAt(14, "member", 400, r.method, r.path, r.body).wantMessage(t, r.path,
			"Invalid input received: Modification operations are not allowed on frozen storage backends.")
	}
	f.wantAt(0, "admin", 200, "PUT", "os-services/thaw", `{"host":"kvol@hdd_general"}`)
	f.wantAt(14, "member", 202, "DELETE", "group_snapshots/"+gs, "")
	f.gone("group_snapshots/" + gs)
	f.wantAt(13, "member", 202, "POST", "groups/"+id+"/action", `{"delete":{"delete-volumes":true}}`)
	f.gone("groups/" + id)
}

// TestLegacyGroups: the older API makes groups of a type of its own, which it
// alone changes, and shows those of the newer one too.
func TestLegacyGroups(t *testing.T) {
	f := newFixture(t)
	f.runJobs()
	newer := f.group("newer")
	a := f.want(202, "POST", "consistencygroups", `{"consistencygroup":{"name":"older","volume_types":"General HDD"}}`)
	wantKeys(t, a.keys(t, "consistencygroup"), "id name")
	id := a.text(t, "consistencygroup.id")
	a = f.wantAt(0, "member", 200, "GET", "consistencygroups/"+id, "")
	wantKeys(t, a.keys(t, "consistencygroup"), "id status availability_zone created_at name description volume_types")
	names, _ := f.want(200, "GET", "consistencygroups/detail?sort=name:asc", "").inOrder(t, "consistencygroups", "name")
	if !slices.Equal(names, []string{"newer", "older"}) {
		t.Errorf("the older API lists %v", names)
	}
	if names, _ = f.wantAt(13, "member", 200, "GET", "groups", "").inOrder(t, "groups", "name"); len(names) != 1 {
		t.Errorf("the newer API lists %v", names)
	}
	f.wantAt(13, "member", 400, "GET", "groups/"+id, "")
	volume := f.volume(`{"volume":{"size":1,"volume_type":"General HDD"}}`)
	f.want(202, "PUT", "consistencygroups/"+id, `{"consistencygroup":{"description":"d"}}`)
	f.want(202, "PUT", "consistencygroups/"+id+"/update", `{"consistencygroup":{"name":"o","add_volumes":"`+volume+`"}}`)
	if got := f.want(200, "GET", "volumes/"+volume, "").text(t, "volume.consistencygroup_id"); got != id {
		t.Errorf("the volume is in %s", got)
	}
	a = f.want(202, "POST", "cgsnapshots", `{"cgsnapshot":{"consistencygroup_id":"`+id+`","name":"s"}}`)
	wantKeys(t, a.keys(t, "cgsnapshot"), "id name")
	snapshot := a.text(t, "cgsnapshot.id")
	f.status("cgsnapshots/"+snapshot, "cgsnapshot.status", "available")
	a = f.want(200, "GET", "cgsnapshots/"+snapshot, "")
	wantKeys(t, a.keys(t, "cgsnapshot"), "id consistencygroup_id status created_at name description")
	for _, path := range []string{"cgsnapshots", "cgsnapshots/detail"} {
		if got, _ := f.want(200, "GET", path, "").inOrder(t, "cgsnapshots", "id"); !slices.Equal(got, []string{snapshot}) {
			t.Errorf("%s: %v", path, got)
		}
	}
	f.wantAt(14, "member", 400, "GET", "group_snapshots/"+snapshot, "")
	for member, source := range map[string]string{"cgsnapshot_id": snapshot, "source_cgid": id} {
		made := f.want(202, "POST", "consistencygroups/create_from_src",
			`{"consistencygroup-from-src":{"name":"made","`+member+`":"`+source+`"}}`).text(t, "consistencygroup.id")
		f.status("consistencygroups/"+made, "consistencygroup.status", "available")
		f.want(202, "POST", "consistencygroups/"+made+"/delete", `{"consistencygroup":{"force":true}}`)
		f.gone("consistencygroups/" + made)
	}
	f.want(400, "POST", "consistencygroups/"+id+"/delete", "")
	f.want(202, "DELETE", "cgsnapshots/"+snapshot, "")
	f.gone("cgsnapshots/" + snapshot)
	f.want(202, "POST", "consistencygroups/"+id+"/delete", `{"consistencygroup":{"force":true}}`)
	f.gone("consistencygroups/" + id)
	f.wantAt(13, "member", 202, "POST", "groups/"+newer+"/action", `{"delete":{}}`)
	f.gone("groups/" + newer)
	legacyRefusals(t, f)
}

func legacyRefusals(t *testing.T, f *fixture) {
	for _, tt := range []struct {
		path, body string
		code       int
		message    string
	}{
		{"consistencygroups", `{"consistencygroup":{"name":"n"}}`, 400,
			"volume_types must be provided to create consistency group n."},
		{"consistencygroups/create_from_src", `{"consistencygroup-from-src":{"name":"n"}}`, 400,
			"Either 'cgsnapshot_id' or 'source_cgid' must be provided to create consistency group n from source."},
		{"consistencygroups/create_from_src",
			`{"consistencygroup-from-src":{"name":"n","cgsnapshot_id":"a","source_cgid":"b"}}`, 400,
			"Cannot provide both 'cgsnapshot_id' and 'source_cgid' to create consistency group n from source."},
		{"consistencygroups/create_from_src", `{"consistencygroup-from-src":{"source_cgid":"` + noSuchID + `"}}`, 404,
			"Group " + noSuchID + " could not be found."},
		{"consistencygroups/" + noSuchID + "/delete", ``, 404, "Group " + noSuchID + " could not be found."},
		{"cgsnapshots", `{"cgsnapshot":{"consistencygroup_id":"` + noSuchID + `"}}`, 404,
			"Group " + noSuchID + " could not be found."},
	} {
		f.want(tt.code, "POST", tt.path, tt.body).wantMessage(t, tt.path+" "+tt.body, tt.message)
	}
	var body map[string]json.RawMessage
	f.must(json.Unmarshal(f.want(200, "GET", "consistencygroups", "").body, &body))
	if string(body["consistencygroups"]) != "[]" {
		t.Errorf("left: %s", body["consistencygroups"])
	}
}
