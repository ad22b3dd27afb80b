-- What is filtered by metadata, and what a summary tells of it, is looked for
-- among the volumes that have any.
CREATE INDEX volumes_of_project_with_metadata ON volumes (project_id, created_at, id) WHERE metadata <> '{}';
CREATE INDEX volumes_with_metadata ON volumes (created_at, id) WHERE metadata <> '{}';
CREATE INDEX volumes_by_metadata ON volumes (project_id, metadata) WHERE metadata <> '{}';
CREATE INDEX snapshots_of_project_with_metadata ON snapshots (project_id, created_at, id) WHERE metadata <> '{}';
CREATE INDEX snapshots_with_metadata ON snapshots (created_at, id) WHERE metadata <> '{}';

-- What tenants filter these by, which have few rows or short lives.
CREATE INDEX messages_of_project_by_resource ON messages (project_id, resource_uuid, created_at, id);
CREATE INDEX messages_of_project_by_request ON messages (project_id, request_id, created_at, id);
CREATE INDEX messages_by_resource ON messages (resource_uuid, created_at, id);
CREATE INDEX messages_by_request ON messages (request_id, created_at, id);
CREATE INDEX volume_groups_of_project_by_name ON volume_groups (project_id, name, created_at, id);
CREATE INDEX group_snapshots_of_project_by_name ON group_snapshots (project_id, name, created_at, id);
CREATE INDEX group_snapshots_of_project_by_group ON group_snapshots (project_id, group_id, created_at, id);
CREATE INDEX transfers_of_project_by_name ON transfers (project_id, name, created_at, id);
CREATE INDEX backups_of_project_by_name ON backups (project_id, name, created_at, id);
CREATE INDEX backups_of_project_by_status ON backups (project_id, status, created_at, id);
CREATE INDEX backups_of_project_by_volume ON backups (project_id, volume_id, created_at, id);
