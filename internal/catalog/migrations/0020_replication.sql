-- Both ends of replication: links and cuts at the source, replicas, points and
-- fences at the target.

-- pending is a step that was begun and not committed; pending_offset is how far
-- its bytes durably got (-1: the volume must first be rewound to the step's
-- base), pending_sum the root sum up to there.
CREATE TABLE replicas (
    id             TEXT PRIMARY KEY,
    source_zone    TEXT NOT NULL,
    source_id      TEXT NOT NULL,
    protection     BIGINT NOT NULL,
    backend        TEXT NOT NULL,
    epoch          BIGINT NOT NULL,
    entry          TEXT NOT NULL,
    newest         TEXT,
    current_at     BIGINT,
    pending        TEXT,
    pending_offset BIGINT NOT NULL DEFAULT 0,
    pending_sum    TEXT,
    deleted_at     BIGINT,
    created_at     BIGINT NOT NULL,
    updated_at     BIGINT NOT NULL,
    UNIQUE (source_zone, source_id, protection)
);

CREATE TABLE points (
    replica_id   TEXT NOT NULL REFERENCES replicas (id) ON DELETE CASCADE,
    id           TEXT NOT NULL,
    epoch        BIGINT NOT NULL,
    sequence     BIGINT NOT NULL,
    at           BIGINT NOT NULL,
    size         BIGINT NOT NULL,
    root         TEXT NOT NULL,
    sum          TEXT NOT NULL,
    parent       TEXT,
    name         TEXT,
    committed_at BIGINT NOT NULL,
    PRIMARY KEY (replica_id, id)
);
CREATE INDEX points_in_order ON points (replica_id, epoch, sequence);

-- What a zone knows about recoveries of another zone's volumes.
CREATE TABLE fences (
    source_zone TEXT NOT NULL,
    source_id   TEXT NOT NULL,
    epoch       BIGINT NOT NULL,
    recovered   TEXT NOT NULL,
    PRIMARY KEY (source_zone, source_id)
);

-- The source's side of a volume under a protection. confirmed is the newest
-- point that the target holds, target the one that is under way; both are kept
-- as driver snapshots by pins.
CREATE TABLE links (
    volume_id    TEXT NOT NULL,
    protection   BIGINT NOT NULL,
    state        TEXT NOT NULL,
    confirmed    TEXT,
    sum          TEXT,
    changes      BIGINT NOT NULL,
    target       TEXT,
    target_changes BIGINT NOT NULL,
    current_at   BIGINT,
    entry_hash   TEXT NOT NULL,
    error        TEXT NOT NULL,
    bytes_sent   BIGINT NOT NULL,
    gone         BOOLEAN NOT NULL,
    created_at   BIGINT NOT NULL,
    updated_at   BIGINT NOT NULL,
    PRIMARY KEY (volume_id, protection)
);

-- Driver snapshots that replication made for itself: written before the driver
-- is asked, removed after the driver deleted it, so that none is ever lost.
CREATE TABLE cuts (
    volume_id TEXT NOT NULL,
    point_id  TEXT NOT NULL,
    PRIMARY KEY (volume_id, point_id)
);
