package cinder_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"kvol/internal/api/cinder"
)

// fault reads an error body: its one name, and what stands under it.
func fault(t *testing.T, a answer) (name, message string, code int) {
	t.Helper()
	var body map[string]struct {
		Code    int
		Message string
	}
	if err := json.Unmarshal(a.body, &body); err != nil || len(body) != 1 {
		t.Fatalf("no error body: %d %s", a.code, a.body)
	}
	for name, f := range body {
		return name, f.Message, f.Code
	}
	return "", "", 0
}

var faultName = map[int]string{400: "badRequest", 403: "forbidden", 404: "itemNotFound", 405: "badMethod",
	409: "conflictingRequest", 413: "overLimit", 415: "badMediaType"}

func (f *fixture) wantFault(t *testing.T, a answer, code int, message string) {
	t.Helper()
	name, got, inner := fault(t, a)
	if a.code != code || inner != code || name != faultName[code] || got != message {
		t.Errorf("answer %d %s %d %q, want %d %s %q", a.code, name, inner, got, code, faultName[code], message)
	}
}

const boolSentence = "is not one of [True, 'True', 'TRUE', 'true', '1', 'ON', 'On', 'on', 'YES', 'Yes', 'yes', 'y', " +
	"'t', False, 'False', 'FALSE', 'false', '0', 'OFF', 'Off', 'off', 'NO', 'No', 'no', 'n', 'f']"

const field = "Invalid input for field/attribute "

var long, x255 = strings.Repeat("x", 256), strings.Repeat("x", 255)

