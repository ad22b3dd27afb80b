package cinder_test

import (
	"slices"
	"strings"
	"testing"

	"kvol/internal/api/cinder"
	"kvol/internal/api/openapi"
)

// openBodies are the bodies in which Cinder lets pass what it does not know, and
// until which microversion; 0: always (cinder/api/schemas of Zed: those without
// additionalProperties, and operations that have no schema).
var openBodies = map[string]int{
	"POST /volumes": 53, "POST /qos-specs": 0, "PUT /qos-specs/{id}": 0, "PUT /os-quota-sets/{target}": 0,
	"PUT /os-quota-class-sets/{class}": 0, "PUT /default-types/{target}": 0,
	"PUT /os-services/{action}": 0, "POST /types/{id}/encryption": 0,
	"PUT /types/{id}/encryption/{key}": 0, "POST /workers/cleanup": 0, "PUT /clusters/{name}": 0,
	"POST /consistencygroups": 0, "POST /consistencygroups/create_from_src": 0, "PUT /consistencygroups/{id}": 0,
	"PUT /consistencygroups/{id}/update": 0, "POST /consistencygroups/{id}/delete": 0, "POST /cgsnapshots": 0,
	"POST /os-volume-manage": 0, "POST /volumes/{id}/action": 0, "POST /snapshots/{id}/action": 0,
}

// openActions are those whose argument may be anything.
var openActions = []string{"os-reserve", "os-unreserve", "os-begin_detaching", "os-roll_detaching", "os-force_delete",
	"os-show_image_metadata", "os-unmanage", "os-complete", "enable_replication", "disable_replication",
	"list_replication_targets"}

// TestStrictBodies: in each microversion the bodies and the arguments of actions
// refuse members that they do not know, but for those that Cinder leaves open. That
// what is described is what is checked is held in all tests of this package.
func TestStrictBodies(t *testing.T) {
	for _, minor := range []int{0, 13, 27, 43, 47, 51, 52, 53, 55, 62, 71} {
		for path, methods := range cinder.DocumentOf(minor, cinder.Config{}).Paths {
			for method, o := range methods {
				if o.RequestBody == nil {
					continue
				}
				name := strings.ToUpper(method) + strings.TrimPrefix(path, "/v3/{project}")
				name = strings.Replace(name, "/", " /", 1)
				body := o.RequestBody.Content["application/json"].Schema
				if either, ok := body["oneOf"].([]openapi.Schema); ok {
					for _, one := range either {
						wantClosed(t, minor, name, one, openActions)
					}
					continue
				}
				until, open := openBodies[name]
				if open && (until == 0 || minor < until) {
					continue
				}
				wantClosed(t, minor, name, body, nil)
			}
		}
	}
}

// wantClosed complains of objects that are open: of a body and of its members,
// but for those named and those whose members tenants name.
func wantClosed(t *testing.T, minor int, name string, body openapi.Schema, but []string) {
	t.Helper()
	if body["additionalProperties"] != false && body["propertyNames"] == nil {
		t.Errorf("3.%d %s takes members that it does not know: %v", minor, name, body)
	}
	members, _ := body["properties"].(map[string]openapi.Schema)
	for member, s := range members {
		free := []string{"connector", "ref", "OS-SCH-HNT:scheduler_hints"}
		if kind := s["type"]; kind != "object" || slices.Contains(but, member) || slices.Contains(free, member) {
			continue
		}
		if s["additionalProperties"] != false && s["propertyNames"] == nil {
			t.Errorf("3.%d %s: %s takes members that it does not know", minor, name, member)
		}
	}
}
