-- Attachments that are made before a host is known: each has a path of its own.

ALTER TABLE attachments ADD COLUMN connection_id TEXT;
ALTER TABLE attachments ADD COLUMN created_at BIGINT;

CREATE INDEX attachments_by_age ON attachments (created_at, id);

CREATE VIEW attachment_rows AS
    SELECT attachments.id, attachments.volume_id, attachments.server_id, attachments.host_name, attachments.device,
        attachments.mode, attachments.status, attachments.attached_at, attachments.detached_at,
        attachments.connection_id, attachments.created_at, volumes.project_id
    FROM attachments JOIN volumes ON volumes.id = attachments.volume_id;