// The sentences are Cinder's; most were said by Cinder 21.3 to these bodies.
var createVolumeErrors = []struct {
	body, message string
	code          int
}{
	{``, "Malformed request body", 400},
	{`{}`, "'volume' is a required property", 400},
	{`{"volume":"x"}`, field + "volume. Value: x. 'x' is not of type 'object'", 400},
	{`{"volume":null}`, field + "volume. Value: None. None is not of type 'object'", 400},
	{`{"volume":{"size":1},"zz":1}`, "Additional properties are not allowed ('zz' was unexpected)", 400},
	{`{"volume":{"size":1},"zz":1,"yy":2}`, "Additional properties are not allowed ('yy', 'zz' were unexpected)", 400},
	{`{"volume": `, "Malformed request body", 400},
	{`{"volume":{"size":1}} x`, "Malformed request body", 400},
	{`[]`, "Malformed request body", 400},
	{`"volume"`, "Malformed request body", 400},
	{"{\"volume\":{\"size\":1,\"name\":\"\xff\"}}", "Malformed request body", 400},
	{strings.Repeat("[", 200) + strings.Repeat("]", 200), "Malformed request body", 400},
	{`{"volume":{"size":1,"x":` + strings.Repeat("[", 63) + strings.Repeat("]", 63) + `}}`, "Malformed request body", 400},
	{`{"volume":{"name":"x"}}`, "Invalid input received: Volume size 'None' must be an integer and greater than 0", 400},
	{`{"volume":{"size":null}}`, "Invalid input received: Volume size 'None' must be an integer and greater than 0", 400},
	{`{"volume":{"size":-1}}`, field + "size. Value: -1. -1 is less than the minimum of 1", 400},
	{`{"volume":{"size":0}}`, field + "size. Value: 0. 0 is less than the minimum of 1", 400},
	{`{"volume":{"size":"0"}}`, field + "size. Value: 0. 0 is less than the minimum of 1", 400},
	{`{"volume":{"size":"1x"}}`, field + "size. Value: 1x. '1x' does not match '^[0-9]+$'", 400},
	{`{"volume":{"size":""}}`, field + "size. Value: . '' does not match '^[0-9]+$'", 400},
	{`{"volume":{"size":"-1"}}`, field + "size. Value: -1. '-1' does not match '^[0-9]+$'", 400},
	{`{"volume":{"size":1.5}}`, field + "size. Value: 1.5. 1.5 is not of type 'integer', 'string', 'null'", 400},
	{`{"volume":{"size":1e2}}`, field + "size. Value: 100.0. 100.0 is not of type 'integer', 'string', 'null'", 400},
	{`{"volume":{"size":true}}`, field + "size. Value: True. True is not of type 'integer', 'string', 'null'", 400},
	{`{"volume":{"size":[1]}}`, field + "size. Value: [1]. [1] is not of type 'integer', 'string', 'null'", 400},
	{`{"volume":{"size":99999999999}}`,
		field + "size. Value: 99999999999. 99999999999 is greater than the maximum of 2147483647", 400},
	{`{"volume":{"size":99999999999999999999999}}`, field + "size. Value: 99999999999999999999999. " +
		"99999999999999999999999 is greater than the maximum of 2147483647", 400},
	{`{"volume":{"size":1,"volume_type":"nope"}}`, "Volume type with name nope could not be found.", 404},
	{`{"volume":{"size":1,"volume_type":"Private"}}`, "Volume type with name Private could not be found.", 404},
	{`{"volume":{"size":1,"volume_type":"` + noSuchID + `"}}`, "Volume type " + noSuchID + " could not be found.", 404},
	{`{"volume":{"size":1,"volume_type":7}}`, field + "volume_type. Value: 7. 7 is not of type 'string', 'null'", 400},
	{`{"volume":{"size":1,"snapshot_id":"` + noSuchID + `"}}`, "Snapshot " + noSuchID + " could not be found.", 404},
	{`{"volume":{"size":1,"snapshot_id":"nope"}}`,
		field + "snapshot_id. Value: nope. 'nope' is not valid under any of the given schemas", 400},
	{`{"volume":{"size":1,"snapshot_id":3}}`,
		field + "snapshot_id. Value: 3. 3 is not valid under any of the given schemas", 400},
	{`{"volume":{"size":1,"source_volid":"` + noSuchID + `"}}`, "Volume " + noSuchID + " could not be found.", 404},
	{`{"volume":{"size":1,"source_volid":""}}`,
		field + "source_volid. Value: . '' is not valid under any of the given schemas", 400},
	{`{"volume":{"size":1,"consistencygroup_id":"x"}}`,
		field + "consistencygroup_id. Value: x. 'x' is not valid under any of the given schemas", 400},
	{`{"volume":{"size":1,"imageRef":"` + noSuchID + `"}}`,
		"Invalid image identifier or unable to access requested image.", 400},
	{`{"volume":{"size":1,"imageRef":""}}`, "Invalid image identifier or unable to access requested image.", 400},
	{`{"volume":{"size":1,"availability_zone":"nowhere"}}`, "Availability zone 'nowhere' is invalid.", 400},
	{`{"volume":{"size":1,"availability_zone":""}}`, field + "availability_zone. Value: . '' is too short", 400},
	{`{"volume":{"size":1,"availability_zone":"` + long + `"}}`,
		field + "availability_zone. Value: " + long + ". '" + long + "' is too long", 400},
	{`{"volume":{"size":1,"name":"` + long + `"}}`,
		"Invalid input received: name has 256 characters, more than 255.", 400},
	{`{"volume":{"size":1,"name":3}}`, field + "name. Value: 3. 3 is not of type 'string', 'null'", 400},
	{`{"volume":{"size":1,"description":"` + long + `"}}`,
		"Invalid input received: description has 256 characters, more than 255.", 400},
	{`{"volume":{"size":1,"description":{"a":"it's"}}}`,
		field + `description. Value: {'a': "it's"}. {'a': "it's"} is not of type 'string', 'null'`, 400},
	{`{"volume":{"size":1,"metadata":"x"}}`, field + "metadata. Value: x. 'x' is not of type 'object', 'null'", 400},
	{`{"volume":{"size":1,"metadata":{"k":1}}}`, field + "k. Value: 1. 1 is not of type 'string'", 400},
	{`{"volume":{"size":1,"metadata":{"k":null}}}`, field + "k. Value: None. None is not of type 'string'", 400},
	{`{"volume":{"size":1,"metadata":{"":"x"}}}`, field + "metadata. Value: {'': 'x'}. " +
		"'' does not match any of the regexes: '^[a-zA-Z0-9-_:. /]{1,255}$'", 400},
	{`{"volume":{"size":1,"metadata":{"k":"` + long + `"}}}`,
		field + "k. Value: " + long + ". '" + long + "' is too long", 400},
	{`{"volume":{"size":1,"multiattach":"zz"}}`,
		field + "multiattach. Value: zz. 'zz' is not valid under any of the given schemas", 400},
	{`{"volume":{"size":1,"multiattach":1}}`,
		field + "multiattach. Value: 1. 1 is not valid under any of the given schemas", 400},
	{`{"volume":{"size":1001}}`, "VolumeSizeExceedsAvailableQuota: Requested volume or snapshot exceeds allowed " +
		"gigabytes quota. Requested 1001G, quota is 1000G and 0G has been consumed.", 413},
}

