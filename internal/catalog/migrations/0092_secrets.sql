-- Keys of encrypted volumes and other secrets, sealed with a key that is made of
-- the zone's, and what volumes are encrypted with.

CREATE TABLE secrets (
    id           TEXT PRIMARY KEY,
    project_id   TEXT NOT NULL,
    user_id      TEXT NOT NULL,
    name         TEXT,
    kind         TEXT NOT NULL,
    algorithm    TEXT,
    bit_length   BIGINT,
    mode         TEXT,
    content_type TEXT,
    sealed       BLOB,
    expires_at   BIGINT,
    created_at   BIGINT NOT NULL,
    updated_at   BIGINT NOT NULL
);
CREATE INDEX secrets_by_project ON secrets (project_id, created_at, id);

ALTER TABLE volumes ADD COLUMN encryption_key_id TEXT;
ALTER TABLE volumes ADD COLUMN encryption TEXT;
CREATE INDEX volumes_by_key ON volumes (encryption_key_id) WHERE encryption_key_id IS NOT NULL;
