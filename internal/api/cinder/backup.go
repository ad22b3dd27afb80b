package cinder

import (
	"net/http"
	"slices"

	"kvol/internal/block"
	"kvol/internal/control"
)

// backupRoutes are the operations on backups (cinder/api/v3/backups.py).
var backupRoutes = []route{
	{"GET", "/backups", 0, listBackups},
	{"GET", "/backups/detail", 0, listBackupsDetail},
	{"POST", "/backups", 0, createBackup},
	{"POST", "/backups/import_record", 0, importBackup},
	{"GET", "/backups/{id}", 0, showBackup},
	{"PUT", "/backups/{id}", 9, updateBackup},
	{"DELETE", "/backups/{id}", 0, deleteBackup},
	{"POST", "/backups/{id}/restore", 0, restoreBackup},
	{"GET", "/backups/{id}/export_record", 0, exportBackup},
	{"POST", "/backups/{id}/action", 0, backupAction},
}

var backupList = listing{name: "backups_links", path: "backups", strict: true,
	sort: []string{"id", "name", "display_name", "description", "display_description", "size", "status", "volume_id",
		"container", "created_at", "updated_at", "data_timestamp", "object_count", "project_id", "user_id"},
	filters: []string{"name", "status", "volume_id"}}

// The bodies (cinder/api/schemas/backups.py).
var (
	newBackupMembers = []property{
		{"volume_id", true, &schema{kinds: []string{"string"}, uuid: true}},
		{"container", false, shortText},
		{"description", false, shortText},
		{"incremental", false, boolean},
		{"force", false, boolean},
		{"name", false, shortText},
		{"snapshot_id", false, optionalID},
	}
	createBackupBody   = newBackupBody()
	createBackupBody43 = newBackupBody(property{"metadata", false, metaOrNull})
	createBackupBody51 = newBackupBody(property{"metadata", false, metaOrNull},
		property{"availability_zone", false, shortText})

	updateBackupBody   = updateBackupBodyOf()
	updateBackupBody43 = updateBackupBodyOf(property{"metadata", false, metadata})

	restoreBackupBody = envelope("restore", &schema{kinds: []string{"object", "null"}, closed: true,
		members: []property{{"name", false, shortText},
			{"volume_id", false, optionalID}}})
	importBackupBody = envelope("backup-record", &schema{kinds: []string{"object"}, closed: true, members: []property{
		{"backup_service", true, &schema{kinds: []string{"string"}, maxLen: 255}},
		{"backup_url", true, &schema{kinds: []string{"string"}, minLen: 1, base64: true}}}})
)

func newBackupBody(more ...property) *schema {
	return envelope("backup", &schema{kinds: []string{"object"}, closed: true,
		members: append(slices.Clone(newBackupMembers), more...)})
}

func updateBackupBodyOf(more ...property) *schema {
	return envelope("backup", &schema{kinds: []string{"object", "null"}, closed: true, members: append([]property{
		{"name", false, shortText}, {"description", false, shortText}}, more...)})
}

var backupActions = map[string]action{
	"os-reset_status": {strict(resetSnapshotBody), resetBackup},
	"os-force_delete": {always(anything), forceDeleteBackup},
}

func (c *call) backupID() block.BackupID { return block.BackupID(c.r.PathValue("id")) }

func listBackups(c *call) error { return c.backups("backups", c.view.backupSummary) }

func listBackupsDetail(c *call) error { return c.backups("backups/detail", c.view.backup) }

func (c *call) backups(collection string, show func(*encoder, block.Backup)) error {
	p, err := c.page(backupList)
	if err != nil {
		return err
	}
	p.collection = collection
	var backups []block.Backup
	if !p.none {
		if backups, err = c.s.cfg.Control.ListBackups(c.r.Context(), c.caller, p.query); err != nil {
			return err
		}
	}
	count, counted, err := c.count(p, c.s.cfg.Control.CountBackups)
	if err != nil {
		return err
	}
	return c.ok(func(e *encoder) {
		e.open('{')
		e.key("backups")
		e.open('[')
		for _, b := range backups {
			show(e, b)
		}
		e.close(']')
		if len(backups) > 0 {
			p.links(e, len(backups), string(backups[len(backups)-1].ID))
		}
		if counted {
			e.wholeMember("count", count)
		}
		e.close('}')
	})
}

func (c *call) showBackupAs(status int, show func(*encoder, block.Backup), b block.Backup, err error) error {
	if err != nil {
		return err
	}
	return c.document(status, func(e *encoder) {
		e.open('{')
		e.key("backup")
		show(e, b)
		e.close('}')
	})
}

func showBackup(c *call) error {
	b, err := c.s.cfg.Control.Backup(c.r.Context(), c.caller, c.backupID())
	return c.showBackupAs(http.StatusOK, c.view.backup, b, err)
}

func createBackup(c *call) error {
	o, err := c.checked("backup", newBackupBodyOf(c.view.edition))
	if err != nil {
		return err
	}
	o = o.object("backup")
	b, err := c.s.cfg.Control.CreateBackup(c.r.Context(), c.caller, control.NewBackup{
		VolumeID: *id[block.VolumeID](o, "volume_id"), SnapshotID: id[block.SnapshotID](o, "snapshot_id"),
		Name: o.stripped("name"), Description: o.text("description"), Container: o.text("container"),
		AvailabilityZone: o.text("availability_zone"), Incremental: o.flag("incremental"), Force: o.flag("force"),
		Metadata: o.texts("metadata"),
	})
	return c.showBackupAs(http.StatusAccepted, c.view.backupChanged, b, err)
}

