package cinder

import (
	"regexp"
	"slices"
)

// The schemas of request bodies: cinder/api/schemas/*.py at 3.0, which is what
// v2 was checked against once it was checked at all. They are never written to.
var (
	anything    = &schema{}
	nameText    = &schema{kinds: []string{"string", "null"}, text: "name"}
	description = &schema{kinds: []string{"string", "null"}, text: "description"}
	optionalID  = &schema{uuid: true, orNull: true}
	boolean     = &schema{kinds: []string{"boolean", "string"}, booly: true}
	boolOrNull  = &schema{kinds: []string{"boolean", "string", "null"}, booly: true}
	boolOrNone  = &schema{kinds: []string{"boolean", "string", "null"}, booly: true, orNull: true}
	zoneName    = &schema{kinds: []string{"string", "null"}, minLen: 1, maxLen: 255}
	shortText   = &schema{kinds: []string{"string", "null"}, maxLen: 255}

	digits       = regexp.MustCompile(`^[0-9]+$`)
	size         = &schema{kinds: []string{"integer", "string"}, whole: true, pattern: digits}
	sizeOrNull   = &schema{kinds: []string{"integer", "string", "null"}, whole: true, pattern: digits}
	metaKey      = regexp.MustCompile(`^[a-zA-Z0-9-_:. /]{1,255}$`)
	metaValue    = &schema{kinds: []string{"string"}, maxLen: 255}
	metadata     = &schema{kinds: []string{"object"}, keys: metaKey, values: metaValue}
	metaOrNull   = &schema{kinds: []string{"object", "null"}, keys: metaKey, values: metaValue}
	metadataBody = envelope("metadata", metadata)
	metaItemBody = envelope("meta", &schema{kinds: []string{"object"}, keys: metaKey, values: metaValue, minMembers: 1,
		maxMembers: 1})
)

// envelope is a body with one required member and no other.
func envelope(name string, inner *schema) *schema {
	return &schema{kinds: []string{"object"}, closed: true, members: []property{{name, true, inner}}}
}

// newVolumeMembers are the members of a new volume in all versions.
var newVolumeMembers = []property{
	{"name", false, nameText},
	{"description", false, description},
	{"display_name", false, nameText},
	{"display_description", false, description},
	{"size", false, sizeOrNull},
	{"volume_type", false, shortText},
	{"metadata", false, metaOrNull},
	{"snapshot_id", false, optionalID},
	{"source_volid", false, optionalID},
	{"consistencygroup_id", false, optionalID},
	{"availability_zone", false, zoneName},
	{"multiattach", false, boolOrNone},
	{"image_id", false, shortText},
	{"imageRef", false, shortText},
}

// The bodies of POST /volumes: the first one is also that of /v2; groups came
// with 3.13, backups with 3.47, and since 3.53 what is not known is refused.
var (
	createVolumeBody   = newVolumeBody(false)
	createVolumeBody13 = newVolumeBody(false, "group_id")
	createVolumeBody47 = newVolumeBody(false, "group_id", "backup_id")
	createVolumeBody53 = newVolumeBody(true, "group_id", "backup_id")
)

func newVolumeBody(closed bool, ids ...string) *schema {
	members := slices.Clone(newVolumeMembers)
	for _, name := range ids {
		of := optionalID
		if name == "group_id" {
			of = shortText // whether there is such a group is found when it is looked for
		}
		members = append(members, property{name, false, of})
	}
	return &schema{kinds: []string{"object"}, closed: true, members: []property{
		{"volume", true, &schema{kinds: []string{"object"}, members: members, closed: closed}},
		{"OS-SCH-HNT:scheduler_hints", false, &schema{kinds: []string{"object", "null"}}},
	}}
}

// createVolumeBodyOf is the body of POST /volumes in an edition.
func createVolumeBodyOf(in edition) *schema {
	switch {
	case in.since(53):
		return createVolumeBody53
	case in.since(47):
		return createVolumeBody47
	case in.since(13):
		return createVolumeBody13
	}
	return createVolumeBody
}

// changeTexts are the members by which names and descriptions change.
var changeTexts = []property{
	{"name", false, nameText},
	{"description", false, description},
	{"display_name", false, nameText},
	{"display_description", false, description},
}

// namesOf are the names of members.
func namesOf(members []property) (names []string) {
	for _, p := range members {
		names = append(names, p.name)
	}
	return names
}

var (
	volumeChanges    = append([]property{{"metadata", false, metadata}}, changeTexts...)
	updateVolumeBody = envelope("volume", &schema{kinds: []string{"object"}, closed: true, members: volumeChanges})
	// updateVolumeBody53 changes something.
	updateVolumeBody53 = envelope("volume", &schema{kinds: []string{"object"}, closed: true, members: volumeChanges,
		oneOf: namesOf(volumeChanges)})
)

// updateVolumeBodyOf is the body of PUT /volumes/{id} in an edition.
func updateVolumeBodyOf(in edition) *schema {
	if in.since(53) {
		return updateVolumeBody53
	}
	return updateVolumeBody
}

