package cinder_test

import (
	"strings"
	"testing"

	"github.com/gophercloud/gophercloud/v2/openstack/blockstorage/v3/qos"
	"github.com/gophercloud/gophercloud/v2/openstack/blockstorage/v3/quotasets"
	"github.com/gophercloud/gophercloud/v2/openstack/blockstorage/v3/volumetypes"
)

// TestTypeRefusals: what is wrong with a request is said in Cinder's words.
func TestTypeRefusals(t *testing.T) {
	f := newFixture(t)
	made := f.wantAs("admin", 200, "POST", "types", `{"volume_type":{"name":"mine","extra_specs":{"k":"v"}}}`)
	id := made.text(t, "volume_type.id")
	q := f.wantAs("admin", 200, "POST", "qos-specs", `{"qos_specs":{"name":" q ","a":"1"}}`)
	if q.text(t, "qos_specs.name") != "q" || q.text(t, "qos_specs.consumer") != "back-end" {
		t.Errorf("QoS specs %s", q.body)
	}
	specs, types := "qos-specs/"+q.text(t, "qos_specs.id"), "types/"+id
	long := strings.Repeat("x", 256)
	for _, tt := range []struct {
		method, path, body string
		code               int
		message            string
	}{
		{"POST", "types", `{"volume_type":{"name":"  "}}`, 400,
			"An invalid 'name' value was provided. The 'name' can not be empty."},
		{"POST", "types", `{"volume_type":{"name":"n","extra_specs":{"k":1}}}`, 400,
			"Invalid input for field/attribute k. Value: 1. 1 is not of type 'string', 'null'"},
		{"PUT", types, `{"volume_type":{"name":" "}}`, 400, "Volume type name can not be empty."},
		{"PUT", types, `{"volume_type":{"name":"Private"}}`, 409, "Volume Type Private already exists."},
		{"PUT", "types/" + noSuchID, `{"volume_type":{"name":"n"}}`, 404, "Volume type " + noSuchID + " could not be found."},
		{"PUT", types + "/extra_specs/k", `{"x":"y"}`, 400, "Request body and URI mismatch"},
		{"PUT", types + "/extra_specs/k", `{"k":"y","l":"z"}`, 400, "{'k': 'y', 'l': 'z'} has too many properties"},
		{"DELETE", types + "/extra_specs/zz", ``, 404, "Volume Type " + id + " has no extra specs with key zz."},
		{"POST", types + "/action", `{"addProjectAccess":{"project":"p"}}`, 400,
			"Invalid volume type: Type access modification is not applicable to public volume type."},
		{"POST", types + "/encryption", `{"encryption":{"provider":"p","control_location":"zz"}}`, 400,
			"Invalid input for field/attribute control_location. Value: zz. 'zz' is not one of ['front-end', 'back-end']"},
		{"POST", types + "/encryption", `{"encryption":{"provider":"p","control_location":"back-end","key_size":"a"}}`, 400,
			"Invalid input received: key_size must be an integer."},
		{"POST", types + "/encryption", `{"encryption":{"provider":"p","control_location":"back-end","key_size":-1}}`, 400,
			"Invalid input for field/attribute key_size. Value: -1. -1 is less than the minimum of 0"},
		{"GET", types + "/encryption/cipher", ``, 404, "Volume type encryption for type " + id + " does not exist."},
		{"PUT", types + "/encryption/x", `{"encryption":{"cipher":"c"}}`, 404,
			"Volume type encryption for type " + id + " does not exist."},
		{"POST", "qos-specs", `{"qos_specs":{"name":"q"}}`, 409, "QoS Specs q already exists."},
		{"POST", "qos-specs", `{"qos_specs":{"name":" "}}`, 400,
			"An invalid 'name' value was provided. The 'name' can not be empty."},
		{"POST", "qos-specs", `{"qos_specs":{"name":"r","consumer":"me"}}`, 400,
			"Invalid qos specs: Valid consumer of QoS specs are: ['front-end', 'back-end', 'both']"},
		{"POST", "qos-specs", `{"qos_specs":{"name":"r","a":1}}`, 400,
			`Invalid input received: Value for key "a" is not a string or unicode`},
		{"POST", "qos-specs", `{"qos_specs":{"name":"r","a":"` + long + `"}}`, 400,
			`Invalid input received: Value for key "a" has 256 characters, more than 255.`},
		{"PUT", specs + "/delete_keys", `{"keys":["a","a"]}`, 400,
			"Invalid input for field/attribute keys. Value: ['a', 'a']. ['a', 'a'] has non-unique elements"},
		{"PUT", specs + "/delete_keys", `{"keys":["a","b"]}`, 404,
			"QoS spec " + q.text(t, "qos_specs.id") + " has no spec with key b."},
		{"GET", specs + "/associate", ``, 400, "Volume Type id must not be None."},
		{"GET", "qos-specs/nope", ``, 404, "No such QoS spec nope."},
		{"PUT", "os-quota-class-sets/default", `{"quota_class_set":{"zz":1}}`, 400,
			"Invalid input received: Bad key(s) in quota class set: zz"},
		{"PUT", "os-quota-class-sets/default", `{"quota_class_set":{"volumes":-2}}`, 400,
			"Invalid input for field/attribute volumes. Value: -2. -2 is less than the minimum of -1"},
		{"PUT", "os-quota-class-sets/" + long, `{"quota_class_set":{"volumes":1}}`, 400,
			"quota_class_name has 256 characters, more than 255."},
	} {
		f.wantFault(t, f.do(tt.method, tt.path, "admin", tt.body), tt.code, tt.message)
	}
	if a := f.wantAs("admin", 200, "GET", specs, ""); strings.Contains(string(a.body), `"a"`) {
		t.Errorf("the key before the missing one is still there: %s", a.body)
	}
}

