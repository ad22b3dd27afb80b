package cinder_test

import (
	"fmt"
	"strings"
	"testing"

	"kvol/internal/block"
)

// attachment keeps a volume and returns the attachment's id.
func (f *fixture) attachment(volume string) string {
	f.Helper()
	return f.wantAt(27, "member", 200, "POST", "attachments", `{"attachment":{"volume_uuid":"`+volume+`"}}`).
		text(f, "attachment.id")
}

// fresh puts new things in the place of the words that a request names them by,
// so that whoever may change them finds them as they were.
func (f *fixture) fresh(request string) *strings.Replacer {
	f.Helper()
	f.made++
	pairs := []string{"%new", fmt.Sprint("new", f.made)}
	for word, make := range map[string]func() string{
		"%volume":     func() string { return f.available(1) },
		"%attachment": func() string { return f.attachment(f.available(1)) },
		"%group":      func() string { return f.group("g") },
		"%instant": func() string {
			return f.wantAt(14, "member", 202, "POST", "group_snapshots",
				`{"group_snapshot":{"group_id":"`+f.group("g")+`"}}`).text(f, "group_snapshot.id")
		},
		"%type": func() string {
			return f.wantAs("admin", 200, "POST", "types", fmt.Sprintf(
				`{"volume_type":{"name":"t%d","os-volume-type-access:is_public":false}}`, f.made)).text(f, "volume_type.id")
		},
	} {
		if strings.Contains(request, word) {
			pairs = append(pairs, word, make())
		}
	}
	if strings.Contains(request, "%transfer") {
		offer := f.want(202, "POST", "os-volume-transfer", `{"transfer":{"volume_id":"`+f.available(1)+`"}}`)
		pairs = append(pairs, "%transfer", offer.text(f, "transfer.id"), "%key", offer.text(f, "transfer.auth_key"))
	}
	return strings.NewReplacer(pairs...)
}

