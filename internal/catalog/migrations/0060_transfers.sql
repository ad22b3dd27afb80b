-- Volumes that are offered to other projects.

CREATE TABLE transfers (
    id           TEXT PRIMARY KEY,
    project_id   TEXT NOT NULL,
    volume_id    TEXT NOT NULL REFERENCES volumes (id) ON DELETE CASCADE,
    name         TEXT,
    no_snapshots BOOLEAN NOT NULL,
    salt         TEXT NOT NULL,
    key_hash     TEXT NOT NULL,
    created_at   BIGINT NOT NULL
);
CREATE UNIQUE INDEX transfers_by_volume ON transfers (volume_id);
CREATE INDEX transfers_by_project ON transfers (project_id, created_at, id);
CREATE INDEX transfers_by_age ON transfers (created_at, id);
