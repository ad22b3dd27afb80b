-- What the embedded image service knows of its images; the bytes are files. Times are microseconds since 1970, UTC.
CREATE TABLE images (
    id               TEXT PRIMARY KEY,
    owner            TEXT NOT NULL, -- project
    name             TEXT,          -- NULL for none
    status           TEXT NOT NULL,
    visibility       TEXT NOT NULL,
    disk_format      TEXT,
    container_format TEXT,
    protected        BOOLEAN NOT NULL,
    min_disk         BIGINT NOT NULL, -- GiB
    min_ram          BIGINT NOT NULL, -- MiB
    size             BIGINT,          -- bytes; NULL before the upload
    virtual_size     BIGINT,
    checksum         TEXT,            -- MD5, hex
    hash_value       TEXT,            -- SHA-512, hex
    tags             TEXT NOT NULL,   -- JSON array
    properties       TEXT NOT NULL,   -- JSON object of strings
    upload           TEXT NOT NULL,   -- names the upload that is under way; '' if none
    created_at       BIGINT NOT NULL,
    updated_at       BIGINT NOT NULL
);

CREATE INDEX images_by_age ON images (created_at, id);
CREATE INDEX images_by_owner ON images (owner);
