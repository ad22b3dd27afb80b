package cinder

import (
	"net/http"
	"regexp"
	"slices"
	"strings"

	"kvol/internal/block"
	"kvol/internal/control"
)

// The schemas of the actions that give a volume another content, type or place
// (cinder/api/schemas/volume_actions.py, admin_actions.py, snapshot_actions.py).
var (
	retypeBody = &schema{kinds: []string{"object"}, closed: true, members: []property{
		{"new_type", true, &schema{kinds: []string{"string"}, minLen: 1, maxLen: 255}},
		{"migration_policy", false, &schema{kinds: []string{"string", "null"}, orNull: true,
			enum: []string{control.MigrateOnDemand, control.MigrateNever}}},
	}}
	revertBody = &schema{kinds: []string{"object"}, closed: true, members: []property{
		{"snapshot_id", true, &schema{kinds: []string{"string"}, uuid: true}}}}
	reimageBody = &schema{kinds: []string{"object"}, closed: true, members: []property{
		{"image_id", true, &schema{kinds: []string{"string"}, uuid: true}},
		{"reimage_reserved", false, boolean},
	}}
	migrateEndBody = &schema{kinds: []string{"object"}, closed: true, members: []property{
		{"new_volume", true, &schema{kinds: []string{"string"}, uuid: true}},
		{"error", false, &schema{kinds: []string{"boolean", "string", "null"}, booly: true}},
	}}
	extendEndBody = &schema{kinds: []string{"object"}, closed: true, members: []property{
		{"error", false, &schema{kinds: []string{"boolean", "string", "null"}, booly: true}}}}
	snapshotStatusBody = &schema{kinds: []string{"object"}, members: []property{
		{"status", true, &schema{kinds: []string{"string"}, minLen: 1, maxLen: 255}},
		{"progress", false, &schema{kinds: []string{"string", "null"}, pattern: regexp.MustCompile(`^\d{1,3}%$`)}},
	}}

	migrateMembers = []property{
		{"host", true, &schema{kinds: []string{"string", "null"}, minLen: 1, maxLen: 255}},
		{"force_host_copy", false, boolean},
		{"lock_volume", false, boolean},
	}
	migrateBody   = &schema{kinds: []string{"object"}, closed: true, members: migrateMembers}
	migrateBody16 = &schema{kinds: []string{"object"}, closed: true, members: append(slices.Clone(migrateMembers[1:]),
		property{"host", false, &schema{kinds: []string{"string", "null"}, minLen: 1, maxLen: 255}},
		property{"cluster", false, orNullText})}
)

func migrateBodyOf(in edition) *schema {
	if in.since(16) {
		return migrateBody16
	}
	return migrateBody
}

func retype(c *call, o *object) error {
	policy := control.MigrateNever
	if given := o.text("migration_policy"); given != nil {
		policy = *given
	}
	return c.accepted(c.s.cfg.Control.RetypeVolume(c.r.Context(), c.caller, c.volumeID(), *o.text("new_type"), policy))
}

func revert(c *call, o *object) error {
	return c.accepted(c.s.cfg.Control.RevertVolume(c.r.Context(), c.caller, c.volumeID(), *o.text("snapshot_id")))
}

func reimage(c *call, o *object) error {
	return c.accepted(c.s.cfg.Control.ReimageVolume(c.r.Context(), c.caller, c.volumeID(), *o.text("image_id"),
		o.flag("reimage_reserved")))
}

// migrate moves a volume to a host. There are no clusters: none is a host.
func migrate(c *call, o *object) error {
	host, cluster := o.text("host"), nonEmpty(o.text("cluster"))
	switch {
	case host != nil && cluster != nil:
		return invalid("Must specify either cluster or host, not both.")
	case cluster != nil:
		return c.accepted(c.migrateTo("@", *cluster, o))
	case host == nil:
		return invalid("Must specify either cluster or host.")
	}
	backend, _, _ := strings.Cut(*host, "#")
	return c.accepted(c.migrateTo(c.backend(backend), *host, o))
}

func (c *call) migrateTo(backend, host string, o *object) error {
	return c.s.cfg.Control.MigrateVolume(c.r.Context(), c.caller, c.volumeID(),
		control.Migration{Backend: backend, Host: host, Lock: o.flag("lock_volume")})
}

func completeMigration(c *call, o *object) error {
	saved, err := c.s.cfg.Control.CompleteMigration(c.r.Context(), c.caller, c.volumeID(),
		*id[block.VolumeID](o, "new_volume"))
	if err != nil {
		return err
	}
	return c.answer(http.StatusOK, map[string]any{"save_volume_id": saved})
}

// completeExtension is for stores that ask the compute service to grow a volume
// that is in use. None does here, so that none waits for it.
func completeExtension(c *call, _ *object) error {
	v, err := c.s.cfg.Control.Volume(c.r.Context(), c.caller, c.volumeID())
	if err != nil {
		return err
	}
	const rule = "volume_extension:volume_admin_actions:extend_volume_completion"
	if err := c.s.cfg.Control.MayAdminister(c.r.Context(), c.caller, rule); err != nil {
		return err
	}
	return invalid("Invalid volume: Volume %s does not wait for its extension to be completed, and is %s.", v.ID, v.Status)
}

func unmanageSnapshot(c *call, _ *object) error {
	return c.accepted(c.s.cfg.Control.UnmanageSnapshot(c.r.Context(), c.caller, c.snapshotID()))
}

func updateSnapshotStatus(c *call, o *object) error {
	return c.accepted(c.s.cfg.Control.UpdateSnapshotStatus(c.r.Context(), c.caller, c.snapshotID(), *o.text("status"),
		o.text("progress")))
}
