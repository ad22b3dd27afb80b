package cinder_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"kvol/internal/api"
	"kvol/internal/api/cinder"
	"kvol/internal/block"
	"kvol/internal/control"
	"kvol/internal/driver"
	"kvol/internal/driver/mem"
	"kvol/internal/policy"
)

// ruled gives the zone an operator's rules.
func (f *fixture) ruled(rules string) {
	f.Helper()
	path := filepath.Join(f.TempDir(), "policy.yaml")
	f.must(os.WriteFile(path, []byte(rules), 0o600))
	judge, err := policy.New(policy.Config{Path: path})
	f.must(err)
	backends, err := driver.NewSet(map[string]driver.Driver{"m": mem.New(mem.Options{})}, []block.Backend{
		{Name: "hdd_general", Store: "m"}, {Name: "ssd_general", Store: "m"}})
	f.must(err)
	f.config.Control, err = control.New(control.Config{Catalog: f.catalog, Backends: backends, Zone: "kr1",
		Region: "KR1", DefaultType: "General HDD", DefaultBackend: "hdd_general", Policy: judge,
		AvailabilityZones: []string{"kr-pub-a", "kr-pub-b"}})
	f.must(err)
	f.handler = api.Wrap(cinder.New(f.config), api.Options{Fault: cinder.Fault})
}

// TestShownByRules: what Cinder has a rule for in its views is shown to those
// whom the operator's rules name, and to nobody else.
func TestShownByRules(t *testing.T) {
	for _, tt := range []struct{ rule, path, thing, keys string }{
		{"volume_extension:volume_host_attribute", "volumes/%volume", "volume", "os-vol-host-attr:host"},
		{"volume_extension:volume_mig_status_attribute", "volumes/%volume", "volume",
			"os-vol-mig-status-attr:migstat os-vol-mig-status-attr:name_id"},
		{"volume_extension:volume_tenant_attribute", "volumes/%volume", "volume", "os-vol-tenant-attr:tenant_id"},
		{"volume_extension:extended_snapshot_attributes", "snapshots/%snapshot", "snapshot",
			"os-extended-snapshot-attributes:progress os-extended-snapshot-attributes:project_id"},
		{"volume_extension:access_types_extra_specs", "types/" + hddType, "volume_type", "extra_specs"},
		{"volume_extension:access_types_qos_specs_id", "types/" + hddType, "volume_type", "qos_specs_id"},
		{"volume_extension:types_extra_specs:read_sensitive", "types/" + hddType, "volume_type.extra_specs",
			"volume_backend_name"},
		{"group:access_group_types_specs", "group_types/" + string(block.LegacyGroupType), "group_type", "group_specs"},
		{"group:group_project_attribute", "groups/%group", "group", "project_id"},
		{"group:group_snapshot_project_attribute", "group_snapshots/%instant", "group_snapshot", "project_id"},
		{"limits_extension:used_limits", "limits", "limits.absolute",
			"totalBackupGigabytesUsed totalBackupsUsed totalGigabytesUsed totalSnapshotsUsed totalVolumesUsed"},
	} {
		f := newFixture(t)
		path := tt.path
		if strings.Contains(path, "%snapshot") {
			body := `{"snapshot":{"volume_id":"` + f.available(1) + `"}}`
			path = "snapshots/" + f.want(202, "POST", "snapshots", body).text(t, "snapshot.id")
		}
		path = f.fresh(path).Replace(path)
		got := map[string][]string{}
		for _, check := range []string{"role:reader", "role:admin"} {
			f.ruled(`"` + tt.rule + `": "` + check + `"`)
			for _, token := range []string{"reader", "admin"} {
				got[check+token] = f.wantAt(58, token, 200, "GET", path, "").keys(t, tt.thing)
			}
		}
		for _, key := range strings.Fields(tt.keys) {
			if !slices.Contains(got["role:readerreader"], key) || !slices.Contains(got["role:adminadmin"], key) ||
				slices.Contains(got["role:adminreader"], key) {
				t.Errorf("%s: %s is shown wrongly: %v", tt.rule, key, got)
			}
		}
	}
}
