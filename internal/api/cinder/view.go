package cinder

import (
	"net/http"
	"strconv"

	"kvol/internal/api"
	"kvol/internal/block"
	"kvol/internal/control"
)

// view shows things as /v2 does, or as a microversion of /v3. It is made for
// one request.
type view struct {
	edition
	root     string // what links to pages begin with: address, version and project
	base     string // public address
	project  string // of the caller; links lead into it
	self     string // what the links begin with, as it stands in JSON
	bookmark string
	admin    bool
	service  bool // a caller with the role service
	shows    *shown
	extra    bool // Config.V2ExtraFields
	host     string
	typeRows bool
	keyName  func(block.SecretID) (block.SecretID, bool)
}

func (s *server) viewFor(r *http.Request, c block.Caller) view {
	base, project, in := api.PublicURL(r, s.cfg.PublicURL), string(c.Project), editionOf(r.Context())
	below := "/" + project + "/"
	if in.short {
		below = "/"
	}
	root := base + "/v2" + below
	if in.v3 {
		root = base + "/v3" + below
	}
	return view{edition: in, root: root, base: base, project: project, self: unquoted(root),
		bookmark: unquoted(base + below), admin: c.Admin(), service: c.Has("service"),
		shows: &shown{caller: c, control: s.cfg.Control},
		extra: s.cfg.V2ExtraFields, host: s.cfg.Host, typeRows: s.cfg.V2UploadTypeFormat != UploadTypeMap,
		keyName: s.cfg.keyName}
}

// links writes a resource's self and bookmark.
func (v view) links(e *encoder, collection, id string) {
	e.key("links")
	e.open('[')
	for _, l := range [2]struct{ prefix, rel string }{{v.self, "self"}, {v.bookmark, "bookmark"}} {
		e.open('{')
		e.key("href")
		e.next()
		e.b = append(e.b, '"')
		for _, part := range [4]string{l.prefix, collection, "/", id} { // ids are UUIDs and need no escapes
			e.b = append(e.b, part...)
		}
		e.b = append(e.b, '"')
		e.stringMember("rel", l.rel)
		e.close('}')
	}
	e.close(']')
}

// volumeSummary writes a row of GET /volumes.
func (v view) volumeSummary(e *encoder, vol block.Volume) {
	e.open('{')
	e.stringMember("id", string(vol.ID))
	v.links(e, "volumes", string(vol.ID))
	orNull(e, "name", vol.Name)
	e.close('}')
}

// volume writes a volume in full: all keys that the guide names in tables or
// shows in examples.
func (v view) volume(e *encoder, vol block.Volume) {
	if v.v3 {
		v.volume3(e, vol, true)
		return
	}
	e.open('{')
	v.attachments(e, vol)
	v.links(e, "volumes", string(vol.ID))
	e.stringMember("availability_zone", vol.AvailabilityZone)
	e.boolMember("encrypted", vol.Encrypted)
	e.nullMember("os-volume-replication:extended_status")
	e.key("volume_type")
	if vol.TypeName == "" {
		e.null()
	} else {
		e.text(vol.TypeName)
	}
	orNull(e, "snapshot_id", vol.SnapshotID)
	e.stringMember("id", string(vol.ID))
	e.wholeMember("size", vol.Size)
	e.stringMember("user_id", string(vol.User))
	e.stringMember("os-vol-tenant-attr:tenant_id", string(vol.Project))
	v.metadata(e, vol)
	e.stringMember("status", string(vol.Status))
	orNull(e, "description", vol.Description)
	e.boolMember("multiattach", vol.Multiattach)
	orNull(e, "source_volid", vol.SourceVolumeID)
	legacyGroup(e, vol)
	orNull(e, "name", vol.Name)
	e.stringMember("bootable", strconv.FormatBool(vol.Bootable))
	e.timeMember("created_at", vol.CreatedAt)
	e.nullMember("os-volume-replication:driver_data")
	e.key("replication_status")
	if vol.ReplicationStatus == "" {
		e.text("disabled")
	} else {
		e.text(vol.ReplicationStatus)
	}
	if len(vol.ImageMetadata) > 0 {
		e.textsMember("volume_image_metadata", vol.ImageMetadata)
	}
	if v.extra {
		v.volumeExtra(e, vol)
	}
	e.close('}')
}

// legacyGroup names the group of a volume under the name that the older API has
// for it, if that made the group.
func legacyGroup(e *encoder, vol block.Volume) {
	if vol.GroupType != block.LegacyGroupType {
		e.nullMember("consistencygroup_id")
		return
	}
	orNull(e, "consistencygroup_id", vol.GroupID)
}

// changedVolume writes a volume as create and update answer with it.
func (v view) changedVolume(e *encoder, vol block.Volume) {
	if v.v3 {
		v.volume3(e, vol, false)
		return
	}
	v.volume(e, vol)
}

// volumeExtra writes Cinder's keys that the guide lacks.
func (v view) volumeExtra(e *encoder, vol block.Volume) {
	e.timeMember("updated_at", vol.UpdatedAt)
	if v.admin {
		textOrNull(e, "migration_status", vol.MigrationStatus)
	}
	v.volumeHost(e, vol)
}

