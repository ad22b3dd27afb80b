package cinder_test

import (
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"

	"kvol/internal/api/cinder"
	"kvol/internal/block"
	"kvol/internal/catalog"
)

// personaRoutes says of each route who may: r for readers and above, m for
// members and above, a for administrators, e for everybody with a token. TestPersonas
// looks closer at many of them. Words with % name things of the project.
const personaRoutes = `
r GET volumes,volumes/detail,volumes/summary,volumes/%v,volumes/%v/metadata,volumes/%v/metadata/k
r GET volumes/%v/encryption,volumes/%v/encryption/cipher
m POST volumes {"volume":{"size":1}}
m PUT volumes/%v {"volume":{"name":"n"}}
m POST,PUT volumes/%v/metadata {"metadata":{"k":"v"}}
m PUT volumes/%v/metadata/k {"meta":{"k":"v"}}
m DELETE volumes/%v/metadata/k
m POST volumes/%v/action {"os-reserve":{}}
m DELETE volumes/%v
r GET snapshots,snapshots/detail,snapshots/%s,snapshots/%s/metadata,snapshots/%s/metadata/k
m POST snapshots {"snapshot":{"volume_id":"%v"}}
m PUT snapshots/%s {"snapshot":{"name":"n"}}
m POST,PUT snapshots/%s/metadata {"metadata":{"k":"v"}}
m PUT snapshots/%s/metadata/k {"meta":{"k":"v"}}
m DELETE snapshots/%s/metadata/k
a POST snapshots/%s/action {"os-reset_status":{"status":"available"}}
m DELETE snapshots/%s
r GET types,types/default,types/%t,types/%t/extra_specs,types/%t/extra_specs/multiattach
a POST types {"volume_type":{"name":"%n"}}
a PUT types/%t {"volume_type":{"description":"d"}}
a POST types/%t/action {"addProjectAccess":{"project":"p"}}
a GET types/%t/os-volume-type-access,types/%t/encryption,types/%t/encryption/cipher
a POST types/%t/extra_specs {"extra_specs":{"k":"v"}}
a PUT types/%t/extra_specs/k {"k":"v"}
a DELETE types/%t/extra_specs/k,types/%t/encryption/x,types/%x
a POST types/%t/encryption {"encryption":{"provider":"luks","control_location":"front-end"}}
a PUT types/%t/encryption/x {"encryption":{"provider":"luks"}}
a GET default-types,default-types/%p
a PUT default-types/%p {"default_type":{"volume_type":"General HDD"}}
a DELETE default-types/%p
a GET qos-specs,qos-specs/%x,qos-specs/%x/associations,qos-specs/%x/disassociate_all
a GET qos-specs/%x/associate?vol_type_id=%t,qos-specs/%x/disassociate?vol_type_id=%t
a POST qos-specs {"qos_specs":{"name":"%n"}}
a PUT qos-specs/%x {"qos_specs":{"k":"v"}}
a PUT qos-specs/%x/delete_keys {"keys":["k"]}
a DELETE qos-specs/%x
r GET attachments,attachments/detail,attachments/%a
m POST attachments {"attachment":{"volume_uuid":"%v"}}
m PUT attachments/%a {"attachment":{"connector":{"host":"h"}}}
m POST attachments/%a/action {"os-complete":{}}
m DELETE attachments/%a
e GET limits,os-availability-zone,extensions,extensions/backups,resource_filters
r GET os-quota-sets/%p,os-quota-sets/%p/defaults
a PUT os-quota-sets/%p {"quota_set":{"volumes":-1}}
a DELETE os-quota-sets/%p
a GET os-quota-class-sets/default
a PUT os-quota-class-sets/default {"quota_class_set":{"volumes":-1}}
a GET os-services,scheduler-stats/get_pools,capabilities/kvol@hdd_general,os-hosts,os-hosts/kvol@hdd_general
a PUT os-services/enable {"host":"kvol@hdd_general","binary":"cinder-volume"}
a GET clusters,clusters/detail,clusters/x
a PUT clusters/enable {"name":"x"}
a POST workers/cleanup {}
r GET messages
e GET messages/%x
e DELETE messages/%x
r GET backups,backups/detail,backups/%b
m POST backups {"backup":{"volume_id":"%v"}}
m PUT backups/%b {"backup":{"name":"n"}}
m DELETE backups/%b
m POST backups/%b/restore {"restore":{}}
a POST backups/%b/action {"os-reset_status":{"status":"error"}}
a GET backups/%b/export_record
a POST backups/import_record {"backup-record":{"backup_service":"s","backup_url":"dQ=="}}
r GET os-volume-transfer,os-volume-transfer/detail,volume-transfers,volume-transfers/detail
r GET os-volume-transfer/%o,volume-transfers/%o
m POST os-volume-transfer,volume-transfers {"transfer":{"volume_id":"%v"}}
m POST os-volume-transfer/%o/accept,volume-transfers/%o/accept {"accept":{"auth_key":"k"}}
m DELETE os-volume-transfer/%o,volume-transfers/%q
e GET group_types,group_types/default,group_types/%k
a POST group_types {"group_type":{"name":"%n"}}
a PUT group_types/%k {"group_type":{"name":"%n"}}
a DELETE group_types/%x
a GET group_types/%k/group_specs,group_types/%k/group_specs/k
a POST group_types/%k/group_specs {"group_specs":{"k":"v"}}
a PUT group_types/%k/group_specs/k {"k":"v"}
a DELETE group_types/%k/group_specs/k
r GET groups,groups/detail,groups/%g,consistencygroups,consistencygroups/detail
m POST groups {"group":{"group_type":"g","volume_types":["General HDD"]}}
m POST groups/action {"create-from-src":{"source_group_id":"%g"}}
m PUT groups/%g {"group":{"name":"%n"}}
m POST groups/%g/action {"delete":{}}
r GET group_snapshots,group_snapshots/detail,group_snapshots/%i,cgsnapshots,cgsnapshots/detail
m POST group_snapshots {"group_snapshot":{"group_id":"%g"}}
m DELETE group_snapshots/%i
a POST group_snapshots/%i/action {"reset_status":{"status":"error"}}
m POST consistencygroups {"consistencygroup":{"volume_types":"General HDD"}}
m POST consistencygroups/create_from_src {"consistencygroup-from-src":{"source_cgid":"%x"}}
e GET consistencygroups/%x,cgsnapshots/%x
e PUT consistencygroups/%x,consistencygroups/%x/update {"consistencygroup":{"name":"n"}}
e POST consistencygroups/%x/delete {"consistencygroup":{"force":false}}
e POST cgsnapshots {"cgsnapshot":{"consistencygroup_id":"%x"}}
e DELETE cgsnapshots/%x
a GET os-volume-manage?host=kvol@hdd_general,os-volume-manage/detail?host=kvol@hdd_general
a GET os-snapshot-manage?host=kvol@hdd_general,os-snapshot-manage/detail?host=kvol@hdd_general
a GET manageable_volumes?host=kvol@hdd_general,manageable_volumes/detail?host=kvol@hdd_general
a GET manageable_snapshots?host=kvol@hdd_general,manageable_snapshots/detail?host=kvol@hdd_general
a POST os-volume-manage,manageable_volumes {"volume":{"host":"kvol@hdd_general","ref":{"source-name":"x"}}}
a POST os-snapshot-manage,manageable_snapshots {"snapshot":{"volume_id":"%v","ref":{"source-name":"x"}}}
`

