package policy

import "slices"

// ruleDefault is one of Cinder's rules: its check, the name that it had before,
// and the check that it had before if that is another one.
type ruleDefault struct {
	name, check string
	before      string // "" for the same name
	old         *string
}

// Checks that many rules have.
const (
	admins  = "rule:admin_api"
	readers = "rule:xena_system_admin_or_project_reader"
	members = "rule:xena_system_admin_or_project_member"
	owners  = "rule:admin_or_owner"
)

// was makes the check of a rule before it got its present one.
func was(check string) *string { return &check }

// defaults are the rules of cinder/policies (21.3, Zed).
func defaults() []ruleDefault {
	return slices.Concat(baseDefaults(), attachmentDefaults(), snapshotDefaults(), backupDefaults(), groupDefaults(),
		typeDefaults(), operatorDefaults(), actionDefaults(), volumeDefaults())
}

func baseDefaults() []ruleDefault {
	return []ruleDefault{
		{"admin_or_owner", "is_admin:True or (role:admin and is_admin_project:True) or " +
			"project_id:%(project_id)s", "", nil},
		{"system_or_domain_or_project_admin", "(role:admin and system_scope:all) or " +
			"(role:admin and domain_id:%(domain_id)s) or (role:admin and project_id:%(project_id)s)", "", nil},
		{"context_is_admin", "role:admin", "", nil},
		{"admin_api", "is_admin:True or (role:admin and is_admin_project:True)", "", nil},
		{"xena_system_admin_or_project_reader", "(role:admin) or (role:reader and project_id:%(project_id)s)", "", nil},
		{"xena_system_admin_or_project_member", "(role:admin) or (role:member and project_id:%(project_id)s)", "", nil},
	}
}

func attachmentDefaults() []ruleDefault {
	return []ruleDefault{
		{"volume:attachment_create", members, "", was("")},
		{"volume:attachment_update", members, "", was(owners)},
		{"volume:attachment_delete", members, "", was(owners)},
		{"volume:attachment_complete", members, "", was(owners)},
		{"volume:multiattach_bootable_volume", members, "", was(owners)},
		{"message:get_all", readers, "", was(owners)},
		{"message:get", readers, "", was(owners)},
		{"message:delete", members, "", was(owners)},
		{"clusters:get_all", admins, "", nil},
		{"clusters:get", admins, "", nil},
		{"clusters:update", admins, "", nil},
		{"workers:cleanup", admins, "", nil},
	}
}

func snapshotDefaults() []ruleDefault {
	return []ruleDefault{
		{"volume:get_snapshot_metadata", readers, "", was(owners)},
		{"volume:update_snapshot_metadata", members, "", was(owners)},
		{"volume:delete_snapshot_metadata", members, "", was(owners)},
		{"volume:get_all_snapshots", readers, "", was(owners)},
		{"volume_extension:extended_snapshot_attributes", readers, "", was(owners)},
		{"volume:create_snapshot", members, "", was(owners)},
		{"volume:get_snapshot", readers, "", was(owners)},
		{"volume:update_snapshot", members, "", was(owners)},
		{"volume:delete_snapshot", members, "", was(owners)},
		{"volume_extension:snapshot_admin_actions:reset_status", admins, "", nil},
		{"snapshot_extension:snapshot_actions:update_snapshot_status", members, "", was("")},
		{"volume_extension:snapshot_admin_actions:force_delete", admins, "", nil},
		{"snapshot_extension:list_manageable", admins, "", nil},
		{"snapshot_extension:snapshot_manage", admins, "", nil},
		{"snapshot_extension:snapshot_unmanage", admins, "", nil},
	}
}

func backupDefaults() []ruleDefault {
	return []ruleDefault{
		{"backup:get_all", readers, "", was(owners)},
		{"backup:backup_project_attribute", admins, "", nil},
		{"backup:create", members, "", was("")},
		{"backup:get", readers, "", was(owners)},
		{"backup:update", members, "", was(owners)},
		{"backup:delete", members, "", was(owners)},
		{"backup:restore", members, "", was(owners)},
		{"backup:backup-import", admins, "", nil},
		{"backup:export-import", admins, "", nil},
		{"volume_extension:backup_admin_actions:reset_status", admins, "", nil},
		{"volume_extension:backup_admin_actions:force_delete", admins, "", nil},
	}
}