var (
	newSnapshotMembers = []property{
		{"volume_id", true, &schema{uuid: true, orNull: true, kinds: []string{"string"}}},
		{"name", false, shortText},
		{"description", false, shortText},
		{"display_name", false, shortText},
		{"metadata", false, metaOrNull},
	}
	createSnapshotBody = envelope("snapshot", &schema{kinds: []string{"object"}, closed: true,
		members: append([]property{{"display_description", false, shortText}, {"force", false, boolOrNull}},
			newSnapshotMembers...)})
	createSnapshotBody3 = envelope("snapshot", &schema{kinds: []string{"object"}, closed: true,
		members: append([]property{{"force", false, boolean}}, newSnapshotMembers...)})
	updateSnapshotBody  = envelope("snapshot", &schema{kinds: []string{"object"}, closed: true, members: changeTexts})
	updateSnapshotBody3 = envelope("snapshot", &schema{kinds: []string{"object"}, closed: true, members: changeTexts,
		oneOf: namesOf(changeTexts)})
)

// createSnapshotBodyOf is the body of POST /snapshots in an edition.
func createSnapshotBodyOf(in edition) *schema {
	if in.v3 {
		return createSnapshotBody3
	}
	return createSnapshotBody
}

// updateSnapshotBodyOf is the body of PUT /snapshots/{id} in an edition.
func updateSnapshotBodyOf(in edition) *schema {
	if in.v3 {
		return updateSnapshotBody3
	}
	return updateSnapshotBody
}

var updateQuotasBody = envelope("quota_set", &schema{kinds: []string{"object"}})

// strict is the schema of an action's argument that /v3 takes as it is and no more;
// /v2 drops what it does not know, as Cinder did in its days.
func strict(s *schema) func(edition) *schema {
	closed := *s
	closed.closed = true
	return func(in edition) *schema {
		if in.v3 {
			return &closed
		}
		return s
	}
}

// The schemas of actions: what stands under the action's name.
var (
	attachBody = &schema{kinds: []string{"object"}, members: []property{
		{"mountpoint", true, &schema{kinds: []string{"string"}, minLen: 1, maxLen: 255}},
		{"instance_uuid", false, &schema{kinds: []string{"string", "null"}, uuid: true}},
		{"host_name", false, shortText},
		{"mode", false, &schema{kinds: []string{"string"}, enum: []string{"rw", "ro"}}},
	}}
	// attachBody3 names who uses the volume (cinder/api/schemas/volume_actions.py).
	attachBody3 = &schema{kinds: []string{"object"}, closed: true, members: attachBody.members,
		oneOf: []string{"instance_uuid", "host_name"}}
	detachBody = &schema{kinds: []string{"object", "null"}, members: []property{
		{"attachment_id", false, optionalID},
	}}
	forceDetachBody = &schema{kinds: []string{"object"}, members: []property{
		{"connector", false, &schema{kinds: []string{"object", "string", "null"}}},
		{"attachment_id", false, &schema{kinds: []string{"string", "null"}, uuid: true}},
	}}
	extendBody     = &schema{kinds: []string{"object"}, members: []property{{"new_size", true, size}}}
	initializeBody = &schema{kinds: []string{"object"}, members: []property{
		{"connector", true, &schema{kinds: []string{"object"}}}}}
	terminateBody = &schema{kinds: []string{"object"}, members: []property{
		{"connector", true, &schema{kinds: []string{"object", "null"}}}}}
	bootableBody = &schema{kinds: []string{"object"}, members: []property{{"bootable", true, boolean}}}
	readonlyBody = &schema{kinds: []string{"object"}, members: []property{{"readonly", true, boolean}}}
	resetBody    = &schema{kinds: []string{"object"}, members: []property{
		{"status", false, shortText},
		{"attach_status", false, shortText},
		{"migration_status", false, shortText},
	}}
	resetSnapshotBody = &schema{kinds: []string{"object"}, members: []property{
		{"status", true, &schema{kinds: []string{"string"}, minLen: 1, maxLen: 255}}}}
	setImageMetadataBody = &schema{kinds: []string{"object"}, members: []property{{"metadata", true, metadata}}}
	imageKeyBody         = &schema{kinds: []string{"object"}, members: []property{
		{"key", true, &schema{kinds: []string{"string"}, minLen: 1, maxLen: 255}}}}
	uploadBody = &schema{kinds: []string{"object"}, members: append(slices.Clone(uploadMembers),
		property{"visibility", false, &schema{kinds: []string{"string"}, enum: []string{"private", "shared"}}},
		property{"protected", false, boolean})}
	uploadBody3  = &schema{kinds: []string{"object"}, closed: true, members: uploadMembers}
	uploadBody31 = &schema{kinds: []string{"object"}, closed: true, members: append(slices.Clone(uploadMembers),
		property{"visibility", false, &schema{kinds: []string{"string"},
			enum: []string{"community", "public", "private", "shared"}}},
		property{"protected", false, boolean})}
)

// uploadMembers are those of os-volume_upload_image in all versions.
var uploadMembers = []property{
	{"image_name", true, &schema{kinds: []string{"string"}, minLen: 1, maxLen: 255}},
	{"force", false, boolean},
	{"disk_format", false, &schema{kinds: []string{"string"},
		enum: []string{"raw", "vmdk", "vdi", "qcow2", "vhd", "vhdx", "ploop"}}},
	{"container_format", false, &schema{kinds: []string{"string"}, minLen: 1, maxLen: 255}},
}