// personas are those of a route's letter, by their tokens, from those who may
// most to those who may least.
var personas = map[string][]string{"a": {"admin"}, "m": {"admin", "member"}, "r": {"admin", "member", "reader"},
	"e": {"admin", "member", "reader", "service", "other"}}

// TestPersonasOfAllRoutes asks every route as every persona. Who may not is
// refused by a policy, or told that the thing is not there if it belongs to
// another project; who may is answered otherwise, by what the thing's state allows.
func TestPersonasOfAllRoutes(t *testing.T) {
	f := newFixture(t)
	asked := map[string]bool{}
	e := documents.edition("volume "+newest, false)
	for line := range strings.Lines(strings.TrimSpace(personaRoutes)) {
		parts := append(strings.SplitN(strings.TrimSpace(line), " ", 4), "")
		for method := range strings.SplitSeq(parts[1], ",") {
			for path := range strings.SplitSeq(parts[2], ",") {
				_, name := e.find(httptest.NewRequest(method, "/v3/"+project+"/"+
					strings.ReplaceAll(path, "%", ""), nil))
				asked[name] = true
				f.asEach(personas[parts[0]], method, path, parts[3])
			}
		}
	}
	for path, methods := range cinder.Document(true, cinder.Config{}).Paths {
		for method := range methods {
			if name := strings.ToUpper(method) + " " + path; !asked[name] {
				t.Errorf("no persona asks %s", name)
			}
		}
	}
}