func groupDefaults() []ruleDefault {
	return []ruleDefault{
		{"group:get_all", readers, "", was(owners)},
		{"group:create", members, "", was("")},
		{"group:get", readers, "", was(owners)},
		{"group:update", members, "", was(owners)},
		{"group:group_project_attribute", admins, "", nil},
		{"group:group_types:create", admins, "group:group_types_manage", nil},
		{"group:group_types:update", admins, "group:group_types_manage", nil},
		{"group:group_types:delete", admins, "group:group_types_manage", nil},
		{"group:access_group_types_specs", admins, "", nil},
		{"group:group_types_specs:get", admins, "group:group_types_specs", nil},
		{"group:group_types_specs:get_all", admins, "group:group_types_specs", nil},
		{"group:group_types_specs:create", admins, "group:group_types_specs", nil},
		{"group:group_types_specs:update", admins, "group:group_types_specs", nil},
		{"group:group_types_specs:delete", admins, "group:group_types_specs", nil},
		{"group:get_all_group_snapshots", readers, "", was(owners)},
		{"group:create_group_snapshot", members, "", was("")},
		{"group:get_group_snapshot", readers, "", was(owners)},
		{"group:delete_group_snapshot", members, "", was(owners)},
		{"group:update_group_snapshot", members, "", was(owners)},
		{"group:group_snapshot_project_attribute", admins, "", nil},
		{"group:reset_group_snapshot_status", admins, "", nil},
		{"group:delete", members, "", was(owners)},
		{"group:reset_status", admins, "", nil},
		{"group:enable_replication", members, "", was(owners)},
		{"group:disable_replication", members, "", was(owners)},
		{"group:failover_replication", members, "", was(owners)},
		{"group:list_replication_targets", members, "", was(owners)},
	}
}

func typeDefaults() []ruleDefault {
	return []ruleDefault{
		{"volume_extension:qos_specs_manage:get_all", admins, "", nil},
		{"volume_extension:qos_specs_manage:get", admins, "", nil},
		{"volume_extension:qos_specs_manage:create", admins, "", nil},
		{"volume_extension:qos_specs_manage:update", admins, "", nil},
		{"volume_extension:qos_specs_manage:delete", admins, "", nil},
		{"volume_extension:type_create", admins, "volume_extension:types_manage", nil},
		{"volume_extension:type_update", admins, "volume_extension:types_manage", nil},
		{"volume_extension:type_delete", admins, "volume_extension:types_manage", nil},
		{"volume_extension:type_get", readers, "", was("")},
		{"volume_extension:type_get_all", readers, "", was("")},
		{"volume_extension:access_types_extra_specs", readers, "", was(admins)},
		{"volume_extension:access_types_qos_specs_id", admins, "", nil},
		{"volume_extension:volume_type_encryption", admins, "", nil},
		{"volume_extension:volume_type_encryption:create", admins, "", was("rule:volume_extension:volume_type_encryption")},
		{"volume_extension:volume_type_encryption:get", admins, "", was("rule:volume_extension:volume_type_encryption")},
		{"volume_extension:volume_type_encryption:update", admins, "", was("rule:volume_extension:volume_type_encryption")},
		{"volume_extension:volume_type_encryption:delete", admins, "", was("rule:volume_extension:volume_type_encryption")},
		{"volume_extension:volume_type_access", members, "", was(owners)},
		{"volume_extension:volume_type_access:addProjectAccess", admins, "", nil},
		{"volume_extension:volume_type_access:removeProjectAccess", admins, "", nil},
		{"volume_extension:volume_type_access:get_all_for_type", admins, "", was("volume_extension:volume_type_access")},
		{"volume:retype", members, "", was(owners)},
		{"volume_extension:types_extra_specs:index", readers, "", was("")},
		{"volume_extension:types_extra_specs:create", admins, "", nil},
		{"volume_extension:types_extra_specs:show", readers, "", was("")},
		{"volume_extension:types_extra_specs:read_sensitive", admins, "", nil},
		{"volume_extension:types_extra_specs:update", admins, "", nil},
		{"volume_extension:types_extra_specs:delete", admins, "", nil},
		{"volume_extension:default_set_or_update", admins, "", was("rule:system_or_domain_or_project_admin")},
		{"volume_extension:default_get", admins, "", was("rule:system_or_domain_or_project_admin")},
		{"volume_extension:default_get_all", admins, "", was("role:admin and system_scope:all")},
		{"volume_extension:default_unset", admins, "", was("rule:system_or_domain_or_project_admin")},
	}
}