func TestCreateVolumeErrors(t *testing.T) {
	f := newFixture(t)
	for _, tt := range createVolumeErrors {
		t.Run(fmt.Sprintf("%.60s", tt.body), func(t *testing.T) {
			a := f.do("POST", "volumes", "member", tt.body, "Content-Type", "application/json")
			if tt.body == "" {
				tt.message = "Missing required element 'volume' in request body."
			}
			f.wantFault(t, a, tt.code, tt.message)
		})
	}
	for _, body := range []string{
		`{"volume":{"size":1,"deep":` + strings.Repeat("[", 62) + strings.Repeat("]", 62) + `}}`,
		`{"volume":{"size":1,"name":" ` + x255 + ` ","description":"` + x255 + `"}}`,
		`{"volume":{"size":"1","volume_type":"","metadata":null,"snapshot_id":null,"multiattach":null}}`,
		`{"volume":{"size":1,"zz":1,"multiattach":"yes"},"OS-SCH-HNT:scheduler_hints":{"query":"x"}}`,
		`{"volume":{"size":1,"metadata":{"a-Z_0:. /":"` + x255 + `"},"volume_type":"` + hddType + `"}}`,
		`{"volume":{"size":0,"size":1,"display_name":"n","display_description":"d"}}`,
	} {
		f.want(202, "POST", "volumes", body)
	}
}

// vol and act stand for a volume that is there.
const vol, act = "volumes/ID", "volumes/ID/action"

