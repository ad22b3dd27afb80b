package cinder

import (
	"strconv"

	"kvol/internal/block"
	"kvol/internal/control"
)

// volume3 writes a volume as /v3 does: exactly the keys of the microversion
// (cinder/api/v3/views/volumes.py). extended adds what show and detail have.
func (v view) volume3(e *encoder, vol block.Volume, extended bool) {
	e.open('{')
	e.stringMember("id", string(vol.ID))
	e.stringMember("status", string(vol.Status))
	e.wholeMember("size", vol.Size)
	e.stringMember("availability_zone", vol.AvailabilityZone)
	e.timeMember("created_at", vol.CreatedAt)
	e.timeMember("updated_at", vol.UpdatedAt)
	orNull(e, "name", vol.Name)
	orNull(e, "description", vol.Description)
	textOrNull(e, "volume_type", vol.TypeName)
	orNull(e, "snapshot_id", vol.SnapshotID)
	orNull(e, "source_volid", vol.SourceVolumeID)
	v.metadata(e, vol)
	v.links(e, "volumes", string(vol.ID))
	e.stringMember("user_id", string(vol.User))
	e.stringMember("bootable", strconv.FormatBool(vol.Bootable))
	e.boolMember("encrypted", vol.Encrypted)
	textOrNull(e, "replication_status", vol.ReplicationStatus)
	legacyGroup(e, vol)
	e.boolMember("multiattach", vol.Multiattach)
	v.attachments3(e, vol)
	if v.admin {
		textOrNull(e, "migration_status", vol.MigrationStatus)
	}
	v.volumeNewer(e, vol)
	if extended {
		if v.shows.see(partTenant) {
			e.stringMember("os-vol-tenant-attr:tenant_id", string(vol.Project))
		}
		v.volumeHost(e, vol)
		if len(vol.ImageMetadata) > 0 {
			e.textsMember("volume_image_metadata", vol.ImageMetadata)
		}
	}
	e.close('}')
}

// volumeNewer writes the keys that microversions brought. No host shares a
// target here, so shared_targets is false and no service has to be named.
func (v view) volumeNewer(e *encoder, vol block.Volume) {
	if v.since(13) {
		orNull(e, "group_id", vol.GroupID)
	}
	if v.since(21) && v.admin {
		e.nullMember("provider_id")
	}
	if v.since(48) {
		e.boolMember("shared_targets", false)
		e.nullMember("service_uuid")
	}
	if v.since(61) && v.admin {
		e.nullMember("cluster_name")
	}
	if v.since(63) {
		textOrNull(e, "volume_type_id", string(vol.TypeID))
	}
	if v.since(64) && vol.Encryption != nil {
		name := vol.Encryption.Key
		if v.keyName != nil {
			name, _ = v.keyName(name)
		}
		textOrNull(e, "encryption_key_id", string(name))
	}
	if v.since(65) {
		e.boolMember("consumes_quota", true)
	}
}

// attachments3 writes those that hold the volume now. Which host that is is
// for administrators, and for services (Glance asks it of its own volumes).
func (v view) attachments3(e *encoder, vol block.Volume) {
	e.key("attachments")
	e.open('[')
	for _, a := range vol.Attachments {
		if a.Status != "attached" {
			continue
		}
		e.open('{')
		e.stringMember("id", string(vol.ID))
		e.stringMember("attachment_id", string(a.ID))
		e.stringMember("volume_id", string(vol.ID))
		orNull(e, "server_id", a.ServerID)
		if v.admin || v.service {
			orNull(e, "host_name", a.HostName)
		} else {
			e.nullMember("host_name")
		}
		orNull(e, "device", a.Device)
		e.timeMember("attached_at", a.AttachedAt)
		e.close('}')
	}
	e.close(']')
}

// snapshot3 writes a snapshot as /v3 does (cinder/api/v3/views/snapshots.py).
// In a list without details what microversions brought is left out.
func (v view) snapshot3(e *encoder, s block.Snapshot, extended, newer bool) {
	e.open('{')
	e.stringMember("id", string(s.ID))
	e.timeMember("created_at", s.CreatedAt)
	e.timeMember("updated_at", s.UpdatedAt)
	orNull(e, "name", s.Name)
	orNull(e, "description", s.Description)
	e.stringMember("volume_id", string(s.VolumeID))
	e.stringMember("status", string(s.Status))
	e.wholeMember("size", s.Size)
	e.textsMember("metadata", s.Metadata)
	if newer && v.since(14) {
		orNull(e, "group_snapshot_id", s.GroupSnapshotID)
	}
	if newer && v.since(41) {
		e.stringMember("user_id", string(s.User))
	}
	if newer && v.since(65) {
		e.boolMember("consumes_quota", true)
	}
	if extended && v.shows.see(partSnapshot) {
		e.stringMember("os-extended-snapshot-attributes:project_id", string(s.Project))
		e.stringMember("os-extended-snapshot-attributes:progress", s.Progress)
	}
	e.close('}')
}

// volumeType3 writes a type as /v3 does. access says whether the key of the
// extension os-volume-type-access is there too.
func (v view) volumeType3(e *encoder, t block.VolumeType, access bool) {
	e.open('{')
	e.stringMember("id", string(t.ID))
	e.stringMember("name", t.Name)
	e.boolMember("is_public", t.Public)
	orNull(e, "description", t.Description)
	switch {
	case !v.shows.see(partTypeSpecs):
	case v.shows.see(partAllSpecs):
		e.textsMember("extra_specs", t.ExtraSpecs)
	default:
		open := map[string]string{}
		for _, key := range control.VisibleSpecs {
			if text, ok := t.ExtraSpecs[key]; ok {
				open[key] = text
			}
		}
		e.textsMember("extra_specs", open)
	}
	if v.shows.see(partTypeQoS) {
		orNull(e, "qos_specs_id", t.QoSSpecsID)
	}
	if access {
		e.boolMember("os-volume-type-access:is_public", t.Public)
	}
	e.close('}')
}

// textOrNull writes a string, or null for an empty one.
func textOrNull(e *encoder, name, text string) {
	e.key(name)
	if text == "" {
		e.null()
		return
	}
	e.text(text)
}
