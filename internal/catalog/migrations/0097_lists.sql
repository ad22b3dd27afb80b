-- Lists go by an index, whatever they are sorted by, and stay as fast however
-- many rows there are. The tenant's own view has indexes of its own for what
-- clients sort and filter by; for the rest its rows are few. NULL is sorted as
-- the empty text or the oldest time.

DROP INDEX volumes_by_status;

ALTER TABLE volumes ADD COLUMN name_sorted TEXT AS (COALESCE(name, '')) VIRTUAL;
ALTER TABLE volumes ADD COLUMN description_sorted TEXT AS (COALESCE(description, '')) VIRTUAL;
ALTER TABLE volumes ADD COLUMN type_id_sorted TEXT AS (COALESCE(type_id, '')) VIRTUAL;
ALTER TABLE volumes ADD COLUMN snapshot_id_sorted TEXT AS (COALESCE(snapshot_id, '')) VIRTUAL;
ALTER TABLE volumes ADD COLUMN source_volume_id_sorted TEXT AS (COALESCE(source_volume_id, '')) VIRTUAL;
ALTER TABLE volumes ADD COLUMN group_id_sorted TEXT AS (COALESCE(group_id, '')) VIRTUAL;
ALTER TABLE volumes ADD COLUMN updated_at_sorted BIGINT AS (COALESCE(updated_at, 0)) VIRTUAL;

CREATE INDEX volumes_of_project_by_name ON volumes (project_id, name_sorted, created_at, id);
CREATE INDEX volumes_sorted_by_name ON volumes (name_sorted, created_at, id);
CREATE INDEX volumes_of_project_by_size ON volumes (project_id, size, created_at, id);
CREATE INDEX volumes_sorted_by_size ON volumes (size, created_at, id);
CREATE INDEX volumes_of_project_by_status ON volumes (project_id, status, created_at, id);
CREATE INDEX volumes_sorted_by_status ON volumes (status, created_at, id);
CREATE INDEX volumes_of_project_by_update ON volumes (project_id, updated_at_sorted, created_at, id);
CREATE INDEX volumes_sorted_by_update ON volumes (updated_at_sorted, created_at, id);
CREATE INDEX volumes_of_project_by_type ON volumes (project_id, type_id_sorted, created_at, id);
CREATE INDEX volumes_sorted_by_type ON volumes (type_id_sorted, created_at, id);
CREATE INDEX volumes_sorted_by_description ON volumes (description_sorted, created_at, id);
CREATE INDEX volumes_sorted_by_zone ON volumes (availability_zone, created_at, id);
CREATE INDEX volumes_sorted_by_bootable ON volumes (bootable, created_at, id);
CREATE INDEX volumes_sorted_by_multiattach ON volumes (multiattach, created_at, id);
CREATE INDEX volumes_sorted_by_encrypted ON volumes (encrypted, created_at, id);
CREATE INDEX volumes_sorted_by_snapshot ON volumes (snapshot_id_sorted, created_at, id);
CREATE INDEX volumes_sorted_by_source ON volumes (source_volume_id_sorted, created_at, id);
CREATE INDEX volumes_sorted_by_own_group ON volumes (group_id_sorted, created_at, id);
CREATE INDEX volumes_sorted_by_replication ON volumes (replication_status, created_at, id);
CREATE INDEX volumes_sorted_by_user ON volumes (user_id, created_at, id);
CREATE INDEX volumes_sorted_by_backend ON volumes (backend, created_at, id);
CREATE INDEX volumes_of_project_by_id ON volumes (project_id, id);

ALTER TABLE snapshots ADD COLUMN name_sorted TEXT AS (COALESCE(name, '')) VIRTUAL;
ALTER TABLE snapshots ADD COLUMN description_sorted TEXT AS (COALESCE(description, '')) VIRTUAL;
ALTER TABLE snapshots ADD COLUMN updated_at_sorted BIGINT AS (COALESCE(updated_at, 0)) VIRTUAL;

CREATE INDEX snapshots_of_project_by_name ON snapshots (project_id, name_sorted, created_at, id);
CREATE INDEX snapshots_sorted_by_name ON snapshots (name_sorted, created_at, id);
CREATE INDEX snapshots_of_project_by_size ON snapshots (project_id, size, created_at, id);
CREATE INDEX snapshots_sorted_by_size ON snapshots (size, created_at, id);
CREATE INDEX snapshots_of_project_by_status ON snapshots (project_id, status, created_at, id);
CREATE INDEX snapshots_sorted_by_status ON snapshots (status, created_at, id);
CREATE INDEX snapshots_of_project_by_update ON snapshots (project_id, updated_at_sorted, created_at, id);
CREATE INDEX snapshots_sorted_by_update ON snapshots (updated_at_sorted, created_at, id);
CREATE INDEX snapshots_of_project_by_volume ON snapshots (project_id, volume_id, created_at, id);
CREATE INDEX snapshots_sorted_by_description ON snapshots (description_sorted, created_at, id);
CREATE INDEX snapshots_sorted_by_progress ON snapshots (progress, created_at, id);
CREATE INDEX snapshots_sorted_by_user ON snapshots (user_id, created_at, id);
CREATE INDEX snapshots_of_project_by_id ON snapshots (project_id, id);

-- Attachments know whose they are, so that a tenant's list needs no join.
DROP VIEW attachment_rows;
DROP INDEX attachments_by_age;
ALTER TABLE attachments ADD COLUMN project_id TEXT NOT NULL DEFAULT '';
UPDATE attachments SET created_at = COALESCE(created_at, attached_at, 0),
    project_id = COALESCE((SELECT project_id FROM volumes WHERE volumes.id = attachments.volume_id), '');
ALTER TABLE attachments ADD COLUMN server_id_sorted TEXT AS (COALESCE(server_id, '')) VIRTUAL;
ALTER TABLE attachments ADD COLUMN host_name_sorted TEXT AS (COALESCE(host_name, '')) VIRTUAL;
ALTER TABLE attachments ADD COLUMN device_sorted TEXT AS (COALESCE(device, '')) VIRTUAL;
CREATE INDEX attachments_by_age ON attachments (created_at, id);
CREATE INDEX attachments_of_project ON attachments (project_id, created_at, id);
CREATE INDEX attachments_of_project_by_id ON attachments (project_id, id);
CREATE INDEX attachments_of_project_by_volume ON attachments (project_id, volume_id, created_at, id);
CREATE INDEX attachments_of_project_by_status ON attachments (project_id, status, created_at, id);
CREATE INDEX attachments_sorted_by_volume ON attachments (volume_id, created_at, id);
CREATE INDEX attachments_sorted_by_status ON attachments (status, created_at, id);
CREATE INDEX attachments_sorted_by_server ON attachments (server_id_sorted, created_at, id);
CREATE INDEX attachments_sorted_by_host ON attachments (host_name_sorted, created_at, id);
CREATE INDEX attachments_sorted_by_device ON attachments (device_sorted, created_at, id);

CREATE INDEX volume_types_by_age ON volume_types (created_at, id);
CREATE INDEX group_types_by_age ON group_types (created_at, id);
CREATE INDEX qos_specs_by_age ON qos_specs (created_at, id);