// otherErrors are what the other operations refuse; ID is the volume's id.
var otherErrors = []struct {
	method, path, body string
	code               int
	message            string
}{
	{"PUT", vol, `{"volume":{"size":3}}`, 400,
		field + "volume. Value: {'size': 3}. Additional properties are not allowed ('size' was unexpected)"},
	{"PUT", vol, `{}`, 400, "'volume' is a required property"},
	{"PUT", vol, `{"volume":{"metadata":null}}`, 400, field + "metadata. Value: None. None is not of type 'object'"},
	{"PUT", "volumes/" + noSuchID, `{"volume":{"name":"z"}}`, 404, "Volume " + noSuchID + " could not be found."},
	{"DELETE", "volumes/ID?cascade=zz", ``, 400, "Value 'zz' for 'cascade' is not a boolean."},
	{"GET", "volumes/nope", ``, 404, "Volume nope could not be found."},
	{"DELETE", "volumes/nope", ``, 404, "Volume nope could not be found."},

	{"POST", act, `{}`, 400, "Malformed request body"},
	{"POST", act, `{"os-extend":{"new_size":5},"os-reserve":{}}`, 400, "Malformed request body"},
	{"POST", act, `{"os-nope":{}}`, 400,
		"There is no such action: os-nope. Verify the request body and Content-Type header and try again."},
	{"POST", act, `{"os-extend":{"new_size":1}}`, 400, "Invalid input received: New size for extend must be greater " +
		"than current size. (current: 2, extended: 1)."},
	{"POST", act, `{"os-extend":{"new_size":"x"}}`, 400, field + "new_size. Value: x. 'x' does not match '^[0-9]+$'"},
	{"POST", act, `{"os-extend":{}}`, 400,
		field + "os-extend. Value: {}. 'new_size' is a required property"},
	{"POST", act, `{"os-extend":null}`, 400, field + "os-extend. Value: None. None is not of type 'object'"},
	{"POST", act, `{"os-extend":{"new_size":-5}}`, 400, field + "new_size. Value: -5. -5 is less than the minimum of 1"},
	{"POST", "volumes/" + noSuchID + "/action", `{"os-extend":{"new_size":5}}`, 404,
		"Volume " + noSuchID + " could not be found."},
	{"POST", act, `{"os-reset_status":{"status":"error"}}`, 403,
		"Policy doesn't allow volume_extension:volume_admin_actions:reset_status to be performed."},
	{"POST", act, `{"os-reset_status":{}}`, 400,
		"Must specify 'status', 'attach_status' or 'migration_status' for update."},
	{"POST", act, `{"os-force_delete":{}}`, 403,
		"Policy doesn't allow volume_extension:volume_admin_actions:force_delete to be performed."},
	{"POST", act, `{"os-initialize_connection":{}}`, 400,
		field + "os-initialize_connection. Value: {}. 'connector' is a required property"},
	{"POST", act, `{"os-attach":{}}`, 400, field + "os-attach. Value: {}. 'mountpoint' is a required property"},
	{"POST", act, `{"os-attach":{"instance_uuid":"x","mountpoint":"/dev/vdb"}}`, 400,
		field + "instance_uuid. Value: x. 'x' is not a 'uuid'"},
	{"POST", act, `{"os-attach":{"instance_uuid":"` + noSuchID + `","mountpoint":"/dev/vdb","mode":"zz"}}`, 400,
		field + "mode. Value: zz. 'zz' is not one of ['rw', 'ro']"},
	{"POST", act, `{"os-attach":{"mountpoint":"/dev/vdb"}}`, 400,
		"Invalid request to attach volume to an invalid target"},
	{"POST", act, `{"os-attach":{"mountpoint":"/dev/vdb","instance_uuid":"` + noSuchID + `","host_name":"h"}}`, 400,
		"Invalid request to attach volume to an instance " + noSuchID + " and a host h simultaneously"},
	{"POST", act, `{"os-begin_detaching":null}`, 400, "Invalid volume: Unable to detach volume. " +
		"Volume status must be 'in-use' and attach_status must be 'attached' to detach."},
	{"POST", act, `{"os-update_readonly_flag":{"readonly":"zz"}}`, 400,
		field + "readonly. Value: zz. 'zz' " + boolSentence},
	{"POST", act, `{"os-set_bootable":{"bootable":"zz"}}`, 400, field + "bootable. Value: zz. 'zz' " + boolSentence},
	{"POST", act, `{"os-set_bootable":{}}`, 400,
		field + "os-set_bootable. Value: {}. 'bootable' is a required property"},
	{"POST", act, `{"os-unset_image_metadata":{"key":"zz"}}`, 404,
		"Glance metadata for volume/snapshot ID cannot be found."},
	{"POST", act, `{"os-volume_upload_image":{}}`, 400,
		field + "os-volume_upload_image. Value: {}. 'image_name' is a required property"},
	{"POST", act, `{"os-volume_upload_image":{"image_name":"x","disk_format":"zz"}}`, 400, field + "disk_format. " +
		"Value: zz. 'zz' is not one of ['raw', 'vmdk', 'vdi', 'qcow2', 'vhd', 'vhdx', 'ploop']"},
	{"POST", act, `{"os-volume_upload_image":{"image_name":"x","visibility":"public"}}`, 400,
		field + "visibility. Value: public. 'public' is not one of ['private', 'shared']"},
	{"POST", act, `{"os-volume_upload_image":{"image_name":""}}`, 400,
		field + "image_name. Value: . '' is too short"},
	{"POST", act, `{"os-volume_upload_image":{"image_name":"x","protected":"zz"}}`, 400,
		field + "protected. Value: zz. 'zz' " + boolSentence},

	{"POST", "snapshots", `{}`, 400, "'snapshot' is a required property"},
	{"POST", "snapshots", `{"snapshot":{"name":"x"}}`, 400,
		field + "snapshot. Value: {'name': 'x'}. 'volume_id' is a required property"},
	{"POST", "snapshots", `{"snapshot":{"volume_id":"zz"}}`, 400,
		field + "volume_id. Value: zz. 'zz' is not valid under any of the given schemas"},
	{"POST", "snapshots", `{"snapshot":{"volume_id":null}}`, 400,
		field + "volume_id. Value: None. None is not valid under any of the given schemas"},
	{"POST", "snapshots", `{"snapshot":{"volume_id":"` + noSuchID + `"}}`, 404,
		"Volume " + noSuchID + " could not be found."},
	{"POST", "snapshots", `{"snapshot":{"volume_id":"ID","force":"zz"}}`, 400,
		field + "force. Value: zz. 'zz' " + boolSentence},
	{"POST", "snapshots", `{"snapshot":{"volume_id":"ID","zz":1}}`, 400, field +
		"snapshot. Value: {'volume_id': 'ID', 'zz': 1}. Additional properties are not allowed ('zz' was unexpected)"},
	{"GET", "snapshots/" + noSuchID, ``, 404, "Snapshot " + noSuchID + " could not be found."},
	{"DELETE", "snapshots/" + noSuchID, ``, 404, "Snapshot " + noSuchID + " could not be found."},
	{"POST", "snapshots/" + noSuchID + "/action", `{"zz":{}}`, 400,
		"There is no such action: zz. Verify the request body and Content-Type header and try again."},

	{"GET", "volumes/ID/metadata/zz", ``, 404, "Volume ID has no metadata with key zz."},
	{"DELETE", "volumes/ID/metadata/zz", ``, 404, "Volume ID has no metadata with key zz."},
	{"PUT", "volumes/ID/metadata/g", `{"meta":{"x":"i"}}`, 400, "Request body and URI mismatch"},
	{"PUT", "volumes/ID/metadata/g", `{"meta":{"g":"i","x":"y"}}`, 400, "Invalid input for field/attribute meta. " +
		"Value: {'g': 'i', 'x': 'y'}. {'g': 'i', 'x': 'y'} has too many properties"},
	{"PUT", "volumes/ID/metadata/g", `{"meta":{}}`, 400, field + "meta. Value: {}. {} does not have enough properties"},
	{"POST", "volumes/ID/metadata", `{"metadata":{"":"x"}}`, 400, field + "metadata. Value: {'': 'x'}. " +
		"'' does not match any of the regexes: '^[a-zA-Z0-9-_:. /]{1,255}$'"},
	{"GET", "volumes/" + noSuchID + "/metadata", ``, 404, "Volume " + noSuchID + " could not be found."},

	{"GET", "types/" + noSuchID, ``, 404, "Volume type " + noSuchID + " could not be found."},
	{"GET", "types/General%20HDD", ``, 404, "Volume type General HDD could not be found."},
	{"GET", "types/99999999-9999-4999-8999-999999999999", ``, 404,
		"Volume type 99999999-9999-4999-8999-999999999999 could not be found."},
	{"PUT", "os-quota-sets/" + project, `{"quota_set":{"volumes":3}}`, 403,
		"Policy doesn't allow volume_extension:quotas:update to be performed."},
	{"GET", "os-quota-sets/" + other, ``, 403,
		"Policy doesn't allow volume_extension:quotas:show to be performed."},
	{"GET", "os-quota-sets/" + other + "/defaults", ``, 403,
		"Policy doesn't allow volume_extension:quotas:show to be performed."},
	{"GET", "extensions/nope", ``, 404, "The resource could not be found."},
}

