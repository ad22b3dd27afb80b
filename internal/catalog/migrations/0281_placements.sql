-- Volumes for which no backend was found, or another one than at first: what
-- each backend was refused for. For operators; the oldest are let go.
CREATE TABLE placements (
    id        INTEGER NOT NULL PRIMARY KEY,
    at        BIGINT  NOT NULL,
    volume_id TEXT    NOT NULL,
    event     TEXT    NOT NULL
);

CREATE INDEX placements_of_volume ON placements (volume_id, id);