func operatorDefaults() []ruleDefault {
	return []ruleDefault{
		{"volume_extension:quota_classes:get", admins, "volume_extension:quota_classes", nil},
		{"volume_extension:quota_classes:update", admins, "volume_extension:quota_classes", nil},
		{"volume_extension:quotas:show", readers, "", was(owners)},
		{"volume_extension:quotas:update", admins, "", nil},
		{"volume_extension:quotas:delete", admins, "", nil},
		{"volume_extension:capabilities", admins, "", nil},
		{"volume_extension:services:index", admins, "", nil},
		{"volume_extension:services:update", admins, "", nil},
		{"volume:freeze_host", admins, "", nil},
		{"volume:thaw_host", admins, "", nil},
		{"volume:failover_host", admins, "", nil},
		{"scheduler_extension:scheduler_stats:get_pools", admins, "", nil},
		{"volume_extension:hosts", admins, "", nil},
		{"limits_extension:used_limits", readers, "", was(owners)},
		{"volume_extension:list_manageable", admins, "", nil},
		{"volume_extension:volume_manage", admins, "", nil},
		{"volume_extension:volume_unmanage", admins, "", nil},
	}
}

func actionDefaults() []ruleDefault {
	return []ruleDefault{
		{"volume:extend", members, "", was(owners)},
		{"volume:extend_attached_volume", members, "", was(owners)},
		{"volume:revert_to_snapshot", members, "", was(owners)},
		{"volume_extension:volume_admin_actions:reset_status", admins, "", nil},
		{"volume:update_readonly_flag", members, "", was(owners)},
		{"volume_extension:volume_admin_actions:force_delete", admins, "", nil},
		{"volume_extension:volume_actions:upload_public", admins, "", nil},
		{"volume_extension:volume_actions:upload_image", members, "", was(owners)},
		{"volume_extension:volume_admin_actions:force_detach", admins, "", nil},
		{"volume_extension:volume_admin_actions:migrate_volume", admins, "", nil},
		{"volume_extension:volume_admin_actions:migrate_volume_completion", admins, "", nil},
		{"volume_extension:volume_actions:initialize_connection", members, "", was(owners)},
		{"volume_extension:volume_actions:terminate_connection", members, "", was(owners)},
		{"volume_extension:volume_actions:roll_detaching", members, "", was(owners)},
		{"volume_extension:volume_actions:reserve", members, "", was(owners)},
		{"volume_extension:volume_actions:unreserve", members, "", was(owners)},
		{"volume_extension:volume_actions:begin_detaching", members, "", was(owners)},
		{"volume_extension:volume_actions:attach", members, "", was(owners)},
		{"volume_extension:volume_actions:detach", members, "", was(owners)},
		{"volume:reimage", members, "", nil},
		{"volume:reimage_reserved", members, "", nil},
		{"volume:get_all_transfers", readers, "", was(owners)},
		{"volume:create_transfer", members, "", was(owners)},
		{"volume:get_transfer", readers, "", was(owners)},
		{"volume:accept_transfer", members, "", was("")},
		{"volume:delete_transfer", members, "", was(owners)},
	}
}

func volumeDefaults() []ruleDefault {
	return []ruleDefault{
		{"volume:get_volume_metadata", readers, "", was(owners)},
		{"volume:create_volume_metadata", members, "", was(owners)},
		{"volume:update_volume_metadata", members, "", was(owners)},
		{"volume:delete_volume_metadata", members, "", was(owners)},
		{"volume_extension:volume_image_metadata:show", readers, "volume_extension:volume_image_metadata", was(owners)},
		{"volume_extension:volume_image_metadata:set", members, "volume_extension:volume_image_metadata", was(owners)},
		{"volume_extension:volume_image_metadata:remove", members, "volume_extension:volume_image_metadata", was(owners)},
		{"volume:update_volume_admin_metadata", admins, "", nil},
		{"volume:create", members, "", was("")},
		{"volume:create_from_image", members, "", was("")},
		{"volume:get", readers, "", was(owners)},
		{"volume:get_all", readers, "", was(owners)},
		{"volume:update", members, "", was(owners)},
		{"volume:delete", members, "", was(owners)},
		{"volume:force_delete", admins, "", nil},
		{"volume_extension:volume_host_attribute", admins, "", nil},
		{"volume_extension:volume_tenant_attribute", readers, "", was(owners)},
		{"volume_extension:volume_mig_status_attribute", admins, "", nil},
		{"volume_extension:volume_encryption_metadata", readers, "", was(owners)},
		{"volume:multiattach", members, "", was(owners)},
	}
}