func TestOtherBodyErrors(t *testing.T) {
	f := newFixture(t)
	id := f.available(2)
	for _, tt := range otherErrors {
		t.Run(fmt.Sprintf("%s %s %.60s", tt.method, tt.path, tt.body), func(t *testing.T) {
			with := func(s string) string { return strings.ReplaceAll(s, "ID", id) }
			path := strings.Replace(tt.path, "volumes/ID", "volumes/"+id, 1)
			f.wantFault(t, f.do(tt.method, path, "member", with(tt.body)), tt.code, with(tt.message))
		})
	}
}

func TestQuotaErrors(t *testing.T) {
	f := newFixture(t)
	for body, message := range map[string]string{
		`{"quota_set":{"volumes":"zz"}}`:       "volumes must be an integer",
		`{"quota_set":{"volumes":1.5}}`:        "volumes must be an integer",
		`{"quota_set":{"volumes":null}}`:       "volumes must be an integer",
		`{"quota_set":{"volumes":true}}`:       "volumes must be an integer",
		`{"quota_set":{"volumes":-2}}`:         "volumes must be >= -1",
		`{"quota_set":{"volumes":2147483648}}`: "volumes must be <= 2147483647",
		`{"quota_set":{"zz":1}}`:               "Invalid input received: Bad key(s) in quota set: zz",
		`{"quota_set":[]}`: "Invalid input for field/attribute quota_set. Value: []. " +
			"[] is not of type 'object'",
		`{}`: "'quota_set' is a required property",
	} {
		f.wantFault(t, f.do("PUT", "os-quota-sets/"+other, "admin", body), 400, message)
	}
}

