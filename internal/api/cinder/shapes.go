package cinder

import "kvol/internal/api/openapi"

// What single members of answers are.
var (
	text       = is(openapi.Text)
	textOrNil  = is(openapi.OrNull(openapi.Text))
	whole      = is(openapi.Whole)
	wholeOrNil = is(openapi.OrNull(openapi.Whole))
	flag       = is(openapi.Boolean)
	nothing    = is(openapi.Null)
	texts      = is(openapi.Texts)
	whatever   = is(openapi.Any)
	free       = is(openapi.Free)
	moment     = text // UTC, 2006-01-02T15:04:05.000000
	momentNil  = textOrNil
	links      = many(obj(all(f("href", text), f("rel", text))))
)

// fields makes members of one kind.
func fields(of shape, names ...string) []field {
	var all []field
	for _, name := range names {
		all = append(all, f(name, of))
	}
	return all
}

var idAndName = all(f("id", text), f("name", textOrNil))

// Volumes.
var (
	volumeRow = obj(idAndName, all(f("links", links)))

	volume2 = obj(fields(text, "availability_zone", "id", "user_id", "os-vol-tenant-attr:tenant_id", "status", "bootable",
		"created_at", "replication_status"),
		fields(textOrNil, "volume_type", "snapshot_id", "description", "source_volid", "consistencygroup_id", "name"),
		fields(flag, "encrypted", "multiattach"), all(f("links", links), f("size", whole), f("metadata", texts),
			f("os-volume-replication:extended_status", nothing), f("os-volume-replication:driver_data", nothing),
			f("attachments", many(obj(fields(text, "attachment_id", "volume_id", "id"),
				fields(textOrNil, "server_id", "device"))))),
		some(f("volume_image_metadata", texts)))

	volume3Members = [][]field{fields(text, "id", "status", "availability_zone", "created_at", "user_id", "bootable"),
		fields(textOrNil, "updated_at", "name", "description", "volume_type", "snapshot_id", "source_volid",
			"replication_status", "consistencygroup_id"),
		fields(flag, "encrypted", "multiattach"), all(f("size", whole), f("metadata", texts), f("links", links),
			f("attachments", many(obj(fields(text, "id", "attachment_id", "volume_id"),
				fields(textOrNil, "server_id", "host_name", "device", "attached_at")))),
			from3(13, "group_id", textOrNil), from3(48, "shared_targets", is(openapi.OrNull(openapi.Boolean))),
			from3(48, "service_uuid", textOrNil), from3(63, "volume_type_id", textOrNil), from3(65, "consumes_quota", flag)),
		some(f("migration_status", textOrNil), from3(21, "provider_id", textOrNil), from3(61, "cluster_name", textOrNil))}

	changedVolume3 = obj(volume3Members...)
	volume3Detail  = obj(append(volume3Members, all(f("os-vol-tenant-attr:tenant_id", text)),
		some(f("os-vol-mig-status-attr:migstat", textOrNil), f("os-vol-mig-status-attr:name_id", textOrNil),
			f("os-vol-host-attr:host", textOrNil), f("volume_image_metadata", texts), f("encryption_key_id", textOrNil)))...)

	// volumeEncryption has only the first member where a volume is not encrypted.
	volumeEncryption = obj(all(f("encryption_key_id", textOrNil)), some(f("control_location", text),
		f("cipher", textOrNil), f("key_size", wholeOrNil), f("provider", text)))
	aVolume      = edited(volume2, volume3Detail)
	aNewVolume   = edited(volume2, changedVolume3)
	countOfItems = field{name: "count", of: whole, since: 45, maybe: true}
	aSummary     = under("volume-summary", obj(all(f("total_size", whole), f("total_count", whole),
		from3(36, "metadata", is(openapi.Schema{"type": "object", "additionalProperties": openapi.List(openapi.Text)})))))
	metadataShape = under("metadata", texts)
	metaShape     = under("meta", texts)
	connection    = under("connection_info", obj(all(f("driver_volume_type", text), f("data", free)),
		some(f("mount_point_base", text))))
	typeRowShape = obj(fields(text, "name", "id", "created_at"),
		fields(textOrNil, "qos_specs_id", "deleted_at", "updated_at", "description"), fields(flag, "deleted", "is_public"),
		all(f("extra_specs", whatever)))
	anUpload = under("os-volume_upload_image", func(r reader) openapi.Schema {
		members := [][]field{fields(text, "status", "image_name", "disk_format", "container_format", "image_id", "id"),
			all(f("updated_at", momentNil), f("display_description", textOrNil), f("size", whole),
				f("volume_type", func(r reader) openapi.Schema { return openapi.OrNull(typeRowShape(r)) }))}
		if r.v3 {
			members = append(members, all(f("visibility", text), f("protected", flag)))
		}
		return obj(members...)(r)
	})
	// imageMetadataOrPath is what volume actions answer with 200, if anything.
	imageMetadataOrPath = func(r reader) openapi.Schema {
		return openapi.Schema{"anyOf": []openapi.Schema{connection(r), metadataShape(r),
			under("save_volume_id", text)(r)}}
	}
)

