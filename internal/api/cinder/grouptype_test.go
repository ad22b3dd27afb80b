package cinder_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
)

// inOrder reads a member of all items of a list, and the address of the next page.
func (a answer) inOrder(t testing.TB, list, member string) (values []string, next string) {
	t.Helper()
	var body map[string][]map[string]any
	if err := json.Unmarshal(a.body, &body); err != nil {
		t.Fatalf("%s: %v", a.body, err)
	}
	for _, item := range body[list] {
		text, _ := item[member].(string)
		values = append(values, text)
	}
	for name, links := range body {
		if strings.HasSuffix(name, "_links") && len(links) == 1 {
			next, _ = links[0]["href"].(string)
		}
	}
	return values, next
}

// wantMessage checks the sentence of an error.
func (a answer) wantMessage(t testing.TB, about, want string) {
	t.Helper()
	var fault map[string]struct{ Message string }
	if err := json.Unmarshal(a.body, &fault); err != nil {
		t.Errorf("%s: %s: %v", about, a.body, err)
	}
	for _, f := range fault {
		if f.Message != want {
			t.Errorf("%s says %q, want %q", about, f.Message, want)
		}
	}
}

// groupType makes a type of groups and returns its id.
func (f *fixture) groupType(name string, more string) string {
	f.Helper()
	return f.wantAt(11, "admin", 202, "POST", "group_types", `{"group_type":{"name":"`+name+`"`+more+`}}`).
		text(f, "group_type.id")
}

// TestGroupTypeKeys: types of groups came with 3.11; what they are made of is
// for administrators.
func TestGroupTypeKeys(t *testing.T) {
	f := newFixture(t)
	const body = `{"group_type":{"name":" g ","description":" d ","group_specs":{"k":"v"},"is_public":"yes"}}`
	f.wantAt(10, "admin", 404, "POST", "group_types", body)
	f.wantAs("admin", 404, "POST", "group_types", body)
	f.wantAt(11, "member", 403, "POST", "group_types", body)
	a := f.wantAt(11, "admin", 202, "POST", "group_types", body)
	wantKeys(t, a.keys(t, "group_type"), "id name description is_public group_specs")
	id := a.text(t, "group_type.id")
	for token, keys := range map[string]string{"admin": "id name description is_public group_specs",
		"member": "id name description is_public", "reader": "id name description is_public"} {
		a := f.wantAt(newestMinor(), token, 200, "GET", "group_types/"+id, "")
		wantKeys(t, a.keys(t, "group_type"), keys)
		if a.get(t, "group_type.is_public") != true || a.text(t, "group_type.description") != "d" {
			t.Errorf("%s", a.body)
		}
	}
	a = f.wantAt(11, "admin", 200, "PUT", "group_types/"+id, `{"group_type":{"name":"h","is_public":false}}`)
	if a.text(t, "group_type.name") != "h" || a.text(t, "group_type.description") != "d" {
		t.Errorf("changed to %s", a.body)
	}
	f.wantAt(11, "member", 404, "GET", "group_types/"+id, "")
	f.wantAt(11, "admin", 404, "GET", "group_types/h", "") // by id alone
	f.wantAt(11, "member", 403, "PUT", "group_types/"+id, `{"group_type":{"name":"i"}}`)
	f.wantAt(11, "member", 403, "DELETE", "group_types/"+id, "")
	f.wantAt(11, "admin", 202, "DELETE", "group_types/"+id, "")
	f.wantAt(11, "admin", 404, "DELETE", "group_types/"+id, "")
}

// TestGroupTypeLists: administrators choose whether they see private types.
func TestGroupTypeLists(t *testing.T) {
	f := newFixture(t)
	var ids []string
	for _, name := range []string{"a", "b", "c"} {
		ids = append(ids, f.groupType(name, ""))
	}
	f.groupType("p", `,"is_public":false`)
	for query, want := range map[string]string{
		"member ":                                "a b c",
		"member ?is_public=None":                 "a b c",
		"member ?is_public=false":                "a b c",
		"admin ?is_public=false":                 "p",
		"admin ?is_public=None":                  "a b c p",
		"member ?sort=name:desc":                 "c b a",
		"member ?sort=name:asc&limit=2":          "a b",
		"member ?limit=0":                        "",
		"member ?sort=name&offset=2&limit=1":     "b",
		"member ?sort=name:asc&marker=" + ids[0]: "b c",
	} {
		token, query, _ := strings.Cut(query, " ")
		got, next := f.wantAt(11, token, 200, "GET", "group_types"+query, "").inOrder(t, "group_types", "name")
		if !strings.Contains(query, "sort") {
			slices.Sort(got)
		}
		got = slices.DeleteFunc(got, func(name string) bool { return len(name) > 1 }) // the older API's
		if strings.Join(got, " ") != want || strings.Contains(query, "limit=2") != (next != "") &&
			!strings.Contains(query, "limit=1") {
			t.Errorf("%s %s: %v, next %q", token, query, got, next)
		}
	}
	for query, want := range map[string]string{
		"?is_public=zz": "Invalid is_public filter [zz]",
		"?sort=salt":    "Invalid input received: Invalid sort key",
		"?limit=-1":     "limit param must be positive",
		"?limit=x":      "limit param must be an integer",
		"?offset=x":     "offset must be an integer",
		"?sort=name:up": "Invalid input received: Unknown sort direction, must be 'desc' or 'asc'.",
		"?sort=name&sort_dir=": "The 'sort_key' and 'sort_dir' parameters are deprecated and cannot be used with " +
			"the 'sort' parameter.",
	} {
		f.wantAt(11, "admin", 400, "GET", "group_types"+query, "").wantMessage(t, query, want)
	}
}

