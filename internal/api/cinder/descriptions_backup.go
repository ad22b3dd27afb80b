package cinder

var backupDescriptions = map[string]notes{
	"GET /backups": {summary: "list backups", list: &backupList, query: counted,
		answer: listed("backups", backupRow, "backups_links", countOfItems)},
	"GET /backups/detail": {summary: "list backups in full", list: &backupList, query: counted,
		answer: listed("backups", backupShape, "backups_links", countOfItems)},
	"POST /backups": {summary: "back a volume or a snapshot up", status: 202, body: newBackupBodyOf,
		answer: under("backup", changedBackup)},
	"GET /backups/{id}": {summary: "show a backup", answer: under("backup", backupShape)},
	"PUT /backups/{id}": {summary: "change a backup's name, description or metadata", body: changeBackupBodyOf,
		answer: under("backup", changedBackup)},
	"DELETE /backups/{id}":      {summary: "delete a backup", status: 202},
	"POST /backups/{id}/action": {summary: "do something with a backup", status: 202, actions: backupActions},
	"POST /backups/{id}/restore": {summary: "restore a backup to a volume", status: 202, body: always(restoreBackupBody),
		answer: under("restore", obj(all(f("backup_id", text), f("volume_id", text), f("volume_name", textOrNil))))},
	"GET /backups/{id}/export_record": {summary: "what another catalog needs to know a backup",
		answer: under("backup-record", obj(fields(text, "backup_service", "backup_url")))},
	"POST /backups/import_record": {summary: "make a backup known that another catalog exported", status: 201,
		body: always(importBackupBody), answer: under("backup", backupRow)},
}

var (
	backupMembers = all(f("id", text), f("name", textOrNil), f("links", links))
	backupRow     = obj(backupMembers)
	changedBackup = obj(backupMembers, all(from3(43, "metadata", texts)))
	backupShape   = obj(backupMembers, fields(text, "status", "created_at", "volume_id"),
		fields(textOrNil, "availability_zone", "container", "updated_at", "description", "fail_reason", "snapshot_id",
			"data_timestamp"),
		fields(whole, "size", "object_count"), fields(flag, "is_incremental", "has_dependent_backups"),
		all(from3(43, "metadata", texts), from3(56, "user_id", text)),
		some(from3(18, "os-backup-project-attr:project_id", text)))
)

// newBackupBodyOf and changeBackupBodyOf are the bodies in an edition.
func newBackupBodyOf(in edition) *schema {
	switch {
	case in.since(51):
		return createBackupBody51
	case in.since(43):
		return createBackupBody43
	}
	return createBackupBody
}

func changeBackupBodyOf(in edition) *schema {
	if in.since(43) {
		return updateBackupBody43
	}
	return updateBackupBody
}