func TestFrame(t *testing.T) {
	f := newFixture(t)
	own := "/v2/" + project
	form := []string{"Content-Type", "application/x-www-form-urlencoded"}
	big := `{"volume":{"size":1,"description":"` + strings.Repeat("x", 114688) + `"}}`
	for _, tt := range []struct {
		method, path, token, body string
		headers                   []string
		code                      int
		message                   string
	}{
		{"GET", "/v2/" + other + "/volumes", "member", "", nil, 400, "Malformed request url"},
		{"GET", "/v2/" + other + "/volumes", "admin", "", nil, 400, "Malformed request url"},
		{"GET", "/v2/nope/volumes", "member", "", nil, 400, "Malformed request url"},
		{"GET", own + "/volumes?limit=%ff", "member", "", nil, 400, "Malformed request url"},
		{"GET", own + "/nope", "member", "", nil, 404, "The resource could not be found."},
		{"GET", own + "/volumes/", "member", "", nil, 404, "The resource could not be found."},
		{"GET", own + "//volumes", "member", "", nil, 404, "The resource could not be found."},
		{"GET", own, "member", "", nil, 404, "The resource could not be found."},
		{"GET", own + "/", "member", "", nil, 404, "The resource could not be found."},
		{"GET", own + "/junk", "member", "", nil, 404, "The resource could not be found."},
		{"PATCH", own + "/volumes", "member", "", nil, 405, "The method is not allowed for this resource."},
		{"PUT", own + "/volumes", "member", "{}", nil, 405, "The method is not allowed for this resource."},
		{"DELETE", own + "/limits", "member", "", nil, 405, "The method is not allowed for this resource."},
		{"POST", "/v2", "", "", nil, 405, "The method is not allowed for this resource."},
		{"POST", own + "/volumes", "member", "size=1", form, 415, "Unsupported Content-Type"},
		{"POST", own + "/volumes", "member", "{}", []string{"Content-Type", "text/plain"}, 415, "Unsupported Content-Type"},
		{"POST", own + "/volumes", "member", "{}", []string{"Content-Type", ""}, 400,
			"Missing required element 'volume' in request body."},
		{"POST", own + "/volumes", "member", big, nil, 413,
			"Request is too large. Larger than max_request_body_size (114688)."},
		{"POST", own + "/volumes", "reader", `{"volume":{"size":1}}`, nil, 403,
			"Policy doesn't allow volume:create to be performed."},
	} {
		t.Run(tt.method+" "+tt.path, func(t *testing.T) {
			a := f.do(tt.method, tt.path, tt.token, tt.body, tt.headers...)
			f.wantFault(t, a, tt.code, tt.message)
			if tt.code == 405 && a.header.Get("Allow") == "" {
				t.Error("no Allow")
			}
		})
	}
	f.handler = cinder.New(f.config) // without the wrapper's limit
	f.wantFault(t, f.do("POST", "volumes", "member", big), 413,
		"Request is too large. Larger than max_request_body_size (114688).")
	if a := f.do("HEAD", own+"/volumes", "member", ""); a.code != 405 {
		t.Errorf("HEAD = %d", a.code)
	}
	if a := f.do("GET", own+"/volumes.json", "member", ""); a.code != 200 {
		t.Errorf("volumes.json = %d %s", a.code, a.body)
	}
}

func TestUnauthorized(t *testing.T) {
	f := newFixture(t)
	for _, token := range []string{"", "stolen"} {
		for _, path := range []string{"/v2/" + project + "/volumes", "/v2/" + project + "/nope", "/v2/x"} {
			a := f.do("GET", path, token, "")
			const body = `{"error":{"code":401,"title":"Unauthorized",` +
				`"message":"The request you have made requires authentication."}}`
			if a.code != 401 || string(a.body) != body {
				t.Errorf("%s = %d %s", path, a.code, a.body)
			}
			if got := a.header.Get("WWW-Authenticate"); got != `Keystone uri="https://identity.example/v3"` {
				t.Errorf("WWW-Authenticate: %s", got)
			}
		}
	}
}