// volumeHost writes where a volume lies, for those who may know.
func (v view) volumeHost(e *encoder, vol block.Volume) {
	if v.shows.see(partMigration) {
		textOrNull(e, "os-vol-mig-status-attr:migstat", vol.MigrationStatus)
		e.nullMember("os-vol-mig-status-attr:name_id")
	}
	switch {
	case !v.shows.see(partHost):
	case vol.Backend == "": // none could take it
		e.nullMember("os-vol-host-attr:host")
	default:
		e.stringMember("os-vol-host-attr:host", v.host+"@"+vol.Backend+"#"+vol.Backend)
	}
}

// metadata writes the tenant's metadata and, as Cinder does, what of the
// administrator's is for all eyes (volumes.py, _visible_admin_metadata_keys).
func (v view) metadata(e *encoder, vol block.Volume) {
	e.key("metadata")
	e.open('{')
	for k, text := range vol.Metadata {
		if k != "readonly" && k != "attached_mode" {
			e.stringMember(k, text)
		}
	}
	if vol.Readonly {
		e.stringMember("readonly", "True")
	} else if text, ok := vol.Metadata["readonly"]; ok {
		e.stringMember("readonly", text)
	}
	mode, ok := vol.Metadata["attached_mode"]
	for _, a := range vol.Attachments {
		if a.Status == "attached" && a.Mode != "" {
			mode, ok = a.Mode, true
			break
		}
	}
	if ok {
		e.stringMember("attached_mode", mode)
	}
	e.close('}')
}

// attachments writes those that hold the volume now. id is the volume's, as
// it always was in Cinder.
func (v view) attachments(e *encoder, vol block.Volume) {
	e.key("attachments")
	e.open('[')
	for _, a := range vol.Attachments {
		if a.Status != "attached" {
			continue
		}
		e.open('{')
		orNull(e, "server_id", a.ServerID)
		e.stringMember("attachment_id", string(a.ID))
		e.stringMember("volume_id", string(vol.ID))
		orNull(e, "device", a.Device)
		e.stringMember("id", string(vol.ID))
		if v.extra {
			orNull(e, "host_name", a.HostName)
			e.timeMember("attached_at", a.AttachedAt)
		}
		e.close('}')
	}
	e.close(']')
}

// snapshot writes a snapshot; show and detail have the extended attributes,
// lists, create and update do not.
func (v view) snapshot(e *encoder, s block.Snapshot, extended bool) {
	if v.v3 {
		v.snapshot3(e, s, extended, true)
		return
	}
	e.open('{')
	e.stringMember("status", string(s.Status))
	if extended {
		e.stringMember("os-extended-snapshot-attributes:progress", s.Progress)
	}
	orNull(e, "description", s.Description)
	e.timeMember("created_at", s.CreatedAt)
	e.textsMember("metadata", s.Metadata)
	e.stringMember("volume_id", string(s.VolumeID))
	if extended {
		e.stringMember("os-extended-snapshot-attributes:project_id", string(s.Project))
	}
	e.wholeMember("size", s.Size)
	e.stringMember("id", string(s.ID))
	orNull(e, "name", s.Name)
	if v.extra {
		e.timeMember("updated_at", s.UpdatedAt)
	}
	e.close('}')
}

// volumeType writes a type as lists and show have it; the guide shows all
// extra_specs to everybody.
func (v view) volumeType(e *encoder, t block.VolumeType) {
	if v.v3 {
		v.volumeType3(e, t, true)
		return
	}
	e.open('{')
	e.boolMember("os-volume-type-access:is_public", t.Public)
	e.textsMember("extra_specs", t.ExtraSpecs)
	e.stringMember("id", string(t.ID))
	e.stringMember("name", t.Name)
	orNull(e, "description", t.Description)
	if v.extra {
		e.boolMember("is_public", t.Public)
		if v.shows.see(partTypeQoS) {
			orNull(e, "qos_specs_id", t.QoSSpecsID)
		}
	}
	e.close('}')
}

// upload writes the answer to os-volume_upload_image.
func (v view) upload(e *encoder, u control.Upload) {
	e.open('{')
	e.stringMember("status", string(u.Volume.Status))
	e.stringMember("image_name", u.ImageName)
	e.stringMember("disk_format", u.DiskFormat)
	e.stringMember("container_format", u.ContainerFormat)
	e.timeMember("updated_at", u.UpdatedAt)
	e.stringMember("image_id", u.ImageID)
	orNull(e, "display_description", u.Volume.Description)
	e.stringMember("id", string(u.Volume.ID))
	e.wholeMember("size", u.Volume.Size)
	e.key("volume_type")
	if u.Type == nil {
		e.null()
	} else {
		v.typeRow(e, *u.Type)
	}
	if v.v3 {
		e.stringMember("visibility", u.Visibility)
		e.boolMember("protected", u.Protected)
	}
	e.close('}')
}

// typeRow writes a type as the database row that Kilo lets out here.
func (v view) typeRow(e *encoder, t block.VolumeType) {
	e.open('{')
	e.stringMember("name", t.Name)
	orNull(e, "qos_specs_id", t.QoSSpecsID)
	e.boolMember("deleted", false)
	e.nullMember("deleted_at")
	e.timeMember("created_at", t.CreatedAt)
	e.timeMember("updated_at", t.UpdatedAt)
	if v.typeRows && !v.v3 {
		specRows(e, t)
	} else {
		e.textsMember("extra_specs", t.ExtraSpecs)
	}
	e.boolMember("is_public", t.Public)
	e.stringMember("id", string(t.ID))
	orNull(e, "description", t.Description)
	e.close('}')
}