// Snapshots.
var (
	snapshotMembers = [][]field{fields(text, "status", "created_at", "volume_id", "id"),
		fields(textOrNil, "description", "name"), all(f("metadata", texts), f("size", whole))}
	snapshotExtended = all(f("os-extended-snapshot-attributes:progress", text),
		f("os-extended-snapshot-attributes:project_id", text))
	snapshotMembers3 = append(snapshotMembers, all(f("updated_at", momentNil)))
	snapshotNewer    = all(from3(14, "group_snapshot_id", textOrNil), from3(41, "user_id", text),
		from3(65, "consumes_quota", flag))

	aSnapshot = edited(obj(append(snapshotMembers, snapshotExtended)...),
		obj(append(snapshotMembers3, snapshotExtended, snapshotNewer)...))
	snapshotRow  = edited(obj(snapshotMembers...), obj(snapshotMembers3...))
	aNewSnapshot = edited(obj(snapshotMembers...), obj(append(snapshotMembers3, snapshotNewer)...))
)

// Types of volumes, QoS specs.
var (
	typeShape2 = obj(all(f("os-volume-type-access:is_public", flag), f("extra_specs", texts), f("id", text),
		f("name", text), f("description", textOrNil)))
	typeMembers = all(f("id", text), f("name", text), f("is_public", flag), f("description", textOrNil),
		f("extra_specs", texts))
	typeShape3 = obj(typeMembers, some(f("qos_specs_id", textOrNil), f("os-volume-type-access:is_public", flag)))
	aType      = edited(typeShape2, typeShape3)
	encryption = some(f("provider", text), f("control_location", text), f("cipher", textOrNil), f("key_size", wholeOrNil))
	// typeEncryption is empty where a type has none.
	typeEncryption = obj(encryption, some(f("volume_type_id", text), f("encryption_id", text), f("created_at", moment),
		f("updated_at", momentNil), f("deleted_at", momentNil), f("deleted", flag)))
	newEncryption = under("encryption", obj(encryption, some(f("volume_type_id", text), f("encryption_id", text))))
	aDefault      = obj(all(f("project_id", text), f("volume_type_id", text)))
	oneText       = is(
		openapi.Schema{"type": "object", "maxProperties": 1, "additionalProperties": openapi.OrNull(openapi.Text)},
	)
	oneValue   = is(openapi.Schema{"type": "object", "maxProperties": 1})
	textsOrNil = is(openapi.Schema{"type": "object", "additionalProperties": openapi.OrNull(openapi.Text)})
	qosShape   = obj(fields(text, "id", "name", "consumer"), all(f("specs", texts)))
)

