package cinder

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"kvol/internal/block"
)

// full is a volume with nothing left at its default.
func full() block.Volume {
	text := func(s string) *string { return &s }
	source, snapshot, group := block.VolumeID("source"), block.SnapshotID("snapshot"), block.GroupID("g")
	at := time.Date(2020, 3, 4, 2, 0, 0, 0, time.FixedZone("KST", 9*3600))
	return block.Volume{ID: "v", Project: "p", User: "u", Name: text("n"), Description: text("d"), Size: 7,
		Status: block.VolumeInUse, TypeID: "t", TypeName: "T", Backend: "b", AvailabilityZone: "z", Bootable: true,
		Multiattach: true, Encrypted: true, Readonly: true, SnapshotID: &snapshot, SourceVolumeID: &source,
		GroupID: &group, GroupType: block.LegacyGroupType,
		Metadata:      map[string]string{"k": "v", "readonly": "no", "attached_mode": "no"},
		ImageMetadata: map[string]string{"i": "j"}, ReplicationStatus: "enabled", CreatedAt: at,
		Attachments: []block.Attachment{
			{ID: "a0", Status: "detached", Mode: "rw"},
			{ID: "a1", ServerID: text("s"), Device: text("/dev/vdb"), Mode: "ro", Status: "attached", AttachedAt: at},
			{ID: "a2", HostName: text("h"), Mode: "rw", Status: "attached"},
		}}
}

const fullDocument = `{"attachments":[
	{"server_id":"s","attachment_id":"a1","volume_id":"v","device":"/dev/vdb","id":"v"},
	{"server_id":null,"attachment_id":"a2","volume_id":"v","device":null,"id":"v"}],
	"links":[{"rel":"self","href":"S/volumes/v"},{"rel":"bookmark","href":"B/volumes/v"}],
	"availability_zone":"z","encrypted":true,"os-volume-replication:extended_status":null,"volume_type":"T",
	"snapshot_id":"snapshot","id":"v","size":7,"user_id":"u","os-vol-tenant-attr:tenant_id":"p",
	"metadata":{"k":"v","readonly":"True","attached_mode":"ro"},"status":"in-use","description":"d","multiattach":true,
	"source_volid":"source","consistencygroup_id":"g","name":"n","bootable":"true",
	"created_at":"2020-03-03T17:00:00.000000","os-volume-replication:driver_data":null,"replication_status":"enabled",
	"volume_image_metadata":{"i":"j"}}`

const emptyDocument = `{"attachments":[],"links":[{"rel":"self","href":"S/volumes/"},
	{"rel":"bookmark","href":"B/volumes/"}],"availability_zone":"","encrypted":false,
	"os-volume-replication:extended_status":null,"volume_type":null,"snapshot_id":null,"id":"","size":0,"user_id":"",
	"os-vol-tenant-attr:tenant_id":"","metadata":{},"status":"","description":null,"multiattach":false,
	"source_volid":null,"consistencygroup_id":null,"name":null,"bootable":"false","created_at":null,
	"os-volume-replication:driver_data":null,"replication_status":"disabled"}`

const extraDocument = `{"os-volume-type-access:is_public":false,"is_public":false,"extra_specs":{"a":"b"},"id":"t",
	"name":"T","description":null,"qos_specs_id":"q"}`

func TestViews(t *testing.T) {
	nobody := &shown{}
	operator := &shown{caller: block.Caller{Roles: []string{"admin"}}}
	v := view{self: "S/", bookmark: "B/", shows: nobody}
	qos := "q"
	kind := block.VolumeType{ID: "t", Name: "T", ExtraSpecs: map[string]string{"a": "b"}, QoSSpecsID: &qos}
	for name, tt := range map[string]struct {
		write func(*encoder)
		want  string
	}{
		"full":  {func(e *encoder) { v.volume(e, full()) }, fullDocument},
		"empty": {func(e *encoder) { v.volume(e, block.Volume{}) }, emptyDocument},
		"type":  {func(e *encoder) { view{extra: true, admin: true, shows: operator}.volumeType(e, kind) }, extraDocument},
	} {
		e := &encoder{}
		tt.write(e)
		var got, want any
		if err := json.Unmarshal(e.b, &got); err != nil {
			t.Fatalf("%s: %v: %s", name, err, e.b)
		}
		if err := json.Unmarshal([]byte(tt.want), &want); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}
