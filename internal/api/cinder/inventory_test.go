package cinder_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"kvol/internal/api/cinder"
)

// inventory is Cinder's: what it answers below a project in its newest
// microversion, each with the microversion that brought it. {x} stands for any
// one step.
const inventory = `
0 GET extensions
0 GET extensions/{x}
0 GET,POST volumes
0 GET volumes/detail
12 GET volumes/summary
0 GET,PUT,DELETE volumes/{x}
0 GET,POST,PUT volumes/{x}/metadata
0 GET,PUT,DELETE volumes/{x}/metadata/{x}
0 GET volumes/{x}/encryption
0 GET volumes/{x}/encryption/{x}
0 POST volumes/{x}/action
0 GET,POST snapshots
0 GET snapshots/detail
0 GET,PUT,DELETE snapshots/{x}
0 GET,POST,PUT snapshots/{x}/metadata
0 GET,PUT,DELETE snapshots/{x}/metadata/{x}
0 POST snapshots/{x}/action
0 GET,POST types
0 GET types/default
0 GET,PUT,DELETE types/{x}
0 POST types/{x}/action
0 GET types/{x}/os-volume-type-access
0 GET,POST types/{x}/extra_specs
0 GET,PUT,DELETE types/{x}/extra_specs/{x}
0 GET,POST types/{x}/encryption
0 GET,PUT,DELETE types/{x}/encryption/{x}
27 GET,POST attachments
27 GET attachments/detail
27 GET,PUT,DELETE attachments/{x}
44 POST attachments/{x}/action
0 GET limits
0 GET,PUT,DELETE os-quota-sets/{x}
0 GET os-quota-sets/{x}/defaults
0 GET,PUT os-quota-class-sets/{x}
0 GET os-availability-zone
0 GET os-services
0 PUT os-services/{x}
0 GET scheduler-stats/get_pools
0 GET capabilities/{x}
0 GET os-hosts
0 GET os-hosts/{x}
0 GET,POST backups
0 GET backups/detail
0 POST backups/import_record
0 GET,DELETE backups/{x}
9 PUT backups/{x}
0 POST backups/{x}/restore
0 GET backups/{x}/export_record
0 POST backups/{x}/action
0 GET,POST os-volume-transfer
0 GET os-volume-transfer/detail
0 GET,DELETE os-volume-transfer/{x}
0 POST os-volume-transfer/{x}/accept
55 GET,POST volume-transfers
55 GET volume-transfers/detail
55 GET,DELETE volume-transfers/{x}
55 POST volume-transfers/{x}/accept
13 GET,POST groups
13 GET groups/detail
13 POST groups/action
13 GET,PUT groups/{x}
13 POST groups/{x}/action
14 GET,POST group_snapshots
14 GET group_snapshots/detail
14 GET,DELETE group_snapshots/{x}
14 POST group_snapshots/{x}/action
11 GET,POST group_types
11 GET group_types/default
11 GET,PUT,DELETE group_types/{x}
11 GET,POST group_types/{x}/group_specs
11 GET,PUT,DELETE group_types/{x}/group_specs/{x}
0 GET,POST consistencygroups
0 GET consistencygroups/detail
0 POST consistencygroups/create_from_src
0 GET consistencygroups/{x}
0 PUT consistencygroups/{x}/update
0 POST consistencygroups/{x}/delete
0 GET,POST cgsnapshots
0 GET cgsnapshots/detail
0 GET,DELETE cgsnapshots/{x}
0 GET,POST qos-specs
0 GET,PUT,DELETE qos-specs/{x}
0 PUT qos-specs/{x}/delete_keys
0 GET qos-specs/{x}/associate
0 GET qos-specs/{x}/disassociate
0 GET qos-specs/{x}/disassociate_all
0 GET qos-specs/{x}/associations
3 GET messages
3 GET,DELETE messages/{x}
33 GET resource_filters
62 GET default-types
62 GET,PUT,DELETE default-types/{x}
0 GET,POST os-volume-manage
0 GET os-volume-manage/detail
0 GET,POST os-snapshot-manage
0 GET os-snapshot-manage/detail
8 GET,POST manageable_volumes
8 GET manageable_volumes/detail
8 GET,POST manageable_snapshots
8 GET manageable_snapshots/detail
7 GET clusters
7 GET clusters/detail
7 GET,PUT clusters/{x}
24 POST workers/cleanup
`