// TestPersonas asks operations as each persona: who looks, who changes and who
// operates. A service has no rights of its own: its role counts beside a user's
// token only.
func TestPersonas(t *testing.T) {
	f := newFixture(t)
	id := f.available(1)
	group := f.group("g")
	attachment := f.attachment(f.available(1))
	f.wantAs("admin", 200, "PUT", "os-quota-sets/"+project, `{"quota_set":{"groups":-1}}`)
	everybody := []string{"admin", "member", "reader", "service"}
	looks, changes, operates := []string{"admin", "member", "reader"}, []string{"admin", "member"}, []string{"admin"}
	for _, tt := range []struct {
		who                []string
		minor              int
		method, path, body string
		rule               string
	}{
		{looks, 0, "GET", "volumes", "", "volume:get_all"},
		{looks, 0, "GET", "volumes/detail", "", "volume:get_all"},
		{looks, 0, "GET", "volumes/" + id, "", "volume:get"},
		{looks, 0, "GET", "snapshots", "", "volume:get_all_snapshots"},
		{looks, 0, "GET", "snapshots/detail", "", "volume:get_all_snapshots"},
		{looks, 3, "GET", "messages", "", "message:get_all"},
		{changes, 0, "POST", "volumes", `{"volume":{"size":1}}`, "volume:create"},
		{changes, 0, "PUT", "volumes/" + id, `{"volume":{"name":"n"}}`, "volume:update"},
		{changes, 0, "POST", "volumes/" + id + "/metadata", `{"metadata":{"k":"v"}}`, "volume:"},
		{changes, 0, "POST", "volumes/" + id + "/action", `{"os-unreserve":{}}`,
			"volume_extension:volume_actions:unreserve"},
		{changes, 0, "POST", "volumes/" + id + "/action", `{"os-roll_detaching":{}}`,
			"volume_extension:volume_actions:roll_detaching"},
		{changes, 0, "POST", "snapshots", `{"snapshot":{"volume_id":"` + id + `"}}`, "volume:create_snapshot"},
		{looks, 12, "GET", "volumes/summary", "", "volume:get_all"},
		{looks, 0, "GET", "volumes/" + id + "/metadata", "", "volume:get_volume_metadata"},
		{looks, 0, "POST", "volumes/" + id + "/action", `{"os-show_image_metadata":{}}`, ""},
		{everybody, 0, "GET", "limits", "", ""},
		{looks, 27, "GET", "attachments", "", "volume:get_all"},
		{looks, 27, "GET", "attachments/detail", "", "volume:get_all"},
		{looks, 27, "GET", "attachments/" + attachment, "", "volume:get"},
		{changes, 27, "POST", "attachments", `{"attachment":{"volume_uuid":"%volume"}}`, "volume:attachment_create"},
		{changes, 27, "PUT", "attachments/" + attachment, `{"attachment":{"connector":{"host":"h"}}}`,
			"volume:attachment_update"},
		{changes, 44, "POST", "attachments/" + attachment + "/action", `{"os-complete":{}}`, "volume:attachment_complete"},
		{changes, 27, "DELETE", "attachments/%attachment", "", "volume:attachment_delete"},
		{looks, 0, "GET", "os-volume-transfer", "", "volume:get_all_transfers"},
		{looks, 55, "GET", "volume-transfers/%transfer", "", "volume:get_transfer"},
		{changes, 0, "POST", "os-volume-transfer", `{"transfer":{"volume_id":"%volume"}}`, "volume:create_transfer"},
		{changes, 55, "DELETE", "volume-transfers/%transfer", "", "volume:delete_transfer"},
		{changes, 0, "POST", "os-volume-transfer/%transfer/accept", `{"accept":{"auth_key":"%key"}}`,
			"volume:accept_transfer"},
		{everybody, 11, "GET", "group_types", "", ""},
		{operates, 11, "POST", "group_types", `{"group_type":{"name":"%new"}}`, "group:group_types:create"},
		{operates, 11, "GET", "group_types/" + string(block.LegacyGroupType) + "/group_specs", "",
			"group:group_types_specs:get_all"},
		{looks, 13, "GET", "groups", "", "group:get_all"},
		{looks, 13, "GET", "groups/detail", "", "group:get_all"},
		{looks, 13, "GET", "groups/" + group, "", "group:get"},
		{changes, 13, "POST", "groups", `{"group":{"group_type":"g","volume_types":["General HDD"]}}`, "group:create"},
		{changes, 13, "PUT", "groups/" + group, `{"group":{"name":"%new"}}`, "group:update"},
		{changes, 13, "POST", "groups/%group/action", `{"delete":{}}`, "group:delete"},
		{operates, 20, "POST", "groups/" + group + "/action", `{"reset_status":{"status":"available"}}`,
			"group:reset_status"},
		{looks, 14, "GET", "group_snapshots", "", "group:get_all_group_snapshots"},
		{looks, 14, "GET", "group_snapshots/detail", "", "group:get_all_group_snapshots"},
		{looks, 14, "GET", "group_snapshots/%instant", "", "group:get_group_snapshot"},
		{changes, 14, "POST", "group_snapshots", `{"group_snapshot":{"group_id":"` + group + `"}}`,
			"group:create_group_snapshot"},
		{operates, 19, "POST", "group_snapshots/%instant/action", `{"reset_status":{"status":"error"}}`,
			"group:reset_group_snapshot_status"},
		{operates, 0, "POST", "types", `{"volume_type":{"name":"%new"}}`, "volume_extension:type_create"},
		{operates, 0, "PUT", "types/%type", `{"volume_type":{"name":"%new"}}`, "volume_extension:type_update"},
		{operates, 0, "DELETE", "types/%type", "", "volume_extension:type_delete"},
		{operates, 0, "POST", "types/%type/extra_specs", `{"extra_specs":{"k":"v"}}`,
			"volume_extension:types_extra_specs:create"},
		{operates, 0, "GET", "types/%type/os-volume-type-access", "", "volume_extension:volume_type_access"},
		{operates, 0, "GET", "qos-specs", "", "volume_extension:qos_specs_manage:get_all"},
		{operates, 0, "POST", "qos-specs", `{"qos_specs":{"name":"%new"}}`, "volume_extension:qos_specs_manage:create"},
		{operates, 0, "POST", "volumes/" + id + "/action", `{"os-reset_status":{"status":"available"}}`,
			"volume_extension:volume_admin_actions:reset_status"},
		{operates, 0, "GET", "os-services", "", "volume_extension:services:index"},
		{operates, 0, "PUT", "os-services/enable", `{"host":"kvol@hdd_general","binary":"cinder-volume"}`,
			"volume_extension:services:update"},
		{operates, 0, "GET", "scheduler-stats/get_pools", "", "scheduler_extension:scheduler_stats:get_pools"},
		{operates, 0, "GET", "capabilities/kvol@hdd_general", "", "volume_extension:capabilities"},
		{operates, 0, "GET", "os-hosts", "", "volume_extension:hosts"},
		{operates, 7, "GET", "clusters", "", "clusters:get_all"},
		{operates, 24, "POST", "workers/cleanup", "{}", "workers:cleanup"},
	} {
		for _, token := range []string{"admin", "member", "reader", "service"} {
			may := strings.Contains(strings.Join(tt.who, " "), token)
			fresh := f.fresh(tt.path + tt.body)
			a := f.at(tt.minor, token, tt.method, fresh.Replace(tt.path), fresh.Replace(tt.body))
			if !may && token == "service" && a.code == 404 {
				continue // it is another project's
			}
			refused := a.code == 403 && strings.Contains(string(a.body), "Policy doesn't allow "+tt.rule) &&
				strings.Contains(string(a.body), " to be performed.")
			if may && a.code/100 != 2 || !may && !refused {
				t.Errorf("%s %s %s as %s: %d %s", tt.method, tt.path, tt.body, token, a.code, a.body)
			}
		}
	}
}