// TestSpecFilter: types are found by extra specs from 3.52 on, by those that the
// caller sees; what nobody may filter by is refused from there.
func TestSpecFilter(t *testing.T) {
	f := newFixture(t)
	f.wantAs("admin", 200, "POST", "types",
		`{"volume_type":{"name":"m","extra_specs":{"multiattach":"<is> True","volume_backend_name":"ssd_general"}}}`)
	const open, hidden = "extra_specs=%7B%27multiattach%27:%27%3Cis%3E%20True%27%7D",
		"extra_specs=%7B%27volume_backend_name%27:%27ssd_general%27%7D"
	for _, tt := range []struct {
		token, version, query string
		want                  int // -1: refused
	}{
		{"member", "3.52", open, 1}, {"member", "3.52", hidden, 0}, {"admin", "3.52", hidden, 2},
		{"member", "3.51", open, 3}, {"member", "3.51", "zz=1", 3}, {"member", "3.52", "zz=1", -1},
		{"admin", "3.52", "name=m", 1}, {"member", "3.52", "is_public=None", 3},
	} {
		a := f.do("GET", "/v3/"+project+"/types?"+tt.query, tt.token, "", "OpenStack-API-Version", "volume "+tt.version)
		if tt.want < 0 {
			f.wantFault(t, a, 400, "Invalid filters zz are found in query options.")
			continue
		}
		if list, _ := a.get(t, "volume_types").([]any); len(list) != tt.want {
			t.Errorf("%s at %s by %s lists %s, want %d", tt.token, tt.version, tt.query, a.body, tt.want)
		}
	}
}

// TestDefaultTypes: a project's own default comes before the zone's, and can't
// be deleted meanwhile.
func TestDefaultTypes(t *testing.T) {
	f := newFixture(t)
	v3 := func(code int, method, path, token, body string) answer {
		t.Helper()
		a := f.do(method, "/v3/default-types"+path, token, body, "OpenStack-API-Version", "volume 3.62")
		if a.code != code {
			t.Fatalf("%s %s = %d %s, want %d", method, path, a.code, a.body, code)
		}
		return a
	}
	id := f.wantAs("admin", 200, "POST", "types", `{"volume_type":{"name":"own"}}`).text(t, "volume_type.id")
	f.wantFault(t, v3(404, "GET", "/"+project, "admin", ""), 404, "Default type for project "+project+" not found.")
	f.wantFault(t, v3(403, "GET", "", "member", ""), 403, "You are not authorized to perform this operation.")
	f.wantFault(t, v3(400, "PUT", "/"+project, "admin", `{"default_type":{"volume_type":"zz"}}`), 400,
		"Volume type with name zz could not be found.")
	set := v3(200, "PUT", "/"+project, "admin", `{"default_type":{"volume_type":"own"}}`)
	f.same(set, `{"default_type":{"project_id":"`+project+`","volume_type_id":"`+id+`"}}`)
	f.same(v3(200, "GET", "", "admin", ""),
		`{"default_types":[{"project_id":"`+project+`","volume_type_id":"`+id+`"}]}`)
	if name := f.want(200, "GET", "types/default", "").text(t, "volume_type.name"); name != "own" {
		t.Errorf("the default is %s", name)
	}
	if name := f.wantAs("other", 200, "GET", "types/default", "").text(t, "volume_type.name"); name != "General HDD" {
		t.Errorf("another project's default is %s", name)
	}
	f.wantFault(t, f.do("DELETE", "types/"+id, "admin", ""), 400,
		"The volume type "+id+" is a default volume type and cannot be deleted.")
	v3(204, "DELETE", "/"+project, "admin", "")
	f.wantAs("admin", 202, "DELETE", "types/"+id, "")
	old := f.do("GET", "/v3/default-types", "admin", "", "OpenStack-API-Version", "volume 3.61")
	if old.code != 404 {
		t.Errorf("default types before 3.62: %d", old.code)
	}
}