// actions are those of Cinder, by the route that takes them.
var inventoryActions = map[string]map[string]int{
	"volumes/{x}/action": {"os-attach": 0, "os-detach": 0, "os-reserve": 0, "os-unreserve": 0,
		"os-begin_detaching": 0, "os-roll_detaching": 0, "os-initialize_connection": 0, "os-terminate_connection": 0,
		"os-extend": 0, "os-retype": 0, "os-set_bootable": 0, "os-update_readonly_flag": 0,
		"os-volume_upload_image": 0, "os-set_image_metadata": 0, "os-show_image_metadata": 0,
		"os-unset_image_metadata": 0, "revert": 40, "os-reimage": 68, "os-reset_status": 0, "os-force_delete": 0,
		"os-force_detach": 0, "os-migrate_volume": 0, "os-migrate_volume_completion": 0,
		"os-extend_volume_completion": 71, "os-unmanage": 0},
	"snapshots/{x}/action": {"os-reset_status": 0, "os-force_delete": 0, "os-update_snapshot_status": 0,
		"os-unmanage": 0},
	"types/{x}/action":       {"addProjectAccess": 0, "removeProjectAccess": 0},
	"attachments/{x}/action": {"os-complete": 44},
	"backups/{x}/action":     {"os-reset_status": 0, "os-force_delete": 0},
	"groups/action":          {"create-from-src": 14},
	"groups/{x}/action": {"delete": 13, "reset_status": 20, "enable_replication": 38, "disable_replication": 38,
		"failover_replication": 38, "list_replication_targets": 38},
	"group_snapshots/{x}/action": {"reset_status": 19},
	"os-services/{x}": {"enable": 0, "disable": 0, "disable-log-reason": 0, "freeze": 0, "thaw": 0,
		"failover_host": 0, "failover": 26, "get-log": 32, "set-log": 32},
}

// beyond are routes that are not in the inventory.
var beyond = []string{
	"PUT consistencygroups/{x}", // what cinderclient asks for as well as .../update
}

// TestInventory: every route and action of Cinder's is there from its
// microversion on and in none before, and nothing is that Cinder has not.
func TestInventory(t *testing.T) {
	f := newFixture(t)
	known := map[string]bool{}
	for _, route := range beyond {
		known[route] = true
	}
	for line := range strings.Lines(strings.TrimSpace(inventory)) {
		var since int
		var methods, path string
		if _, err := fmt.Sscan(line, &since, &methods, &path); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		for method := range strings.SplitSeq(methods, ",") {
			known[method+" "+path] = true
			f.isThere(since, method, path)
		}
	}
	for path, methods := range cinder.Document(true, cinder.Config{}).Paths {
		_, below, _ := strings.Cut(path, "{project}/")
		for method := range methods {
			if route := strings.ToUpper(method) + " " + anyStep(below); !known[route] {
				t.Errorf("%s is served, and no route of Cinder's", route)
			}
		}
	}
}

// anyStep names the parameters of a pattern alike.
func anyStep(pattern string) string {
	steps := strings.Split(pattern, "/")
	for i, step := range steps {
		if strings.HasPrefix(step, "{") {
			steps[i] = "{x}"
		}
	}
	return strings.Join(steps, "/")
}

// isThere asks for a route in the microversion that brought it and in the one
// before.
func (f *fixture) isThere(since int, method, path string) {
	f.Helper()
	for _, minor := range []int{since - 1, since} {
		if minor < 0 {
			continue
		}
		thing := noSuchID
		if strings.HasPrefix(path, "extensions") {
			thing = "backups"
		}
		a := f.at(minor, "admin", method, strings.ReplaceAll(path, "{x}", thing), "{}")
		absent := strings.Contains(string(a.body), `"The resource could not be found.`)
		if strings.Contains(string(a.body), `"404 Not Found"`) || absent != (minor < since) {
			f.Errorf("3.%d %s %s = %d %s", minor, method, path, a.code, a.body)
		}
	}
}

func TestActionInventory(t *testing.T) {
	f := newFixture(t)
	for path, actions := range inventoryActions {
		path = strings.ReplaceAll(path, "{x}", noSuchID)
		for _, action := range slices.Sorted(maps.Keys(actions)) {
			for _, minor := range []int{actions[action] - 1, actions[action]} {
				if minor < 0 || minor < actions[action] && minor < 13 {
					continue
				}
				method, at, body := "POST", path, `{"`+action+`":`+argumentOf(action)+`}`
				if strings.HasPrefix(path, "os-services/") {
					method, at, body = "PUT", "os-services/"+action, `{"host":"`+noSuchID+`","binary":"cinder-volume"}`
				}
				a := f.at(minor, "admin", method, at, body)
				absent := false
				for _, sentence := range []string{"There is no such action", "Unknown action", "The resource could not be found"} {
					absent = absent || strings.Contains(string(a.body), sentence)
				}
				if absent != (minor < actions[action]) {
					t.Errorf("3.%d %s %s %s = %d %s", minor, method, at, body, a.code, a.body)
				}
			}
		}
	}
}

// argumentOf is an argument that is right for an action.
func argumentOf(action string) string {
	switch action {
	case "create-from-src":
		return `{"source_group_id":"` + noSuchID + `"}`
	case "reset_status", "os-reset_status", "os-update_snapshot_status":
		return `{"status":"available"}`
	case "revert":
		return `{"snapshot_id":"` + noSuchID + `"}`
	case "os-reimage":
		return `{"image_id":"` + noSuchID + `"}`
	}
	return "{}"
}
