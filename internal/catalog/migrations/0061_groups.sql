-- Groups of volumes, their types, and snapshots of one instant of all their
-- volumes.

CREATE TABLE group_types (
    id          TEXT PRIMARY KEY,
    name        TEXT NOT NULL UNIQUE,
    description TEXT,
    public      BOOLEAN NOT NULL,
    specs       TEXT NOT NULL,
    created_at  BIGINT NOT NULL,
    updated_at  BIGINT
);
-- What the older API of consistency groups makes groups of.
INSERT INTO group_types (id, name, description, public, specs, created_at)
    VALUES ('5b1f1a0e-8d0c-4c63-9d0b-3f2b7f1c9a44', 'default_cgsnapshot_type',
        'Default group type for migrating cgsnapshot', TRUE,
        '{"consistent_group_snapshot_enabled":"<is> True"}', 0);

CREATE TABLE volume_groups (
    id                TEXT PRIMARY KEY,
    project_id        TEXT NOT NULL,
    user_id           TEXT NOT NULL,
    name              TEXT,
    description       TEXT,
    status            TEXT NOT NULL,
    availability_zone TEXT NOT NULL,
    type_id           TEXT NOT NULL REFERENCES group_types (id),
    volume_types      TEXT NOT NULL,
    group_snapshot_id TEXT,
    source_group_id   TEXT,
    created_at        BIGINT NOT NULL,
    updated_at        BIGINT
);
CREATE INDEX volume_groups_by_project ON volume_groups (project_id, created_at, id);
CREATE INDEX volume_groups_by_age ON volume_groups (created_at, id);

CREATE TABLE group_snapshots (
    id          TEXT PRIMARY KEY,
    project_id  TEXT NOT NULL,
    user_id     TEXT NOT NULL,
    group_id    TEXT NOT NULL REFERENCES volume_groups (id),
    type_id     TEXT NOT NULL,
    name        TEXT,
    description TEXT,
    status      TEXT NOT NULL,
    created_at  BIGINT NOT NULL,
    updated_at  BIGINT
);
CREATE INDEX group_snapshots_by_project ON group_snapshots (project_id, created_at, id);
CREATE INDEX group_snapshots_by_age ON group_snapshots (created_at, id);
CREATE INDEX group_snapshots_by_group ON group_snapshots (group_id);

ALTER TABLE snapshots ADD COLUMN group_snapshot_id TEXT;
CREATE INDEX snapshots_by_group_snapshot ON snapshots (group_snapshot_id) WHERE group_snapshot_id IS NOT NULL;
CREATE INDEX volumes_by_group ON volumes (group_id) WHERE group_id IS NOT NULL;
