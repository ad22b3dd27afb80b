-- Volumes on their way to another encryption: the copy that is made of one, on
-- which backend, how it is encrypted, and how far that is.
CREATE TABLE reencryptions (
    volume_id         TEXT   NOT NULL PRIMARY KEY,
    job_id            BIGINT NOT NULL,
    copy_id           TEXT   NOT NULL,
    backend           TEXT   NOT NULL,
    encryption_key_id TEXT,
    encryption        TEXT,
    phase             TEXT   NOT NULL
);
