package cinder_test

import (
	"strings"
	"testing"
)

// TestPersonas asks operations as each persona: who looks, who changes and who
// operates. A service has no rights of its own: its role counts beside a user's
// token only.
func TestPersonas(t *testing.T) {
	f := newFixture(t)
	id := f.available(1)
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
			a := f.at(tt.minor, token, tt.method, tt.path, tt.body)
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