func TestOverLimit(t *testing.T) {
	f := newFixture(t)
	f.wantAs("admin", 200, "PUT", "os-quota-sets/"+project, `{"quota_set":{"volumes":1,"tenant_id":"x"}}`)
	f.want(202, "POST", "volumes", `{"volume":{"size":1}}`)
	a := f.want(413, "POST", "volumes", `{"volume":{"size":1}}`)
	const body = `{"overLimit":{"code":413,"message":"VolumeLimitExceeded: Maximum number of volumes allowed (1) ` +
		`exceeded for quota 'volumes'.","retryAfter":"0"}}`
	if string(a.body) != body || a.header.Get("Retry-After") != "0" {
		t.Errorf("413 = %s, Retry-After %q", a.body, a.header.Get("Retry-After"))
	}
}

func TestRequestIDs(t *testing.T) {
	a := newFixture(t).do("GET", "volumes", "member", "")
	id := a.header.Get("X-Openstack-Request-Id")
	if !strings.HasPrefix(id, "req-") || a.header.Get("X-Compute-Request-Id") != id {
		t.Errorf("ids %q and %q", id, a.header.Get("X-Compute-Request-Id"))
	}
}

// Another project's things are not there, in the same words as what is not.
func TestOtherProject(t *testing.T) {
	f := newFixture(t)
	f.runJobs()
	id := f.volume(`{"volume":{"size":1}}`)
	sn := f.want(202, "POST", "snapshots", `{"snapshot":{"volume_id":"`+id+`"}}`).text(t, "snapshot.id")
	f.status("snapshots/"+sn, "snapshot.status", "available")
	noVolume, noSnapshot := "Volume "+id+" could not be found.", "Snapshot "+sn+" could not be found."
	for _, tt := range [][4]string{
		{"GET", "volumes/" + id, "", noVolume},
		{"PUT", "volumes/" + id, `{"volume":{"name":"x"}}`, noVolume},
		{"DELETE", "volumes/" + id, "", noVolume},
		{"GET", "volumes/" + id + "/metadata", "", noVolume},
		{"POST", "volumes/" + id + "/metadata", `{"metadata":{"a":"b"}}`, noVolume},
		{"DELETE", "volumes/" + id + "/metadata/a", "", noVolume},
		{"POST", "volumes/" + id + "/action", `{"os-extend":{"new_size":2}}`, noVolume},
		{"POST", "volumes/" + id + "/action", `{"os-reserve":null}`, noVolume},
		{"POST", "volumes/" + id + "/action", `{"os-volume_upload_image":{"image_name":"x"}}`, noVolume},
		{"POST", "volumes/" + id + "/action", `{"os-initialize_connection":{"connector":{}}}`, noVolume},
		{"POST", "volumes", `{"volume":{"source_volid":"` + id + `"}}`, noVolume},
		{"POST", "volumes", `{"volume":{"snapshot_id":"` + sn + `"}}`, noSnapshot},
		{"POST", "snapshots", `{"snapshot":{"volume_id":"` + id + `"}}`, noVolume},
		{"GET", "snapshots/" + sn, "", noSnapshot},
		{"PUT", "snapshots/" + sn, `{"snapshot":{"name":"x"}}`, noSnapshot},
		{"DELETE", "snapshots/" + sn, "", noSnapshot},
		{"GET", "snapshots/" + sn + "/metadata", "", noSnapshot},
		{"GET", "volumes?marker=" + id, "", noVolume},
		{"GET", "snapshots?marker=" + sn, "", noSnapshot},
	} {
		f.wantFault(t, f.do(tt[0], tt[1], "other", tt[2]), 404, tt[3])
	}
	for _, path := range []string{"volumes", "volumes/detail", "volumes?all_tenants=1", "volumes?project_id=" + project} {
		if a := f.wantAs("other", 200, "GET", path, ""); string(a.body) != `{"volumes":[]}` {
			t.Errorf("%s = %s", path, a.body)
		}
	}
	if a := f.wantAs("other", 200, "GET", "snapshots/detail?all_tenants=true", ""); string(a.body) != `{"snapshots":[]}` {
		t.Errorf("snapshots = %s", a.body)
	}
}
