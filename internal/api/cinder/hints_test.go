package cinder_test

import (
	"encoding/json"
	"testing"

	"kvol/internal/block"
)

// TestSchedulerHints: a new volume lies where hints say, and where they can't be
// kept to it has no host and ends in error, as in Cinder.
func TestSchedulerHints(t *testing.T) {
	f := newFixture(t)
	f.wantAs("admin", 200, "PUT", "os-quota-sets/"+project, `{"quota_set":{"volumes":20}}`)
	near := f.available(1)
	for hints, host := range map[string]any{
		`{"same_host":"` + near + `"}`:                         "kvol@hdd_general#hdd_general",
		`{"same_host":["` + near + `"]}`:                       "kvol@hdd_general#hdd_general",
		`{"same_host":[],"different_host":[]}`:                 "kvol@hdd_general#hdd_general",
		`{"query":"[\"=\",\"$x\",1]","local_to_instance":"y"}`: "kvol@hdd_general#hdd_general",
		`null`:                                  "kvol@hdd_general#hdd_general",
		`{"different_host":"` + near + `"}`:     nil, // its type names one backend
		`{"same_host":"` + block.NewID() + `"}`: nil,
		`{"same_host":"x"}`:                     nil,
		`{"different_host":[7]}`:                nil,
		`{"same_host":null}`:                    nil,
	} {
		a := f.wantAt(0, "admin", 202, "POST", "volumes",
			`{"volume":{"size":1,"volume_type":"General HDD"},"OS-SCH-HNT:scheduler_hints":`+hints+`}`)
		var made struct{ Volume struct{ ID string } }
		if err := json.Unmarshal(a.body, &made); err != nil {
			t.Fatal(err)
		}
		var shown struct{ Volume map[string]any }
		a = f.wantAt(0, "admin", 200, "GET", "volumes/"+made.Volume.ID, "")
		if err := json.Unmarshal(a.body, &shown); err != nil {
			t.Fatal(err)
		}
		if got := shown.Volume["os-vol-host-attr:host"]; got != host {
			t.Errorf("%s: on %v", hints, got)
		}
	}
}
