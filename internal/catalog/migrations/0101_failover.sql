-- Planned failovers; failover is the whole row as JSON, the columns beside it
-- are what rows are found by. switching is the zone to which a volume is being
-- moved; until that ends no host may write to it.
ALTER TABLE volumes ADD COLUMN switching TEXT NOT NULL DEFAULT '';

CREATE TABLE failovers (
    id         TEXT    NOT NULL PRIMARY KEY,
    volume_id  TEXT    NOT NULL,
    started_at INTEGER NOT NULL,
    failover   TEXT    NOT NULL
);

CREATE INDEX failovers_newest ON failovers (started_at DESC, id);
CREATE INDEX failovers_of ON failovers (volume_id, started_at DESC);
