package control

import (
	"strconv"

	"kvol/internal/block"
	"kvol/internal/policy"
)

// owned is the target of what has an owner and nothing else that rules are
// made of. user may be "".
func owned(project block.ProjectID, user block.UserID) policy.Target {
	return func(name string) (string, bool) {
		switch name {
		case "project_id", "tenant_id":
			return string(project), true
		case "user_id":
			return string(user), user != ""
		}
		return "", false
	}
}

// volumeTarget tells rules of a volume, by the names of Cinder's columns.
func volumeTarget(v block.Volume) policy.Target {
	return func(name string) (string, bool) {
		switch name {
		case "project_id", "tenant_id":
			return string(v.Project), true
		case "user_id":
			return string(v.User), true
		case "id", "volume_id":
			return string(v.ID), true
		case "status":
			return string(v.Status), true
		case "size":
			return strconv.FormatInt(v.Size, 10), true
		case "availability_zone":
			return v.AvailabilityZone, true
		case "volume_type_id":
			return string(v.TypeID), v.TypeID != ""
		case "bootable":
			return pythonBool(v.Bootable), true
		case "multiattach":
			return pythonBool(v.Multiattach), true
		}
		return "", false
	}
}

// snapshotTarget tells rules of a snapshot.
func snapshotTarget(sn block.Snapshot) policy.Target {
	return func(name string) (string, bool) {
		switch name {
		case "project_id", "tenant_id":
			return string(sn.Project), true
		case "user_id":
			return string(sn.User), true
		case "id", "snapshot_id":
			return string(sn.ID), true
		case "volume_id":
			return string(sn.VolumeID), true
		case "status":
			return string(sn.Status), true
		case "volume_size":
			return strconv.FormatInt(sn.Size, 10), true
		}
		return "", false
	}
}

// backupTarget tells rules of a backup.
func backupTarget(b block.Backup) policy.Target {
	return func(name string) (string, bool) {
		switch name {
		case "project_id", "tenant_id":
			return string(b.Project), true
		case "user_id":
			return string(b.User), true
		case "id", "backup_id":
			return string(b.ID), true
		case "volume_id":
			return string(b.VolumeID), true
		case "status":
			return string(b.Status), true
		case "size":
			return strconv.FormatInt(b.Size, 10), true
		}
		return "", false
	}
}

func pythonBool(b bool) string {
	if b {
		return "True"
	}
	return "False"
}
