-- Volume types that are made by API, beside those of the configuration.

ALTER TABLE volume_types ADD COLUMN configured BOOLEAN NOT NULL DEFAULT FALSE;

-- Which projects may use a private type.
CREATE TABLE type_access (
    type_id    TEXT NOT NULL REFERENCES volume_types (id) ON DELETE CASCADE,
    project_id TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (type_id, project_id)
);

CREATE TABLE type_encryptions (
    type_id          TEXT PRIMARY KEY REFERENCES volume_types (id) ON DELETE CASCADE,
    id               TEXT NOT NULL UNIQUE,
    provider         TEXT NOT NULL,
    control_location TEXT NOT NULL,
    cipher           TEXT,
    key_size         BIGINT,
    created_at       BIGINT NOT NULL,
    updated_at       BIGINT
);

-- The type of a project's volumes that ask for none.
CREATE TABLE default_types (
    project_id TEXT PRIMARY KEY,
    type_id    TEXT NOT NULL REFERENCES volume_types (id)
);