// Groups, their types and snapshots, in both APIs.
var (
	groupTypeShape = obj(all(f("id", text), f("name", text), f("description", textOrNil), f("is_public", flag)),
		some(f("group_specs", textsOrNil)))
	groupShape = obj(fields(text, "id", "status", "availability_zone", "created_at", "group_type"),
		fields(textOrNil, "name", "description"), all(f("volume_types", many(text)),
			from3(14, "group_snapshot_id", textOrNil), from3(14, "source_group_id", textOrNil),
			from3(38, "replication_status", textOrNil)),
		some(from3(25, "volumes", many(text)), from3(58, "project_id", text)))
	groupSnapshotShape = obj(fields(text, "id", "group_id", "group_type_id", "status", "created_at"),
		fields(textOrNil, "name", "description"), some(from3(58, "project_id", text)))
	named            = obj(idAndName)
	legacyGroupShape = obj(fields(text, "id", "status", "availability_zone", "created_at"),
		fields(textOrNil, "name", "description"), all(f("volume_types", many(text))))
	legacySnapshotShape = obj(fields(text, "id", "consistencygroup_id", "status", "created_at"),
		fields(textOrNil, "name", "description"))
	replicationTargets = under("replication_targets", many(is(openapi.Free)))
)

// Attachments, transfers, messages.
var (
	attachmentRow   = all(f("id", text), f("status", text), f("instance", textOrNil), f("volume_id", text))
	attachmentShape = obj(attachmentRow, fields(text, "attached_at", "detached_at", "attach_mode"),
		all(f("connection_info", free)))
	transferRow   = obj(all(f("id", text), f("volume_id", text), f("name", textOrNil), f("links", links)))
	transferShape = obj(all(f("id", text), f("created_at", moment), f("name", textOrNil), f("volume_id", text),
		f("links", links), from3(55, "no_snapshots", flag), from3(57, "destination_project_id", textOrNil),
		from3(57, "source_project_id", text), from3(57, "accepted", flag)), some(f("auth_key", text)))
	messageShape = obj(fields(text, "id", "event_id", "user_message", "message_level", "created_at", "guaranteed_until",
		"request_id", "resource_type"), all(f("links", links), f("resource_uuid", textOrNil)))
)

// Quotas, services, and what a deployment has.
var (
	quotaSet = is(openapi.Schema{"type": "object", "additionalProperties": openapi.Schema{"anyOf": []openapi.Schema{
		openapi.Whole, openapi.Text, openapi.Object(map[string]openapi.Schema{"limit": openapi.Whole,
			"in_use": openapi.Whole, "reserved": openapi.Whole})}}})
	limits = under("limits", obj(all(f("rate", is(openapi.List(openapi.Any))), f("absolute",
		obj(fields(whole, "maxTotalVolumes", "maxTotalSnapshots", "maxTotalVolumeGigabytes", "maxTotalBackups",
			"maxTotalBackupGigabytes"), some(fields(whole, "totalVolumesUsed", "totalSnapshotsUsed",
			"totalGigabytesUsed", "totalBackupsUsed", "totalBackupGigabytesUsed")...))))))
	serviceShape = obj(fields(text, "binary", "host", "zone", "status", "state"),
		all(f("updated_at", momentNil), from3(7, "cluster", textOrNil), f("disabled_reason", textOrNil)),
		some(from3(49, "backend_state", text), f("replication_status", text), f("active_backend_id", textOrNil),
			f("frozen", flag)))
	serviceChange = obj(some(f("disabled_reason", textOrNil), f("disabled", flag), f("host", text), f("service", text),
		f("binary", text), f("status", text), from3(32, "log_levels", many(whatever))))
	poolShape         = obj(all(f("name", text)), some(f("capabilities", free)))
	capabilitiesShape = obj(fields(text, "namespace", "vendor_name", "volume_backend_name", "driver_version",
		"storage_protocol"), fields(textOrNil, "pool_name", "display_name", "description", "visibility"),
		all(f("replication_targets", many(whatever)), f("properties", free)))
	hostRow = obj(fields(text, "host_name", "service", "zone", "service-status", "service-state"),
		all(f("last-update", momentNil)))
	hostUse = obj(all(f("resource", obj(fields(text, "host", "project", "volume_count", "total_volume_gb",
		"snapshot_count", "total_snapshot_gb")))))
	zoneShape      = obj(all(f("zoneName", text), f("zoneState", obj(all(f("available", flag))))))
	extensionShape = obj(fields(text, "alias", "name", "description", "updated"), all(f("links", many(text))))
	filtersShape   = obj(all(f("resource", text), f("filters", many(text))))
)
