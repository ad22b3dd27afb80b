package cinder

import (
	"kvol/internal/block"
	"kvol/internal/control"
)

// part is a piece of a view that a rule of Cinder's is about. What no rule is
// about is shown to everybody or, where Cinder asks context_is_admin, to
// administrators.
type part int

const (
	partHost part = iota
	partMigration
	partTenant
	partSnapshot
	partTypeSpecs
	partAllSpecs
	partTypeQoS
	partGroupProject
	partGroupSnapshotProject
	partUse
	partBackupProject
	parts // how many there are
)

var showRules = [parts]string{
	partHost:                 "volume_extension:volume_host_attribute",
	partMigration:            "volume_extension:volume_mig_status_attribute",
	partTenant:               "volume_extension:volume_tenant_attribute",
	partSnapshot:             "volume_extension:extended_snapshot_attributes",
	partTypeSpecs:            "volume_extension:access_types_extra_specs",
	partAllSpecs:             "volume_extension:types_extra_specs:read_sensitive",
	partTypeQoS:              "volume_extension:access_types_qos_specs_id",
	partGroupProject:         "group:group_project_attribute",
	partGroupSnapshotProject: "group:group_snapshot_project_attribute",
	partUse:                  "limits_extension:used_limits",
	partBackupProject:        "backup:backup_project_attribute",
}

// shown asks each rule once for a request, however many things it shows.
type shown struct {
	caller  block.Caller
	control *control.Service
	known   [parts]struct{ asked, yes bool }
}

func (s *shown) see(what part) bool {
	k := &s.known[what]
	if !k.asked {
		k.asked, k.yes = true, s.control.Sees(s.caller, showRules[what])
	}
	return k.yes
}