func updateBackup(c *call) error {
	o, err := c.checked("backup", changeBackupBodyOf(c.view.edition))
	if err != nil {
		return err
	}
	o = o.object("backup")
	if o == nil || len(o.members) == 0 {
		return invalid("Missing required element 'backup' in request body.")
	}
	change := control.BackupChange{Name: o.change("name"), Description: o.change("description")}
	if m := o.texts("metadata"); m != nil {
		change.Metadata = &m
	}
	b, err := c.s.cfg.Control.UpdateBackup(c.r.Context(), c.caller, c.backupID(), change)
	return c.showBackupAs(http.StatusOK, c.view.backupChanged, b, err)
}

func deleteBackup(c *call) error {
	return c.accepted(c.s.cfg.Control.DeleteBackup(c.r.Context(), c.caller, c.backupID()))
}

func restoreBackup(c *call) error {
	o, err := c.checked("restore", restoreBackupBody)
	if err != nil {
		return err
	}
	if o = o.object("restore"); o == nil {
		o = &object{}
	}
	r, err := c.s.cfg.Control.RestoreBackup(c.r.Context(), c.caller, c.backupID(), id[block.VolumeID](o, "volume_id"),
		o.stripped("name"))
	if err != nil {
		return err
	}
	return c.document(http.StatusAccepted, func(e *encoder) {
		e.open('{')
		e.key("restore")
		e.open('{')
		e.stringMember("backup_id", string(r.Backup))
		e.stringMember("volume_id", string(r.Volume))
		orNull(e, "volume_name", r.VolumeName)
		e.close('}')
		e.close('}')
	})
}

func exportBackup(c *call) error {
	url, err := c.s.cfg.Control.ExportBackup(c.r.Context(), c.caller, c.backupID())
	if err != nil {
		return err
	}
	return c.ok(func(e *encoder) {
		e.open('{')
		e.key("backup-record")
		e.open('{')
		e.stringMember("backup_service", control.BackupService)
		e.stringMember("backup_url", url)
		e.close('}')
		e.close('}')
	})
}

func importBackup(c *call) error {
	o, err := c.checked("backup-record", importBackupBody)
	if err != nil {
		return err
	}
	o = o.object("backup-record")
	b, err := c.s.cfg.Control.ImportBackup(c.r.Context(), c.caller, *o.text("backup_service"), *o.text("backup_url"))
	return c.showBackupAs(http.StatusCreated, c.view.backupSummary, b, err)
}

func backupAction(c *call) error { return c.act(backupActions) }

func resetBackup(c *call, o *object) error {
	return c.accepted(c.s.cfg.Control.ResetBackupStatus(c.r.Context(), c.caller, c.backupID(), *o.text("status")))
}

func forceDeleteBackup(c *call, _ *object) error {
	return c.accepted(c.s.cfg.Control.ForceDeleteBackup(c.r.Context(), c.caller, c.backupID()))
}

// backupSummary writes a row of GET /backups (cinder/api/views/backups.py).
func (v view) backupSummary(e *encoder, b block.Backup) {
	e.open('{')
	v.backupHead(e, b)
	e.close('}')
}

func (v view) backupHead(e *encoder, b block.Backup) {
	e.stringMember("id", string(b.ID))
	orNull(e, "name", b.Name)
	v.links(e, "backups", string(b.ID))
}

// backupChanged writes a backup as create and update answer with it.
func (v view) backupChanged(e *encoder, b block.Backup) {
	e.open('{')
	v.backupHead(e, b)
	if v.since(43) {
		e.textsMember("metadata", b.Metadata)
	}
	e.close('}')
}

// backup writes a backup in full.
func (v view) backup(e *encoder, b block.Backup) {
	e.open('{')
	v.backupHead(e, b)
	e.stringMember("status", string(b.Status))
	e.wholeMember("size", b.Size)
	e.wholeMember("object_count", b.ObjectCount)
	orNull(e, "availability_zone", b.AvailabilityZone)
	orNull(e, "container", b.Container)
	e.timeMember("created_at", b.CreatedAt)
	e.timeMember("updated_at", b.UpdatedAt)
	orNull(e, "description", b.Description)
	orNull(e, "fail_reason", b.FailReason)
	e.stringMember("volume_id", string(b.VolumeID))
	e.boolMember("is_incremental", b.ParentID != nil)
	e.boolMember("has_dependent_backups", b.Dependents > 0)
	orNull(e, "snapshot_id", b.SnapshotID)
	e.timeMember("data_timestamp", b.DataTimestamp)
	if v.since(18) && v.shows.see(partBackupProject) {
		e.stringMember("os-backup-project-attr:project_id", string(b.Project))
	}
	if v.since(43) {
		e.textsMember("metadata", b.Metadata)
	}
	if v.since(56) {
		e.stringMember("user_id", string(b.User))
	}
	if v.since(64) && b.Encryption != nil {
		e.stringMember("encryption_key_id", string(b.Encryption.Key))
	}
	e.close('}')
}