// TestGophercloud3Types has an unmodified gophercloud manage types, QoS specs
// and quotas.
func TestGophercloud3Types(t *testing.T) {
	f := newClientFixture(t)
	ctx, c, no := t.Context(), f.client3("admin", ""), false
	vt, err := volumetypes.Create(ctx, c, volumetypes.CreateOpts{Name: "g", Description: "d", IsPublic: &no,
		ExtraSpecs: map[string]string{"volume_backend_name": "ssd_general"}}).Extract()
	f.must(err)
	if vt.IsPublic || vt.PublicAccess || vt.ExtraSpecs["volume_backend_name"] != "ssd_general" {
		t.Errorf("made %+v", vt)
	}
	name := "h"
	vt, err = volumetypes.Update(ctx, c, vt.ID, volumetypes.UpdateOpts{Name: &name}).Extract()
	f.must(err)
	_, err = volumetypes.CreateExtraSpecs(ctx, c, vt.ID, volumetypes.ExtraSpecsOpts{"a": "b"}).Extract()
	f.must(err)
	_, err = volumetypes.UpdateExtraSpec(ctx, c, vt.ID, volumetypes.ExtraSpecsOpts{"a": "c"}).Extract()
	f.must(err)
	specs, err := volumetypes.ListExtraSpecs(ctx, c, vt.ID).Extract()
	f.must(err)
	if vt.Name != "h" || specs["a"] != "c" || specs["volume_backend_name"] != "ssd_general" {
		t.Errorf("changed %+v %v", vt, specs)
	}
	f.must(volumetypes.DeleteExtraSpec(ctx, c, vt.ID, "a").ExtractErr())
	f.must(volumetypes.AddAccess(ctx, c, vt.ID, volumetypes.AddAccessOpts{Project: other}).ExtractErr())
	pages, err := volumetypes.ListAccesses(c, vt.ID).AllPages(ctx)
	f.must(err)
	access, err := volumetypes.ExtractAccesses(pages)
	f.must(err)
	if len(access) != 1 || access[0].ProjectID != other {
		t.Errorf("access %+v", access)
	}
	f.must(volumetypes.RemoveAccess(ctx, c, vt.ID, volumetypes.RemoveAccessOpts{Project: other}).ExtractErr())
	e, err := volumetypes.CreateEncryption(ctx, c, vt.ID, volumetypes.CreateEncryptionOpts{KeySize: 256,
		Provider: "luks", ControlLocation: "front-end", Cipher: "aes-xts-plain64"}).Extract()
	f.must(err)
	if e.KeySize != 256 || e.EncryptionID == "" {
		t.Errorf("encryption %+v", e)
	}
	f.must(volumetypes.DeleteEncryption(ctx, c, vt.ID, e.EncryptionID).ExtractErr())

	q, err := qos.Create(ctx, c, qos.CreateOpts{Name: "q", Consumer: qos.ConsumerBoth,
		Specs: map[string]string{"total_iops_sec": "5", "x": "y"}}).Extract()
	f.must(err)
	f.must(qos.Associate(ctx, c, q.ID, qos.AssociateOpts{VolumeTypeID: vt.ID}).ExtractErr())
	changed, err := qos.Update(ctx, c, q.ID, qos.UpdateOpts{Specs: map[string]string{"total_iops_sec": "6"}}).Extract()
	f.must(err)
	f.must(qos.DeleteKeys(ctx, c, q.ID, qos.DeleteKeysOpts{"x"}).ExtractErr())
	q, err = qos.Get(ctx, c, q.ID).Extract()
	f.must(err)
	if changed["total_iops_sec"] != "6" || q.Specs["total_iops_sec"] != "6" || len(q.Specs) != 1 || q.Consumer != "both" {
		t.Errorf("QoS specs %+v, %v", q, changed)
	}
	if err := qos.Delete(ctx, c, q.ID, qos.DeleteOpts{}).ExtractErr(); err == nil {
		t.Error("QoS specs of a type were deleted")
	}
	f.must(qos.DisassociateAll(ctx, c, q.ID).ExtractErr())
	f.must(qos.Delete(ctx, c, q.ID, qos.DeleteOpts{}).ExtractErr())

	volumes := 7
	_, err = quotasets.Update(ctx, c, project, quotasets.UpdateOpts{Volumes: &volumes,
		Extra: map[string]any{"gigabytes_h": 3}}).Extract()
	f.must(err)
	set, err := quotasets.Get(ctx, c, project).Extract()
	f.must(err)
	if set.Volumes != 7 || set.Extra["gigabytes_h"] != float64(3) {
		t.Errorf("quotas %+v", set)
	}
	f.must(volumetypes.Delete(ctx, c, vt.ID).ExtractErr())
}
