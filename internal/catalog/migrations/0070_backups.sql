-- Backups. The bytes are in a repository elsewhere; location is where in it.

CREATE TABLE backups (
    id                TEXT PRIMARY KEY,
    project_id        TEXT NOT NULL,
    user_id           TEXT NOT NULL,
    volume_id         TEXT NOT NULL,
    snapshot_id       TEXT,
    parent_id         TEXT,
    name              TEXT,
    description       TEXT,
    size              BIGINT NOT NULL,
    status            TEXT NOT NULL,
    fail_reason       TEXT,
    container         TEXT,
    availability_zone TEXT,
    object_count      BIGINT NOT NULL,
    metadata          TEXT NOT NULL,
    data_timestamp    BIGINT NOT NULL,
    restore_volume_id TEXT,
    location          TEXT NOT NULL,
    root              TEXT NOT NULL,
    backend           TEXT NOT NULL,
    bootable          BOOLEAN NOT NULL,
    image_metadata    TEXT NOT NULL,
    created_at        BIGINT NOT NULL,
    updated_at        BIGINT
);
CREATE INDEX backups_by_project ON backups (project_id, created_at, id);
CREATE INDEX backups_by_age ON backups (created_at, id);
CREATE INDEX backups_by_volume ON backups (volume_id, data_timestamp);
CREATE INDEX backups_by_parent ON backups (parent_id);
CREATE INDEX backups_by_usage ON backups (project_id, size);