// ofProject finds the words for things of the member's project. The others name
// what is everybody's, or nothing.
var ofProject = regexp.MustCompile("%[vsabogipq]")

// asEach makes a request as each persona, with things of the member's project.
func (f *fixture) asEach(may []string, method, path, body string) {
	f.Helper()
	if f.words == nil {
		f.words = f.things()
	}
	f.made++
	words := strings.NewReplacer(append(slices.Clone(f.words), "%n", "n"+block.NewID())...)
	for _, token := range []string{"other", "service", "reader", "member", "admin"} {
		a := f.at(newestMinor(), token, method, words.Replace(path), words.Replace(body))
		refused := a.code == 403
		switch named := ofProject.MatchString(path + body); {
		case slices.Contains(may, token):
			if refused || a.code >= 500 && a.code != 503 {
				f.Errorf("%s %s %s as %s: %d %s", method, path, body, token, a.code, a.body)
			}
		case refused, (token == "other" || token == "service") && (a.code == 404 || a.code == 400) && named:
		case token == "other" && slices.Contains(may, "member"): // in its own project it is a member
			if named && a.code/100 == 2 {
				f.Errorf("%s %s %s of another project: %d %s", method, path, body, a.code, a.body)
			}
		default:
			f.Errorf("%s %s %s as %s, who may not: %d %s", method, path, body, token, a.code, a.body)
		}
	}
}

// things are the words that name things of the member's project, each with one.
func (f *fixture) things() []string {
	f.Helper()
	f.wantAs("admin", 200, "PUT", "os-quota-sets/"+project, `{"quota_set":{"groups":-1,"volumes":-1,"backups":-1,
		"snapshots":-1,"gigabytes":-1,"backup_gigabytes":-1}}`)
	volume, snapshot := f.available(1), block.SnapshotID(block.NewID())
	f.must(f.catalog.Update(f.Context(), func(tx *catalog.Tx) error {
		return tx.InsertSnapshot(block.Snapshot{ID: snapshot, VolumeID: block.VolumeID(volume), Project: project, Size: 1,
			Status: block.SnapshotAvailable, Metadata: map[string]string{"k": "v"}})
	}))
	group := f.group("g")
	offer := func() string {
		return f.want(202, "POST", "os-volume-transfer", `{"transfer":{"volume_id":"`+f.available(1)+`"}}`).
			text(f, "transfer.id")
	}
	return []string{"%v", volume, "%s", string(snapshot), "%t", hddType, "%p", project, "%x", noSuchID, "%g", group,
		"%a", f.attachment(f.available(1)), "%k", string(block.LegacyGroupType),
		"%b", f.want(202, "POST", "backups", `{"backup":{"volume_id":"`+f.available(1)+`"}}`).text(f, "backup.id"),
		"%o", offer(), "%q", offer(),
		"%i", f.wantAt(14, "member", 202, "POST", "group_snapshots", `{"group_snapshot":{"group_id":"`+group+`"}}`).
			text(f, "group_snapshot.id")}
}