// TestGroupTypeRefusals: what is wrong with a request is said in Cinder's words.
func TestGroupTypeRefusals(t *testing.T) {
	f := newFixture(t)
	id := f.groupType("g", `,"group_specs":{"k":"v"}`)
	f.groupType("taken", "")
	f.wantAt(13, "member", 202, "POST", "groups", `{"group":{"group_type":"g","volume_types":["General HDD"]}}`)
	path := "group_types/" + id
	long := strings.Repeat("x", 256)
	for _, tt := range []struct {
		method, path, body string
		code               int
		message            string
	}{
		{"POST", "group_types", `{}`, 400, "'group_type' is a required property"},
		{"POST", "group_types", `{"group_type":{}}`, 400,
			"Invalid input for field/attribute group_type. Value: {}. 'name' is a required property"},
		{"POST", "group_types", `{"group_type":{"name":""}}`, 400,
			"Invalid input for field/attribute name. Value: . '' is too short"},
		{"POST", "group_types", `{"group_type":{"name":"` + long + `"}}`, 400,
			"Invalid input for field/attribute name. Value: " + long + ". '" + long + "' is too long"},
		{"POST", "group_types", `{"group_type":{"name":"n","is_public":"maybe"}}`, 400, ""},
		{"POST", "group_types", `{"group_type":{"name":"n","nope":1}}`, 400,
			"Invalid input for field/attribute group_type. Value: {'name': 'n', 'nope': 1}. " +
				"Additional properties are not allowed ('nope' was unexpected)"},
		{"POST", "group_types", `{"group_type":{"name":"n","group_specs":{"k":1}}}`, 400,
			"Invalid input for field/attribute k. Value: 1. 1 is not of type 'string'"},
		{"POST", "group_types", `{"group_type":{"name":"taken"}}`, 409, "Group Type taken already exists."},
		{"PUT", path, `{"group_type":{"name":"taken"}}`, 409, "Group Type taken already exists."},
		{"PUT", path, `{"group_type":{"name":"  "}}`, 400, "Group type name can not be empty."},
		{"PUT", path, `{"group_type":{}}`, 400,
			"Specify group type name, description or a combination thereof."},
		{"PUT", "group_types/" + noSuchID, `{"group_type":{"name":"n"}}`, 404,
			"Group type " + noSuchID + " could not be found."},
		{"GET", "group_types/default", "", 404, "Default group type can not be found."},
		{"GET", "group_types/" + noSuchID, "", 404, "Group type " + noSuchID + " could not be found."},
		{"DELETE", path, "", 400, "Target group type is still in use. Group Type " + id +
			" deletion is not allowed with groups present with the type."},
		{"GET", path + "/group_specs/zz", "", 404, "Group Type " + id + " has no extra spec with key zz."},
		{"DELETE", path + "/group_specs/zz", "", 404, "Group Type " + id + " has no specs with key zz."},
		{"GET", "group_types/" + noSuchID + "/group_specs", "", 404, "Group type " + noSuchID + " could not be found."},
		{"POST", "group_types/" + noSuchID + "/group_specs", `{"group_specs":{"a":"b"}}`, 404,
			"Group type " + noSuchID + " could not be found."},
		{"PUT", path + "/group_specs/k", `{"l":"v"}`, 400, "Request body and URI mismatch"},
		{"PUT", path + "/group_specs/k", `{"k":"v","l":"v"}`, 400, "{'k': 'v', 'l': 'v'} has too many properties"},
		{"POST", path + "/group_specs", `{"group_specs":{"a b":"c"}}`, 400, ""},
		{"POST", path + "/group_specs", `{}`, 400, "'group_specs' is a required property"},
	} {
		a := f.wantAt(11, "admin", tt.code, tt.method, tt.path, tt.body)
		if tt.message != "" {
			a.wantMessage(t, tt.method+" "+tt.path+" "+tt.body, tt.message)
		}
	}
}

// TestGroupSpecs: what a type of groups is made of, item by item.
func TestGroupSpecs(t *testing.T) {
	f := newFixture(t)
	path := "group_types/" + f.groupType("g", "") + "/group_specs"
	f.wantAt(10, "admin", 404, "GET", path, "")
	if a := f.wantAt(11, "admin", 200, "GET", path, ""); string(a.body) != `{"group_specs":{}}` {
		t.Errorf("%s", a.body)
	}
	a := f.wantAt(11, "admin", 202, "POST", path, `{"group_specs":{"a":"1","b":"2"}}`)
	wantKeys(t, a.keys(t, "group_specs"), "a b")
	if a := f.wantAt(11, "admin", 200, "PUT", path+"/a", `{"a":"3"}`); string(a.body) != `{"a":"3"}` {
		t.Errorf("%s", a.body)
	}
	if a := f.wantAt(11, "admin", 200, "GET", path+"/a", ""); string(a.body) != `{"a":"3"}` {
		t.Errorf("%s", a.body)
	}
	f.wantAt(11, "admin", 202, "DELETE", path+"/a", "")
	wantKeys(t, f.wantAt(11, "admin", 200, "GET", path, "").keys(t, "group_specs"), "b")
	for method, at := range map[string]string{"GET": path, "POST": path, "PUT": path + "/b", "DELETE": path + "/b"} {
		body := map[string]string{"POST": `{"group_specs":{"c":"d"}}`, "PUT": `{"b":"d"}`}[method]
		f.wantAt(11, "member", 403, method, at, body)
	}
	f.wantAt(11, "member", 403, "GET", path+"/b", "")
}
