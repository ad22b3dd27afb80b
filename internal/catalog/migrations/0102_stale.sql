-- What is kept of volumes that were recovered in another zone; stale is the
-- whole row as JSON, and until_at when its snapshot's time is over.
CREATE TABLE stale_primaries (
    volume_id TEXT    NOT NULL PRIMARY KEY,
    until_at  INTEGER,
    stale     TEXT    NOT NULL
);
